//! The desired state of an overlay network in this host's kernel.
//!
//! Its namespace with br0 (gateway and node's own addresses), vxlan0 with a static row for each remote
//! station, a veth for each local endpoint, and the host leg unless it is internal. `shared` gathers the
//! inputs, `nat` has the rules.

pub(super) mod nat;
mod shared;

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use self::nat::Redirected;
pub(super) use self::shared::shared;
pub use self::shared::{peer_vteps, published};
use super::interface::{self, LocalEndpoint, default_of, default_route, interface, put};
use crate::{
    model::{Endpoint, EndpointId, IfName, Leg, Mac, Member, Network, NetworkId},
    plan::{
        Features, netns_of,
        ownership::{LEG_PREFIX, Mark, Unit},
        state::{Link, LinkKind, Netns, NetnsState, Port, Route, State, Vxlan},
        sysctl,
    },
};

/// Name of the bridge in a network's namespace.
const BRIDGE: IfName = IfName::literal("br0");
/// Name of the VXLAN device in a network's namespace.
const TUNNEL: IfName = IfName::literal("vxlan0");
/// The end of the host leg in a network's namespace.
const INNER: IfName = IfName::literal("ovn");
/// Metric of our routes outside of sandboxes: IPv6's own default, so that the host's own routes win.
const METRIC: u32 = 1024;

/// The shared part of an overlay on this host: all inputs of its desired state except its pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayShared {
    /// The network.
    pub network: Network,
    /// This node's own part in it.
    pub member: Member,
    /// The parameters of its VXLAN device.
    pub vxlan: Vxlan,
    /// MTU of its endpoints in bytes.
    pub mtu: u32,
    /// Its host leg; `None` for an internal network.
    pub leg: Option<Leg>,
    /// Subnets that the host itself gets a route to.
    pub host_routes: Vec<IpNet>,
    /// Published ports that come in over the host leg; empty without a leg.
    pub ports: Vec<Redirected>,
    /// VTEPs of the other hosts, if broadcast and multicast are replicated.
    pub flood_list: Vec<IpAddr>,
    /// The features of this kernel.
    pub features: Features,
}

impl OverlayShared {
    /// Its namespace.
    pub fn netns(&self) -> Netns {
        netns_of(self.network.id)
    }

    /// The host's end of its leg.
    pub fn outer(&self) -> Option<IfName> {
        self.leg.map(|_| outer_name(self.network.id))
    }

    /// Whether only the published ports differ.
    pub fn differs_in_ports(&self, other: &Self) -> bool {
        self.ports != other.ports && Self { ports: other.ports.clone(), ..self.clone() } == *other
    }
}

/// A remote Ethernet station: an endpoint or a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Station {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The node that has it.
    pub vtep: IpAddr,
}

/// The name of the host's end of a network's leg.
pub fn outer_name(network: NetworkId) -> IfName {
    format!("{LEG_PREFIX}{}", network.prefix(10)).parse().unwrap_or(IfName::literal("ovh-invalid"))
}

/// The end of an endpoint's veth in the network's namespace.
pub fn port_of(endpoint: EndpointId) -> IfName {
    format!("ep{}", endpoint.short()).parse().unwrap_or(BRIDGE)
}

