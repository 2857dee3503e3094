//! The steps that bring a kernel from what was seen to what is wanted, in the order of the plan.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use ipnet::IpNet;

use super::{
    ownership::Mark,
    ruleset::{Family, LinkMatch, PortChange, Table},
    state::{LinkKind, Netns, Port, Route},
};
use crate::model::{IfName, Mac};

/// Which link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkRef {
    /// In which namespace.
    pub netns: Netns,
    /// Its name there.
    pub name: IfName,
}

impl fmt::Display for LinkRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.netns, self.name)
    }
}

/// A link to be made, down, without a bridge and without addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLink {
    /// Where, and its name.
    pub at: LinkRef,
    /// Its mark.
    pub mark: Mark,
    /// Its Ethernet address; None: what the kernel gives it (an ipvlan link and a VLAN have that of the link they are on).
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: u32,
}

/// One step. Adding what is there already as wanted, and removing what is gone, succeed; only a link or a namespace whose
/// name is taken does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Make a named namespace, with `lo` up and marked.
    AddNetns(Netns, Mark),
    /// Remove a named namespace that we made, with all that is in it.
    RemoveNetns(Netns),
    /// Make a link that has no other end.
    AddLink(NewLink, LinkKind),
    /// Make a veth pair, both ends at once.
    AddVeth(NewLink, NewLink),
    /// Remove a link (with a veth, both ends).
    RemoveLink(LinkRef),
    /// Change its Ethernet address.
    SetMac(LinkRef, Mac),
    /// Change its MTU.
    SetMtu(LinkRef, u32),
    /// Make it a bridge's port with these flags, or take it out.
    SetPort(LinkRef, Option<Port>),
    /// Up or down.
    SetUp(LinkRef, bool),
    /// Add an address, without duplicate-address detection.
    AddAddress(LinkRef, IpNet),
    /// Remove an address.
    RemoveAddress(LinkRef, IpNet),
    /// Add or replace our route to a destination.
    SetRoute(LinkRef, IpNet, Route),
    /// Remove our route to a destination.
    RemoveRoute(LinkRef, IpNet, Route),
    /// Add or replace a permanent neighbour.
    SetNeighbour(LinkRef, IpAddr, Mac),
    /// Remove a neighbour.
    RemoveNeighbour(LinkRef, IpAddr),
    /// Add or replace a row of a vxlan device: frames to this station go to this VTEP.
    SetTunnel(LinkRef, Mac, IpAddr),
    /// Remove such a row.
    RemoveTunnel(LinkRef, Mac),
    /// Add a destination for broadcast, unknown and multicast.
    AddFlood(LinkRef, IpAddr),
    /// Remove such a destination.
    RemoveFlood(LinkRef, IpAddr),
    /// Add the bridge's static row for a station behind this port.
    SetStation(LinkRef, Mac),
    /// Remove such a row.
    RemoveStation(LinkRef, Mac),
    /// Write a value below /proc/sys.
    SetSysctl(Netns, String, String),
    /// Replace our nftables table, whole, in one transaction.
    SetTable(Netns, Table),
    /// Change maps of ports in our nftables table, in one transaction; they are there.
    ChangePorts(Netns, Vec<PortChange>),
    /// Remove our nftables table.
    RemoveTable(Netns),
    /// Have what is sent to port 53 of 127.0.0.11 go to this port of it, in one transaction.
    SetResolver(Netns, u16),
    /// Have it go nowhere else.
    RemoveResolver(Netns),
    /// Have exactly these rules of ours at the end of the FORWARD chain of iptables' `filter` table of a family.
    SetOpenings(Netns, Family, BTreeSet<LinkMatch>),
}

