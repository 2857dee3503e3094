//! Published ports: which port of the host each request gets, and which holder blocks it.
//!
//! The host's listeners are read before choosing: other attaches wait while one chooses, so choosing does not
//! ask the kernel.

mod refused;
mod runs;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::RangeInclusive,
    sync::Arc,
};

pub(in crate::service) use self::refused::Refused;
use self::{
    refused::{Holder, Taken, What},
    runs::Runs,
};
use super::{super::ServiceError, reservations::Chosen};
use crate::{
    intent::{Intent, NetworkView},
    kernel::Listeners,
    model::{Endpoint, InHost, Invalid, Network, NetworkId, NodeId, Protocol, PublishedPort},
};

/// A requested port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// The protocol of both ports.
    pub protocol: Protocol,
    /// The host's address: `None` is the network's choice, an unspecified address is every address.
    pub host: Option<IpAddr>,
    /// The host's port: the first free one of this range; `None` is any free port.
    pub host_ports: Option<RangeInclusive<u16>>,
    /// The endpoint's port.
    pub port: u16,
}

/// The facts of the host that the choice depends on.
#[derive(Clone, Debug)]
pub(in crate::service) struct HostPorts {
    /// The addresses of its links.
    pub(in crate::service) addresses: BTreeSet<IpAddr>,
    /// The range for ports that may be any (net.ipv4.ip_local_port_range).
    pub(in crate::service) any: RangeInclusive<u16>,
    /// The listening sockets of the relevant protocols.
    pub(in crate::service) listeners: Listeners,
}

/// A port that is published here, with its holder.
struct Published {
    holder: Arc<str>,
    network: NetworkId,
    port: PublishedPort,
}

/// Ports that are taken on the hosts where a new one would be published.
pub(in crate::service) struct Ports<'a> {
    me: NodeId,
    network: &'a Network,
    host: &'a HostPorts,
    /// UDP port of this host's VXLAN devices, whose socket is in no process.
    vxlan: Option<u16>,
    taken: BTreeMap<(Protocol, u16), Vec<Published>>,
}

/// The protocols of the ports that this host would publish if one of its sandboxes joined a network with these requests.
pub(in crate::service) fn protocols(
    intent: &Intent,
    me: NodeId,
    network: NetworkId,
    specs: &[PortSpec],
) -> BTreeSet<Protocol> {
    let asked = specs.iter().map(|spec| spec.protocol);
    let joined = intent.network(network).filter(|view| brings_ports(view, me));
    let brought = joined.into_iter().flat_map(NetworkView::published).flat_map(|endpoint| &endpoint.ports);
    asked.chain(brought.map(|port| port.protocol)).collect()
}

impl<'a> Ports<'a> {
    /// The known holders of ports.
    pub(in crate::service) fn new(
        intent: &Intent,
        chosen: &Chosen,
        me: NodeId,
        network: &'a Network,
        host: &'a HostPorts,
    ) -> Self {
        let vxlan = intent.nodes().get(&me).map(|node| node.vxlan_port);
        let mut ports = Self { me, network, host, vxlan, taken: BTreeMap::new() };
        let view = intent.network(network.id);
        let on: BTreeSet<NodeId> =
            view.into_iter().flat_map(|view| everywhere(network, view)).chain([me]).collect();
        for (other, view) in intent.networks().filter_map(|(_, view)| Some((view.network()?, view))) {
            // By joining the network this host publishes all that it has to publish.
            let all = other.id == network.id && is_mesh(network)
                || everywhere(other, view).any(|node| on.contains(&node));
            for endpoint in view.published().filter(|endpoint| all || on.contains(&endpoint.node)) {
                let holder = format!("endpoint {} of network {}", endpoint.name, other.name);
                ports.take(&holder.into(), other.id, &endpoint.ports);
            }
        }
        for claim in chosen.ports() {
            ports.take(&claim.holder.as_str().into(), claim.network, &claim.ports);
        }
        ports
    }

    fn take(&mut self, holder: &Arc<str>, network: NetworkId, ports: &[PublishedPort]) {
        for port in ports {
            let taken = Published { holder: Arc::clone(holder), network, port: *port };
            self.taken.entry((port.protocol, port.host_port)).or_default().push(taken);
        }
    }

    /// The ports of `endpoint`, one for each request in its order.
    ///
    /// # Errors
    /// The network publishes none; an address that the host or the endpoint does not have; a port that is
    /// taken, with its holder.
    pub(in crate::service) fn choose(
        &mut self,
        endpoint: &Endpoint,
        specs: &[PortSpec],
    ) -> Result<Vec<PublishedPort>, Refused> {
        if specs.is_empty() {
            return Ok(Vec::new());
        }
        refuse_network(self.network)?;
        if specs.len() > PublishedPort::MAX {
            let reason = format!("at most {} are allowed for an endpoint", PublishedPort::MAX);
            return Err(Invalid::new("published port", format!("{} of them", specs.len()), reason).into());
        }
        let (mut ports, mut known) = (Vec::with_capacity(specs.len()), BTreeMap::new());
        let own =
            format!("endpoint {} of network {}, which is being connected,", endpoint.name, self.network.name)
                .into();
        for spec in specs {
            let host = self.host_address(endpoint, spec)?;
            let port = self.choose_one(host, spec, known.entry((spec.protocol, host)).or_default())?;
            self.take(&own, self.network.id, &[port]);
            ports.push(port);
        }
        Ok(ports)
    }

