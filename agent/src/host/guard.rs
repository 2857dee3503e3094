//! The rules that guard the agent's own ports: VXLAN, gossip and the store.
//!
//! No sandbox reaches them, neither those of this host nor those of other nodes, to which masquerade lends
//! this host's address. From outside, VXLAN packets of the overlays here come from nodes of the cluster only;
//! those of other VNIs belong to other programs and pass. All of this is stateless, before translation, and
//! on fragments too: a first fragment that is too short to contain a VNI counts as ours.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv4Net};

use crate::{
    model::{IfName, Protocol, Vni},
    plan::ruleset::{Action, Chain, Family, Hook, LinkMatch, Match, Rule, Table},
};

/// The host's own addresses (RFC 1122).
pub(super) const LOOPBACK: Ipv4Net = match Ipv4Net::new(Ipv4Addr::new(127, 0, 0, 0), 8) {
    Ok(net) => net,
    Err(_) => panic!("8 is a prefix length"),
};
pub(super) const LO: IfName = IfName::literal("lo");

/// The agent's ports and addresses on the underlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Underlay {
    /// This node's VTEP.
    pub vtep: IpAddr,
    /// UDP port of VXLAN.
    pub vxlan_port: u16,
    /// UDP port of gossip.
    pub gossip_port: u16,
    /// TCP ports of the cluster's store.
    pub store_ports: BTreeSet<u16>,
    /// The VTEPs of all nodes that the store knows, and this node's.
    pub vteps: BTreeSet<IpAddr>,
    /// The VNIs of the overlays here.
    pub vnis: BTreeSet<Vni>,
}

pub(super) fn rule(matches: impl IntoIterator<Item = Match>, action: Action) -> Rule {
    Rule { matches: matches.into_iter().collect(), action }
}

/// The chains (jump targets first) and the sets that they use. `ours` are the links of sandboxes in the host.
pub(super) fn table(underlay: Option<&Underlay>, ours: &BTreeSet<LinkMatch>) -> Table {
    let mut table = Table::default();
    let mut add = |hook, rules: Vec<Rule>| {
        table.chains.extend((!rules.is_empty()).then_some(Chain { hook, rules }));
    };
    let mut raw = loopback(ours);
    if let Some(underlay) = underlay.filter(|underlay| !(ours.is_empty() && underlay.vnis.is_empty())) {
        let to_sandboxes = |link: &LinkMatch| rule([Match::In(link.clone())], Action::Goto(Hook::Sandboxes));
        let from_sandboxes: Vec<Rule> = ours.iter().map(to_sandboxes).collect();
        raw.push(port(Protocol::Udp, underlay.vxlan_port, Hook::Tunnel));
        let tunnel = from_sandboxes.iter().cloned().chain(members(underlay)).collect();
        if !ours.is_empty() {
            raw.push(port(Protocol::Udp, underlay.gossip_port, Hook::Agent));
            raw.extend(underlay.store_ports.iter().map(|tcp| port(Protocol::Tcp, *tcp, Hook::Agent)));
            add(Hook::Sandboxes, nodes(underlay));
            add(Hook::Agent, from_sandboxes);
        }
        add(Hook::Tunnel, tunnel);
        (table.vnis, table.vteps) = (underlay.vnis.clone(), underlay.vteps.clone());
    }
    table.chains.extend((!raw.is_empty()).then_some(Chain { hook: Hook::Raw, rules: raw }));
    table
}

fn port(protocol: Protocol, port: u16, to: Hook) -> Rule {
    rule([Match::Port(protocol, port)], Action::Goto(to))
}

/// Published ports of 127.0.0.1 are for this host only. No packet for 127.0.0.0/8 may come from outside (RFC
/// 1122, 3.2.1.3), but where ports are published it would be routed.
fn loopback(ours: &BTreeSet<LinkMatch>) -> Vec<Rule> {
    let from_elsewhere = [Match::In(LinkMatch::IsNot(LO)), Match::Destination(LOOPBACK.into())];
    (!ours.is_empty()).then(|| rule(from_elsewhere, Action::Drop)).into_iter().collect()
}

/// Packets of members for this node pass, and so does transit traffic, for example to a virtual machine that
/// is a node itself. Other packets of the overlays here are dropped.
fn members(underlay: &Underlay) -> Vec<Rule> {
    if underlay.vnis.is_empty() {
        return Vec::new();
    }
    let own = IpNet::from(underlay.vtep);
    vec![
        rule([Match::OtherVni], Action::Accept),
        rule([Match::FromVtep(Family::of(underlay.vtep)), Match::Destination(own)], Action::Accept),
        rule([Match::DestinationElsewhere], Action::Accept),
        rule([], Action::Drop),
    ]
}

/// Sandboxes may not reach these ports, neither at an address of this host nor at other nodes.
fn nodes(underlay: &Underlay) -> Vec<Rule> {
    let families: BTreeSet<Family> = underlay.vteps.iter().map(|vtep| Family::of(*vtep)).collect();
    let node = |family| rule([Match::ToVtep(family)], Action::Drop);
    [rule([Match::DestinationLocal], Action::Drop)]
        .into_iter()
        .chain(families.into_iter().map(node))
        .collect()
}
