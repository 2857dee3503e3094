//! Sets, and maps of ports, with their elements (linux/netfilter/nf_tables.h).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::parts::only;
use crate::{
    kernel::{
        linux::{
            netfilter::{wire::big_u32, words::SET_NAME},
            rtnl::attributes::{Attributes, address, text},
        },
        nft::{FAMILIES, MAPS, PROTOCOLS, VNIS, number, vteps},
    },
    model::Vni,
    plan::ruleset::{Family, PortKey, PortMap, Table},
};

/// Attributes of sets …
const FLAGS: u16 = 3;
const KEY: u16 = 4;
const KEY_LENGTH: u16 = 5;
const DATA: u16 = 6;
const DESCRIPTION: u16 = 9;
const USERDATA: u16 = 13;
const KNOWN: [u16; 14] =
    [1, SET_NAME, FLAGS, KEY, KEY_LENGTH, DATA, 7, 8, DESCRIPTION, USERDATA, 14, 16, 19, 20];
const SIZE: u16 = 1;
/// … and of elements.
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const VALUE: u16 = 1;

/// NFT_SET_MAP.
const MAP: u32 = 8;
/// Kinds of a set's userdata that tell of its types (libnftnl/udata.h); another one may be a comment.
const USERDATA_TYPES: [u8; 4] = [0, 1, 3, 4];
const USERDATA_FLAGS: [u8; 2] = [2, 6];
/// nft's numbers of types, six bits each in that of a concatenation (nftables, datatype.h).
const TYPE_INTEGER: u32 = 4;
const TYPE_V4: u32 = 7;
const TYPE_V6: u32 = 8;
const TYPE_PROTOCOL: u32 = 12;
const TYPE_PORT: u32 = 13;
/// Bytes of a VNI.
const VNI: u32 = 3;

/// Add a set with its elements to the table, or return `None` if it is not as we make one. An empty map is
/// left out.
pub(super) fn add(set: &[u8], elements: &[Vec<u8>], table: &mut Table) -> Option<()> {
    let set = only(set, &KNOWN)?;
    let name = set.find(SET_NAME).and_then(text)?;
    if let Some((map, _)) = MAPS.into_iter().find(|(_, ours)| *ours == name) {
        let value = type_of(map.family);
        let key = [value, TYPE_PROTOCOL, TYPE_PORT];
        let key = joined(if map.addressed { &key } else { &key[1..] });
        is_made(set, MAP, key, Some(joined(&[value, TYPE_PORT])))?;
        let ports = elements.iter().map(|element| port(element, map)).collect::<Option<BTreeMap<_, _>>>()?;
        table.ports.extend((!ports.is_empty()).then_some((map, ports)));
    } else if name == VNIS.0 {
        is_made(set, 0, TYPE_INTEGER, None)?;
        set.find(KEY_LENGTH).and_then(big_u32).filter(|length| *length == VNI)?;
        table.vnis = elements.iter().map(|element| vni(element)).collect::<Option<BTreeSet<_>>>()?;
    } else {
        let family = FAMILIES.into_iter().find(|family| vteps(*family).0 == name)?;
        is_made(set, 0, type_of(family), None)?;
        let addresses = elements.iter().map(|element| address(key(element)?));
        table.vteps.extend(addresses.collect::<Option<BTreeSet<_>>>()?);
    }
    Some(())
}

const fn type_of(family: Family) -> u32 {
    match family {
        Family::V4 => TYPE_V4,
        Family::V6 => TYPE_V6,
    }
}

fn joined(types: &[u32]) -> u32 {
    types.iter().fold(0, |sum, kind| sum << 6 | kind)
}

/// Whether a set has these flags, this type of keys, and this one of values, and nothing else that could be chosen.
fn is_made(set: Attributes<'_>, flags: u32, key: u32, data: Option<u32>) -> Option<()> {
    let number = |kind| set.find(kind).and_then(big_u32);
    let sized = Attributes::nested(set.find(DESCRIPTION).unwrap_or_default()).find(SIZE).is_some();
    let plain = !sized && tells_types(set.find(USERDATA).unwrap_or_default());
    (plain && number(FLAGS).unwrap_or(0) == flags && number(KEY) == Some(key) && number(DATA) == data)
        .then_some(())
}

/// Whether all that nft keeps beside a set is what its types are: kind, length, value, one after the other.
fn tells_types(mut userdata: &[u8]) -> bool {
    while let [kind, length, rest @ ..] = userdata {
        let Some(value) = rest.get(..usize::from(*length)) else { return false };
        let off = USERDATA_FLAGS.contains(kind) && value.iter().all(|byte| *byte == 0);
        if !off && !USERDATA_TYPES.contains(kind) {
            return false;
        }
        userdata = &rest[value.len()..];
    }
    userdata.is_empty()
}

/// The key of an element of a set.
fn key(element: &[u8]) -> Option<&[u8]> {
    Attributes::nested(only(element, &[ELEMENT_KEY])?.find(ELEMENT_KEY)?).find(VALUE)
}

fn vni(element: &[u8]) -> Option<Vni> {
    let [a, b, c] = key(element)?.try_into().ok()?;
    Vni::new(u32::from_be_bytes([0, a, b, c])).ok()
}

fn port(element: &[u8], map: PortMap) -> Option<(PortKey, (IpAddr, u16))> {
    let element = only(element, &[ELEMENT_KEY, ELEMENT_DATA])?;
    let value = |kind| Attributes::nested(element.find(kind)?).find(VALUE);
    let length = match map.family {
        Family::V4 => 4,
        Family::V6 => 16,
    };
    let (own, key) = value(ELEMENT_KEY)?.split_at_checked(if map.addressed { length } else { 0 })?;
    let (to, to_port) = value(ELEMENT_DATA)?.split_at_checked(length)?;
    // Each part fills whole words.
    let ([protocol, 0, 0, 0, high, low, 0, 0], [to_high, to_low, 0, 0]) = (key, to_port) else { return None };
    let key = PortKey {
        address: if map.addressed { Some(address(own)?) } else { None },
        protocol: PROTOCOLS.into_iter().find(|known| number(*known) == *protocol)?,
        port: u16::from_be_bytes([*high, *low]),
    };
    Some((key, (address(to)?, u16::from_be_bytes([*to_high, *to_low]))))
}
