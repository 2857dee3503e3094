//! Our objects in a kernel: one type for the desired and the observed state, so that the derived `==`
//! compares every field.
//!
//! Everything hangs off a network namespace, and nearly everything off a link in it: addresses, routes, neighbours and
//! forwarding rows go with their link, in the kernel as here.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt,
    net::IpAddr,
    path::PathBuf,
};

use ipnet::IpNet;

use super::{
    ownership::Mark,
    ruleset::{Family, LinkMatch, Table},
};
use crate::model::{IfName, IpvlanFlag, IpvlanMode, Mac, MacvlanMode, Name, Vni};

/// A network namespace, as the agent reaches it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Netns {
    /// The one that the agent runs in.
    Host,
    /// A named one in the netns directory (`--netns-dir`, /run/netns).
    Named(Name),
    /// Any other one, by the path of its nsfs file (/proc/PID/ns/net, or a bind mount).
    Path(PathBuf),
}

impl fmt::Display for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Named(name) => name.fmt(f),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

/// Objects by namespace. A desired state has the objects that one unit (a network, a sandbox, the host)
/// needs; an observed one has what the look asked for, including foreign objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Namespaces that exist, or should exist.
    pub netns: BTreeMap<Netns, NetnsState>,
}

/// The objects in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetnsState {
    /// The mark of a namespace that we made, as the ifalias of its `lo`. `None` for the host's, an adopted or
    /// a foreign namespace.
    pub mark: Option<Mark>,
    /// Links by name; `lo` is not among them (a namespace that we make has it up).
    pub links: BTreeMap<IfName, Link>,
    /// Values below /proc/sys by key in slash form ("net/ipv4/ip_forward"); an observed state has those that
    /// the look named and that exist.
    pub sysctls: BTreeMap<String, String>,
    /// Our nftables table (`inet ovnet`), whole.
    pub table: Option<Table>,
    /// The port of 127.0.0.11 to which its port 53 is redirected, UDP and TCP. Observed as 0 if the rules are
    /// not as we write them; 0 is never desired.
    pub resolver: Option<u16>,
    /// Rules of ours at the end of others' FORWARD chains (iptables' `filter` tables), which accept packets
    /// through these links. A desired state has them by family; an observed one has the families whose chain
    /// exists and does not accept everything anyway. A rule that is not as we write it is observed as a
    /// `StartsNotWith`, which is never desired.
    pub forward_accepts: BTreeMap<Family, BTreeSet<LinkMatch>>,
    /// Only observed: the families for which another program has a rule or a drop policy for forwarded
    /// packets.
    pub forwarders: BTreeSet<Family>,
}

/// A network interface with all that hangs off it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its kind.
    pub kind: LinkKind,
    /// Its ifalias, if that is a mark of ours. `None` if the link is foreign: it is never touched.
    pub mark: Option<Mark>,
    /// Its Ethernet address. In a desired state `None` accepts any address (an ipvlan link and a VLAN have
    /// that of their parent); an observed link may have none (all zero, or not Ethernet).
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// The bridge that it is a port of, in the same namespace.
    pub port: Option<Port>,
    /// Its addresses, all permanent and without duplicate-address detection. Observed: those of universe
    /// scope, and 169.254.0.0/16 ones; never the kernel's own fe80:: ones.
    pub addresses: BTreeSet<IpNet>,
    /// Its routes in the main table by destination; observed: only those with our protocol number.
    pub routes: BTreeMap<IpNet, Route>,
    /// Its permanent neighbours (ARP and ND).
    pub neighbours: BTreeMap<IpAddr, Mac>,
    /// On a vxlan device: the VTEP for frames to an address (`self permanent dst`).
    pub vxlan_fdb: BTreeMap<Mac, IpAddr>,
    /// On a vxlan device: the VTEPs for broadcast, unknown unicast and multicast (all-zero rows).
    pub flood_list: BTreeSet<IpAddr>,
    /// On a bridge port: the bridge's own rows for it (`master static`). On a bridge: its own Ethernet
    /// address (`self permanent`); without that row it does not receive its own frames.
    pub bridge_fdb: BTreeSet<Mac>,
}

