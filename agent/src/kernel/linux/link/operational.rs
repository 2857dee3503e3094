//! Waiting until links that were set up carry packets.
//!
//! The kernel activates a veth's queue and its bridge port some time after both ends are up, in a work queue
//! (net/core/link_watch.c): at once as a rule, up to a second later if it thinks that there is no hurry. Packets before
//! that are dropped without a word.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use nix::libc;

use super::find;
use crate::{
    kernel::linux::{
        refusal::Refusal,
        rtnl::attributes::{Attributes, u8_at, u32_at},
        session::Session,
    },
    plan::op::{LinkOp, LinkRef, Op},
};

/// Length of struct ifinfomsg.
const HEADER: usize = 16;
/// Within IFLA_INFO_SLAVE_DATA of a bridge port: its state, and the one in which it passes frames (linux/if_link.h,
/// linux/if_bridge.h).
const PORT_STATE: u16 = 1;
const FORWARDING: u8 = 3;
/// Operational states in which a link works (RFC 2863; "unknown" is what drivers without states say).
const UNKNOWN: u8 = 0;
const UP: u8 = 6;
/// Longest wait for all links of a call; link watch itself puts nothing off for longer than a second.
const LIMIT: Duration = Duration::from_millis(1_500);
/// First pause between two looks; it doubles.
const PAUSE: Duration = Duration::from_micros(50);

/// Wait for every link that these steps set up or gave to a bridge. One that is down is not
/// waited for (setting it up failed, or was not asked for), nor one without a carrier (its other end is down), nor for the
/// port of a bridge that is down.
pub(in crate::kernel::linux) fn wait(session: &mut Session<'_>, ops: &[Op]) {
    let raises =
        |op: &&Op| matches!(op, Op::Link(_, LinkOp::SetUp(true)) | Op::Link(_, LinkOp::SetPort(Some(_))));
    let mut waiting: BTreeSet<&LinkRef> = ops.iter().filter(raises).filter_map(Op::link).collect();
    let (start, mut pause) = (Instant::now(), PAUSE);
    loop {
        // What cannot be looked at has failed before this, with an error of its own.
        waiting.retain(|link| matches!(works(session, link), Ok(false)));
        if waiting.is_empty() || start.elapsed() > LIMIT {
            break;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
    for link in waiting {
        tracing::warn!(%link, waited = ?LIMIT, "it is up, but does not carry packets yet");
    }
}

fn works(session: &mut Session<'_>, link: &LinkRef) -> Result<bool, Refusal> {
    let namespace = session.namespace(&link.netns)?;
    let body = namespace.link(link.name)?;
    let attributes = Attributes::after(&body, HEADER);
    let byte = |kind| attributes.find(kind).and_then(|value| u8_at(value, 0));
    let up = u32_at(&body, 8).is_some_and(|flags| flags & libc::IFF_UP.unsigned_abs() != 0);
    if !up || byte(libc::IFLA_CARRIER) == Some(0) {
        return Ok(true);
    }
    let active = matches!(byte(libc::IFLA_OPERSTATE), None | Some(UNKNOWN | UP));
    let info = Attributes::nested(attributes.find(libc::IFLA_LINKINFO).unwrap_or_default());
    let port = Attributes::nested(info.find(libc::IFLA_INFO_SLAVE_DATA).unwrap_or_default());
    let state = port.find(PORT_STATE).and_then(|value| u8_at(value, 0));
    if matches!(state, None | Some(FORWARDING)) {
        return Ok(active);
    }
    // While its bridge is down no port passes frames.
    let master = attributes.find(libc::IFLA_MASTER).and_then(|value| u32_at(value, 0)).unwrap_or_default();
    let bridge = find::by_index(namespace, master)?;
    Ok(active && bridge.is_none_or(|row| !row.link.up))
}
