//! The little of nftables that we need, as plain data. `kernel` writes and reads it; the reading is the inverse of the
//! writing, so that a table is compared rule by rule.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use crate::model::{IfName, Protocol, Vni};

/// Our table: `inet ovnet` in its namespace, replaced whole in one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Where ports are redirected to; what is empty is not there.
    pub ports: BTreeMap<PortMap, BTreeMap<PortKey, (IpAddr, u16)>>,
    /// The set `vnis`: the VNIs of the overlays here.
    pub vnis: BTreeSet<Vni>,
    /// The sets `vteps4` and `vteps6`: the VTEPs of all nodes.
    pub vteps: BTreeSet<IpAddr>,
    /// In order; one that rules lead to comes before theirs.
    pub chains: Vec<Chain>,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// The maps of ports that a table may have: by family, and by whether the destination address is part of the key. Their names
/// are `ports4`, `ports6`, `addressed4` and `addressed6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortMap {
    /// Of both the key's address and the value's.
    pub family: Family,
    /// The key has an address.
    pub addressed: bool,
}

/// A port that is redirected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortKey {
    /// In an addressed map: the destination address, of the map's family. None in the others.
    pub address: Option<IpAddr>,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Destination port.
    pub port: u16,
}

/// What becomes other in a map of ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortChange {
    /// Which map; it is there.
    pub map: PortMap,
    /// What goes first: what is there and leads elsewhere now, too.
    pub gone: BTreeSet<PortKey>,
    /// What comes.
    pub come: BTreeMap<PortKey, (IpAddr, u16)>,
}

impl Table {
    /// What to change to have the table `desired`, if that is some ports alone. None: more is other, or so many that the table
    /// is better replaced.
    pub fn port_changes(&self, desired: &Self) -> Option<Vec<PortChange>> {
        let same_sets = self.vnis == desired.vnis && self.vteps == desired.vteps;
        if self.chains != desired.chains || !same_sets || !self.ports.keys().eq(desired.ports.keys()) {
            return None;
        }
        let mut changes = Vec::new();
        for ((map, there), want) in self.ports.iter().zip(desired.ports.values()) {
            let gone =
                there.iter().filter(|(key, to)| want.get(key) != Some(to)).map(|(key, _)| *key).collect();
            let come =
                want.iter().filter(|(key, to)| there.get(key) != Some(to)).map(|(key, to)| (*key, *to));
            let change = PortChange { map: *map, gone, come: come.collect() };
            if !change.gone.is_empty() || !change.come.is_empty() {
                changes.push(change);
            }
        }
        let changed: usize = changes.iter().map(|change| change.gone.len() + change.come.len()).sum();
        let all: usize = desired.ports.values().map(BTreeMap::len).sum();
        (changed > 0 && changed <= all / 2).then_some(changes)
    }
}

/// A chain: a base chain (policy accept), or one that only rules lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Where it hooks in, if it does; also gives its name, type and priority.
    pub hook: Hook,
    /// In order.
    pub rules: Vec<Rule>,
}

/// The places of our chains. Name, type, hook and priority are: `raw` filter prerouting -300; `prerouting` nat prerouting -100;
/// `output` nat output -100; `forward` filter forward 0; `postrouting` nat postrouting 100. `sandboxes`, `agent` and `tunnel`
/// have a name only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// What comes in, before connections are looked up.
    Raw,
    /// What the host itself sends, before it is routed: destination NAT.
    Output,
    /// What is routed through.
    Forward,
    /// Before routing: destination NAT.
    Prerouting,
    /// After routing: source NAT.
    Postrouting,
    /// None: what comes from sandboxes to ports of the agent.
    Sandboxes,
    /// None: what comes to ports of the agent but VXLAN's.
    Agent,
    /// None: what comes to the port of VXLAN.
    Tunnel,
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
    /// Destination address is one of the host's own (`fib daddr type local`).
    DestinationLocal,
    /// Destination address is another host's: no own one, and none of several (`fib daddr type unicast`).
    DestinationElsewhere,
    /// Belongs to a connection that is known, or to one of those (`ct state established,related`).
    Established,
    /// Belongs to no connection and begins none (`ct state invalid`): it is translated by nobody.
    Invalid,
    /// Belongs to a connection whose destination was translated (`ct status dnat`).
    Redirected,
    /// Came in by a bridge, whatever its name.
    FromBridge,
    /// Goes out by a bridge.
    ToBridge,
    /// Is of this family (`meta nfproto`).
    Family(Family),
    /// Source address is one of the table's VTEPs of this family.
    FromVtep(Family),
    /// Destination address is one of the table's VTEPs of this family.
    ToVtep(Family),
    /// Where a VXLAN packet has its VNI (`@th,96,24`, RFC 7348) is none of the table's. A packet that is too short to have
    /// one, such as a tiny first fragment, is not meant.
    OtherVni,
    /// Goes to this port.
    Port(Protocol, u16),
    /// Seen only: one that we never write, as JSON text.
    Other(String),
}

/// A condition on a link's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkMatch {
    /// This one.
    Is(IfName),
    /// All whose name starts so ("ovh-").
    StartsWith(IfName),
    /// All but this one.
    IsNot(IfName),
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
    /// Destination NAT to what the map has for the packet's protocol and destination port, and address if it is addressed;
    /// nothing for what it does not have. The rule applies to the map's family alone.
    Redirect(PortMap),
    /// Go on in this chain, which has no hook, and do not come back.
    Goto(Hook),
    /// Seen only: one that we never write, as JSON text.
    Other(String),
}
