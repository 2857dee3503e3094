//! What nf_tables says of others' chains, asked directly (struct nfgenmsg and attributes, linux/netfilter/nf_tables.h).
//!
//! nft would read the whole ruleset of a host to list two chains of different tables, and may not understand their rules; the
//! kernel hands out one chain alone, and of a foreign rule nothing needs to be understood.

use netlink_packet_core::NLM_F_DUMP;
use nix::errno::Errno;

use crate::{
    kernel::linux::{
        netns::namespace::Namespace,
        refusal::Refusal,
        rtnl::{
            attributes::{Attributes, put, text, u8_at, u16_at, u32_at},
            socket::Rtnl,
        },
    },
    model::IfName,
    plan::{
        ownership::TABLE,
        ruleset::{Family, LinkMatch},
    },
};

/// Which chain.
#[derive(Clone, Copy)]
pub(in crate::kernel::linux) struct ChainName {
    /// The table that it is in.
    pub(in crate::kernel::linux) table: &'static str,
    /// Its name there.
    pub(in crate::kernel::linux) chain: &'static str,
}

/// The chain of iptables for what is routed through.
pub(in crate::kernel::linux) const FORWARD: ChainName = ChainName { table: "filter", chain: "FORWARD" };

/// How often a look starts again when rules come and go meanwhile.
pub(in crate::kernel::linux) const ATTEMPTS: usize = 5;
/// Length of a netlink header.
const MESSAGE_HEADER: usize = 16;
/// Length of struct nfgenmsg.
pub(in crate::kernel::linux) const HEADER: usize = 4;
/// NFNL_SUBSYS_NFTABLES, the upper half of a message's type.
pub(in crate::kernel::linux) const SUBSYSTEM: u16 = 10;
/// Messages of that subsystem. Those of tables are 0 to 2, of chains 3 to 5, of rules 6 to 8, then of sets and others.
const GET_TABLE: u16 = SUBSYSTEM << 8 | 1;
pub(in crate::kernel::linux) const GET_CHAIN: u16 = SUBSYSTEM << 8 | 4;
const GET_RULE: u16 = SUBSYSTEM << 8 | 7;
/// The end of a transaction.
const NEW_GENERATION: u16 = 15;
/// Attribute of tables …
pub(in crate::kernel::linux) const TABLE_NAME: u16 = 1;
/// … of chains …
pub(in crate::kernel::linux) const CHAIN_TABLE: u16 = 1;
pub(in crate::kernel::linux) const CHAIN_NAME: u16 = 3;
pub(in crate::kernel::linux) const CHAIN_HOOK: u16 = 4;
pub(in crate::kernel::linux) const CHAIN_POLICY: u16 = 5;
pub(in crate::kernel::linux) const CHAIN_USE: u16 = 6;
/// … of rules …
pub(in crate::kernel::linux) const RULE_TABLE: u16 = 1;
pub(in crate::kernel::linux) const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
pub(in crate::kernel::linux) const RULE_EXPRESSIONS: u16 = 4;
const RULE_USERDATA: u16 = 7;
/// … of expressions of any kind …
pub(in crate::kernel::linux) const EXPRESSION_NAME: u16 = 1;
pub(in crate::kernel::linux) const EXPRESSION_DATA: u16 = 2;
/// … and of those in the rules that we write.
pub(in crate::kernel::linux) const META_KEY: u16 = 2;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
pub(in crate::kernel::linux) const CMP_OP: u16 = 2;
pub(in crate::kernel::linux) const CMP_EQ: u32 = 0;
pub(in crate::kernel::linux) const CMP_DATA: u16 = 3;
pub(in crate::kernel::linux) const DATA_VALUE: u16 = 1;
pub(in crate::kernel::linux) const IMMEDIATE_DATA: u16 = 2;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
/// Attributes of an extension of iptables (its `match`), whose information is a text if it is a comment.
const MATCH_NAME: u16 = 1;
const MATCH_INFO: u16 = 3;
/// Verdicts, and policies (linux/netfilter.h).
pub(in crate::kernel::linux) const DROP: u32 = 0;
const ACCEPT: u32 = 1;
/// The kind of a rule's userdata that is a comment (libnftnl/udata.h).
const UDATA_COMMENT: u8 = 0;

/// A chain of others, as far as we need to know it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::kernel::linux) struct ForeignChain {
    /// What meets no rule is dropped.
    pub(in crate::kernel::linux) drops: bool,
    /// In order.
    pub(in crate::kernel::linux) rules: Vec<ForeignRule>,
}

/// A rule of such a chain.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::kernel::linux) struct ForeignRule {
    /// Its number in its table.
    pub(in crate::kernel::linux) handle: u64,
    /// Its comment.
    pub(in crate::kernel::linux) comment: Option<String>,
    /// What it does, if it does nothing but accept what comes in, or goes out, by a link.
    pub(in crate::kernel::linux) passes: Option<Passes>,
}

/// What a rule accepts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::kernel::linux) enum Passes {
    /// What comes in by this link.
    In(LinkMatch),
    /// What goes out by this link.
    Out(LinkMatch),
}

