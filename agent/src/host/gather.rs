//! The networks and ports of this host, from the intent.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::inputs::{Forward, HostInput, HostNetwork, HostSide};
use crate::{
    drivers::{bridge_name, first_of_each_family, is_here, outer_name, published},
    intent::{Intent, NetworkView},
    model::{BridgeSettings, Endpoint, Leg, Network, NetworkId, NodeId, OverlaySettings, PublishedPort},
};

/// The networks and ports of this host, in a fixed order. `hidden` are the nodes whose records are hidden,
/// `legs` the host's legs.
pub fn gather(
    intent: &Intent,
    me: NodeId,
    hidden: &BTreeSet<NodeId>,
    legs: &BTreeMap<NetworkId, Leg>,
) -> HostInput {
    let mut input = HostInput::default();
    for (id, view) in intent.networks().filter(|(_, view)| is_here(view, me)) {
        let Some(network) = view.network() else { continue };
        if let Some(settings) = network.settings.overlay()
            && let Some(leg) = legs.get(id).filter(|_| !network.internal)
        {
            input.networks.push(by_leg(network, settings, *leg));
            input.ports.extend(leg_ports(network, view, me, hidden, settings, *leg));
        }
        if let Some(settings) = network.settings.bridge() {
            input.networks.push(by_bridge(network, view, me, settings));
            if !network.internal {
                input.ports.extend(bridge_ports(network, view, me));
            }
        }
    }
    input.ports.sort_unstable();
    input.ports.dedup();
    input
}

fn by_leg(network: &Network, settings: &OverlaySettings, leg: Leg) -> HostNetwork {
    HostNetwork {
        id: network.id,
        link: outer_name(network.id),
        side: HostSide::Leg(leg),
        subnets: network.subnets.iter().map(|subnet| subnet.prefix).collect(),
        internal: false,
        masquerade: settings.masquerade,
        icc: true,
        allowed: Vec::new(),
    }
}

fn by_bridge(network: &Network, view: &NetworkView, me: NodeId, settings: &BridgeSettings) -> HostNetwork {
    HostNetwork {
        id: network.id,
        link: bridge_name(network, settings),
        side: HostSide::Bridge,
        subnets: network.subnets.iter().map(|subnet| subnet.prefix).collect(),
        internal: network.internal,
        masquerade: settings.masquerade,
        icc: settings.icc,
        allowed: if settings.icc { Vec::new() } else { allowed(view, me) },
    }
}

/// The pairs that a link allows: every address of one endpoint to every address of the other, of the same
/// family.
fn allowed(view: &NetworkView, me: NodeId) -> Vec<(IpAddr, IpAddr)> {
    let mut pairs = Vec::new();
    for from in view.endpoints_on(me) {
        for link in &from.links {
            let to = view.endpoint_named(&link.endpoint);
            let to = to.into_iter().flat_map(|to| to.addresses.iter().map(ipnet::IpNet::addr));
            for to in to {
                let own = from.addresses.iter().map(ipnet::IpNet::addr);
                pairs.extend(own.filter(|own| own.is_ipv6() == to.is_ipv6()).map(|own| (own, to)));
            }
        }
    }
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

/// The destinations of a port: the address of its own family, or one of each family if it has no address.
fn forwards(
    network: NetworkId,
    port: &PublishedPort,
    to: impl Iterator<Item = (IpAddr, u16)>,
) -> impl Iterator<Item = Forward> {
    let port = *port;
    to.filter(move |(to, _)| port.host.is_none_or(|host| host.is_ipv6() == to.is_ipv6())).map(
        move |(to, inner)| Forward {
            network,
            protocol: port.protocol,
            host: port.host,
            host_port: port.host_port,
            to,
            port: inner,
        },
    )
}

fn bridge_ports(network: &Network, view: &NetworkView, me: NodeId) -> Vec<Forward> {
    let here = view.published().filter(|endpoint| endpoint.node == me);
    let of = |endpoint: &Endpoint, port: &PublishedPort| {
        let to = first_of_each_family(endpoint).map(|to| (to, port.port)).collect::<Vec<_>>();
        forwards(network.id, port, to.into_iter()).collect::<Vec<_>>()
    };
    here.flat_map(|endpoint| endpoint.ports.iter().flat_map(move |port| of(endpoint, port))).collect()
}

/// Through the leg; the network's namespace knows the endpoint.
fn leg_ports(
    network: &Network,
    view: &NetworkView,
    me: NodeId,
    hidden: &BTreeSet<NodeId>,
    settings: &OverlaySettings,
    leg: Leg,
) -> Vec<Forward> {
    let mut ports = Vec::new();
    for (endpoint, port) in published(view, me, hidden, settings) {
        let has = |v6: bool| endpoint.addresses.iter().any(|address| address.addr().is_ipv6() == v6);
        let inner = leg.inner().map(|inner| (inner.addr(), port.host_port));
        let inner = inner.into_iter().filter(|(address, _)| has(address.is_ipv6()));
        ports.extend(forwards(network.id, port, inner));
    }
    ports
}
