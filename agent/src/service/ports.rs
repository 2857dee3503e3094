//! Published ports: which port of the host each request gets, and who stands in the way.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::RangeInclusive,
};

use super::{ServiceError, choosing::Chosen};
use crate::{
    intent::{Intent, NetworkView},
    kernel::{Facts, port},
    model::{
        Driver, DriverSettings, Endpoint, Invalid, Network, NetworkId, NodeId, Protocol, Publish,
        PublishedPort,
    },
};

/// A port to publish, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// Of both ports.
    pub protocol: Protocol,
    /// The host's address; None: the network's choice; an unspecified one: every address.
    pub host: Option<IpAddr>,
    /// The host's port: the first free one of these; None: any.
    pub host_ports: Option<RangeInclusive<u16>>,
    /// The endpoint's port.
    pub port: u16,
}

/// What of the host the choice depends on.
#[derive(Clone, Debug)]
pub(super) struct HostPorts {
    /// Its links with their addresses.
    pub(super) facts: Facts,
    /// Where a port comes from that may be any (net.ipv4.ip_local_port_range).
    pub(super) any: RangeInclusive<u16>,
}

/// A port that is taken here, with who has it.
struct Taken {
    holder: String,
    network: NetworkId,
    port: PublishedPort,
}

/// Ports that are taken on the hosts that a new one would be on.
pub(super) struct Ports<'a> {
    me: NodeId,
    network: &'a Network,
    host: &'a HostPorts,
    /// UDP port of this host's VXLAN devices, whose socket is in no process.
    vxlan: Option<u16>,
    taken: BTreeMap<(Protocol, u16), Vec<Taken>>,
}

impl<'a> Ports<'a> {
    /// Who has which, as far as this node knows.
    pub(super) fn new(
        intent: &Intent,
        chosen: &Chosen,
        me: NodeId,
        (network, host): (&'a Network, &'a HostPorts),
    ) -> Self {
        let vxlan = intent.nodes().get(&me).map(|node| node.vxlan_port);
        let mut ports = Self { me, network, host, vxlan, taken: BTreeMap::new() };
        let view = intent.network(network.id);
        let on = view.map_or_else(|| BTreeSet::from([me]), |view| reach(network, view, me));
        for (other, view) in intent.networks().filter_map(|(_, view)| Some((view.network()?, view))) {
            for endpoint in view.endpoints().values().filter(|endpoint| !endpoint.ports.is_empty()) {
                let theirs = reach(other, view, endpoint.node);
                // By joining the network this host publishes all that it has to publish.
                if other.id == network.id && is_mesh(network) || !theirs.is_disjoint(&on) {
                    let holder = format!("endpoint {} of network {}", endpoint.name, other.name);
                    ports.take(&holder, other.id, &endpoint.ports);
                }
            }
        }
        for claim in chosen.ports() {
            ports.take(&claim.holder, claim.network, &claim.ports);
        }
        ports
    }

    fn take(&mut self, holder: &str, network: NetworkId, ports: &[PublishedPort]) {
        for port in ports {
            let taken = Taken { holder: holder.to_owned(), network, port: *port };
            self.taken.entry((port.protocol, port.host_port)).or_default().push(taken);
        }
    }

    /// The ports of `endpoint`, one for each request in its order.
    ///
    /// # Errors
    /// The network publishes none; an address that the host or the endpoint does not have; a port that is taken, by whom.
    pub(super) fn choose(
        &mut self,
        endpoint: &Endpoint,
        specs: &[PortSpec],
    ) -> Result<Vec<PublishedPort>, ServiceError> {
        if specs.is_empty() {
            return Ok(Vec::new());
        }
        refuse_network(self.network)?;
        if specs.len() > PublishedPort::MAX {
            let reason = format!("at most {} are allowed for an endpoint", PublishedPort::MAX);
            return Err(Invalid::new("published port", format!("{} of them", specs.len()), reason).into());
        }
        let mut ports = Vec::with_capacity(specs.len());
        let own =
            format!("endpoint {} of network {}, which is being connected,", endpoint.name, self.network.name);
        for spec in specs {
            let port = self.choose_one(endpoint, spec)?;
            self.take(&own, self.network.id, &[port]);
            ports.push(port);
        }
        Ok(ports)
    }

    fn choose_one(&self, endpoint: &Endpoint, spec: &PortSpec) -> Result<PublishedPort, ServiceError> {
        let host = self.host_address(endpoint, spec)?;
        let candidate =
            |host_port| PublishedPort { protocol: spec.protocol, host, host_port, port: spec.port };
        let range = spec.host_ports.clone().unwrap_or_else(|| self.host.any.clone());
        let mut first = None;
        for host_port in range.clone() {
            let port = candidate(host_port);
            match self.holder(&port) {
                None => return Ok(port),
                Some(holder) => first = first.or(Some((port, holder))),
            }
        }
        let Some((port, holder)) = first else {
            let text = format!("{}-{}", range.start(), range.end());
            return Err(
                Invalid::new("host port", text, "expected the lower one first, as in 8000-8010").into()
            );
        };
        let address = port.host.map(|host| format!(" of {host}")).unwrap_or_default();
        if range.start() == range.end() {
            return Err(ServiceError::Exists(format!(
                "port {}/{}{address} of this host is taken by {holder}: choose another, or leave the host's port out for \
                 any that is free",
                port.host_port, port.protocol
            )));
        }
        Err(ServiceError::Exhausted(format!(
            "every {} port{address} of this host from {} to {} is taken, the first of them by {holder}: choose others",
            port.protocol,
            range.start(),
            range.end()
        )))
    }

