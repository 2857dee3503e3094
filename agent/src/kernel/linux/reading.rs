//! What the kernel's words for our table mean, as far as they are such as nft makes of the rules that we write. Anything else, and
//! every doubt, is left for nft to read: it may be another nft that wrote them, or somebody else.
//!
//! `rules` has the chains' rules; here are tables, chains, and maps of ports.

mod rules;

use std::{collections::BTreeMap, net::IpAddr};

use super::{
    attributes::{Attributes, address, text},
    netfilter::{CHAIN_NAME, RULE_CHAIN, RULE_EXPRESSIONS, big_u32},
    words::{SET_NAME, Words},
};
use crate::{
    kernel::nft::{HOOKS, MAPS, PROTOCOLS, Place, number},
    plan::ruleset::{Chain, Family, Hook, PortKey, PortMap, Table},
};

/// Attributes of tables …
const TABLE_FLAGS: u16 = 2;
const TABLE_USE: u16 = 3;
const TABLE_KNOWN: [u16; 5] = [1, TABLE_FLAGS, TABLE_USE, 4, 5];
/// … of chains …
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const CHAIN_FLAGS: u16 = 10;
const CHAIN_KNOWN: [u16; 9] = [1, 2, CHAIN_NAME, CHAIN_HOOK, CHAIN_POLICY, 6, CHAIN_TYPE, 9, CHAIN_FLAGS];
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
/// … of rules …
const RULE_KNOWN: [u16; 5] = [1, RULE_CHAIN, 3, RULE_EXPRESSIONS, 6];
/// … of sets …
const SET_FLAGS: u16 = 3;
const SET_KEY: u16 = 4;
const SET_DATA: u16 = 6;
const SET_DESCRIPTION: u16 = 9;
const SET_USERDATA: u16 = 13;
const SET_KNOWN: [u16; 14] =
    [1, SET_NAME, SET_FLAGS, SET_KEY, 5, SET_DATA, 7, 8, SET_DESCRIPTION, SET_USERDATA, 14, 16, 19, 20];
const DESCRIPTION_SIZE: u16 = 1;
/// … and of elements.
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const VALUE: u16 = 1;

/// NF_ACCEPT, NFT_CHAIN_BASE, NFT_SET_MAP.
const ACCEPT: u32 = 1;
const BASE: u32 = 1;
const MAP: u32 = 8;
/// Kinds of a set's userdata that tell of its types (libnftnl/udata.h); another one may be a comment.
const USERDATA_TYPES: [u8; 4] = [0, 1, 3, 4];
const USERDATA_FLAGS: [u8; 2] = [2, 6];
/// nft's numbers of types, six bits each in that of a concatenation (nftables, datatype.h).
const TYPE_V4: u32 = 7;
const TYPE_V6: u32 = 8;
const TYPE_PROTOCOL: u32 = 12;
const TYPE_PORT: u32 = 13;

/// The table; None: not everything in it is known here.
pub(super) fn table(words: &Words) -> Option<Table> {
    let own = only(&words.table, &TABLE_KNOWN)?;
    let inside = u32::try_from(words.chains.len() + words.sets.len()).ok()?;
    // Or it sleeps, or has objects of other kinds.
    if own.find(TABLE_FLAGS).and_then(big_u32) != Some(0)
        || own.find(TABLE_USE).and_then(big_u32) != Some(inside)
    {
        return None;
    }
    let mut table = Table::default();
    for chain in &words.chains {
        let hook = base_chain(only(chain, &CHAIN_KNOWN)?)?;
        table.chains.push(Chain { hook, rules: Vec::new() });
    }
    for rule in &words.rules {
        let rule = only(rule, &RULE_KNOWN)?;
        let name = rule.find(RULE_CHAIN).and_then(text)?;
        let chain = table.chains.iter_mut().find(|chain| Place::of(chain.hook).name == name)?;
        chain.rules.push(rules::rule(rule.find(RULE_EXPRESSIONS)?)?);
    }
    for (set, elements) in &words.sets {
        let map = port_map(only(set, &SET_KNOWN)?)?;
        let ports = elements.iter().map(|element| port(element, map)).collect::<Option<BTreeMap<_, _>>>()?;
        // What is empty is not there.
        table.ports.extend((!ports.is_empty()).then_some((map, ports)));
    }
    Some(table)
}

/// These attributes, if there are none of other kinds.
fn only<'a>(attributes: &'a [u8], known: &[u16]) -> Option<Attributes<'a>> {
    let attributes = Attributes::nested(attributes);
    attributes.into_iter().all(|(kind, _)| known.contains(&kind)).then_some(attributes)
}

/// The hook of a chain that is exactly as we make it.
fn base_chain(chain: Attributes<'_>) -> Option<Hook> {
    let number = |kind| chain.find(kind).and_then(big_u32);
    let hook = only(chain.find(CHAIN_HOOK)?, &[HOOK_NUMBER, HOOK_PRIORITY])?;
    let at = hook.find(HOOK_NUMBER).and_then(big_u32)?;
    let priority = i64::from(i32::from_be_bytes(hook.find(HOOK_PRIORITY)?.try_into().ok()?));
    if number(CHAIN_POLICY) != Some(ACCEPT) || number(CHAIN_FLAGS) != Some(BASE) {
        return None;
    }
    HOOKS.into_iter().find(|hook| {
        let place = Place::of(*hook);
        place.base.is_some_and(|base| {
            chain.find(CHAIN_NAME).and_then(text) == Some(place.name)
                && chain.find(CHAIN_TYPE).and_then(text) == Some(base.kind)
                && base.priority == priority
                && hook_number(base.hook) == Some(at)
        })
    })
}

/// Numbers of hooks (linux/netfilter.h).
fn hook_number(name: &str) -> Option<u32> {
    match name {
        "prerouting" => Some(0),
        "forward" => Some(2),
        "output" => Some(3),
        "postrouting" => Some(4),
        _ => None,
    }
}

/// A map that is exactly as we make it.
fn port_map(set: Attributes<'_>) -> Option<PortMap> {
    let number = |kind| set.find(kind).and_then(big_u32);
    let name = set.find(SET_NAME).and_then(text)?;
    let (map, _) = MAPS.into_iter().find(|(_, ours)| *ours == name)?;
    let address = match map.family {
        Family::V4 => TYPE_V4,
        Family::V6 => TYPE_V6,
    };
    let joined = |types: &[u32]| types.iter().fold(0, |sum, kind| sum << 6 | kind);
    let key = [address, TYPE_PROTOCOL, TYPE_PORT];
    let key = joined(if map.addressed { &key } else { &key[1..] });
    let as_ours = number(SET_FLAGS) == Some(MAP)
        && number(SET_KEY) == Some(key)
        && number(SET_DATA) == Some(joined(&[address, TYPE_PORT]));
    let sized =
        Attributes::nested(set.find(SET_DESCRIPTION).unwrap_or_default()).find(DESCRIPTION_SIZE).is_some();
    (as_ours && !sized && tells_types(set.find(SET_USERDATA).unwrap_or_default())).then_some(map)
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
