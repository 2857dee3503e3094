//! The steps that bring a kernel from the observed to the desired state, in the order of the plan.

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

/// A link to make: down, without a bridge and without addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLink {
    /// Where, and its name.
    pub at: LinkRef,
    /// Its mark.
    pub mark: Mark,
    /// Its Ethernet address; `None` leaves the choice to the kernel (an ipvlan link and a VLAN have that of
    /// the link they are on).
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: u32,
}

/// One step. Adding an object that exists as desired succeeds, and so does removing one that is gone; only
/// making a link or a namespace whose name is taken fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Make or remove a named namespace.
    Netns(Netns, NetnsOp),
    /// Make a link that has no other end.
    AddLink(NewLink, LinkKind),
    /// Make a veth pair, both ends at once.
    AddVeth(NewLink, NewLink),
    /// Change one link, or remove it.
    Link(LinkRef, LinkOp),
    /// Set or remove a row of a link.
    Row(LinkRef, RowOp, LinkRow),
    /// Change a setting of a whole namespace.
    Setting(Netns, SettingOp),
}

/// A step on a named namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetnsOp {
    /// Make it, with `lo` up and marked.
    Add(Mark),
    /// Remove it with all that is in it. We made it.
    Remove,
}

/// A step on one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkOp {
    /// Remove it (with a veth, both ends).
    Remove,
    /// Change its Ethernet address.
    SetMac(Mac),
    /// Change its MTU.
    SetMtu(u32),
    /// Make it a bridge's port with these flags, or take it out.
    SetPort(Option<Port>),
    /// Up or down.
    SetUp(bool),
    /// Add or replace our route to a destination.
    SetRoute(IpNet, Route),
    /// Remove our route to a destination.
    RemoveRoute(IpNet, Route),
}

/// A step on a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowOp {
    /// Add it, or replace the value that it has.
    Set,
    /// Remove it, whatever its value is.
    Remove,
}

/// A row: an object that a link can have many of. One message sets or removes a row, so many rows go to the
/// kernel in one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkRow {
    /// An address, without duplicate-address detection.
    Address(IpNet),
    /// A permanent neighbour; its value is the Ethernet address.
    Neighbour(IpAddr, Mac),
    /// A row of a vxlan device: frames to this station go to this VTEP, which is its value.
    VxlanFdb(Mac, IpAddr),
    /// A destination of a vxlan device for broadcast, unknown and multicast.
    Flood(IpAddr),
    /// The bridge's static row for a station behind this port.
    BridgeFdb(Mac),
}

/// A step on a setting of a whole namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingOp {
    /// Write a value below /proc/sys.
    SetSysctl(String, String),
    /// Replace our nftables table, whole, in one transaction.
    SetTable(Table),
    /// Change existing maps of ports in our nftables table, in one transaction.
    ChangePorts(Vec<PortChange>),
    /// Remove our nftables table.
    RemoveTable,
    /// Redirect port 53 of 127.0.0.11 to this port of the same address, in one transaction.
    SetResolver(u16),
    /// Remove that redirect.
    RemoveResolver,
    /// Keep exactly these rules of ours at the end of the FORWARD chain of iptables' `filter` table of a
    /// family.
    SetForwardAccepts(Family, BTreeSet<LinkMatch>),
}

impl Op {
    /// Whether the step only removes something: it succeeds if that is gone already.
    pub const fn removes(&self) -> bool {
        matches!(
            self,
            Self::Netns(_, NetnsOp::Remove)
                | Self::Link(_, LinkOp::Remove | LinkOp::RemoveRoute(..))
                | Self::Row(_, RowOp::Remove, _)
                | Self::Setting(_, SettingOp::RemoveTable | SettingOp::RemoveResolver)
        )
    }

