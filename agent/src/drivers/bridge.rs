//! The desired state of a bridge network: a bridge in the host's namespace with the gateway address, and a
//! veth for each endpoint.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use super::{
    DriverError, Env,
    interface::{LocalEndpoint, default_of, default_route, hears_nobody, interface, port, put},
};
use crate::{
    model::{BridgeSettings, DEFAULT_NETWORK, Endpoint, EndpointId, IfName, Mac, Network, NetworkId, Subnet},
    plan::{
        Features,
        ownership::{BRIDGE_PREFIX, Mark, PORT_PREFIX, Unit},
        state::{Link, LinkKind, Netns, Port, State},
        sysctl,
    },
};

/// Name of the default network's bridge.
const DEFAULT_BRIDGE: IfName = IfName::literal("ovnet0");
/// Names of the auxiliary addresses (IPv4 and IPv6) that are the sandboxes' default gateways instead of the
/// bridge's own address. The names are Docker's.
pub const DEFAULT_GATEWAYS: [&str; 2] = ["DefaultGatewayIPv4", "DefaultGatewayIPv6"];

/// The shared part of a bridge network: all inputs of its desired state except its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeShared {
    /// The network.
    pub network: Network,
    /// Its settings.
    pub settings: BridgeSettings,
    /// The bridge is not ours: we do not make, change or remove it, and only add ports.
    pub foreign: bool,
    /// MTU of its endpoints in bytes.
    pub mtu: u32,
    /// The features of this kernel.
    pub features: Features,
}

impl BridgeShared {
    /// Its bridge, ours or not.
    pub fn link(&self) -> IfName {
        bridge_name(&self.network, &self.settings)
    }
}

/// The shared part.
///
/// # Errors
/// Its bridge's name is taken by a link that cannot be its bridge.
pub(super) fn shared(
    env: &Env,
    network: &Network,
    settings: &BridgeSettings,
) -> Result<BridgeShared, DriverError> {
    let name = bridge_name(network, settings);
    let there = env.links.get(name).filter(|link| link.owner != Some(Unit::Network(network.id)));
    if let Some(link) = there {
        if !link.is_bridge {
            return Err(DriverError::NoBridge { link: name, network: network.name.clone() });
        }
        if settings.name.is_none() {
            return Err(DriverError::ForeignBridge { link: name, network: network.name.clone() });
        }
    }
    Ok(BridgeShared {
        network: network.clone(),
        settings: *settings,
        foreign: there.is_some(),
        // A port narrower than somebody's bridge would make that narrower too.
        mtu: network.mtu.unwrap_or_else(|| there.map_or(env.outside_mtu, |link| link.mtu)),
        features: env.features,
    })
}

