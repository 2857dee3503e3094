//! What a step needs and makes, and what it is called in errors: the same for every kernel.

use std::collections::BTreeSet;

use crate::plan::{
    op::{LinkRef, Op},
    state::{LinkKind, Netns},
};

/// Namespaces and links that could not be made: what depends on them is not tried.
#[derive(Default)]
pub(super) struct Broken {
    netns: BTreeSet<Netns>,
    links: BTreeSet<LinkRef>,
}

impl Broken {
    /// This step failed.
    pub(super) fn note(&mut self, op: &Op) {
        if let Op::AddNetns(netns, _) = op {
            self.netns.insert(netns.clone());
        }
        self.links.extend(made_links(op).into_iter().cloned());
    }

    /// Whether this step depends on what failed.
    pub(super) fn concerns(&self, op: &Op) -> bool {
        if self.netns.is_empty() && self.links.is_empty() {
            return false;
        }
        let bridge = if let Op::SetPort(link, Some(port)) = op {
            Some(LinkRef { netns: link.netns.clone(), name: port.bridge })
        } else {
            None
        };
        let made = made_links(op);
        let link = link(op).into_iter().chain(&bridge);
        let mut netns = made.iter().map(|link| &link.netns).chain(netns(op));
        netns.any(|netns| self.netns.contains(netns))
            || link.into_iter().any(|link| self.links.contains(link) || self.netns.contains(&link.netns))
    }
}

/// The links that the step makes.
fn made_links(op: &Op) -> Vec<&LinkRef> {
    if let Op::AddLink(new, _) = op {
        vec![&new.at]
    } else if let Op::AddVeth(a, b) = op {
        vec![&a.at, &b.at]
    } else {
        Vec::new()
    }
}

/// The link that the step changes.
pub(super) fn link(op: &Op) -> Option<&LinkRef> {
    match op {
        Op::RemoveLink(link)
        | Op::SetMac(link, _)
        | Op::SetMtu(link, _)
        | Op::SetPort(link, _)
        | Op::SetUp(link, _)
        | Op::AddAddress(link, _)
        | Op::RemoveAddress(link, _)
        | Op::SetRoute(link, ..)
        | Op::RemoveRoute(link, ..)
        | Op::SetNeighbour(link, ..)
        | Op::RemoveNeighbour(link, _)
        | Op::SetTunnel(link, ..)
        | Op::RemoveTunnel(link, _)
        | Op::AddFlood(link, _)
        | Op::RemoveFlood(link, _)
        | Op::SetStation(link, _)
        | Op::RemoveStation(link, _) => Some(link),
        Op::AddNetns(..)
        | Op::RemoveNetns(_)
        | Op::AddLink(..)
        | Op::AddVeth(..)
        | Op::SetSysctl(..)
        | Op::SetTable(..)
        | Op::ChangePorts(..)
        | Op::RemoveTable(_)
        | Op::SetResolver(..)
        | Op::RemoveResolver(_)
        | Op::SetOpenings(..) => None,
    }
}

/// The namespace that the step changes as a whole.
fn netns(op: &Op) -> Option<&Netns> {
    if let Op::SetSysctl(netns, ..)
    | Op::SetTable(netns, _)
    | Op::ChangePorts(netns, _)
    | Op::RemoveTable(netns)
    | Op::SetResolver(netns, _)
    | Op::RemoveResolver(netns)
    | Op::SetOpenings(netns, ..) = op
    {
        Some(netns)
    } else {
        None
    }
}

/// What the step is called, and on what: the parts of an error.
pub(super) fn words(op: &Op) -> (&'static str, String) {
    match op {
        Op::AddNetns(netns, _) => ("add network namespace", netns.to_string()),
        Op::RemoveNetns(netns) => ("remove network namespace", netns.to_string()),
        Op::AddLink(new, LinkKind::Bridge) => ("add bridge", new.at.to_string()),
        Op::AddLink(new, LinkKind::Vxlan(_)) => ("add vxlan device", new.at.to_string()),
        Op::AddLink(new, _) => ("add link", new.at.to_string()),
        Op::AddVeth(a, b) => ("add veth pair", format!("{} and {}", a.at, b.at)),
        Op::RemoveLink(link) => ("remove link", link.to_string()),
        Op::SetMac(link, _) => ("set the address of link", link.to_string()),
        Op::SetMtu(link, mtu) => ("set mtu", format!("{mtu} on {link}")),
        Op::SetPort(link, _) => ("set the bridge of link", link.to_string()),
        Op::SetUp(link, true) => ("bring up link", link.to_string()),
        Op::SetUp(link, false) => ("bring down link", link.to_string()),
        Op::AddAddress(link, address) => ("add address", format!("{address} on {link}")),
        Op::RemoveAddress(link, address) => ("remove address", format!("{address} on {link}")),
        Op::SetRoute(link, to, _) => ("set route", format!("{to} on {link}")),
        Op::RemoveRoute(link, to, _) => ("remove route", format!("{to} on {link}")),
        Op::SetNeighbour(link, ip, _) => ("set neighbour", format!("{ip} on {link}")),
        Op::RemoveNeighbour(link, ip) => ("remove neighbour", format!("{ip} on {link}")),
        Op::SetTunnel(link, mac, _) => ("set tunnel row", format!("{mac} on {link}")),
        Op::RemoveTunnel(link, mac) => ("remove tunnel row", format!("{mac} on {link}")),
        Op::AddFlood(link, vtep) => ("add flood row", format!("{vtep} on {link}")),
        Op::RemoveFlood(link, vtep) => ("remove flood row", format!("{vtep} on {link}")),
        Op::SetStation(link, mac) => ("set bridge row", format!("{mac} on {link}")),
        Op::RemoveStation(link, mac) => ("remove bridge row", format!("{mac} on {link}")),
        Op::SetSysctl(netns, key, value) => ("set sysctl", format!("{key}={value} in {netns}")),
        Op::SetTable(netns, _) => ("set nftables table", netns.to_string()),
        Op::ChangePorts(netns, _) => ("change ports in nftables table", netns.to_string()),
        Op::RemoveTable(netns) => ("remove nftables table", netns.to_string()),
        Op::SetResolver(netns, _) => ("set the rules for 127.0.0.11 port 53", netns.to_string()),
        Op::RemoveResolver(netns) => ("remove the rules for 127.0.0.11 port 53", netns.to_string()),
        Op::SetOpenings(netns, ..) => ("set rules in the FORWARD chain", netns.to_string()),
    }
}
