//! Redirects port 53 of 127.0.0.11 in a sandbox to a different port of that address, where its resolver
//! listens. The answers come from port 53 again.
//!
//! Rules at the ingress of the sandbox's `lo` (table `netdev ovnet`) write the one port into the packets, and the other into what
//! comes back. It is no NAT on purpose: that would have the kernel follow each connection of the sandbox, whatever it is to,
//! and costs its traffic some 8 %. Nothing else that the sandbox sends meets these rules, and port 53 itself stays
//! free for a program there that serves names.

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use nix::errno::Errno;

use super::wire::{
    self, CHAIN_NAME, CHAIN_TABLE, CMP_DATA, CMP_EQ, CMP_OP, ChainName, DATA_VALUE, EXPRESSION_DATA,
    EXPRESSION_NAME, Expression, IMMEDIATE_DATA, META_KEY, NETDEV, RULE_CHAIN, RULE_EXPRESSIONS, RULE_TABLE,
    SUBSYSTEM, TABLE_NAME, request,
};
use crate::{
    kernel::linux::{
        netns::namespace::Namespace,
        refusal::Refusal,
        rtnl::{
            attributes::{Attributes, put, put_number},
            socket::Rtnl,
        },
    },
    plan::ownership::TABLE,
};

/// Our chain.
const CHAIN: &str = "resolver";
/// What names are asked of, as Docker has it.
const ADDRESS: [u8; 4] = [127, 0, 0, 11];
/// The port of DNS (RFC 1035).
const DNS: u16 = 53;

/// Messages of the nftables part of nfnetlink, besides those in [`super::wire`] …
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
/// … and attributes of chains …
const CHAIN_HOOK: u16 = 4;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const HOOK_DEVICE: u16 = 3;
/// … of lists …
const ELEMENT: u16 = 1;
/// … and of the expressions that we write.
const META_DREG: u16 = 1;
const META_PROTOCOL: u32 = 1;
const META_L4PROTO: u32 = 16;
const CMP_SREG: u16 = 1;
const IMMEDIATE_DREG: u16 = 1;
const PAYLOAD_DREG: u16 = 1;
const PAYLOAD_BASE: u16 = 2;
const PAYLOAD_OFFSET: u16 = 3;
const PAYLOAD_LEN: u16 = 4;
const PAYLOAD_SREG: u16 = 5;
const PAYLOAD_CSUM_TYPE: u16 = 6;
const PAYLOAD_CSUM_OFFSET: u16 = 7;
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// The internet's checksum (NFT_PAYLOAD_CSUM_INET).
const CSUM_INET: u32 = 1;
/// The register that all goes through.
const REGISTER: u32 = 1;

/// Numbers of protocols (EtherType; IP).
const IPV4: u16 = 0x0800;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Type of the ICMP message for a port where nobody listens, and where it quotes the port that was asked: behind its own
/// header and an IPv4 header without options.
const UNREACHABLE: u8 = 3;
const QUOTED_PORT: u32 = 8 + 20 + 2;
/// Where IPv4 has its addresses.
const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;
/// Where TCP and UDP have their ports.
const SOURCE_PORT: u32 = 0;
const DESTINATION_PORT: u32 = 2;

/// The port that the rules redirect to: 0 if the rules are not as we write them, `None` if there are none.
pub(in crate::kernel::linux) fn read(namespace: &Namespace) -> Result<Option<u16>, Refusal> {
    wire::settled(|| look(namespace))
}

fn look(namespace: &Namespace) -> Result<Option<u16>, Refusal> {
    let mut socket = namespace.run(Rtnl::open_netfilter)??;
    if !wire::has_table(&mut socket, NETDEV, TABLE)? {
        return Ok(None);
    }
    let mut rules = Vec::new();
    let dumped =
        wire::rules(&mut socket, NETDEV, ChainName { table: TABLE, chain: CHAIN }, &mut |attributes| {
            rules.push(attributes.find(RULE_EXPRESSIONS).unwrap_or_default().to_vec());
        });
    match dumped {
        // The chain is gone.
        Err(refusal) if refusal.is_absence() => Ok(Some(0)),
        outcome => outcome.map(|()| Some(port_of(&rules))),
    }
}