/// Whether a link's name is that of such an end.
pub fn is_port(name: IfName) -> bool {
    name.as_str()
        .strip_prefix("ep")
        .is_some_and(|id| !id.is_empty() && id.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// The rows of one remote station.
fn station_rows(link: &mut Link, station: &Station) {
    link.vxlan_fdb.insert(station.mac, station.vtep);
    link.bridge_fdb.insert(station.mac);
    for address in &station.addresses {
        link.neighbours.insert(*address, station.mac);
    }
}

/// The desired state of the network on this host with these pieces: the endpoints here, and the remote
/// stations: the other hosts and their endpoints.
pub fn overlay(input: &OverlayShared, local: &[LocalEndpoint<'_>], remote: &[Station]) -> State {
    let unit = Unit::Network(input.network.id);
    let mut inside = NetnsState { mark: Some(Mark::new(unit, "netns")), ..NetnsState::default() };
    inside.sysctls = sysctls(input);
    inside.links.insert(BRIDGE, bridge(input, unit));
    inside.links.insert(TUNNEL, tunnel(input, remote, unit));
    let mut state = State::default();
    if let Some(leg) = input.leg {
        let (inner, outer) = leg_ends(input, unit, leg);
        inside.links.insert(INNER, inner);
        inside.sysctls.extend(interface::hears_nobody(INNER, input.features));
        inside.table = Some(nat::table(input, leg));
        let (host, name) = (state.netns.entry(Netns::Host).or_default(), outer_name(input.network.id));
        host.links.insert(name, outer);
        host.sysctls.extend(interface::hears_nobody(name, input.features));
        if !input.ports.is_empty() {
            // They are reached from 127.0.0.1. The host's rules drop what comes from a leg to there.
            host.sysctls.insert(sysctl::of_link("ipv4", name, "route_localnet"), "1".into());
        }
    }
    for local in local {
        let (port, interface) = endpoint_ends(input, unit, local.endpoint);
        inside.links.insert(port_of(local.endpoint.id), port);
        put(&mut state, local, interface, input.features);
    }
    if others_have(input.member.mac, local, remote)
        && let Some(bridge) = inside.links.get_mut(&BRIDGE)
    {
        bridge.bridge_fdb.clear();
    }
    state.netns.insert(netns_of(input.network.id), inside);
    state
}

/// Whether a station has this address too, since old agents allowed a user to choose it. Both share one row,
/// which is the station's.
fn others_have(mac: Mac, local: &[LocalEndpoint<'_>], remote: &[Station]) -> bool {
    let local = local.iter().map(|local| local.endpoint.mac);
    local.chain(remote.iter().map(|station| station.mac)).any(|other| other == mac)
}

fn sysctls(input: &OverlayShared) -> BTreeMap<String, String> {
    let mut sysctls = interface::hears_nobody(BRIDGE, input.features);
    let mut set = |key: &str, value: &str| sysctls.insert(key.to_owned(), value.to_owned());
    set("net/ipv4/ip_forward", "1");
    // Subnets of one network reach each other through br0, in and out.
    set("net/ipv4/conf/all/send_redirects", "0");
    set("net/ipv4/conf/default/send_redirects", "0");
    if input.features.bridge_netfilter {
        for table in ["iptables", "ip6tables", "arptables"] {
            set(&format!("net/bridge/bridge-nf-call-{table}"), "0");
        }
    }
    if input.features.ipv6 {
        if input.network.has_ipv6() {
            set("net/ipv6/conf/all/forwarding", "1");
            set("net/ipv6/conf/default/accept_dad", "0");
        } else {
            // No router solicitations and no duplicate-address probes in a network that has no IPv6.
            set("net/ipv6/conf/default/disable_ipv6", "1");
        }
    }
    sysctls
}

fn bridge(input: &OverlayShared, unit: Unit) -> Link {
    let mut link = Link::new(LinkKind::Bridge, Mark::new(unit, "br0"), input.member.mac, input.mtu);
    for subnet in &input.network.subnets {
        link.addresses.extend(subnet.gateway.map(|gateway| subnet.with_prefix(gateway)));
    }
    link.addresses.extend(input.member.addresses.iter().map(|own| IpNet::from(own.addr())));
    link
}

fn tunnel(input: &OverlayShared, remote: &[Station], unit: Unit) -> Link {
    let mac = Mac::internal(0x45, &[&input.member.mac.octets()[..], b"vxlan0"].concat());
    let mut link = Link::new(LinkKind::Vxlan(input.vxlan), Mark::new(unit, "vxlan0"), mac, input.mtu);
    link.port = Some(port());
    for station in remote {
        station_rows(&mut link, station);
    }
    link.flood_list.extend(&input.flood_list);
    link
}

const fn port() -> Port {
    Port { bridge: BRIDGE, learning: false, unicast_flood: false, isolated: false, hairpin: false }
}

fn leg_ends(input: &OverlayShared, unit: Unit, leg: Leg) -> (Link, Link) {
    let mark = Mark::new(unit, "leg");
    let families = if input.network.has_ipv6() { 2 } else { 1 };
    let mut inner = Link::new(LinkKind::Veth, mark.clone(), leg.mac(true), input.mtu);
    let mut outer = Link::new(LinkKind::Veth, mark, leg.mac(false), input.mtu);
    inner.addresses.extend(leg.inner().into_iter().take(families));
    outer.addresses.extend(leg.outer().into_iter().take(families));
    let route = |via: IpAddr| Route { via: Some(via), source: None, mtu: None, metric: METRIC };
    for host in leg.outer().into_iter().take(families) {
        inner.routes.insert(default_of(host.addr()), route(host.addr()));
    }
    for subnet in &input.host_routes {
        let via = leg.inner().into_iter().find(|inner| inner.addr().is_ipv4() == subnet.addr().is_ipv4());
        if let Some(via) = via {
            outer.routes.insert(*subnet, route(via.addr()));
        }
    }
    (inner, outer)
}

fn endpoint_ends(input: &OverlayShared, unit: Unit, endpoint: &Endpoint) -> (Link, Link) {
    let mut outer = interface::port(unit, endpoint, input.mtu, port());
    outer.bridge_fdb.insert(endpoint.mac);
    let mut inner = interface(LinkKind::Veth, unit, endpoint, input.mtu);
    if !input.network.internal {
        for subnet in &input.network.subnets {
            if let Some(gateway) = subnet.gateway
                && endpoint.addresses.iter().any(|address| subnet.prefix.contains(&address.addr()))
            {
                inner.routes.insert(default_of(gateway), default_route(endpoint, Some(gateway)));
            }
        }
    }
    (outer, inner)
}
