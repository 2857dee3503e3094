//! From the expressions that nft makes of our rules to the rules (linux/netfilter/nf_tables.h).

use std::net::IpAddr;

use ipnet::IpNet;

use super::parts::Part;
use crate::{
    kernel::{
        linux::rtnl::attributes::address,
        nft::{FAMILIES, HOOKS, MAPS, PROTOCOLS, Place, VNI_AT, VNIS, number, vteps},
    },
    model::IfName,
    plan::ruleset::{Action, Family, Hook, LinkMatch, Match, Rule},
};

/// Keys of `meta` …
const IIFNAME: u32 = 6;
const OIFNAME: u32 = 7;
const NFPROTO: u32 = 15;
const L4PROTO: u32 = 16;
const IIFKIND: u32 = 26;
const OIFKIND: u32 = 27;
/// … and of `ct`, with the bits that are asked for (established and related; dnat).
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const INVALID: u32 = 1;
const ESTABLISHED: u32 = 2 | 4;
const REDIRECTED: u32 = 32;
/// What `fib` is asked for, by the destination's address, and its answer for one of the host's own.
const FIB_TYPE: u32 = 3;
const FIB_DESTINATION: u32 = 2;
const UNICAST: u32 = 1;
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
/// Kinds of `nat`.
const SOURCE: u32 = 0;
const DESTINATION: u32 = 1;
/// NFPROTO_IPV4, NFPROTO_IPV6.
const V4: u32 = 2;
const V6: u32 = 10;
/// Length of a link's name in the kernel, with the zero byte at its end, and of the name of its kind.
const NAME: usize = 16;
/// The kind of a bridge.
const BRIDGE: &[u8] = b"bridge";

/// The rule with this list of expressions, or `None` if it is not as nft writes ours.
pub(super) fn rule(list: &[u8]) -> Option<Rule> {
    let parts = Part::all(list)?;
    let mut reader = Reader { rest: &parts, family: None };
    let mut matches = Vec::new();
    loop {
        if let Some(action) = reader.action() {
            return Some(Rule { matches, action });
        }
        matches.push(reader.condition()?);
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
            [Part::Goto(name)] => {
                let regular = |hook: &Hook| Place::of(*hook).name == *name && Place::of(*hook).base.is_none();
                HOOKS.into_iter().find(regular).map(Action::Goto)
            }
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
                (destination_type(value)?, rest)
            }
            [Part::Meta(key @ (IIFKIND | OIFKIND), 1), Part::Compare(EQUAL, kind, 1), rest @ ..] => {
                padded(kind).filter(|kind| *kind == BRIDGE)?;
                (if *key == IIFKIND { Match::FromBridge } else { Match::ToBridge }, rest)
            }
            [Part::Payload((TRANSPORT, offset, length), 1), Part::Asked(set, false, 1), rest @ ..] => {
                let bits = (u64::from(*offset) * 8, u64::from(*length) * 8);
                (bits == VNI_AT && *set == VNIS.0).then_some((Match::OtherVni, rest))?
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
                let family = family(value)?;
                self.family = Some(family);
                // By itself, or said for what follows.
                self.address(rest).unwrap_or((Match::Family(family), rest))
            }
            rest => self.address(rest)?,
        };
        self.rest = rest;
        Some(condition)
    }

    /// A condition on an address of the family that is known.
    fn address(&self, parts: &'a [Part<'a>]) -> Option<(Match, &'a [Part<'a>])> {
        let family = self.family?;
        let [Part::Payload((NETWORK, offset, loaded), 1), Part::Asked(set, true, 1), rest @ ..] = parts
        else {
            return self.prefix(parts);
        };
        FAMILIES.into_iter().find(|it| *it == family && vteps(*it).0 == *set && length(*it) == *loaded)?;
        match *offset {
            at if at == destination(family) => Some((Match::ToVtep(family), rest)),
            at if at == destination(family) - length(family) => Some((Match::FromVtep(family), rest)),
            _ => None,
        }
    }

    /// One that is compared with a prefix.
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

fn destination_type(value: &[u8]) -> Option<Match> {
    match u32::from_ne_bytes(value.try_into().ok()?) {
        UNICAST => Some(Match::DestinationElsewhere),
        LOCAL => Some(Match::DestinationLocal),
        _ => None,
    }
}

fn connection(key: u32, bits: &[u8]) -> Option<Match> {
    match (key, u32::from_ne_bytes(bits.try_into().ok()?)) {
        (CT_STATE, ESTABLISHED) => Some(Match::Established),
        (CT_STATE, INVALID) => Some(Match::Invalid),
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
    let whole = padded(compared);
    let name: IfName = std::str::from_utf8(whole.unwrap_or(compared)).ok()?.parse().ok()?;
    match (op, whole.is_some()) {
        (EQUAL, true) => Some(LinkMatch::Is(name)),
        (UNEQUAL, true) => Some(LinkMatch::IsNot(name)),
        (EQUAL, false) => Some(LinkMatch::StartsWith(name)),
        (UNEQUAL, false) => Some(LinkMatch::StartsNotWith(name)),
        _ => None,
    }
}

/// A name in its place, with zero bytes behind it.
fn padded(value: &[u8]) -> Option<&[u8]> {
    let end = value.iter().position(|byte| *byte == 0).filter(|_| value.len() == NAME)?;
    value[end..].iter().all(|byte| *byte == 0).then_some(&value[..end])
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
