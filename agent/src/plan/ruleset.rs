//! The part of nftables that we need, as plain data. `kernel` writes and reads it; reading is the inverse of
//! writing, so tables are compared rule by rule.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use crate::model::{IfName, Protocol, Vni};

/// Our table: `inet ovnet` in its namespace, replaced whole in one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The maps of redirected ports; an empty map does not exist in the table.
    pub ports: BTreeMap<PortMap, BTreeMap<PortKey, (IpAddr, u16)>>,
    /// The set `vnis`: the VNIs of the overlays here.
    pub vnis: BTreeSet<Vni>,
    /// The sets `vteps4` and `vteps6`: the VTEPs of all nodes.
    pub vteps: BTreeSet<IpAddr>,
    /// In order: a chain comes before the chains that jump to it.
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
    /// The family of the key's and of the value's address.
    pub family: Family,
    /// The key has an address.
    pub addressed: bool,
}

/// A redirected port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortKey {
    /// The destination address, of the map's family; only in an addressed map.
    pub address: Option<IpAddr>,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Destination port.
    pub port: u16,
}

/// A change of a map of ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortChange {
    /// The map; it exists.
    pub map: PortMap,
    /// Entries to remove first, including those that get a different destination.
    pub gone: BTreeSet<PortKey>,
    /// Entries to add.
    pub come: BTreeMap<PortKey, (IpAddr, u16)>,
}

impl Table {
    /// The changes that lead to the table `desired`, if only some ports differ. `None` if more differs, or so
    /// many ports that replacing the table is better.
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

/// A chain: a base chain (policy accept), or one without a hook that rules jump to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its place, which also gives its name, type, hook and priority.
    pub hook: Hook,
    /// In order.
    pub rules: Vec<Rule>,
}

/// The places of our chains. Name, type, hook and priority are: `raw` filter prerouting -300; `prerouting` nat prerouting -100;
/// `output` nat output -100; `forward` filter forward 0; `postrouting` nat postrouting 100. `sandboxes`, `agent` and `tunnel`
/// have a name only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// Incoming packets, before connection tracking.
    Raw,
    /// Packets of the host itself, before routing: destination NAT.
    Output,
    /// Forwarded packets.
    Forward,
    /// Before routing: destination NAT.
    Prerouting,
    /// After routing: source NAT.
    Postrouting,
    /// No hook: packets from sandboxes to the agent's ports.
    Sandboxes,
    /// No hook: packets to the agent's ports other than VXLAN's.
    Agent,
    /// No hook: packets to the VXLAN port.
    Tunnel,
}

/// A rule: matches and a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// All must hold.
    pub matches: Vec<Match>,
    /// The action if they do.
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
    /// Destination address is a unicast address of a different host (`fib daddr type unicast`).
    DestinationElsewhere,
    /// Belongs to a connection that is known, or to one of those (`ct state established,related`).
    Established,
    /// Belongs to no connection and begins none (`ct state invalid`), so it is not translated.
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
    /// The VNI field of a VXLAN packet (`@th,96,24`, RFC 7348) is not in the table's set. This does not match
    /// a packet that is too short to have one, such as a tiny first fragment.
    OtherVni,
    /// Goes to this port.
    Port(Protocol, u16),
    /// Only observed: a foreign one that we never write, as JSON text.
    Other(String),
}

/// A condition on a link's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkMatch {
    /// This one.
    Is(IfName),
    /// All links whose name starts with this ("ovh-").
    StartsWith(IfName),
    /// All links except this one.
    IsNot(IfName),
    /// All links whose name does not start with this.
    StartsNotWith(IfName),
}

/// The action of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Let it pass this hook.
    Accept,
    /// Drop it.
    Drop,
    /// Source NAT to the outgoing link's address.
    Masquerade,
    /// Source NAT to this address; the rule applies only to its family.
    SourceNat(IpAddr),
    /// Destination NAT to the map's entry for the packet's protocol and destination port (and address in an
    /// addressed map); no effect without an entry. The rule applies only to the map's family.
    Redirect(PortMap),
    /// Continue in this chain, which has no hook, and do not return.
    Goto(Hook),
    /// Only observed: a foreign one that we never write, as JSON text.
    Other(String),
}