    /// The address that a port is published at; None: every one.
    fn host_address(&self, endpoint: &Endpoint, spec: &PortSpec) -> Result<Option<IpAddr>, ServiceError> {
        let chosen = spec.host.or(match &self.network.settings {
            DriverSettings::Bridge(settings) => settings.host_binding,
            DriverSettings::Overlay(_)
            | DriverSettings::Macvlan(..)
            | DriverSettings::Ipvlan(..)
            | DriverSettings::P2p => None,
        });
        let Some(host) = chosen.filter(|host| !host.is_unspecified()) else { return Ok(None) };
        let wrong = |reason: String| {
            Err(Invalid::new("address of a published port", host.to_string(), reason).into())
        };
        if host.is_loopback() && host.is_ipv6() {
            return wrong(
                "the kernel forwards nothing that comes to it: choose 127.0.0.1 or another address".into(),
            );
        }
        if !endpoint.addresses.iter().any(|own| own.addr().is_ipv6() == host.is_ipv6()) {
            let family = if host.is_ipv6() { "IPv6" } else { "IPv4" };
            return wrong(format!("the endpoint has no {family} address in network {}", self.network.name));
        }
        let mut own = self.host.facts.links.iter().flat_map(|link| &link.addresses).map(ipnet::IpNet::addr);
        if own.any(|own| own == host) || host.is_loopback() {
            return Ok(Some(host));
        }
        wrong(
            "no link of this host has it: choose one of the host's addresses, or none for all of them".into(),
        )
    }

    /// Who has a port already.
    fn holder(&self, wanted: &PublishedPort) -> Option<String> {
        let all = self.taken.get(&(wanted.protocol, wanted.host_port));
        let meets = |taken: &&Taken| {
            // In an overlay the host's port alone tells which endpoint is meant.
            let whatever = taken.network == self.network.id && self.network.driver() == Driver::Overlay;
            whatever || taken.port.collides(wanted)
        };
        let known = all.into_iter().flatten().find(meets).map(|taken| taken.holder.clone());
        known.or_else(|| self.own(wanted)).or_else(|| process_on(wanted))
    }

    /// What the agent itself needs.
    fn own(&self, wanted: &PublishedPort) -> Option<String> {
        let vxlan = wanted.protocol == Protocol::Udp && self.vxlan == Some(wanted.host_port);
        vxlan.then(|| "the VXLAN devices of the agent's overlays (--vxlan-port)".to_owned())
    }

    /// A network whose first endpoint here makes this host publish what the others have published.
    ///
    /// # Errors
    /// A port of it is taken here.
    pub(super) fn check_mesh(&self, intent: &Intent) -> Result<(), ServiceError> {
        let Some(view) = intent.network(self.network.id).filter(|_| is_mesh(self.network)) else {
            return Ok(());
        };
        if view.members().contains_key(&self.me) {
            return Ok(());
        }
        for endpoint in view.endpoints().values() {
            for port in &endpoint.ports {
                let all = self.taken.get(&(port.protocol, port.host_port)).into_iter().flatten();
                let mut others =
                    all.filter(|taken| taken.network != self.network.id && taken.port.collides(port));
                let known = others.next().map(|taken| taken.holder.clone());
                if let Some(holder) = known.or_else(|| process_on(port)) {
                    return Err(ServiceError::Exists(format!(
                        "network {} publishes port {}/{} of endpoint {} on every host that it is on, but on this one {holder} \
                         has it: free it first",
                        self.network.name, port.host_port, port.protocol, endpoint.name
                    )));
                }
            }
        }
        Ok(())
    }
}

/// The hosts on which the ports of an endpoint of `node` are published.
fn reach(network: &Network, view: &NetworkView, node: NodeId) -> BTreeSet<NodeId> {
    let others = view.members().keys().filter(|_| is_mesh(network));
    others.copied().chain([node]).collect()
}

fn is_mesh(network: &Network) -> bool {
    matches!(&network.settings, DriverSettings::Overlay(settings) if settings.publish == Publish::Mesh)
}

/// Whether a network can publish ports at all.
fn refuse_network(network: &Network) -> Result<(), ServiceError> {
    let reason = if network.internal {
        "it is internal: nothing comes in from outside"
    } else {
        match network.driver() {
            Driver::Overlay | Driver::Bridge => return Ok(()),
            Driver::Macvlan | Driver::Ipvlan => {
                "its endpoints have addresses on the outside's own network, where all their ports are reached already"
            }
            Driver::P2p => "it joins two sandboxes and leads nowhere else",
        }
    };
    Err(ServiceError::InUse(format!(
        "network {} ({}) publishes no ports: {reason}",
        network.name,
        network.driver()
    )))
}

/// The process of this host that takes what comes to a port, or that one does which cannot be seen.
fn process_on(port: &PublishedPort) -> Option<String> {
    port::listener(port.protocol.as_str(), port.host, port.host_port)
}