impl Link {
    /// A link of this kind that is up and otherwise empty.
    pub fn new(kind: LinkKind, mark: Mark, mac: impl Into<Option<Mac>>, mtu: u32) -> Self {
        let mac = mac.into();
        let own = mac.filter(|_| kind == LinkKind::Bridge);
        Self {
            kind,
            mark: Some(mark),
            mac,
            mtu,
            up: true,
            port: None,
            addresses: BTreeSet::new(),
            routes: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            vxlan_fdb: BTreeMap::new(),
            flood_list: BTreeSet::new(),
            bridge_fdb: own.into_iter().collect(),
        }
    }
}

/// The kind of a link, with the parameters that can be set only when it is made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkKind {
    /// A bridge: no STP, no VLAN filtering, forward delay 0, multicast snooping off.
    Bridge,
    /// A VXLAN device whose UDP socket is in the agent's own namespace, wherever the device is.
    Vxlan(Vxlan),
    /// A link with its own Ethernet address on a link of the host; it can be in any namespace.
    Macvlan(IfName, MacvlanMode),
    /// A link that shares the Ethernet address of a link of the host; it can be in any namespace.
    Ipvlan(IfName, IpvlanMode, IpvlanFlag),
    /// A VLAN on a link of the host, with its identifier (802.1Q, 1 to 4094).
    Vlan(IfName, u16),
    /// One end of a veth pair. The other end is the link with the same mark, often in a different namespace.
    Veth,
    /// A kind that we do not make, by the kernel's name for it ("tun", "" for a physical one).
    Other(String),
}

/// How a VXLAN device is made: no learning, `proxy`, TTL 64, the outer source pinned, no outer UDP checksum over IPv4
/// (over IPv6 there is one, RFC 6935 notwithstanding: that is the kernel's default, and peers expect it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vxlan {
    /// Network identifier.
    pub vni: Vni,
    /// Outer source address.
    pub local: IpAddr,
    /// UDP port.
    pub port: u16,
}

/// A link's place in a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// The bridge.
    pub bridge: IfName,
    /// Learn source addresses.
    pub learning: bool,
    /// Send unicast frames to unknown stations here.
    pub unicast_flood: bool,
    /// No frames between this port and others that are isolated too.
    pub isolated: bool,
    /// Frames that came from here may go back here.
    pub hairpin: bool,
}

/// A route through its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Next hop; `None` if the destination is on the link itself.
    pub via: Option<IpAddr>,
    /// Preferred source.
    pub source: Option<IpAddr>,
    /// MTU metric in bytes.
    pub mtu: Option<u32>,
    /// Priority; the lower wins.
    pub metric: u32,
}

/// What to look at: the links and sysctls that a plan may concern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// By namespace. A namespace that does not exist is missing from the observed state.
    pub netns: BTreeMap<Netns, LookAt>,
}

impl Look {
    /// Also look at what `other` names.
    pub fn add(&mut self, other: Self) {
        for (netns, at) in other.netns {
            match self.netns.entry(netns) {
                Entry::Vacant(new) => drop(new.insert(at)),
                Entry::Occupied(mut known) => known.get_mut().add(at),
            }
        }
    }
}

impl LookAt {
    fn add(&mut self, other: Self) {
        let Self { links, bare, sysctls, table, resolver, forward_accepts } = other;
        self.links = self.links.take().zip(links).map(|(some, others)| &some | &others);
        self.bare &= bare;
        self.sysctls.extend(sysctls);
        self.table |= table;
        self.resolver |= resolver;
        self.forward_accepts |= forward_accepts;
    }
}

/// What to look at in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LookAt {
    /// Only these links; `None` is all links.
    pub links: Option<BTreeSet<IfName>>,
    /// Only the links themselves, without their addresses, routes, neighbours and rows.
    pub bare: bool,
    /// Keys in slash form.
    pub sysctls: BTreeSet<String>,
    /// Also our nftables table.
    pub table: bool,
    /// Also the redirect of port 53 of 127.0.0.11.
    pub resolver: bool,
    /// Also our rules in FORWARD chains of other programs, and whether those programs have rules for
    /// forwarded packets.
    pub forward_accepts: bool,
}
