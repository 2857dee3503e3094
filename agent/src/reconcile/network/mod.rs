//! One network on this host: what its wanted state depends on, in a part that all share and pieces that change alone.
//!
//! A changed piece is planned against what was programmed for it, at the cost of that piece; anything else is planned
//! against the kernel. Each driver has a file with its shared part; `links` is what the host has, `unit` looks and plans.

mod bridge;
mod links;
mod overlay;
mod p2p;
mod parent;
mod unit;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

pub use self::overlay::host_routes;
pub(super) use self::{
    links::HostLinks,
    overlay::{peer_vteps, published},
    unit::{Haunts, look},
};
use super::dirty::Row;
use crate::{
    intent::{Intent, NetworkView, Source},
    model::{Driver, DriverSettings, Endpoint, IfName, Leg, Mac, Name, Network, NetworkId, NodeId},
    plan::{
        BridgeShared, Features, LocalEndpoint, OverlayShared, P2pShared, ParentShared, Station, bridge,
        bridge_name, overlay, p2p, parent,
        state::{Netns, State},
    },
};

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
    /// MTU of the way to the outside, in bytes.
    pub outside_mtu: u32,
    /// MTU of the paths to other VTEPs, where they are known.
    pub paths: BTreeMap<IpAddr, u32>,
    /// What the kernel has.
    pub features: Features,
    /// The host's links.
    pub links: Arc<HostLinks>,
    /// Nodes whose records are hidden: their lease has run out and gossip has them down.
    pub hidden: BTreeSet<NodeId>,
    /// Namespaces of the sandboxes that are there.
    pub sandboxes: BTreeMap<Name, Netns>,
    /// Host legs of networks.
    pub legs: BTreeMap<NetworkId, Leg>,
}

/// What all pieces of a network share, by driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shared {
    Overlay(Box<OverlayShared>),
    Bridge(Box<BridgeShared>),
    Parent(Box<ParentShared>),
    P2p(Box<P2pShared>),
}

impl Shared {
    /// How the network is built.
    pub(super) fn driver(&self) -> Driver {
        match self {
            Self::Overlay(_) => Driver::Overlay,
            Self::Bridge(_) => Driver::Bridge,
            Self::Parent(shared) => shared.network.driver(),
            Self::P2p(_) => Driver::P2p,
        }
    }

    /// MTU of its endpoints in bytes.
    pub(super) fn mtu(&self) -> u32 {
        match self {
            Self::Overlay(shared) => shared.mtu,
            Self::Bridge(shared) => shared.mtu,
            Self::Parent(shared) => shared.mtu,
            Self::P2p(shared) => shared.mtu,
        }
    }

    /// Whether a piece can be planned without the others.
    fn has_rows(&self) -> bool {
        match self {
            Self::Overlay(_) | Self::Bridge(_) | Self::Parent(_) => true,
            // Each is an end of the other's pair.
            Self::P2p(_) => false,
        }
    }

    /// Whether `programmed` becomes this one by a plan against what was programmed.
    fn follows_from(&self, programmed: &Self) -> bool {
        match (self, programmed) {
            (Self::Overlay(shared), Self::Overlay(before)) => {
                shared == before || shared.differs_in_ports(before)
            }
            (Self::Overlay(_) | Self::Bridge(_) | Self::Parent(_) | Self::P2p(_), _) => self == programmed,
        }
    }

    /// The wanted state of a network with these pieces.
    pub(super) fn wanted<'a>(&'a self, pieces: impl IntoIterator<Item = &'a Piece>) -> State {
        let (mut local, mut remote) = (Vec::new(), Vec::new());
        for piece in pieces {
            match piece {
                Piece::Local(endpoint, sandbox) => {
                    local.push(LocalEndpoint { endpoint, sandbox: sandbox.clone() })
                }
                Piece::Remote(station) => remote.push(station.clone()),
            }
        }
        match self {
            Self::Overlay(shared) => overlay(shared, &local, &remote),
            Self::Bridge(shared) => bridge(shared, &local),
            Self::Parent(shared) => parent(shared, &local),
            Self::P2p(shared) => p2p(shared, &local),
        }
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

impl Piece {
    /// The endpoint, if it is of this host.
    pub(super) fn local(&self) -> Option<&Endpoint> {
        match self {
            Self::Local(endpoint, _) => Some(endpoint),
            Self::Remote(_) => None,
        }
    }
}

/// What a network was last brought to.
#[derive(Clone, Debug)]
pub(super) struct Programmed {
    /// The shared part.
    pub shared: Shared,
    /// The pieces.
    pub pieces: BTreeMap<Row, Piece>,
}

impl Programmed {
    /// All that it wants.
    pub(super) fn wanted(&self) -> State {
        self.shared.wanted(self.pieces.values())
    }