impl Op {
    /// Whether the step takes something away, and nothing else: it succeeds when that is gone already.
    pub const fn removes(&self) -> bool {
        match self {
            Self::RemoveNetns(_)
            | Self::RemoveLink(_)
            | Self::RemoveAddress(..)
            | Self::RemoveRoute(..)
            | Self::RemoveNeighbour(..)
            | Self::RemoveTunnel(..)
            | Self::RemoveFlood(..)
            | Self::RemoveStation(..)
            | Self::RemoveTable(_)
            | Self::RemoveResolver(_) => true,
            Self::AddNetns(..)
            | Self::AddLink(..)
            | Self::AddVeth(..)
            | Self::SetMac(..)
            | Self::SetMtu(..)
            | Self::SetPort(..)
            | Self::SetUp(..)
            | Self::AddAddress(..)
            | Self::SetRoute(..)
            | Self::SetNeighbour(..)
            | Self::SetTunnel(..)
            | Self::AddFlood(..)
            | Self::SetStation(..)
            | Self::SetSysctl(..)
            | Self::SetTable(..)
            | Self::ChangePorts(..)
            | Self::SetResolver(..)
            | Self::SetOpenings(..) => false,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddNetns(netns, _) => write!(f, "add netns {netns}"),
            Self::RemoveNetns(netns) => write!(f, "remove netns {netns}"),
            Self::AddLink(new, kind) => {
                write!(f, "add {} {}", KindWord(kind), new.at)?;
                new.mac.map_or(Ok(()), |mac| write!(f, " address {mac}"))?;
                write!(f, " mtu {}", new.mtu)
            }
            Self::AddVeth(a, b) => write!(f, "add veth {} peer {} mtu {}", a.at, b.at, a.mtu),
            Self::RemoveLink(link) => write!(f, "remove link {link}"),
            Self::SetMac(link, mac) => write!(f, "set {link} address {mac}"),
            Self::SetMtu(link, mtu) => write!(f, "set {link} mtu {mtu}"),
            Self::SetPort(link, Some(port)) => write!(f, "set {link} master {}", port.bridge),
            Self::SetPort(link, None) => write!(f, "set {link} nomaster"),
            Self::SetUp(link, true) => write!(f, "set {link} up"),
            Self::SetUp(link, false) => write!(f, "set {link} down"),
            Self::AddAddress(link, address) => write!(f, "add address {address} dev {link}"),
            Self::RemoveAddress(link, address) => write!(f, "remove address {address} dev {link}"),
            Self::SetRoute(link, to, route) => write!(f, "set route {to}{} dev {link}", Via(route.via)),
            Self::RemoveRoute(link, to, _) => write!(f, "remove route {to} dev {link}"),
            Self::SetNeighbour(link, ip, mac) => write!(f, "set neighbour {ip} lladdr {mac} dev {link}"),
            Self::RemoveNeighbour(link, ip) => write!(f, "remove neighbour {ip} dev {link}"),
            Self::SetTunnel(link, mac, vtep) => write!(f, "set fdb {mac} dst {vtep} dev {link}"),
            Self::RemoveTunnel(link, mac) => write!(f, "remove fdb {mac} dev {link}"),
            Self::AddFlood(link, vtep) => write!(f, "add flood dst {vtep} dev {link}"),
            Self::RemoveFlood(link, vtep) => write!(f, "remove flood dst {vtep} dev {link}"),
            Self::SetStation(link, mac) => write!(f, "set bridge fdb {mac} dev {link}"),
            Self::RemoveStation(link, mac) => write!(f, "remove bridge fdb {mac} dev {link}"),
            Self::SetSysctl(netns, key, value) => {
                write!(f, "set sysctl {}={value} in {netns}", key.replace('/', "."))
            }
            Self::SetTable(netns, table) => {
                let rules: usize = table.chains.iter().map(|chain| chain.rules.len()).sum();
                write!(f, "set nftables table ({rules} rules) in {netns}")
            }
            Self::ChangePorts(netns, changes) => {
                let gone: usize = changes.iter().map(|change| change.gone.len()).sum();
                let come: usize = changes.iter().map(|change| change.come.len()).sum();
                write!(f, "change ports in nftables table ({gone} gone, {come} new) in {netns}")
            }
            Self::RemoveTable(netns) => write!(f, "remove nftables table in {netns}"),
            Self::SetResolver(netns, port) => write!(f, "lead port 53 of 127.0.0.11 to {port} in {netns}"),
            Self::RemoveResolver(netns) => write!(f, "lead port 53 of 127.0.0.11 nowhere in {netns}"),
            Self::SetOpenings(netns, family, links) => {
                let command = if *family == Family::V4 { "iptables" } else { "ip6tables" };
                write!(f, "set rules in the FORWARD chain of {command} ({} links) in {netns}", links.len())
            }
        }
    }
}

struct KindWord<'a>(&'a LinkKind);

impl fmt::Display for KindWord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            LinkKind::Bridge => f.write_str("bridge"),
            LinkKind::Vxlan(vxlan) => {
                write!(f, "vxlan (vni {} local {} port {})", vxlan.vni, vxlan.local, vxlan.port)
            }
            LinkKind::Veth => f.write_str("veth"),
            LinkKind::Macvlan(parent, mode) => write!(f, "macvlan (on {parent} mode {mode})"),
            LinkKind::Ipvlan(parent, mode, flag) => write!(f, "ipvlan (on {parent} mode {mode} {flag})"),
            LinkKind::Vlan(parent, id) => write!(f, "vlan (on {parent} id {id})"),
            LinkKind::Other(kind) => f.write_str(kind),
        }
    }
}

struct Via(Option<IpAddr>);

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |via| write!(f, " via {via}"))
    }
}
