//! What a kernel has, or should have, of ours: the same type for the desired and the seen, so that the derived `==`
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
    /// Another one, by the path of its nsfs file (/proc/PID/ns/net, or a bind mount).
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

/// Objects by namespace. A desired state has what one unit (a network, a sandbox, the host) needs; a seen one has what the
/// look asked for, foreign objects included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Namespaces that are, or should be, there.
    pub netns: BTreeMap<Netns, NetnsState>,
}

/// What is in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetnsState {
    /// Carried by a namespace that we made, as the ifalias of its `lo`. None: the host's, an adopted or a foreign one.
    pub mark: Option<Mark>,
    /// Links by name; `lo` is not among them (a namespace that we make has it up).
    pub links: BTreeMap<IfName, Link>,
    /// Values below /proc/sys by key in slash form ("net/ipv4/ip_forward"); a seen state has those that the look named
    /// and that exist.
    pub sysctls: BTreeMap<String, String>,
    /// Our nftables table (`inet ovnet`), whole.
    pub table: Option<Table>,
    /// Where what is sent to port 53 of 127.0.0.11 goes: another port of that address, UDP and TCP. Seen: 0 if the rules for
    /// it are not as we write them, which is never desired.
    pub resolver: Option<u16>,
    /// Rules of ours at the end of others' FORWARD chains (iptables' `filter` tables), which let what passes these links
    /// through. Wanted: by family; seen: of the families whose chain is there, and lets not everything through by itself. What
    /// is not as we write it there is seen as a `StartsNotWith`, which is never desired.
    pub forward_accepts: BTreeMap<Family, BTreeSet<LinkMatch>>,
    /// Seen only: the families for which somebody else has a rule, or a policy of drop, for what is routed through.
    pub forwarders: BTreeSet<Family>,
}

/// A network interface with all that hangs off it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// What it is.
    pub kind: LinkKind,
    /// Its ifalias, if that is a mark of ours. None: foreign, never touched.
    pub mark: Option<Mark>,
    /// Its Ethernet address. Wanted: None is whatever it has (an ipvlan link and a VLAN have that of the link they are on);
    /// a seen one may have none (all zero, or not Ethernet).
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// The bridge that it is a port of, in the same namespace.
    pub port: Option<Port>,
    /// Its addresses, all permanent and without duplicate-address detection. Seen: those of universe scope, and
    /// 169.254.0.0/16 ones; never the kernel's own fe80:: ones.
    pub addresses: BTreeSet<IpNet>,
    /// Its routes in the main table by destination; seen: those with our protocol number alone.
    pub routes: BTreeMap<IpNet, Route>,
    /// Its permanent neighbours (ARP and ND).
    pub neighbours: BTreeMap<IpAddr, Mac>,
    /// On a vxlan device: where the frames to an address go (`self permanent dst`).
    pub vxlan_fdb: BTreeMap<Mac, IpAddr>,
    /// On a vxlan device: where broadcast, unknown and multicast go (all-zero rows).
    pub flood_list: BTreeSet<IpAddr>,
    /// On a bridge port: the bridge's own rows for it (`master static`). On a bridge: what it takes for itself (`self permanent`),
    /// which is its Ethernet address; without that row it hears nothing of what is meant for it.
    pub bridge_fdb: BTreeSet<Mac>,
}

impl Link {
    /// A link of this kind that is up and has nothing yet.
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

/// What a link is, with what can be chosen only when it is made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkKind {
    /// A bridge: no STP, no VLAN filtering, forward delay 0, multicast snooping off.
    Bridge,
    /// A VXLAN device whose UDP socket is in the agent's own namespace, wherever the device is.
    Vxlan(Vxlan),
    /// A link with an Ethernet address of its own on a link of the host, wherever it is itself.
    Macvlan(IfName, MacvlanMode),
    /// A link that shares the Ethernet address of a link of the host, wherever it is itself.
    Ipvlan(IfName, IpvlanMode, IpvlanFlag),
    /// A VLAN on a link of the host, with its identifier (802.1Q, 1 to 4094).
    Vlan(IfName, u16),
    /// One end of a veth pair. The other end is the link with the same mark, often in another namespace.
    Veth,
    /// Anything that we do not make, by the kernel's name for it ("tun", "" for a physical one).
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

/// A route by way of the link that it hangs off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Next hop; none: on the link itself.
    pub via: Option<IpAddr>,
    /// Preferred source.
    pub source: Option<IpAddr>,
    /// MTU metric in bytes.
    pub mtu: Option<u32>,
    /// Priority; the lower wins.
    pub metric: u32,
}

/// Where to look: the links and sysctls that a plan may concern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// By namespace. One that does not exist is left out of what is seen.
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
    /// These links alone; none: all of them.
    pub links: Option<BTreeSet<IfName>>,
    /// Without what hangs off the links: their addresses, routes, neighbours and rows.
    pub bare: bool,
    /// Keys in slash form.
    pub sysctls: BTreeSet<String>,
    /// Also our nftables table.
    pub table: bool,
    /// Also where port 53 of 127.0.0.11 leads.
    pub resolver: bool,
    /// Also our rules in others' FORWARD chains, and whether others have any for what is routed through.
    pub forward_accepts: bool,
}
