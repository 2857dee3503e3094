//! From the expressions that nft makes of our rules to the rules (linux/netfilter/nf_tables.h).

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    kernel::{
        linux::{
            attributes::{Attributes, address, text},
            netfilter::{Expression, big_u32},
        },
        nft::{MAPS, PROTOCOLS, number},
    },
    model::IfName,
    plan::ruleset::{Action, Family, LinkMatch, Match, Rule},
};

/// Keys of `meta` …
const IIFNAME: u32 = 6;
const OIFNAME: u32 = 7;
const NFPROTO: u32 = 15;
const L4PROTO: u32 = 16;
/// … and of `ct`, with the bits that are asked for (established and related; dnat).
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const ESTABLISHED: u32 = 2 | 4;
const REDIRECTED: u32 = 32;
/// What `fib` is asked for, by the destination's address, and its answer for one of the host's own.
const FIB_TYPE: u32 = 3;
const FIB_DESTINATION: u32 = 2;
const LOCAL: u32 = 2;
/// Comparisons.
const EQUAL: u32 = 0;
const UNEQUAL: u32 = 1;
/// Bases of `payload`, and where ports are in the second.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
const DESTINATION_PORT: u32 = 2;
/// Verdicts.
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
/// Kinds and flags of `nat`.
const SOURCE: u32 = 0;
const DESTINATION: u32 = 1;
const WITH_ADDRESS: u32 = 1;
const WITH_PORT: u32 = 2;
/// NFPROTO_IPV4, NFPROTO_IPV6.
const V4: u32 = 2;
const V6: u32 = 10;
/// Length of a link's name in the kernel, with the zero byte at its end.
const NAME: usize = 16;

/// An expression with all that it says. Numbers of registers come last, where there are some.
#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
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
    Value(&'a [u8], u32),
    Verdict(u32),
    /// Kind and family; where the address and the port are.
    Nat((u32, u32), u32, Option<u32>),
    Masquerade,
}

/// The rule with this list of expressions; None: it is not as nft makes those that we write.
pub(super) fn rule(list: &[u8]) -> Option<Rule> {
    let parts: Vec<Part<'_>> = Expression::all(list).iter().map(part).collect::<Option<_>>()?;
    let mut reader = Reader { rest: &parts, family: None };
    let mut matches = Vec::new();
    loop {
        if let Some(action) = reader.action() {
            return Some(Rule { matches, action });
        }
        matches.push(reader.condition()?);
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
        "lookup" if has(&[1, 2, 3, 5]) && zero(5) => {
            Some(Part::Lookup(data.find(1).and_then(text)?, (n(2)?, n(3)?)))
        }
        "immediate" if has(&[1, 2]) => match value(2) {
            Some(value) => Some(Part::Value(value, n(1)?)),
            None => {
                let verdict = Attributes::nested(Attributes::nested(data.find(2)?).find(2)?);
                verdict.find(1).and_then(big_u32).filter(|_| n(1) == Some(0)).map(Part::Verdict)
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

/// What is read of a rule, and what is known so far.
struct Reader<'a> {
    rest: &'a [Part<'a>],
    /// Said in front of the first condition or key that is about addresses.
    family: Option<Family>,
}

impl<'a> Reader<'a> {
    /// The rest as an action, if it is one.
    fn action(&mut self) -> Option<Action> {
        match self.rest {
            [Part::Verdict(ACCEPT)] => Some(Action::Accept),
            [Part::Verdict(DROP)] => Some(Action::Drop),
            [Part::Masquerade] => Some(Action::Masquerade),
            [Part::Value(value, 1), Part::Nat((SOURCE, family), 1, None)] => {
                let to = address(value)?;
                (number_of(Family::of(to)) == *family).then_some(Action::SourceNat(to))
            }
            _ => self.redirect(),
        }
    }

    /// A destination from a map of ours, by exactly the key that it is made for.
    fn redirect(&self) -> Option<Action> {
        let (family, rest) = match self.rest {
            [Part::Meta(NFPROTO, 1), Part::Compare(EQUAL, value, 1), rest @ ..] => {
                (Some(family(value)?), rest)
            }
            rest => (self.family, rest),
        };
        let [key @ .., Part::Lookup(name, (1, 1)), Part::Nat((DESTINATION, of), 1, Some(port))] = rest else {
            return None;
        };
        let (map, _) = MAPS.into_iter().find(|(_, ours)| ours == name)?;
        // Registers of 4 bytes have the numbers from 8 on, but for those at the beginning of one of 16, 1 to 4.
        let (after, behind, to_port) = match map.family {
            Family::V4 => (9, 10, 9),
            Family::V6 => (2, 13, 2),
        };
        let th = (TRANSPORT, DESTINATION_PORT, 2);
        let keyed = if map.addressed {
            let expected = [
                Part::Payload((NETWORK, destination(map.family), length(map.family)), 1),
                Part::Meta(L4PROTO, after),
                Part::Payload(th, behind),
            ];
            family == Some(map.family) && key == expected
        } else {
            // Without an address in the key, nothing in front of it is for its sake.
            rest.len() == self.rest.len() && key == [Part::Meta(L4PROTO, 1), Part::Payload(th, 9)]
        };
        (keyed && *of == number_of(map.family) && *port == to_port).then_some(Action::Redirect(map))
    }

    /// The next condition.
    fn condition(&mut self) -> Option<Match> {
        let (condition, rest) = match self.rest {
            [Part::Meta(IIFNAME, 1), Part::Compare(op, value, 1), rest @ ..] => {
                (Match::In(link(*op, value)?), rest)
            }
            [Part::Meta(OIFNAME, 1), Part::Compare(op, value, 1), rest @ ..] => {
                (Match::Out(link(*op, value)?), rest)
            }
            [Part::Fib(FIB_TYPE, FIB_DESTINATION, 1), Part::Compare(EQUAL, value, 1), rest @ ..] => {
                (Match::DestinationLocal, rest.get(..).filter(|_| **value == LOCAL.to_ne_bytes())?)
            }
            [Part::Ct(key, 1), Part::Mask(bits, 1), Part::Compare(UNEQUAL, [0, 0, 0, 0], 1), rest @ ..] => {
                (connection(*key, bits)?, rest)
            }
            [
                Part::Meta(L4PROTO, 1),
                Part::Compare(EQUAL, [protocol], 1),
                Part::Payload((TRANSPORT, DESTINATION_PORT, 2), 1),
                Part::Compare(EQUAL, [high, low], 1),
                rest @ ..,
            ] => {
                let protocol = PROTOCOLS.into_iter().find(|known| number(*known) == *protocol)?;
                (Match::Port(protocol, u16::from_be_bytes([*high, *low])), rest)
            }
            [Part::Meta(NFPROTO, 1), Part::Compare(EQUAL, value, 1), rest @ ..] if self.family.is_none() => {
                self.family = Some(family(value)?);
                self.prefix(rest)?
            }
            rest => self.prefix(rest)?,
        };
        self.rest = rest;
        Some(condition)
    }

    /// An address of the family that is known, compared with a prefix.
    fn prefix(&self, parts: &'a [Part<'a>]) -> Option<(Match, &'a [Part<'a>])> {
        let family = self.family?;
        let [Part::Payload((NETWORK, offset, loaded), 1), rest @ ..] = parts else { return None };
        let (mask, rest) = match rest {
            [Part::Mask(mask, 1), rest @ ..] => (Some(*mask), rest),
            rest => (None, rest),
        };
        let [Part::Compare(op, value, 1), rest @ ..] = rest else { return None };
        let net = net(family, value, mask).filter(|_| usize::try_from(*loaded) == Ok(value.len()))?;
        let source = destination(family) - length(family);
        let condition = match (*offset, *op) {
            (offset, EQUAL) if offset == source => Match::Source(net),
            (offset, EQUAL) if offset == destination(family) => Match::Destination(net),
            (offset, UNEQUAL) if offset == destination(family) => Match::NotDestination(net),
            _ => return None,
        };
        Some((condition, rest))
    }
}