/// Lead to this port, or nowhere, in one transaction.
pub(in crate::kernel::linux) fn write(namespace: &Namespace, port: Option<u16>) -> Result<(), Refusal> {
    let mut socket = namespace.run(Rtnl::open_netfilter)??;
    // What is taken away is freed after a grace period of the kernel's, which the socket's end waits for: some milliseconds
    // that an attach need not have. So it is tried without first.
    if let Some(port) = port {
        match socket.transact(SUBSYSTEM, &made(port, NLM_F_EXCL)) {
            Err(refusal) if refusal.errno == Errno::EEXIST => {}
            outcome => return outcome,
        }
        socket = namespace.run(Rtnl::open_netfilter)??;
    }
    // What is deleted must be there: it is made first.
    let table = request(NETDEV, &[(TABLE_NAME, TABLE)]);
    let mut messages = vec![(NEW_TABLE, NLM_F_CREATE, table.clone()), (DELETE_TABLE, 0, table)];
    messages.extend(port.into_iter().flat_map(|port| made(port, 0)));
    socket.transact(SUBSYSTEM, &messages)
}

/// The messages that make the table.
fn made(port: u16, flags: u16) -> Vec<(u16, u16, Vec<u8>)> {
    let table = (NEW_TABLE, NLM_F_CREATE | flags, request(NETDEV, &[(TABLE_NAME, TABLE)]));
    let rules = rules(port).into_iter().map(|expressions| {
        let mut rule = request(NETDEV, &[(RULE_TABLE, TABLE), (RULE_CHAIN, CHAIN)]);
        put(&mut rule, RULE_EXPRESSIONS, &expressions);
        (NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, rule)
    });
    [table, (NEW_CHAIN, NLM_F_CREATE, chain())].into_iter().chain(rules).collect()
}

/// At the ingress of `lo`: what is sent to 127.0.0.11 comes by it, and so do the answers.
fn chain() -> Vec<u8> {
    let mut hook = Vec::new();
    put_number(&mut hook, HOOK_NUMBER, 0);
    put_number(&mut hook, HOOK_PRIORITY, 0);
    put(&mut hook, HOOK_DEVICE, b"lo\0");
    let mut chain = request(NETDEV, &[(CHAIN_TABLE, TABLE), (CHAIN_NAME, CHAIN)]);
    put(&mut chain, CHAIN_HOOK, &hook);
    put(&mut chain, CHAIN_TYPE, b"filter\0");
    chain
}

/// The rules' expressions, each rule's as the list that the kernel takes and gives.
fn rules(port: u16) -> Vec<Vec<u8>> {
    let mut rules = Vec::new();
    for (protocol, checksum) in [(UDP, 6), (TCP, 16)] {
        let there = [about(DESTINATION, protocol), is_port(DESTINATION_PORT, DNS)];
        rules.push([&there[..], &[write_port(DESTINATION_PORT, port, checksum)]].concat().concat());
        let back = [about(SOURCE, protocol), is_port(SOURCE_PORT, port)];
        rules.push([&back[..], &[write_port(SOURCE_PORT, DNS, checksum)]].concat().concat());
    }
    // Where nobody listens whoever asked must hear so, and the kernel finds them by the port that they asked.
    let unreachable = [about(SOURCE, ICMP), is(TRANSPORT, 0, &[UNREACHABLE]), is_port(QUOTED_PORT, port)];
    rules.push([&unreachable[..], &[write_port(QUOTED_PORT, DNS, 2)]].concat().concat());
    rules
}

/// IPv4 with our address at this place, and this protocol.
fn about(address: u32, protocol: u8) -> Vec<u8> {
    let ipv4 = [meta(META_PROTOCOL), compare(&IPV4.to_be_bytes())];
    let protocol = [meta(META_L4PROTO), compare(&[protocol])];
    [ipv4.concat(), is(NETWORK, address, &ADDRESS), protocol.concat()].concat()
}

fn is_port(offset: u32, port: u16) -> Vec<u8> {
    is(TRANSPORT, offset, &port.to_be_bytes())
}

/// These bytes are at this place.
fn is(base: u32, offset: u32, bytes: &[u8]) -> Vec<u8> {
    let numbers = [
        (PAYLOAD_DREG, REGISTER),
        (PAYLOAD_BASE, base),
        (PAYLOAD_OFFSET, offset),
        (PAYLOAD_LEN, length(bytes)),
    ];
    [element("payload", &numbers, None), compare(bytes)].concat()
}