/// The desired state of the network with these endpoints. An endpoint's part does not depend on other
/// endpoints.
pub fn bridge(input: &BridgeShared, local: &[LocalEndpoint<'_>]) -> State {
    let unit = Unit::Network(input.network.id);
    let name = input.link();
    let mut state = State::default();
    if !input.foreign {
        let host = state.netns.entry(Netns::Host).or_default();
        host.links.insert(name, link(input, unit));
        host.sysctls = sysctls(input, local, name);
    }
    let place = place(input, name);
    for local in local {
        let outer = port(unit, local.endpoint, input.mtu, place);
        state.netns.entry(Netns::Host).or_default().links.insert(bridge_port_of(local.endpoint.id), outer);
        put(&mut state, local, sandbox_end(input, unit, local.endpoint), input.features);
    }
    state
}

/// As with any switch, and unlike in an overlay, the bridge learns addresses.
///
/// Traffic from a sandbox to a published port of its own bridge goes to the host and back. But where bridged
/// frames pass the firewall, they are translated before the bridge looks up their destination, and the bridge
/// then forwards them directly. So a port must allow hairpin, and isolated ports cannot be used: the host's
/// rules keep those sandboxes apart instead.
const fn place(input: &BridgeShared, bridge: IfName) -> Port {
    let by_bridge = input.features.bridge_firewall;
    let isolated = !input.settings.icc && !by_bridge;
    Port { bridge, learning: true, unicast_flood: true, isolated, hairpin: by_bridge }
}

/// The Ethernet address of a network's bridge, which no endpoint may have.
pub fn own_mac(network: NetworkId) -> Mac {
    Mac::internal(0x46, network.as_bytes())
}

fn link(input: &BridgeShared, unit: Unit) -> Link {
    let mac = own_mac(input.network.id);
    let mut link = Link::new(LinkKind::Bridge, Mark::new(unit, "bridge"), mac, input.mtu);
    for subnet in &input.network.subnets {
        link.addresses.extend(subnet.gateway.map(|gateway| subnet.with_prefix(gateway)));
    }
    link
}

fn sysctls(input: &BridgeShared, local: &[LocalEndpoint<'_>], name: IfName) -> BTreeMap<String, String> {
    // No sandbox tells the host where to route.
    let mut sysctls = hears_nobody(name, input.features);
    let mut set = |protocol: &str, setting: &str, value: &str| {
        sysctls.insert(sysctl::of_link(protocol, name, setting), value.to_owned());
    };
    if input.features.ipv6 {
        set("ipv6", "disable_ipv6", if input.network.has_ipv6() { "0" } else { "1" });
    }
    if !input.settings.icc {
        // Sandboxes reach each other by way of the host alone: no word of a shorter way, unless the host sends such words
        // by all links. They find nobody there.
        set("ipv4", "send_redirects", "0");
    }
    if local.iter().any(|local| !local.endpoint.ports.is_empty()) {
        // Published ports are reached from 127.0.0.1. The host's rules drop what comes from sandboxes to there.
        set("ipv4", "route_localnet", "1");
    }
    sysctls
}

fn sandbox_end(input: &BridgeShared, unit: Unit, endpoint: &Endpoint) -> Link {
    let mut link = interface(LinkKind::Veth, unit, endpoint, input.mtu);
    let theirs = |subnet: &&Subnet| endpoint.addresses.iter().any(|net| subnet.prefix.contains(&net.addr()));
    for subnet in input.network.subnets.iter().filter(theirs) {
        let Some(gateway) = subnet.gateway else { continue };
        let default = default_gateway(subnet).unwrap_or(gateway);
        if !input.settings.icc {
            stand_alone(&mut link, endpoint, subnet, [gateway, default]);
        }
        if !input.network.internal {
            link.routes.insert(default_of(default), default_route(endpoint, Some(default)));
        }
    }
    link
}

/// Only the gateways of the subnet are on the link: the host routes between sandboxes, by its rules.
fn stand_alone(link: &mut Link, endpoint: &Endpoint, subnet: &Subnet, gateways: [IpAddr; 2]) {
    let whole: Vec<IpNet> =
        endpoint.addresses.iter().filter(|net| subnet.prefix.contains(&net.addr())).copied().collect();
    for net in whole {
        link.addresses.remove(&net);
        link.addresses.insert(IpNet::from(net.addr()));
    }
    for gateway in gateways {
        link.routes.insert(IpNet::from(gateway), default_route(endpoint, None));
    }
    link.routes.insert(subnet.prefix, default_route(endpoint, Some(gateways[0])));
}

/// The default gateway of a subnet's sandboxes, if it is not the bridge.
fn default_gateway(subnet: &Subnet) -> Option<IpAddr> {
    let [v4, v6] = DEFAULT_GATEWAYS;
    let name = if subnet.prefix.addr().is_ipv4() { v4 } else { v6 };
    subnet.aux_addresses.get(name).copied()
}

/// The bridge of a network: the chosen name, "ovnet0" for the default network, or a name made from the id.
pub fn bridge_name(network: &Network, settings: &BridgeSettings) -> IfName {
    match settings.name {
        Some(name) => name,
        None if network.name.as_str() == DEFAULT_NETWORK => DEFAULT_BRIDGE,
        None => of(network.id),
    }
}

/// The end of an endpoint's veth in the host's namespace.
pub fn bridge_port_of(endpoint: EndpointId) -> IfName {
    // Eleven hex digits and the prefix are always a good name.
    format!("{PORT_PREFIX}{}", endpoint.prefix(11)).parse().unwrap_or(IfName::literal("ovp-invalid"))
}

fn of(network: NetworkId) -> IfName {
    let name = format!("{BRIDGE_PREFIX}{}", network.prefix(10));
    // Ten hex digits and the prefix are always a good name.
    name.parse().unwrap_or(DEFAULT_BRIDGE)
}
