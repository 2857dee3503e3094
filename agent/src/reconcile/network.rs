//! One network on this host: what its wanted state depends on, in a part that all share and pieces that change alone.
//!
//! A changed piece is planned against what was programmed for it, at the cost of that piece; anything else is planned
//! against the kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::dirty::Row;
use crate::{
    intent::{Intent, NetworkView},
    model::{DriverSettings, Endpoint, Member, Name, Network, NetworkId, NodeId},
    plan::{
        Features, Leg, LocalEndpoint, OverlayInput, Station, netns_of, outer_name, overlay,
        state::{Look, LookAt, Netns, State, Vxlan},
    },
};

/// Bytes that VXLAN adds over an IPv4 and an IPv6 underlay (RFC 7348: 14 inner Ethernet, 8 VXLAN, 8 UDP, 20 or 40 IP).
const fn overhead(underlay: IpAddr) -> u32 {
    match underlay {
        IpAddr::V4(_) => 50,
        IpAddr::V6(_) => 70,
    }
}

/// Smallest MTU that IPv4 and IPv6 hosts must cope with (RFC 791, RFC 8200).
const LEAST_MTU: u32 = 576;
const LEAST_MTU_V6: u32 = 1280;

/// What this host is to a network.
#[derive(Clone, Debug)]
pub(super) struct Env {
    /// This node.
    pub me: NodeId,
    /// Its VTEP.
    pub vtep: IpAddr,
    /// UDP port of VXLAN.
    pub vxlan_port: u16,
    /// MTU of the link that the VTEP is on, in bytes.
    pub underlay_mtu: u32,
    /// MTU of the paths to other VTEPs, where they are known.
    pub paths: BTreeMap<IpAddr, u32>,
    /// What the kernel has.
    pub features: Features,
    /// Nodes whose records are hidden: their lease has run out and gossip has them down.
    pub hidden: BTreeSet<NodeId>,
    /// Namespaces of the sandboxes that are there.
    pub sandboxes: BTreeMap<Name, Netns>,
    /// Host legs of networks.
    pub legs: BTreeMap<NetworkId, Leg>,
}

/// What all pieces of a network share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base {
    network: Network,
    member: Member,
    vxlan: Vxlan,
    /// MTU of its endpoints in bytes.
    pub mtu: u32,
    leg: Option<Leg>,
    /// Subnets that the host has a route to.
    pub host_routes: Vec<IpNet>,
    floods: Vec<IpAddr>,
    features: Features,
}

impl Base {
    /// Whether the host reaches it by a leg.
    pub(super) fn has_leg(&self) -> bool {
        self.leg.is_some()
    }
}

/// A piece that changes alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// An endpoint of this host, with its sandbox's namespace.
    Local(Box<Endpoint>, Netns),
    /// What is behind another host.
    Remote(Station),
}

/// What a network was last brought to.
#[derive(Clone, Debug)]
pub(super) struct Programmed {
    /// The shared part.
    pub base: Base,
    /// The pieces.
    pub pieces: BTreeMap<Row, Piece>,
}

/// Whether a network has endpoints here.
pub fn is_here(view: &NetworkView, me: NodeId) -> bool {
    view.network().is_some() && view.members().contains_key(&me) && view.endpoints_on(me).next().is_some()
}

/// The shared part; None where the network has no endpoints here.
pub(super) fn base(intent: &Intent, env: &Env, id: NetworkId) -> Option<Base> {
    let view = intent.network(id).filter(|view| is_here(view, env.me))?;
    let network = view.network()?;
    let member = view.members().get(&env.me)?.clone();
    let vxlan = Vxlan { vni: network.vni?, local: env.vtep, port: env.vxlan_port };
    let leg = if network.internal { None } else { env.legs.get(&id).copied() };
    let host_routes = if leg.is_some() { host_routes(intent, env.me, network).0 } else { Vec::new() };
    let DriverSettings::Overlay(settings) = &network.settings else { return None };
    let floods = if settings.multicast {
        peers(intent, env, view).map(|(_, vtep)| vtep).collect()
    } else {
        Vec::new()
    };
    let mtu = mtu(intent, env, network, view);
    Some(Base {
        network: network.clone(),
        member,
        vxlan,
        mtu,
        leg,
        host_routes,
        floods,
        features: env.features,
    })
}

/// The other nodes of a network that are not hidden, with their VTEPs.
fn peers<'a>(
    intent: &'a Intent,
    env: &'a Env,
    view: &'a NetworkView,
) -> impl Iterator<Item = (NodeId, IpAddr)> + 'a {
    let others = view.members().keys().filter(|node| **node != env.me && !env.hidden.contains(node));
    others.filter_map(|node| Some((*node, intent.nodes().get(node)?.vtep)))
}

/// The VTEPs that a network's MTU depends on.
pub(super) fn peer_vteps(intent: &Intent, env: &Env, id: NetworkId) -> Vec<IpAddr> {
    intent
        .network(id)
        .map(|view| peers(intent, env, view).map(|(_, vtep)| vtep).collect())
        .unwrap_or_default()
}

/// The chosen MTU, or what fits the narrowest part of the underlay between the network's nodes.
fn mtu(intent: &Intent, env: &Env, network: &Network, view: &NetworkView) -> u32 {
    if let Some(chosen) = network.mtu {
        return chosen;
    }
    let theirs = peers(intent, env, view).flat_map(|(node, vtep)| {
        let announced = intent.nodes().get(&node).map(|node| node.underlay_mtu).filter(|mtu| *mtu > 0);
        announced.into_iter().chain(env.paths.get(&vtep).copied())
    });
    let underlay = theirs.chain([env.underlay_mtu]).min().unwrap_or(env.underlay_mtu);
    let least = if network.has_ipv6() { LEAST_MTU_V6 } else { LEAST_MTU };
    underlay.saturating_sub(overhead(env.vtep)).max(least)
}