/// Whether there is nf_tables in this kernel: an answer of any kind to a question for a table of the calling thread's
/// namespace.
pub(in crate::kernel::linux) fn answers() -> Result<(), Refusal> {
    has_table(&mut Rtnl::open_netfilter()?, INET, TABLE).map(drop)
}

/// Whether there is a table with this name in a family, in the socket's namespace.
pub(in crate::kernel::linux) fn has_table(
    socket: &mut Rtnl,
    family: u8,
    name: &str,
) -> Result<bool, Refusal> {
    match socket.ask(GET_TABLE, 0, &request(family, &[(TABLE_NAME, name)]), &mut |_table| {}) {
        Err(refusal) if refusal.is_absence() => Ok(false),
        outcome => outcome.map(|()| true),
    }
}

/// Hand out the rules of a chain, in order.
pub(in crate::kernel::linux) fn rules(
    socket: &mut Rtnl,
    family: u8,
    of: ChainName,
    each: &mut dyn FnMut(Attributes<'_>),
) -> Result<(), Refusal> {
    let within = request(family, &[(RULE_TABLE, of.table), (RULE_CHAIN, of.chain)]);
    socket.ask(GET_RULE, NLM_F_DUMP, &within, &mut |body| {
        // Older kernels pass over the filter.
        let attributes = Attributes::after(body, HEADER);
        let is = |kind, name| attributes.find(kind).and_then(text) == Some(name);
        if u8_at(body, 0) == Some(family) && is(RULE_TABLE, of.table) && is(RULE_CHAIN, of.chain) {
            each(attributes);
        }
    })
}

/// What a look sees, which starts again when rules come and go meanwhile. A kernel without nf_tables has none.
pub(in crate::kernel::linux) fn settled<T>(
    look: impl Fn() -> Result<Option<T>, Refusal>,
) -> Result<Option<T>, Refusal> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match look() {
            Err(refusal) if attempts < ATTEMPTS && refusal.errno == Errno::EINTR => {}
            Err(refusal) if is_missing(&refusal) => return Ok(None),
            outcome => return outcome,
        }
    }
}

/// Whether a refusal says that the kernel has no netfilter sockets, or no nf_tables behind them (nfnetlink_rcv_msg).
pub(in crate::kernel::linux) fn is_missing(refusal: &Refusal) -> bool {
    matches!(refusal.errno, Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT | Errno::EINVAL | Errno::EOPNOTSUPP)
}

/// The chain with this name in this table of a family, if there is one.
pub(in crate::kernel::linux) fn chain(
    namespace: &Namespace,
    family: Family,
    of: ChainName,
) -> Result<Option<ForeignChain>, Refusal> {
    let mut socket = namespace.run(Rtnl::open_netfilter)??;
    let mut observed = None;
    let about = request(number(family), &[(CHAIN_TABLE, of.table), (CHAIN_NAME, of.chain)]);
    match socket.ask(GET_CHAIN, 0, &about, &mut |body| observed = Some(drops(body))) {
        Err(refusal) if refusal.is_absence() => return Ok(None),
        outcome => outcome?,
    }
    let drops = observed.ok_or_else(|| Refusal::new(Errno::EIO, "the kernel gave no answer"))?;
    let mut rules = Vec::new();
    self::rules(&mut socket, number(family), of, &mut |attributes| rules.extend(rule(attributes)))?;
    Ok(Some(ForeignChain { drops, rules }))
}