fn connection(key: u32, bits: &[u8]) -> Option<Match> {
    match (key, u32::from_ne_bytes(bits.try_into().ok()?)) {
        (CT_STATE, ESTABLISHED) => Some(Match::Established),
        (CT_STATUS, REDIRECTED) => Some(Match::Redirected),
        _ => None,
    }
}

/// A prefix of whole bytes is compared alone, another one behind a mask.
fn net(family: Family, value: &[u8], mask: Option<&[u8]>) -> Option<IpNet> {
    let mut octets = [0; 16];
    octets.get_mut(..value.len())?.copy_from_slice(value);
    let whole = usize::try_from(length(family)).ok()?;
    let addr: IpAddr = address(octets.get(..whole).filter(|_| value.len() <= whole)?)?;
    let bits = match mask {
        None => value.len() * 8,
        Some(mask) => {
            let ones: u32 = mask.iter().map(|byte| byte.leading_ones()).sum();
            let all: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
            let first_zero = mask.iter().position(|byte| *byte != u8::MAX).unwrap_or(mask.len());
            let ends = mask.iter().skip(first_zero + 1).all(|byte| *byte == 0);
            if ones != all || !ends || mask.len() != whole || value.len() != whole {
                return None;
            }
            usize::try_from(ones).ok()?
        }
    };
    let net = IpNet::new(addr, u8::try_from(bits).ok()?).ok()?;
    (net.trunc() == net).then_some(net)
}

/// What a link's name is compared with: all of it, or its start.
fn link(op: u32, compared: &[u8]) -> Option<LinkMatch> {
    let end = compared.iter().position(|byte| *byte == 0);
    let name: IfName = std::str::from_utf8(&compared[..end.unwrap_or(compared.len())]).ok()?.parse().ok()?;
    match (op, end) {
        (EQUAL, Some(end)) if compared.len() == NAME && compared[end..].iter().all(|byte| *byte == 0) => {
            Some(LinkMatch::Is(name))
        }
        (EQUAL, None) => Some(LinkMatch::StartsWith(name)),
        (UNEQUAL, None) => Some(LinkMatch::StartsNotWith(name)),
        _ => None,
    }
}

fn family(value: &[u8]) -> Option<Family> {
    match value {
        [2] => Some(Family::V4),
        [10] => Some(Family::V6),
        _ => None,
    }
}

const fn number_of(family: Family) -> u32 {
    match family {
        Family::V4 => V4,
        Family::V6 => V6,
    }
}

/// Where the destination is in the header; the source is right in front of it.
const fn destination(family: Family) -> u32 {
    match family {
        Family::V4 => 16,
        Family::V6 => 24,
    }
}

/// Length of an address in bytes.
const fn length(family: Family) -> u32 {
    match family {
        Family::V4 => 4,
        Family::V6 => 16,
    }
}
