//! Drivers: the desired kernel state of each kind of network on this host. Pure.
//!
//! Each driver has a file with what all pieces of its networks share, how that is gathered, and what it makes
//! of the pieces: `overlay`, `bridge`, `macvlan_ipvlan`, `p2p`. All of them use `interface`, an endpoint's
//! end in its sandbox. This file is the one place that chooses between them.

mod bridge;
mod env;
mod error;
mod interface;
mod links;
mod macvlan_ipvlan;
mod overlay;
mod p2p;
mod routes;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnet::IpNet;

pub use self::{
    bridge::{BridgeShared, DEFAULT_GATEWAYS, bridge, bridge_name, bridge_port_of, own_mac},
    env::Env,
    error::DriverError,
    interface::LocalEndpoint,
    links::{HostLink, HostLinks},
    macvlan_ipvlan::{ParentShared, parent},
    overlay::{
        OverlayShared, Station, is_port, nat::Redirected, outer_name, overlay, peer_vteps, port_of, published,
    },
    p2p::{P2pShared, p2p},
    routes::host_routes,
};
use crate::{
    intent::{Intent, NetworkView, Source},
    model::{Driver, DriverSettings, Endpoint, IfName, InHost, Network, NetworkId, NodeId},
    plan::{
        netns_of,
        state::{Look, Netns, State},
    },
};

/// The MTU of an unknown link in bytes: Ethernet's.
pub const USUAL_MTU: u32 = 1500;

/// The shared part of a network, by driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shared {
    /// Of an overlay.
    Overlay(Box<OverlayShared>),
    /// Of a bridge.
    Bridge(Box<BridgeShared>),
    /// Of macvlan or ipvlan.
    Parent(Box<ParentShared>),
    /// Of a pair.
    P2p(Box<P2pShared>),
}

impl Shared {
    /// How the network is built.
    pub fn driver(&self) -> Driver {
        match self {
            Self::Overlay(_) => Driver::Overlay,
            Self::Bridge(_) => Driver::Bridge,
            Self::Parent(shared) => shared.network.driver(),
            Self::P2p(_) => Driver::P2p,
        }
    }

    /// MTU of its endpoints in bytes.
    pub fn mtu(&self) -> u32 {
        match self {
            Self::Overlay(shared) => shared.mtu,
            Self::Bridge(shared) => shared.mtu,
            Self::Parent(shared) => shared.mtu,
            Self::P2p(shared) => shared.mtu,
        }
    }

    /// Whether a plan against the programmed state leads from `programmed` to this one, without a look at the
    /// kernel.
    pub fn follows_from(&self, programmed: &Self) -> bool {
        match (self, programmed) {
            (Self::Overlay(shared), Self::Overlay(before)) => {
                shared == before || shared.differs_in_ports(before)
            }
            (Self::Overlay(_) | Self::Bridge(_) | Self::Parent(_) | Self::P2p(_), _) => self == programmed,
        }
    }

    /// The desired state of a network with these pieces.
    pub fn desired<'a>(&'a self, pieces: impl IntoIterator<Item = &'a Element>) -> State {
        let (mut local, mut remote) = (Vec::new(), Vec::new());
        for piece in pieces {
            match piece {
                Element::Local(endpoint, sandbox) => {
                    local.push(LocalEndpoint { endpoint, sandbox: sandbox.clone() })
                }
                Element::Remote(station) => remote.push(station.clone()),
            }
        }
        match self {
            Self::Overlay(shared) => overlay(shared, &local, &remote),
            Self::Bridge(shared) => bridge(shared, &local),
            Self::Parent(shared) => parent(shared, &local),
            Self::P2p(shared) => p2p(shared, &local),
        }
    }

    /// The namespaces and host links that must exist. The full looks check their contents. `desired` is the
    /// whole network's.
    pub fn needs(&self, desired: impl FnOnce() -> State) -> (Vec<Netns>, Vec<IfName>) {
        match self {
            // Its rows may be many, and none of them is in the host.
            Self::Overlay(shared) => (vec![shared.netns()], shared.outer().into_iter().collect()),
            Self::Bridge(shared) => {
                let mut state = desired();
                let host = state.netns.remove(&Netns::Host).unwrap_or_default();
                (Vec::new(), host.links.into_keys().chain([shared.link()]).collect())
            }
            Self::Parent(shared) => (Vec::new(), vec![shared.parent.link]),
            Self::P2p(_) => {
                let made = desired().netns.into_iter().filter(|(_, state)| state.mark.is_some());
                (made.map(|(netns, _)| netns).collect(), Vec::new())
            }
        }
    }
}

/// A piece that can change on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Element {
    /// An endpoint of this host, with its sandbox's namespace.
    Local(Box<Endpoint>, Netns),
    /// The stations behind a different host.
    Remote(Station),
}