/// Write a port to this place of the transport header, and make its checksum, which is at another, right again.
fn write_port(offset: u32, port: u16, checksum: u32) -> Vec<u8> {
    let bytes = port.to_be_bytes();
    let numbers = [
        (PAYLOAD_SREG, REGISTER),
        (PAYLOAD_BASE, TRANSPORT),
        (PAYLOAD_OFFSET, offset),
        (PAYLOAD_LEN, length(&bytes)),
        (PAYLOAD_CSUM_TYPE, CSUM_INET),
        (PAYLOAD_CSUM_OFFSET, checksum),
    ];
    let value = element("immediate", &[(IMMEDIATE_DREG, REGISTER)], Some((IMMEDIATE_DATA, &bytes)));
    [value, element("payload", &numbers, None)].concat()
}

fn meta(key: u32) -> Vec<u8> {
    element("meta", &[(META_KEY, key), (META_DREG, REGISTER)], None)
}

fn compare(bytes: &[u8]) -> Vec<u8> {
    element("cmp", &[(CMP_SREG, REGISTER), (CMP_OP, CMP_EQ)], Some((CMP_DATA, bytes)))
}

/// What we write is a few bytes long.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// An expression in its list.
fn element(name: &str, numbers: &[(u16, u32)], data: Option<(u16, &[u8])>) -> Vec<u8> {
    let mut attributes = Vec::new();
    for (kind, number) in numbers {
        put_number(&mut attributes, *kind, *number);
    }
    if let Some((kind, bytes)) = data {
        let mut value = Vec::new();
        put(&mut value, DATA_VALUE, bytes);
        put(&mut attributes, kind, &value);
    }
    let mut expression = Vec::new();
    put(&mut expression, EXPRESSION_NAME, &[name.as_bytes(), &[0]].concat());
    put(&mut expression, EXPRESSION_DATA, &attributes);
    let mut element = Vec::new();
    put(&mut element, ELEMENT, &expression);
    element
}

/// The port that rules with these expressions lead to; 0: they are not as we write them.
fn port_of(observed: &[Vec<u8>]) -> u16 {
    let written = observed.first().and_then(|rule| written(rule)).unwrap_or(0);
    let desired = rules(written);
    let same = observed.len() == desired.len()
        && observed.iter().zip(&desired).all(|(observed, rule)| is_as(observed, rule));
    if same { written } else { 0 }
}

/// The port that a rule writes.
fn written(rule: &[u8]) -> Option<u16> {
    let immediate = Expression::all(rule).into_iter().find(|expression| expression.name == "immediate")?;
    let value = Attributes::nested(immediate.data.find(IMMEDIATE_DATA)?).find(DATA_VALUE)?;
    value.try_into().ok().map(u16::from_be_bytes)
}

/// Whether a rule that was seen has the expressions of one of ours, each with all that ours has; a kernel may tell more.
fn is_as(observed: &[u8], ours: &[u8]) -> bool {
    let (observed, ours) = (Expression::all(observed), Expression::all(ours));
    let same = |(observed, ours): (&Expression<'_>, &Expression<'_>)| {
        observed.name == ours.name
            && ours.data.into_iter().all(|(kind, value)| observed.data.find(kind) == Some(value))
    };
    observed.len() == ours.len() && observed.iter().zip(&ours).all(same)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rules_tell_their_port_and_changed_ones_do_not() {
        for port in [53, 50_053, u16::MAX] {
            let whole = rules(port);
            assert_eq!(port_of(&whole), port);
            for at in 0..whole.len() {
                let mut less = whole.clone();
                less.remove(at);
                assert_eq!(port_of(&less), 0, "without rule {at}");
                let mut other = whole.clone();
                other[at] = rules(port - 1)[at].clone();
                assert_eq!(port_of(&other), 0, "rule {at} is another");
                other[at] = meta(META_PROTOCOL);
                assert_eq!(port_of(&other), 0, "rule {at} is short");
            }
        }
        assert_eq!(port_of(&[]), 0);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(rules in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..6)) {
            prop_assert_eq!(port_of(&rules), 0);
        }
    }
}
