//! The part of an overlay that all its pieces share on this host.

use std::{collections::BTreeSet, net::IpAddr};

use super::{OverlayShared, nat::Redirected};
use crate::{
    drivers::{Env, first_of_each_family, host_routes},
    intent::{Intent, NetworkView},
    model::{Endpoint, Network, NetworkId, NodeId, OverlaySettings, Publish, PublishedPort},
    plan::state::Vxlan,
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

/// The shared part, or `None` if something that it needs is not known yet.
pub(in crate::drivers) fn shared(
    intent: &Intent,
    env: &Env,
    network: &Network,
    view: &NetworkView,
    settings: &OverlaySettings,
) -> Option<OverlayShared> {
    let member = view.members().get(&env.me)?.clone();
    let vxlan = Vxlan { vni: network.vni?, local: env.vtep, port: env.vxlan_port };
    let leg = if network.internal { None } else { env.legs.get(&network.id).copied() };
    let host_routes = if leg.is_some() { host_routes(intent, env.me, network).0 } else { Vec::new() };
    let flood_list = if settings.multicast {
        peers(intent, env, view).map(|(_, vtep)| vtep).collect()
    } else {
        Vec::new()
    };
    let ports = if leg.is_some() { inner_ports(view, env, settings) } else { Vec::new() };
    Some(OverlayShared {
        network: network.clone(),
        member,
        vxlan,
        mtu: mtu(intent, env, network, view),
        leg,
        host_routes,
        flood_list,
        ports,
        features: env.features,
    })
}

/// The ports of an overlay that are published on this host, each with its endpoint: on a mesh also those of
/// the hosts that are not hidden.
pub fn published<'a>(
    view: &'a NetworkView,
    me: NodeId,
    hidden: &'a BTreeSet<NodeId>,
    settings: &OverlaySettings,
) -> impl Iterator<Item = (&'a Endpoint, &'a PublishedPort)> {
    let mesh = settings.publish == Publish::Mesh;
    let here = move |node: NodeId| node == me || mesh && !hidden.contains(&node);
    let endpoints = view.published().filter(move |endpoint| here(endpoint.node));
    endpoints.flat_map(|endpoint| endpoint.ports.iter().map(move |port| (endpoint, port)))
}

/// The destinations of the host's ports in the network's namespace, in a fixed order.
fn inner_ports(view: &NetworkView, env: &Env, settings: &OverlaySettings) -> Vec<Redirected> {
    let mut ports: Vec<Redirected> = Vec::new();
    for (endpoint, port) in published(view, env.me, &env.hidden, settings) {
        ports.extend(first_of_each_family(endpoint).map(|to| Redirected {
            protocol: port.protocol,
            host_port: port.host_port,
            to,
            port: port.port,
            local: endpoint.node == env.me,
        }));
    }
    ports.sort_unstable();
    ports.dedup();
    ports
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
pub fn peer_vteps(intent: &Intent, env: &Env, id: NetworkId) -> Vec<IpAddr> {
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