impl Element {
    /// The endpoint, if it is of this host.
    pub fn local(&self) -> Option<&Endpoint> {
        match self {
            Self::Local(endpoint, _) => Some(endpoint),
            Self::Remote(_) => None,
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

/// The shared part, or `None` if the network has no endpoints here.
///
/// # Errors
/// A link that it needs is missing, or cannot be used.
pub fn shared(intent: &Intent, env: &Env, id: NetworkId) -> Result<Option<Shared>, DriverError> {
    let Some(view) = intent.network(id).filter(|view| is_here(view, env.me)) else { return Ok(None) };
    let Some(network) = view.network() else { return Ok(None) };
    if let Some(settings) = network.settings.overlay() {
        let shared = overlay::shared(intent, env, network, view, settings);
        return Ok(shared.map(|shared| Shared::Overlay(Box::new(shared))));
    }
    of_this_host(env, network)
}

/// The shared part of a network that depends on its record and this host alone; None for an overlay.
fn of_this_host(env: &Env, network: &Network) -> Result<Option<Shared>, DriverError> {
    Ok(match &network.settings {
        DriverSettings::Overlay(_) => None,
        DriverSettings::Bridge(settings) => {
            Some(Shared::Bridge(Box::new(bridge::shared(env, network, settings)?)))
        }
        DriverSettings::Macvlan(parent, _) | DriverSettings::Ipvlan(parent, ..) => {
            Some(Shared::Parent(Box::new(macvlan_ipvlan::shared(env, network, parent)?)))
        }
        DriverSettings::P2p => Some(Shared::P2p(Box::new(p2p::shared(env.features, network)))),
    })
}

/// The bridge that a network has in the host, ours or not.
pub fn bridge_of(network: &Network) -> Option<IfName> {
    match &network.settings {
        DriverSettings::Bridge(settings) => Some(bridge_name(network, settings)),
        DriverSettings::Overlay(_)
        | DriverSettings::Macvlan(..)
        | DriverSettings::Ipvlan(..)
        | DriverSettings::P2p => None,
    }
}

/// A network's link in the host, if users know it by name.
pub fn named_link(network: &Network) -> Option<IfName> {
    bridge_of(network).or(network.settings.parent().map(|parent| parent.link))
}

/// Where connections of a network are tracked. Those of other drivers do not pass this host.
pub fn tracking(id: NetworkId, driver: Option<Driver>) -> Vec<Netns> {
    match driver.map(|driver| driver.profile().in_host) {
        Some(InHost::Leg) => vec![netns_of(id), Netns::Host],
        Some(InHost::Bridge) => vec![Netns::Host],
        Some(InHost::Parent | InHost::Nothing) | None => Vec::new(),
    }
}

/// The links of the host that the shared part of a local network depends on, ours or not.
pub fn built_upon(network: &Network) -> Vec<IfName> {
    let below = network.settings.parent().and_then(|parent| parent.vlan).map(|(below, _)| below);
    named_link(network).into_iter().chain(below).collect()
}

/// Whether the host's part of such a network is found by names and marks; also for a network whose driver is
/// unknown.
pub fn is_local(driver: Option<Driver>) -> bool {
    match driver.map(|driver| driver.profile().in_host) {
        Some(InHost::Leg | InHost::Nothing) => false,
        Some(InHost::Bridge | InHost::Parent) | None => true,
    }
}

/// Where a network's objects are, desired or left behind. Of the host's links only an overlay's leg is looked
/// at.
pub fn look(id: NetworkId, driver: Option<Driver>, desired: &State) -> Look {
    let mut look = Look::default();
    for (netns, state) in &desired.netns {
        let at = look.netns.entry(netns.clone()).or_default();
        at.links = Some(state.links.keys().copied().collect());
        at.sysctls = state.sysctls.keys().cloned().collect();
    }
    let (inside, table) = match driver {
        Some(Driver::Overlay) | None => (true, true),
        Some(Driver::P2p) => (true, false),
        Some(Driver::Bridge | Driver::Macvlan | Driver::Ipvlan) => (false, false),
    };
    if inside {
        let inside = look.netns.entry(netns_of(id)).or_default();
        inside.links = None;
        inside.table = table;
    }
    let host = look.netns.entry(Netns::Host).or_default();
    let leg = driver.filter(|driver| driver.profile().in_host == InHost::Leg).map(|_| outer_name(id));
    host.links = Some(leg.into_iter().collect());
    look
}

/// An endpoint's first address of each family that it has.
pub fn first_of_each_family(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> {
    let first = |v6: bool| endpoint.addresses.iter().map(IpNet::addr).find(|address| address.is_ipv6() == v6);
    [first(false), first(true)].into_iter().flatten()
}
