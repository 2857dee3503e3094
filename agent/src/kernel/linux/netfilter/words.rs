//! All that the kernel says of our table, in its own words. Their fingerprint tells whether they are those of the last time, whatever
//! they mean; [`super::reading`] says what they mean.
//!
//! Messages and attributes are those of linux/netfilter/nf_tables.h. The kernel numbers what is made
//! (handles), so a rule that was removed and made again gets a new handle. A comparison then reports a
//! change, which does no harm.

use std::hash::{DefaultHasher, Hasher};

use netlink_packet_core::NLM_F_DUMP;
use nix::errno::Errno;

use super::wire::{ATTEMPTS, CHAIN_TABLE, HEADER, INET, RULE_TABLE, SUBSYSTEM, TABLE_NAME, big_u32, request};
use crate::{
    kernel::linux::{
        refusal::Refusal,
        rtnl::{
            attributes::{Attributes, text, u8_at},
            socket::Rtnl,
        },
    },
    plan::ownership::TABLE,
};

/// Messages, besides those in [`super::wire`] …
const GET_TABLE: u16 = SUBSYSTEM << 8 | 1;
const GET_CHAIN: u16 = SUBSYSTEM << 8 | 4;
const GET_RULE: u16 = SUBSYSTEM << 8 | 7;
const GET_SET: u16 = SUBSYSTEM << 8 | 10;
const GET_ELEMENTS: u16 = SUBSYSTEM << 8 | 13;
const GET_GENERATION: u16 = SUBSYSTEM << 8 | 16;
/// … and attributes of sets, of lists of elements, and of generations.
const SET_TABLE: u16 = 1;
pub(in crate::kernel::linux) const SET_NAME: u16 = 2;
const ELEMENTS_TABLE: u16 = 1;
const ELEMENTS_SET: u16 = 2;
const ELEMENTS: u16 = 3;
const GENERATION: u16 = 1;
/// NFPROTO_UNSPEC.
const ANY: u8 = 0;

/// Our table as it was at one moment: messages without their headers, which have a part of the generation.
#[derive(Debug, Default)]
pub(in crate::kernel::linux) struct Words {
    /// Of the rules of the namespace, then.
    pub(in crate::kernel::linux) generation: u32,
    /// What the table says of itself, a count of what is in it among that.
    pub(in crate::kernel::linux) table: Vec<u8>,
    /// In order.
    pub(in crate::kernel::linux) chains: Vec<Vec<u8>>,
    /// Of all chains, in order.
    pub(in crate::kernel::linux) rules: Vec<Vec<u8>>,
    /// Each with its elements. Sorted: a hash table has its own order, and another one when it grows.
    pub(in crate::kernel::linux) sets: Vec<(Vec<u8>, Vec<Vec<u8>>)>,
}

impl Words {
    /// The same number for the same words, whatever the generation.
    pub(in crate::kernel::linux) fn fingerprint(&self) -> u64 {
        let mut sum = DefaultHasher::new();
        let mut add = |parts: &[Vec<u8>]| {
            sum.write_usize(parts.len());
            for part in parts {
                sum.write_usize(part.len());
                sum.write(part);
            }
        };
        for parts in [std::slice::from_ref(&self.table), &self.chains, &self.rules] {
            add(parts);
        }
        for (set, elements) in &self.sets {
            add(std::slice::from_ref(set));
            add(elements);
        }
        sum.finish()
    }
}

/// The number that each change of a rule in the socket's namespace raises by one.
pub(in crate::kernel::linux) fn generation(socket: &mut Rtnl) -> Result<u32, Refusal> {
    let mut generation = None;
    socket.ask(GET_GENERATION, 0, &request(ANY, &[]), &mut |body| {
        generation = Attributes::after(body, HEADER).find(GENERATION).and_then(big_u32);
    })?;
    generation
        .ok_or_else(|| Refusal::new(Errno::EIO, "the kernel did not report the generation of its rules"))
}

/// The kernel's words for our table in the family `inet` of the socket's namespace, if there is one.
///
/// # Errors
/// EINTR: rules come and go all the time.
pub(in crate::kernel::linux) fn of_ours(socket: &mut Rtnl) -> Result<Option<Words>, Refusal> {
    for _attempt in 0..ATTEMPTS {
        let generation = generation(socket)?;
        let words = match ours(socket) {
            Err(refusal) if refusal.errno == Errno::EINTR => continue,
            // It is not there, or something of it went meanwhile.
            Err(refusal) if refusal.is_absence() => None,
            words => Some(Words { generation, ..words? }),
        };
        if self::generation(socket)? == generation {
            return Ok(words);
        }
    }
    Err(Refusal::new(Errno::EINTR, "rules keep changing"))
}

fn ours(socket: &mut Rtnl) -> Result<Words, Refusal> {
    let mut words = Words::default();
    socket.ask(GET_TABLE, 0, &request(INET, &[(TABLE_NAME, TABLE)]), &mut |body| {
        words.table = said(body);
    })?;
    words.chains = dump(socket, GET_CHAIN, CHAIN_TABLE)?;
    words.rules = dump(socket, GET_RULE, RULE_TABLE)?;
    for set in dump(socket, GET_SET, SET_TABLE)? {
        let name = Attributes::nested(&set).find(SET_NAME).and_then(text).unwrap_or_default();
        let elements = elements(socket, name)?;
        words.sets.push((set, elements));
    }
    Ok(words)
}

/// All of our table's. `table`: the attribute with its table's name.
fn dump(socket: &mut Rtnl, get: u16, table: u16) -> Result<Vec<Vec<u8>>, Refusal> {
    let mut observed = Vec::new();
    socket.ask(get, NLM_F_DUMP, &request(INET, &[(table, TABLE)]), &mut |body| {
        // Not every kernel takes a filter.
        let name = Attributes::after(body, HEADER).find(table).and_then(text);
        if u8_at(body, 0) == Some(INET) && name == Some(TABLE) {
            observed.push(said(body));
        }
    })?;
    Ok(observed)
}

fn elements(socket: &mut Rtnl, set: &str) -> Result<Vec<Vec<u8>>, Refusal> {
    let mut elements = Vec::new();
    let within = request(INET, &[(ELEMENTS_TABLE, TABLE), (ELEMENTS_SET, set)]);
    socket.ask(GET_ELEMENTS, NLM_F_DUMP, &within, &mut |body| {
        let list = Attributes::after(body, HEADER).find(ELEMENTS).unwrap_or_default();
        elements.extend(Attributes::nested(list).into_iter().map(|(_, element)| element.to_vec()));
    })?;
    elements.sort_unstable();
    Ok(elements)
}

fn said(body: &[u8]) -> Vec<u8> {
    body.get(HEADER..).unwrap_or_default().to_vec()
}