    /// The link that the step changes.
    pub const fn link(&self) -> Option<&LinkRef> {
        match self {
            Self::Link(link, _) | Self::Row(link, ..) => Some(link),
            Self::Netns(..) | Self::AddLink(..) | Self::AddVeth(..) | Self::Setting(..) => None,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Netns(netns, NetnsOp::Add(_)) => write!(f, "add netns {netns}"),
            Self::Netns(netns, NetnsOp::Remove) => write!(f, "remove netns {netns}"),
            Self::AddLink(new, kind) => {
                write!(f, "add {} {}", KindWord(kind), new.at)?;
                new.mac.map_or(Ok(()), |mac| write!(f, " address {mac}"))?;
                write!(f, " mtu {}", new.mtu)
            }
            Self::AddVeth(a, b) => write!(f, "add veth {} peer {} mtu {}", a.at, b.at, a.mtu),
            Self::Link(link, op) => op.write(f, link),
            Self::Row(link, RowOp::Set, row) => {
                let verb = if matches!(row, LinkRow::Address(_) | LinkRow::Flood(_)) { "add" } else { "set" };
                write!(f, "{verb} {row}{} dev {link}", RowValue(row))
            }
            Self::Row(link, RowOp::Remove, row) => write!(f, "remove {row} dev {link}"),
            Self::Setting(netns, op) => write!(f, "{op} in {netns}"),
        }
    }
}

impl LinkOp {
    /// The step on this link, as [`Op`] prints it.
    fn write(&self, f: &mut fmt::Formatter<'_>, link: &LinkRef) -> fmt::Result {
        match self {
            Self::Remove => write!(f, "remove link {link}"),
            Self::SetMac(mac) => write!(f, "set {link} address {mac}"),
            Self::SetMtu(mtu) => write!(f, "set {link} mtu {mtu}"),
            Self::SetPort(Some(port)) => write!(f, "set {link} master {}", port.bridge),
            Self::SetPort(None) => write!(f, "set {link} nomaster"),
            Self::SetUp(true) => write!(f, "set {link} up"),
            Self::SetUp(false) => write!(f, "set {link} down"),
            Self::SetRoute(to, route) => {
                write!(f, "set route {to}")?;
                route.via.map_or(Ok(()), |via| write!(f, " via {via}"))?;
                write!(f, " dev {link}")
            }
            Self::RemoveRoute(to, _) => write!(f, "remove route {to} dev {link}"),
        }
    }
}

/// The row without its value.
impl fmt::Display for LinkRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "address {address}"),
            Self::Neighbour(ip, _) => write!(f, "neighbour {ip}"),
            Self::VxlanFdb(mac, _) => write!(f, "fdb {mac}"),
            Self::Flood(vtep) => write!(f, "flood dst {vtep}"),
            Self::BridgeFdb(mac) => write!(f, "bridge fdb {mac}"),
        }
    }
}

struct RowValue<'a>(&'a LinkRow);

impl fmt::Display for RowValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            LinkRow::Neighbour(_, mac) => write!(f, " lladdr {mac}"),
            LinkRow::VxlanFdb(_, vtep) => write!(f, " dst {vtep}"),
            LinkRow::Address(_) | LinkRow::Flood(_) | LinkRow::BridgeFdb(_) => Ok(()),
        }
    }
}

impl fmt::Display for SettingOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetSysctl(key, value) => write!(f, "set sysctl {}={value}", key.replace('/', ".")),
            Self::SetTable(table) => {
                let rules: usize = table.chains.iter().map(|chain| chain.rules.len()).sum();
                write!(f, "set nftables table ({rules} rules)")
            }
            Self::ChangePorts(changes) => {
                let gone: usize = changes.iter().map(|change| change.gone.len()).sum();
                let come: usize = changes.iter().map(|change| change.come.len()).sum();
                write!(f, "change ports in nftables table ({gone} gone, {come} new)")
            }
            Self::RemoveTable => f.write_str("remove nftables table"),
            Self::SetResolver(port) => write!(f, "redirect 127.0.0.11 port 53 to {port}"),
            Self::RemoveResolver => f.write_str("remove the redirect of 127.0.0.11 port 53"),
            Self::SetForwardAccepts(family, links) => {
                let command = if *family == Family::V4 { "iptables" } else { "ip6tables" };
                write!(f, "set rules in the FORWARD chain of {command} ({} links)", links.len())
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