/// Of several networks here with overlapping subnets the oldest has the host's route. The subnets that the host reaches
/// by way of `network`, and those that it does not, with the network that it reaches instead.
pub fn host_routes(intent: &Intent, me: NodeId, network: &Network) -> (Vec<IpNet>, Vec<(IpNet, Name)>) {
    let older =
        |other: &&Network| (other.created, other.id) < (network.created, network.id) && !other.internal;
    let here = intent.networks().filter(|(_, view)| is_here(view, me)).filter_map(|(_, view)| view.network());
    let older: Vec<&Network> = here.filter(older).collect();
    let (mut routed, mut blocked) = (Vec::new(), Vec::new());
    for subnet in &network.subnets {
        let meets = |other: &&&Network| {
            let mut prefixes = other.subnets.iter().map(|other| other.prefix);
            prefixes.any(|prefix| prefix.contains(&subnet.prefix) || subnet.prefix.contains(&prefix))
        };
        match older.iter().find(meets) {
            None => routed.push(subnet.prefix),
            Some(other) => blocked.push((subnet.prefix, other.name.clone())),
        }
    }
    (routed, blocked)
}

/// One piece; None where there is nothing to program for it (any more).
pub(super) fn piece(intent: &Intent, env: &Env, id: NetworkId, row: Row) -> Option<Piece> {
    let view = intent.network(id)?;
    match row {
        Row::Endpoint(endpoint) => {
            let endpoint = view.endpoints().get(&endpoint)?;
            if endpoint.node == env.me {
                let netns = env.sandboxes.get(&endpoint.sandbox)?;
                return Some(Piece::Local(Box::new(endpoint.clone()), netns.clone()));
            }
            station(intent, env, endpoint.node, endpoint.mac, &endpoint.addresses)
        }
        Row::Member(node) | Row::Node(node) if node == env.me => None,
        Row::Member(node) | Row::Node(node) => {
            let member = view.members().get(&node)?;
            station(intent, env, node, member.mac, &member.addresses)
        }
    }
}

fn station(
    intent: &Intent,
    env: &Env,
    node: NodeId,
    mac: crate::model::Mac,
    addresses: &[IpNet],
) -> Option<Piece> {
    let vtep = intent.nodes().get(&node).filter(|_| !env.hidden.contains(&node))?.vtep;
    Some(Piece::Remote(Station { mac, addresses: addresses.iter().map(IpNet::addr).collect(), vtep }))
}

/// All pieces.
pub(super) fn pieces(intent: &Intent, env: &Env, id: NetworkId) -> BTreeMap<Row, Piece> {
    let Some(view) = intent.network(id) else { return BTreeMap::new() };
    let endpoints = view.endpoints().keys().map(|id| Row::Endpoint(*id));
    let members = view.members().keys().map(|node| Row::Member(*node));
    endpoints.chain(members).filter_map(|row| Some((row, piece(intent, env, id, row)?))).collect()
}

/// The rows that a request means, with those of a node spelled out. What a node no longer has came as rows of its own.
pub(super) fn spell_out(intent: &Intent, id: NetworkId, rows: BTreeSet<Row>) -> BTreeSet<Row> {
    let mut spelled = BTreeSet::new();
    for row in rows {
        match row {
            Row::Endpoint(_) | Row::Member(_) => {
                spelled.insert(row);
            }
            Row::Node(node) => {
                spelled.insert(Row::Member(node));
                if let Some(view) = intent.network(id) {
                    spelled.extend(view.endpoints_on(node).map(|endpoint| Row::Endpoint(endpoint.id)));
                }
            }
        }
    }
    spelled
}

/// The wanted state of a network with these pieces.
pub(super) fn wanted<'a>(base: &'a Base, pieces: impl IntoIterator<Item = &'a Piece>) -> State {
    let (mut local, mut remote) = (Vec::new(), Vec::new());
    for piece in pieces {
        match piece {
            Piece::Local(endpoint, sandbox) => {
                local.push(LocalEndpoint { endpoint, sandbox: sandbox.clone() })
            }
            Piece::Remote(station) => remote.push(station.clone()),
        }
    }
    overlay(&OverlayInput {
        network: &base.network,
        member: &base.member,
        vxlan: base.vxlan,
        mtu: base.mtu,
        leg: base.leg,
        host_routes: base.host_routes.clone(),
        ports: Vec::new(),
        local,
        remote,
        floods: base.floods.clone(),
        features: base.features,
    })
}

/// Where a network's objects are, wanted or left behind.
pub(super) fn look(id: NetworkId, wanted: &State) -> Look {
    let mut look = Look::default();
    for (netns, state) in &wanted.netns {
        let at = look.netns.entry(netns.clone()).or_default();
        at.links = Some(state.links.keys().copied().collect());
        at.sysctls = state.sysctls.keys().cloned().collect();
    }
    let inside = look.netns.entry(netns_of(id)).or_default();
    inside.links = None;
    inside.table = true;
    let host = look
        .netns
        .entry(Netns::Host)
        .or_insert_with(|| LookAt { links: Some(BTreeSet::new()), ..LookAt::default() });
    if let Some(links) = &mut host.links {
        links.insert(outer_name(id));
    }
    look
}
