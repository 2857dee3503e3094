//! Our nftables table: written in nft's own language, read from its JSON (libnftables-json(5)); the reading is the inverse of
//! the writing.

pub(super) mod decode;
pub(super) mod encode;

use crate::{
    model::Protocol,
    plan::ruleset::{Family, Hook, PortMap},
};

/// A chain's name, and its place if it is a base chain.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) name: &'static str,
    pub(super) base: Option<Base>,
}

/// What makes a chain a base chain.
#[derive(Clone, Copy)]
pub(super) struct Base {
    pub(super) kind: &'static str,
    pub(super) hook: &'static str,
    pub(super) priority: i64,
}

impl Place {
    const fn new(name: &'static str, kind: &'static str, hook: &'static str, priority: i64) -> Self {
        Self { name, base: Some(Base { kind, hook, priority }) }
    }

    const fn regular(name: &'static str) -> Self {
        Self { name, base: None }
    }

    pub(super) const fn of(hook: Hook) -> Self {
        match hook {
            Hook::Raw => Self::new("raw", "filter", "prerouting", -300),
            Hook::Prerouting => Self::new("prerouting", "nat", "prerouting", -100),
            Hook::Output => Self::new("output", "nat", "output", -100),
            Hook::Forward => Self::new("forward", "filter", "forward", 0),
            Hook::Postrouting => Self::new("postrouting", "nat", "postrouting", 100),
            Hook::Sandboxes => Self::regular("sandboxes"),
            Hook::Agent => Self::regular("agent"),
            Hook::Tunnel => Self::regular("tunnel"),
        }
    }
}

/// All of them.
pub(super) const HOOKS: [Hook; 8] = [
    Hook::Raw,
    Hook::Prerouting,
    Hook::Output,
    Hook::Forward,
    Hook::Postrouting,
    Hook::Sandboxes,
    Hook::Agent,
    Hook::Tunnel,
];

/// Name of the set of VNIs, and its type as nft says it when the set is made and as it lists it.
pub(super) const VNIS: (&str, &str, &str) = ("vnis", "typeof @th,96,24", "integer");
/// Bits of a VNI behind the start of the UDP header: offset and length.
pub(super) const VNI_AT: (u64, u64) = (96, 24);

/// Name and type of the set of a family's VTEPs.
pub(super) const fn vteps(family: Family) -> (&'static str, &'static str) {
    match family {
        Family::V4 => ("vteps4", "ipv4_addr"),
        Family::V6 => ("vteps6", "ipv6_addr"),
    }
}

/// nft's word for a family.
const fn family_word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

pub(super) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Every map of ports, with its name.
pub(super) const MAPS: [(PortMap, &str); 4] = [
    (PortMap { family: Family::V4, addressed: false }, "ports4"),
    (PortMap { family: Family::V6, addressed: false }, "ports6"),
    (PortMap { family: Family::V4, addressed: true }, "addressed4"),
    (PortMap { family: Family::V6, addressed: true }, "addressed6"),
];

pub(super) const fn map_name(map: PortMap) -> &'static str {
    match (map.family, map.addressed) {
        (Family::V4, false) => MAPS[0].1,
        (Family::V6, false) => MAPS[1].1,
        (Family::V4, true) => MAPS[2].1,
        (Family::V6, true) => MAPS[3].1,
    }
}

/// nft's types of a map's key and value.
fn map_types(map: PortMap) -> (Vec<&'static str>, Vec<&'static str>) {
    let address = match map.family {
        Family::V4 => "ipv4_addr",
        Family::V6 => "ipv6_addr",
    };
    let key = map.addressed.then_some(address).into_iter().chain(["inet_proto", "inet_service"]);
    (key.collect(), vec![address, "inet_service"])
}

/// All protocols that ports are published of.
pub(super) const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

/// A protocol's number in the IP header (IANA).
pub(super) const fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}
