//! What a step needs and makes, and what it is called in errors: the same for every kernel.

use std::collections::BTreeSet;

use crate::plan::{
    op::{LinkOp, LinkRef, LinkRow, NetnsOp, Op, RowOp, SettingOp},
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
        if let Op::Netns(netns, NetnsOp::Add(_)) = op {
            self.netns.insert(netns.clone());
        }
        self.links.extend(made_links(op).into_iter().cloned());
    }

    /// Whether this step depends on what failed.
    pub(super) fn concerns(&self, op: &Op) -> bool {
        if self.netns.is_empty() && self.links.is_empty() {
            return false;
        }
        let bridge = if let Op::Link(link, LinkOp::SetPort(Some(port))) = op {
            Some(LinkRef { netns: link.netns.clone(), name: port.bridge })
        } else {
            None
        };
        let made = made_links(op);
        let whole = if let Op::Setting(netns, _) = op { Some(netns) } else { None };
        let link = op.link().into_iter().chain(&bridge);
        let mut netns = made.iter().map(|link| &link.netns).chain(whole);
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

/// What the step is called, and on what: the parts of an error.
pub(super) fn words(op: &Op) -> (&'static str, String) {
    match op {
        Op::Netns(netns, NetnsOp::Add(_)) => ("add network namespace", netns.to_string()),
        Op::Netns(netns, NetnsOp::Remove) => ("remove network namespace", netns.to_string()),
        Op::AddLink(new, LinkKind::Bridge) => ("add bridge", new.at.to_string()),
        Op::AddLink(new, LinkKind::Vxlan(_)) => ("add vxlan device", new.at.to_string()),
        Op::AddLink(new, _) => ("add link", new.at.to_string()),
        Op::AddVeth(a, b) => ("add veth pair", format!("{} and {}", a.at, b.at)),
        Op::Link(link, op) => link_words(link, op),
        Op::Row(link, op, row) => row_words(link, *op, row),
        Op::Setting(netns, SettingOp::SetSysctl(key, value)) => {
            ("set sysctl", format!("{key}={value} in {netns}"))
        }
        Op::Setting(netns, op) => (setting_words(op), netns.to_string()),
    }
}

fn link_words(link: &LinkRef, op: &LinkOp) -> (&'static str, String) {
    match op {
        LinkOp::Remove => ("remove link", link.to_string()),
        LinkOp::SetMac(_) => ("set the address of link", link.to_string()),
        LinkOp::SetMtu(mtu) => ("set mtu", format!("{mtu} on {link}")),
        LinkOp::SetPort(_) => ("set the bridge of link", link.to_string()),
        LinkOp::SetUp(true) => ("bring up link", link.to_string()),
        LinkOp::SetUp(false) => ("bring down link", link.to_string()),
        LinkOp::SetRoute(to, _) => ("set route", format!("{to} on {link}")),
        LinkOp::RemoveRoute(to, _) => ("remove route", format!("{to} on {link}")),
    }
}

fn row_words(link: &LinkRef, op: RowOp, row: &LinkRow) -> (&'static str, String) {
    let ([set, remove], target) = match row {
        LinkRow::Address(address) => (["add address", "remove address"], address.to_string()),
        LinkRow::Neighbour(ip, _) => (["set neighbour", "remove neighbour"], ip.to_string()),
        LinkRow::VxlanFdb(mac, _) => (["set tunnel row", "remove tunnel row"], mac.to_string()),
        LinkRow::Flood(vtep) => (["add flood row", "remove flood row"], vtep.to_string()),
        LinkRow::BridgeFdb(mac) => (["set bridge row", "remove bridge row"], mac.to_string()),
    };
    (if op == RowOp::Set { set } else { remove }, format!("{target} on {link}"))
}

fn setting_words(op: &SettingOp) -> &'static str {
    match op {
        SettingOp::SetSysctl(..) => "set sysctl",
        SettingOp::SetTable(_) => "set nftables table",
        SettingOp::ChangePorts(_) => "change ports in nftables table",
        SettingOp::RemoveTable => "remove nftables table",
        SettingOp::SetResolver(_) => "set the rules for 127.0.0.11 port 53",
        SettingOp::RemoveResolver => "remove the rules for 127.0.0.11 port 53",
        SettingOp::SetForwardAccepts(..) => "set rules in the FORWARD chain",
    }
}
