//! Ports that come and go in maps of ours, told to the kernel itself: for a few ports a process would cost more than all the rest of an
//! attach (linux/netfilter/nf_tables.h).

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};

use super::wire::{INET, SUBSYSTEM, request};
use crate::{
    kernel::{
        linux::{
            netns::namespace::Namespace,
            refusal::Refusal,
            rtnl::{attributes::put, socket::Rtnl},
        },
        nft::{map_name, number},
    },
    plan::{
        ownership::TABLE,
        ruleset::{PortChange, PortKey},
    },
};

/// Messages of sets' elements …
const NEW_ELEMENTS: u16 = SUBSYSTEM << 8 | 12;
const DELETE_ELEMENTS: u16 = SUBSYSTEM << 8 | 14;
/// … and their attributes.
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const ELEMENT: u16 = 1;
const KEY: u16 = 1;
const DATA: u16 = 2;
const VALUE: u16 = 1;
/// Most elements in a message: a list has at most 64 KiB, an element 80 bytes.
const MOST: usize = 500;

/// Change ports in our table, all or none. What goes is there, what comes is not.
pub(in crate::kernel::linux) fn change(namespace: &Namespace, changes: &[PortChange]) -> Result<(), Refusal> {
    let mut messages = Vec::new();
    for change in changes {
        let name = map_name(change.map);
        let gone: Vec<Vec<u8>> = change.gone.iter().map(|key| element(key, None)).collect();
        let come: Vec<Vec<u8>> = change.come.iter().map(|(key, to)| element(key, Some(*to))).collect();
        messages.extend(gone.chunks(MOST).map(|some| (DELETE_ELEMENTS, 0, list(name, some))));
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        messages.extend(come.chunks(MOST).map(|some| (NEW_ELEMENTS, flags, list(name, some))));
    }
    if messages.is_empty() {
        return Ok(());
    }
    namespace.run(Rtnl::open_netfilter)??.transact(SUBSYSTEM, &messages)
}

fn list(name: &str, elements: &[Vec<u8>]) -> Vec<u8> {
    let mut list = Vec::new();
    for element in elements {
        put(&mut list, ELEMENT, element);
    }
    let mut body = request(INET, &[(LIST_TABLE, TABLE), (LIST_SET, name)]);
    put(&mut body, LIST_ELEMENTS, &list);
    body
}

fn element(key: &PortKey, to: Option<(IpAddr, u16)>) -> Vec<u8> {
    let mut from = key.address.map(octets).unwrap_or_default();
    from.extend([number(key.protocol), 0, 0, 0]);
    from.extend(port(key.port));
    let mut element = Vec::new();
    put(&mut element, KEY, &value(&from));
    if let Some((address, to)) = to {
        put(&mut element, DATA, &value(&[octets(address), port(to).to_vec()].concat()));
    }
    element
}

fn value(bytes: &[u8]) -> Vec<u8> {
    let mut value = Vec::new();
    put(&mut value, VALUE, bytes);
    value
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Each part fills whole words.
fn port(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}
