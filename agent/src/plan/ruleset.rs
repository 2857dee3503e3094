//! The little of nftables that we need, as plain data. `kernel` writes and reads it; the reading is the inverse of the
//! writing, so that a table is compared rule by rule.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::IfName;

/// Our table: `inet ovnet` in its namespace, replaced whole in one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// In order.
    pub chains: Vec<Chain>,
}

/// A base chain (policy accept).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Where it hooks in; also gives its name, type and priority.
    pub hook: Hook,
    /// In order.
    pub rules: Vec<Rule>,
}

/// The hooks that we use. Name, type and priority are: `forward` filter 0; `postrouting` nat 100; `prerouting` nat -100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// What is routed through.
    Forward,
    /// Before routing: destination NAT.
    Prerouting,
    /// After routing: source NAT.
    Postrouting,
}

/// A rule: matches, then what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// All must hold.
    pub matches: Vec<Match>,
    /// What is done then.
    pub action: Action,
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// Came in by a link.
    In(LinkMatch),
    /// Goes out by a link.
    Out(LinkMatch),
    /// Source address in a prefix (of either family).
    Source(IpNet),
    /// Destination address in a prefix.
    Destination(IpNet),
    /// Destination address outside of a prefix.
    NotDestination(IpNet),
    /// Seen only: one that we never write, as JSON text.
    Other(String),
}

/// A condition on a link's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkMatch {
    /// This one.
    Is(IfName),
    /// All whose name starts so ("ovh-").
    StartsWith(IfName),
    /// All whose name does not start so.
    StartsNotWith(IfName),
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Let it pass this hook.
    Accept,
    /// Drop it.
    Drop,
    /// Source NAT to the outgoing link's address.
    Masquerade,
    /// Source NAT to this address; the rule applies to its family alone.
    SourceNat(IpAddr),
    /// Seen only: one that we never write, as JSON text.
    Other(String),
}