/// Whether a datagram of notifications (NFNLGRP_NFTABLES) speaks of our table, or of a chain that we have rules in.
pub(in crate::kernel::linux) fn concerns_us(datagram: &[u8]) -> bool {
    let mut rest = datagram;
    while let Some(length) = u32_at(rest, 0).and_then(|length| usize::try_from(length).ok()) {
        let Some(message) = rest.get(..length).filter(|_| length >= MESSAGE_HEADER) else { break };
        if speaks_of_us(message) {
            return true;
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

fn speaks_of_us(message: &[u8]) -> bool {
    let (Some(kind), Some(family)) = (u16_at(message, 4), u8_at(message, MESSAGE_HEADER)) else {
        return false;
    };
    let attributes = Attributes::after(message, MESSAGE_HEADER + HEADER);
    let name = |kind| attributes.find(kind).and_then(text).unwrap_or_default();
    if kind >> 8 != SUBSYSTEM || kind & 0xff == NEW_GENERATION {
        return false;
    }
    if family == INET {
        // The first attribute is the table's name, whatever of it has changed.
        return name(TABLE_NAME) == TABLE;
    }
    let ChainName { table, chain } = FORWARD;
    let within = match kind & 0xff {
        0..=2 => chain,
        3..=5 => name(CHAIN_NAME),
        6..=8 => name(RULE_CHAIN),
        _ => "",
    };
    [Family::V4, Family::V6].map(number).contains(&family) && name(TABLE_NAME) == table && within == chain
}

/// NFPROTO_INET.
pub(in crate::kernel::linux) const INET: u8 = 1;
/// NFPROTO_NETDEV.
pub(in crate::kernel::linux) const NETDEV: u8 = 5;

/// NFPROTO_IPV4 or NFPROTO_IPV6.
pub(in crate::kernel::linux) const fn number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// A message about what has these names, without a netlink header.
pub(in crate::kernel::linux) fn request(family: u8, names: &[(u16, &str)]) -> Vec<u8> {
    let mut body = vec![family, 0, 0, 0];
    for (kind, name) in names {
        put(&mut body, *kind, &[name.as_bytes(), &[0]].concat());
    }
    body
}

fn drops(chain: &[u8]) -> bool {
    let policy = Attributes::after(chain, HEADER).find(CHAIN_POLICY);
    policy.and_then(big_u32) == Some(DROP)
}

fn rule(attributes: Attributes<'_>) -> Option<ForeignRule> {
    let handle = attributes.find(RULE_HANDLE)?.try_into().ok().map(u64::from_be_bytes)?;
    let expressions = Expression::all(attributes.find(RULE_EXPRESSIONS).unwrap_or_default());
    // nft keeps a comment beside the rule, iptables (what it restores included) within.
    let comment = attributes.find(RULE_USERDATA).and_then(comment);
    let comment = comment.or_else(|| expressions.iter().find_map(Expression::comment));
    Some(ForeignRule { handle, comment: comment.map(str::to_owned), passes: passes(&expressions) })
}

/// A part of a rule.
pub(in crate::kernel::linux) struct Expression<'a> {
    pub(in crate::kernel::linux) name: &'a str,
    pub(in crate::kernel::linux) data: Attributes<'a>,
}

impl<'a> Expression<'a> {
    /// Those of a rule's list.
    pub(in crate::kernel::linux) fn all(list: &'a [u8]) -> Vec<Self> {
        let elements = Attributes::nested(list).into_iter();
        elements.map(|(_, element)| Self::of(Attributes::nested(element))).collect()
    }

    fn of(attributes: Attributes<'a>) -> Self {
        let data = Attributes::nested(attributes.find(EXPRESSION_DATA).unwrap_or_default());
        Self { name: attributes.find(EXPRESSION_NAME).and_then(text).unwrap_or_default(), data }
    }

    /// If it is a comment of iptables.
    fn comment(&self) -> Option<&'a str> {
        let is_comment = self.name == "match" && self.data.find(MATCH_NAME).and_then(text) == Some("comment");
        self.data.find(MATCH_INFO).filter(|_| is_comment).and_then(text)
    }
}

/// In userdata: kind, length, value, one after the other.
fn comment(mut userdata: &[u8]) -> Option<&str> {
    loop {
        let (kind, length) = (u8_at(userdata, 0)?, usize::from(u8_at(userdata, 1)?));
        let value = userdata.get(2..2 + length)?;
        if kind == UDATA_COMMENT {
            return text(value);
        }
        userdata = &userdata[2 + length..];
    }
}

/// A link's name is loaded and compared, perhaps something is counted or remarked, and the packet is accepted.
fn passes(expressions: &[Expression<'_>]) -> Option<Passes> {
    let counts = |part: &&Expression<'_>| part.name != "counter" && part.comment().is_none();
    let parts: Vec<(&str, Attributes<'_>)> =
        expressions.iter().filter(counts).map(|part| (part.name, part.data)).collect();
    let [("meta", meta), ("cmp", cmp), ("immediate", immediate)] = parts.as_slice() else { return None };
    let verdict = Attributes::nested(Attributes::nested(immediate.find(IMMEDIATE_DATA)?).find(DATA_VERDICT)?);
    if verdict.find(VERDICT_CODE).and_then(big_u32)? != ACCEPT
        || cmp.find(CMP_OP).and_then(big_u32)? != CMP_EQ
    {
        return None;
    }
    let link = link(Attributes::nested(cmp.find(CMP_DATA)?).find(DATA_VALUE)?)?;
    match big_u32(meta.find(META_KEY)?)? {
        META_IIFNAME => Some(Passes::In(link)),
        META_OIFNAME => Some(Passes::Out(link)),
        _ => None,
    }
}

/// What a link's name is compared with: with the zero byte at its end it is the whole name, without it a start.
fn link(compared: &[u8]) -> Option<LinkMatch> {
    let name: IfName = text(compared)?.parse().ok()?;
    Some(if compared.contains(&0) { LinkMatch::Is(name) } else { LinkMatch::StartsWith(name) })
}

/// nf_tables has its numbers in network order.
pub(in crate::kernel::linux) fn big_u32(value: &[u8]) -> Option<u32> {
    value.get(..4)?.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _nothing = (drops(&bytes), rule(Attributes::after(&bytes, HEADER)), comment(&bytes));
            let _nothing = concerns_us(&bytes);
            let expression = Expression::of(Attributes::nested(&bytes));
            let _nothing = (expression.comment(), passes(&[expression]));
        }
    }

    #[test]
    fn a_comment_is_found_behind_other_userdata() {
        assert_eq!(comment(&[2, 4, 1, 0, 0, 0, 0, 6, b'o', b'v', b'n', b'e', b't', 0]), Some("ovnet"));
        assert_eq!(comment(&[0, 9, b'x']), None);
        assert_eq!(comment(&[]), None);
    }
}
