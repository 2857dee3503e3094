//! What the kernel's words for our table mean, as far as they are such as nft makes of the rules that we
//! write. Anything else, and every doubt, is left for nft to read: a different version of nft, or another
//! program, may have written them.
//!
//! `rules` has the chains' rules, `parts` what they are made of, `sets` the sets and the maps of ports; here are tables and chains.

mod parts;
mod rules;
mod sets;

use self::parts::only;
use super::{
    wire::{CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, RULE_CHAIN, RULE_EXPRESSIONS, big_u32},
    words::Words,
};
use crate::{
    kernel::{
        linux::rtnl::attributes::{Attributes, text},
        nft::{HOOKS, Place},
    },
    plan::ruleset::{Chain, Hook, Table},
};

/// Attributes of tables …
const TABLE_FLAGS: u16 = 2;
const TABLE_USE: u16 = 3;
const TABLE_KNOWN: [u16; 5] = [1, TABLE_FLAGS, TABLE_USE, 4, 5];
/// … of chains …
const CHAIN_TYPE: u16 = 7;
const CHAIN_FLAGS: u16 = 10;
const CHAIN_KNOWN: [u16; 9] = [1, 2, CHAIN_NAME, CHAIN_HOOK, CHAIN_POLICY, 6, CHAIN_TYPE, 9, CHAIN_FLAGS];
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
/// … and of rules.
const RULE_KNOWN: [u16; 5] = [1, RULE_CHAIN, 3, RULE_EXPRESSIONS, 6];
/// NF_ACCEPT, NFT_CHAIN_BASE.
const ACCEPT: u32 = 1;
const BASE: u32 = 1;

/// The table, or `None` if something in it is unknown here.
pub(in crate::kernel::linux) fn table(words: &Words) -> Option<Table> {
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
        let hook = our_chain(only(chain, &CHAIN_KNOWN)?)?;
        table.chains.push(Chain { hook, rules: Vec::new() });
    }
    for rule in &words.rules {
        let rule = only(rule, &RULE_KNOWN)?;
        let name = rule.find(RULE_CHAIN).and_then(text)?;
        let chain = table.chains.iter_mut().find(|chain| Place::of(chain.hook).name == name)?;
        chain.rules.push(rules::rule(rule.find(RULE_EXPRESSIONS)?)?);
    }
    for (set, elements) in &words.sets {
        sets::add(set, elements, &mut table)?;
    }
    Some(table)
}

/// The place of a chain that is exactly as we make it.
fn our_chain(chain: Attributes<'_>) -> Option<Hook> {
    if [CHAIN_HOOK, CHAIN_TYPE, CHAIN_POLICY, CHAIN_FLAGS].into_iter().any(|kind| chain.find(kind).is_some())
    {
        return base_chain(chain);
    }
    let name = chain.find(CHAIN_NAME).and_then(text)?;
    HOOKS.into_iter().find(|hook| Place::of(*hook).name == name && Place::of(*hook).base.is_none())
}

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
