//! On the real kernel, in a network namespace of the test's own.

use std::collections::BTreeSet;

use nix::sys::socket::sockopt::RcvBuf;

use super::*;
use crate::{
    kernel::linux::{link::contents, netns::test_netns, rtnl::rows},
    plan::op::{LinkRow, RowOp},
};

/// Index of `lo` in every network namespace.
const LOOPBACK: u32 = 1;
/// Of no link.
const NOWHERE: u32 = 999;
/// More than a datagram takes.
const MANY: u8 = 250;

/// Add 10.9.9.`number` to the link with this index.
fn request(index: u32, number: u8) -> Request {
    let address = LinkRow::Address(format!("10.9.9.{number}/32").parse().unwrap());
    rows::request(RowOp::Set, &address, index, false)
}

/// Every second one goes nowhere.
fn index(number: u8) -> u32 {
    if number.is_multiple_of(2) { LOOPBACK } else { NOWHERE }
}

fn check(rtnl: &mut Rtnl) {
    let outcomes = rtnl.submit((0..MANY).map(|number| request(index(number), number)).collect());
    for (number, outcome) in (0..MANY).zip(&outcomes) {
        let errno = outcome.as_ref().map(|refusal| refusal.errno);
        assert_eq!(errno, (index(number) == NOWHERE).then_some(Errno::ENODEV), "{number}: {outcome:?}");
    }
    let mut observed = BTreeSet::new();
    let mut other = Rtnl::open().unwrap();
    contents::addresses(&mut other, Some(LOOPBACK), &mut |_, address| {
        observed.insert(address.net.addr().to_string());
    })
    .unwrap();
    let expected = (0..MANY).filter(|number| index(*number) == LOOPBACK);
    assert_eq!(observed, expected.map(|number| format!("10.9.9.{number}")).collect());
}

#[test]
fn each_request_of_a_batch_has_its_own_outcome() {
    test_netns::run(|| check(&mut Rtnl::open().unwrap()));
}

/// The kernel says ENOBUFS and which answers were lost is unknown: every outcome is right.
#[test]
fn lost_answers_are_asked_for_again_one_by_one() {
    test_netns::run(|| {
        let mut rtnl = Rtnl::open().unwrap();
        // The kernel makes it the least that it allows, some 2 KiB: a few answers.
        setsockopt(&rtnl.socket, RcvBuf, &1).unwrap();
        let mut batch = Batch::default();
        for number in 0..20 {
            rtnl.sequence += 1;
            batch.push(number, rtnl.sequence, request(NOWHERE, 1));
        }
        let lost = rtnl.exchange(&mut batch, &mut vec![None; 20]).unwrap_err();
        assert_eq!(lost.errno, Errno::ENOBUFS, "the answers fit");
        rtnl.drain();
        check(&mut rtnl);
    });
}

#[test]
fn an_answer_that_was_cut_short_is_an_error() {
    test_netns::run(|| {
        let mut rtnl = Rtnl::open().unwrap();
        rtnl.inbox = Vec::with_capacity(64);
        let refusal = rtnl.dump(crate::kernel::linux::rtnl::links::all(), &mut |_| {}).unwrap_err();
        assert_eq!(refusal.errno, Errno::EMSGSIZE);
    });
}
