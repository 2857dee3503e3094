//! Our nftables table: written in nft's own language, read from its JSON (libnftables-json(5)); the reading is the inverse of
//! the writing.

pub(super) mod decode;
pub(super) mod encode;

use crate::{
    model::Protocol,
    plan::ruleset::{Family, Hook, PortMap},
};

/// A base chain's place, and its name.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) hook: &'static str,
    pub(super) priority: i64,
}

impl Place {
    const fn new(name: &'static str, kind: &'static str, hook: &'static str, priority: i64) -> Self {
        Self { name, kind, hook, priority }
    }

    pub(super) const fn of(hook: Hook) -> Self {
        match hook {
            Hook::Raw => Self::new("raw", "filter", "prerouting", -300),
            Hook::Prerouting => Self::new("prerouting", "nat", "prerouting", -100),
            Hook::Output => Self::new("output", "nat", "output", -100),
            Hook::Forward => Self::new("forward", "filter", "forward", 0),
            Hook::Postrouting => Self::new("postrouting", "nat", "postrouting", 100),
        }
    }
}

/// All of them.
pub(super) const HOOKS: [Hook; 5] =
    [Hook::Raw, Hook::Prerouting, Hook::Output, Hook::Forward, Hook::Postrouting];

/// Every map of ports, with its name.
pub(super) const MAPS: [(PortMap, &str); 4] = [
    (PortMap { family: Family::V4, addressed: false }, "ports4"),
    (PortMap { family: Family::V6, addressed: false }, "ports6"),
    (PortMap { family: Family::V4, addressed: true }, "addressed4"),
    (PortMap { family: Family::V6, addressed: true }, "addressed6"),
];

const fn map_name(map: PortMap) -> &'static str {
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