    /// The namespaces of sandboxes that it has something in.
    pub(super) fn sandboxes(&self) -> BTreeSet<&Netns> {
        let netns = self.pieces.values().filter_map(|piece| match piece {
            Piece::Local(_, netns) => Some(netns),
            Piece::Remote(_) => None,
        });
        netns.collect()
    }

    /// The namespaces and the host's links without which it is not whole. What is inside, the full looks see to.
    pub(super) fn needs(&self) -> (Vec<Netns>, Vec<IfName>) {
        match &self.shared {
            // Its rows may be many, and none of them is in the host.
            Shared::Overlay(shared) => (vec![shared.netns()], shared.outer().into_iter().collect()),
            Shared::Bridge(shared) => {
                let mut state = self.wanted();
                let host = state.netns.remove(&Netns::Host).unwrap_or_default();
                (Vec::new(), host.links.into_keys().chain([shared.link()]).collect())
            }
            Shared::Parent(shared) => (Vec::new(), vec![shared.parent.link]),
            Shared::P2p(_) => {
                let made = self.wanted().netns.into_iter().filter(|(_, state)| state.mark.is_some());
                (made.map(|(netns, _)| netns).collect(), Vec::new())
            }
        }
    }
}

/// Whether a network has endpoints here. On an overlay the node must be a member.
pub fn is_here(view: &NetworkView, me: NodeId) -> bool {
    let is_member = || match view.source() {
        Source::Global => view.members().contains_key(&me),
        Source::Local => true,
    };
    view.network().is_some() && is_member() && view.endpoints_on(me).next().is_some()
}

/// The shared part; None where the network has no endpoints here.
///
/// # Errors
/// What it is built upon is not there, or not what it should be.
pub(super) fn shared(intent: &Intent, env: &Env, id: NetworkId) -> Result<Option<Shared>, String> {
    let Some(view) = intent.network(id).filter(|view| is_here(view, env.me)) else { return Ok(None) };
    let Some(network) = view.network() else { return Ok(None) };
    Ok(match &network.settings {
        DriverSettings::Overlay(settings) => overlay::shared(intent, env, (network, view), settings)
            .map(|shared| Shared::Overlay(Box::new(shared))),
        DriverSettings::Bridge(settings) => {
            Some(Shared::Bridge(Box::new(bridge::shared(env, network, settings)?)))
        }
        DriverSettings::Macvlan(parent, _) | DriverSettings::Ipvlan(parent, ..) => {
            Some(Shared::Parent(Box::new(parent::shared(env, network, parent)?)))
        }
        DriverSettings::P2p => Some(Shared::P2p(Box::new(p2p::shared(env.features, network)))),
    })
}

/// The links of the host that the shared part of a network of this host alone depends on, whoever made them.
pub(super) fn built_upon(network: &Network) -> Vec<IfName> {
    match &network.settings {
        DriverSettings::Overlay(_) | DriverSettings::P2p => Vec::new(),
        DriverSettings::Bridge(settings) => vec![bridge_name(network, settings)],
        DriverSettings::Macvlan(parent, _) | DriverSettings::Ipvlan(parent, ..) => {
            std::iter::once(parent.link).chain(parent.vlan.map(|(below, _)| below)).collect()
        }
    }
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

fn station(intent: &Intent, env: &Env, node: NodeId, mac: Mac, addresses: &[IpNet]) -> Option<Piece> {
    let vtep = intent.nodes().get(&node).filter(|_| !env.hidden.contains(&node))?.vtep;
    Some(Piece::Remote(Station { mac, addresses: addresses.iter().map(IpNet::addr).collect(), vtep }))
}

/// All pieces.
pub(super) fn pieces(intent: &Intent, env: &Env, id: NetworkId) -> BTreeMap<Row, Piece> {
    rows(intent, id).filter_map(|row| Some((row, piece(intent, env, id, row)?))).collect()
}

/// The rows that a network may have pieces for.
pub(super) fn rows(intent: &Intent, id: NetworkId) -> impl Iterator<Item = Row> {
    let view = intent.network(id);
    let endpoints = view.into_iter().flat_map(|view| view.endpoints().keys()).map(|id| Row::Endpoint(*id));
    let members = view.into_iter().flat_map(|view| view.members().keys()).map(|node| Row::Member(*node));
    endpoints.chain(members)
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

/// An endpoint's first address of each family that it has.
pub(super) fn first_of_each_family(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> {
    let first = |v6: bool| endpoint.addresses.iter().map(IpNet::addr).find(|address| address.is_ipv6() == v6);
    [first(false), first(true)].into_iter().flatten()
}
