//! The expressions of rules (linux/netfilter/nf_tables.h): their kinds and numbers, no more than what our rules are made of.

use crate::kernel::linux::{
    netfilter::wire::{Expression, big_u32},
    rtnl::attributes::{Attributes, text},
};

/// The verdict to continue in a different chain (NFT_GOTO).
const GOTO: u32 = (-4_i32).cast_unsigned();
/// Flags of `nat`.
const WITH_ADDRESS: u32 = 1;
const WITH_PORT: u32 = 2;

/// An expression with all that it says. Numbers of registers come last, where there are some.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Meta(u32, u32),
    /// How, with what.
    Compare(u32, &'a [u8], u32),
    /// Base, offset, length.
    Payload((u32, u32, u32), u32),
    /// All bits but those of the mask become zero.
    Mask(&'a [u8], u32),
    Ct(u32, u32),
    Fib(u32, u32, u32),
    /// Name; from where, to where.
    Lookup(&'a str, (u32, u32)),
    /// Whether it is in the set of this name, or is not.
    Asked(&'a str, bool, u32),
    Value(&'a [u8], u32),
    Verdict(u32),
    Goto(&'a str),
    /// Kind and family; where the address and the port are.
    Nat((u32, u32), u32, Option<u32>),
    Masquerade,
}

impl<'a> Part<'a> {
    /// Those of a rule's list; None: one of them, or something that it says, is not known here.
    pub(super) fn all(list: &'a [u8]) -> Option<Vec<Self>> {
        Expression::all(list).iter().map(part).collect()
    }
}

fn part<'a>(expression: &Expression<'a>) -> Option<Part<'a>> {
    let data = expression.data;
    let has = |known: &[u16]| data.into_iter().all(|(kind, _)| known.contains(&kind));
    let n = |kind| data.find(kind).and_then(big_u32);
    let value = |kind| Attributes::nested(data.find(kind)?).find(1);
    let zero = |kind| n(kind).unwrap_or(0) == 0;
    match expression.name {
        "meta" if has(&[1, 2]) => Some(Part::Meta(n(2)?, n(1)?)),
        "cmp" if has(&[1, 2, 3]) => Some(Part::Compare(n(2)?, value(3)?, n(1)?)),
        "payload" if has(&[1, 2, 3, 4]) => Some(Part::Payload((n(2)?, n(3)?, n(4)?), n(1)?)),
        "bitwise" if has(&[1, 2, 3, 4, 5, 6]) && zero(6) && n(1) == n(2) => {
            let (mask, xor) = (value(4)?, value(5)?);
            (xor.iter().all(|byte| *byte == 0) && mask.len() == xor.len()).then_some(Part::Mask(mask, n(1)?))
        }
        "ct" if has(&[1, 2]) => Some(Part::Ct(n(2)?, n(1)?)),
        "fib" if has(&[1, 2, 3]) => Some(Part::Fib(n(2)?, n(3)?, n(1)?)),
        "lookup" if has(&[1, 2, 3, 5]) && zero(5) && n(3).is_some() => {
            Some(Part::Lookup(data.find(1).and_then(text)?, (n(2)?, n(3)?)))
        }
        "lookup" if has(&[1, 2, 5]) && n(5).unwrap_or(0) <= 1 => {
            Some(Part::Asked(data.find(1).and_then(text)?, zero(5), n(2)?))
        }
        "immediate" if has(&[1, 2]) => match value(2) {
            Some(value) => Some(Part::Value(value, n(1)?)),
            None => {
                let verdict = Attributes::nested(Attributes::nested(data.find(2)?).find(2)?);
                match (verdict.find(1).and_then(big_u32).filter(|_| n(1) == Some(0))?, verdict.find(2)) {
                    (GOTO, Some(chain)) => text(chain).map(Part::Goto),
                    (code, None) => Some(Part::Verdict(code)),
                    _ => None,
                }
            }
        },
        "nat" if has(&[1, 2, 3, 4, 5, 6, 7]) && n(3) == n(4) && n(5) == n(6) => {
            let flags = WITH_ADDRESS | if n(5).is_some() { WITH_PORT } else { 0 };
            (n(7)? == flags).then_some(Part::Nat((n(1)?, n(2)?), n(3)?, n(5)))
        }
        "masq" if has(&[1]) && zero(1) => Some(Part::Masquerade),
        _ => None,
    }
}

/// These attributes, if there are none of other kinds.
pub(super) fn only<'a>(attributes: &'a [u8], known: &[u16]) -> Option<Attributes<'a>> {
    let attributes = Attributes::nested(attributes);
    attributes.into_iter().all(|(kind, _)| known.contains(&kind)).then_some(attributes)
}