    /// One port at an address; `known` are the ports there that are known to be taken.
    fn choose_one(
        &self,
        host: Option<IpAddr>,
        spec: &PortSpec,
        known: &mut Runs,
    ) -> Result<PublishedPort, Refused> {
        let candidate =
            |host_port| PublishedPort { protocol: spec.protocol, host, host_port, port: spec.port };
        let range = spec.host_ports.clone().unwrap_or_else(|| self.host.any.clone());
        if range.is_empty() {
            return Err(refused::inverted(&range).into());
        }
        let mut next = known.next_out(*range.start());
        while let Some(host_port) = next.filter(|port| range.contains(port)) {
            let port = candidate(host_port);
            if self.holder(&port).is_none() {
                return Ok(port);
            }
            known.add(host_port);
            next = known.next_out(host_port);
        }
        let port = candidate(*range.start());
        let by = self.holder(&port).ok_or_else(|| {
            ServiceError::Internal(format!("port {port} is free, but was reported as in use"))
        })?;
        let what = if range.start() == range.end() { What::One } else { What::Range(range) };
        Err(Refused::Port(Taken { port, by, what }))
    }

    /// The address that a port is published at; `None` is every address.
    fn host_address(&self, endpoint: &Endpoint, spec: &PortSpec) -> Result<Option<IpAddr>, Invalid> {
        let chosen = spec.host.or(self.network.settings.host_binding());
        let Some(host) = chosen.filter(|host| !host.is_unspecified()) else { return Ok(None) };
        let wrong =
            |reason: String| Err(Invalid::new("address of a published port", host.to_string(), reason));
        if host.is_loopback() && host.is_ipv6() {
            return wrong(
                "the kernel does not forward traffic to it: choose 127.0.0.1 or another address".into(),
            );
        }
        if !endpoint.addresses.iter().any(|own| own.addr().is_ipv6() == host.is_ipv6()) {
            let family = if host.is_ipv6() { "IPv6" } else { "IPv4" };
            return wrong(format!("the endpoint has no {family} address in network {}", self.network.name));
        }
        if self.host.addresses.contains(&host) || host.is_loopback() {
            return Ok(Some(host));
        }
        wrong(
            "no link of this host has it: choose one of the host's addresses, or none for all of them".into(),
        )
    }

    /// The holder of a port, if it is taken.
    fn holder(&self, wanted: &PublishedPort) -> Option<Holder> {
        let all = self.taken.get(&(wanted.protocol, wanted.host_port));
        let meets = |taken: &&Published| {
            // By a leg the host's port alone tells which endpoint is meant.
            let whatever = taken.network == self.network.id && self.network.profile().in_host == InHost::Leg;
            whatever || taken.port.collides(wanted)
        };
        let known = all.into_iter().flatten().find(meets).map(|taken| Arc::clone(&taken.holder));
        known.or_else(|| self.own(wanted)).map(Holder::Known).or_else(|| self.listener(wanted))
    }

    /// The ports that the agent itself needs.
    fn own(&self, wanted: &PublishedPort) -> Option<Arc<str>> {
        let vxlan = wanted.protocol == Protocol::Udp && self.vxlan == Some(wanted.host_port);
        vxlan.then(|| "the VXLAN devices of the agent's overlays (--vxlan-port)".into())
    }

    /// The listener of this host that holds a port.
    fn listener(&self, wanted: &PublishedPort) -> Option<Holder> {
        self.host.listeners.at(wanted.protocol, wanted.host, wanted.host_port).map(Holder::Sockets)
    }

    /// Checks a network whose first endpoint here makes this host publish the ports of the network's other
    /// endpoints.
    ///
    /// # Errors
    /// A port of it is taken here.
    pub(in crate::service) fn check_mesh(&self, intent: &Intent) -> Result<(), Refused> {
        let Some(view) = intent.network(self.network.id).filter(|view| brings_ports(view, self.me)) else {
            return Ok(());
        };
        for endpoint in view.published() {
            for port in &endpoint.ports {
                let all = self.taken.get(&(port.protocol, port.host_port)).into_iter().flatten();
                let mut others =
                    all.filter(|taken| taken.network != self.network.id && taken.port.collides(port));
                let known = others.next().map(|taken| Holder::Known(Arc::clone(&taken.holder)));
                if let Some(by) = known.or_else(|| self.listener(port)) {
                    let what = What::Mesh(self.network.name.clone(), endpoint.name.clone());
                    return Err(Refused::Port(Taken { port: *port, by, what }));
                }
            }
        }
        Ok(())
    }
}

/// Whether a node that joins a network publishes the ports of the network's other endpoints too.
fn brings_ports(view: &NetworkView, me: NodeId) -> bool {
    view.network().is_some_and(is_mesh) && !view.members().contains_key(&me)
}

/// The hosts on which every endpoint of a network publishes its ports, wherever it is.
fn everywhere(network: &Network, view: &NetworkView) -> impl Iterator<Item = NodeId> {
    view.members().keys().filter(|_| is_mesh(network)).copied()
}

fn is_mesh(network: &Network) -> bool {
    network.settings.is_mesh()
}

/// Whether a network can publish ports at all.
fn refuse_network(network: &Network) -> Result<(), ServiceError> {
    let reason = if network.internal {
        "it is internal: it gets no traffic from outside"
    } else {
        match network.profile().publishes {
            Ok(()) => return Ok(()),
            Err(why) => why,
        }
    };
    Err(ServiceError::InUse(format!(
        "network {} ({}) publishes no ports: {reason}",
        network.name,
        network.driver()
    )))
}
