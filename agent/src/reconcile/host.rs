//! What all networks of this host share: the rules of the host, and its settings.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{
    Failures, Peers, ReconcileError, Reconciler,
    check::host_look,
    is_here, network,
    units::{Done, Plan},
};
use crate::{
    intent::{Intent, NetworkView},
    kernel::Kernel,
    model::{
        BridgeSettings, DriverSettings, Endpoint, Leg, Network, NetworkId, NodeId, OverlaySettings, Protocol,
        PublishedPort,
    },
    plan::{
        FORWARDING_V4, Forward, HOST_SETTINGS, HostInput, HostNetwork, HostSide, Underlay, bridge_name, host,
        outer_name,
        ownership::Unit,
        plan,
        ruleset::{Family, Table},
        state::{Netns, State},
    },
};

impl<K: Kernel, P: Peers> Reconciler<K, P> {
    /// Something that the host's part depends on may have changed: nothing is looked at if it is as it was programmed.
    pub(super) async fn host_changed(&mut self) -> Failures {
        let (Ok(input), Some(before)) = (self.host_input().await, self.host.clone()) else {
            return self.full(Unit::Host).await;
        };
        if *before == input {
            return Vec::new();
        }
        let (wanted, programmed) = (host(&input), host(&before));
        if self.world.host_in_doubt() || but_table(&wanted) != but_table(&programmed) {
            return self.full(Unit::Host).await;
        }
        self.host_leads(&input);
        // If somebody took the table away, this fails or puts all of it there.
        let failures = self.apply(Unit::Host, plan(Unit::Host, &wanted, &programmed)).await;
        self.host = failures.is_empty().then(|| Arc::new(input));
        if failures.is_empty() { failures } else { self.full(Unit::Host).await }
    }

    pub(super) async fn look_at_host(&mut self) -> Result<Plan, ReconcileError> {
        let mut input = self.host_input().await?;
        let first = host(&input);
        let settings = first.netns.get(&Netns::Host).map(|state| state.sysctls.clone()).unwrap_or_default();
        let told = input.ip_forward || input.networks.is_empty() || self.told_forwarding;
        let mut look = host_look(&first);
        let at = look.netns.entry(Netns::Host).or_default();
        at.sysctls.extend(HOST_SETTINGS.map(str::to_owned));
        let seen = self.observe(look).await?;
        if let Some(there) = seen.netns.get(&Netns::Host) {
            self.forwarding.saw(there, &settings);
            input.closed = self.closed();
        }
        let wanted = host(&input);
        let originals = seen.netns.get(&Netns::Host).map(|state| state.sysctls.clone()).unwrap_or_default();
        if !told && originals.get(FORWARDING_V4).is_some_and(|value| value == "0") {
            self.told_forwarding = true;
            tracing::warn!(
                "net.ipv4.ip_forward is 0, and --ip-forward=false leaves it: networks of this host do not reach the outside, \
                 nor are their published ports reached"
            );
        }
        let ops = plan(Unit::Host, &wanted, &seen);
        let has_table = seen.netns.get(&Netns::Host).is_some_and(|state| state.table.is_some());
        if has_table && !ops.is_empty() && self.world.host_in_doubt() {
            return Err("the host's rules stay as they are, since a record that they depend on cannot be read (see ovctl node \
                        ls): restore or delete it"
                .into());
        }
        Ok(Plan { ops, originals, done: Done::Host(input) })
    }

    pub(super) async fn host_input(&mut self) -> Result<HostInput, ReconcileError> {
        let features = self.known_features().await?;
        self.learn_originals().await?;
        let me = self.world.me;
        let here: Vec<NetworkId> = self.world.read(|intent| {
            let here = intent.networks().filter(|(_, view)| is_here(view, me));
            here.map(|(id, _)| *id).collect()
        });
        // The rules are by the legs' addresses.
        for id in here {
            self.ensure_leg(id).await?;
        }
        let hidden = self.hidden();
        let mut input = self.world.read(|intent| of(intent, (me, &hidden), &self.legs));
        input.ip_forward = self.settings.ip_forward;
        input.ipv6 = features.ipv6;
        input.bridge_firewall = features.bridge_firewall;
        input.underlay = Some(self.underlay(&input.ports));
        input.closed = self.closed();
        Ok(input)
    }

    /// The families that are forwarded for our networks only. Who turns forwarding on by himself decides by himself.
    fn closed(&self) -> BTreeSet<Family> {
        if self.settings.ip_forward { self.forwarding.closed() } else { BTreeSet::new() }
    }

    /// What of the agent is reached over the underlay, and from where.
    fn underlay(&self, ports: &[Forward]) -> Underlay {
        let (me, settings) = (self.world.me, &self.settings);
        // A store of the sandboxes' own at the same port is theirs to reach.
        let is_published =
            |tcp: u16| ports.iter().any(|port| port.protocol == Protocol::Tcp && port.host_port == tcp);
        let (vteps, vnis) = self.world.read(|intent| {
            let here = intent.networks().filter(|(_, view)| is_here(view, me));
            let vnis = here.filter_map(|(_, view)| view.network()?.vni).collect();
            (intent.nodes().values().map(|node| node.vtep).chain([settings.vtep]).collect(), vnis)
        });
        Underlay {
            vtep: settings.vtep,
            vxlan_port: settings.vxlan_port,
            gossip_port: settings.gossip_port,
            store_ports: settings.store_ports.iter().copied().filter(|port| !is_published(*port)).collect(),
            vteps,
            vnis,
        }
    }
}

/// A wanted state of the host, but for the table's content, which alone is planned against what was programmed.
fn but_table(wanted: &State) -> State {
    let mut wanted = wanted.clone();
    for table in wanted.netns.values_mut().filter_map(|state| state.table.as_mut()) {
        *table = Table::default();
    }
    wanted
}

/// The networks and ports of this host, in a settled order.
fn of(
    intent: &Intent,
    (me, hidden): (NodeId, &BTreeSet<NodeId>),
    legs: &BTreeMap<NetworkId, Leg>,
) -> HostInput {
    let mut input = HostInput::default();
    for (id, view) in intent.networks().filter(|(_, view)| is_here(view, me)) {
        let Some(network) = view.network() else { continue };
        match &network.settings {
            DriverSettings::Overlay(settings) => {
                if let Some(leg) = legs.get(id).filter(|_| !network.internal) {
                    input.networks.push(by_leg(network, settings, *leg));
                    input.ports.extend(leg_ports((network, view), (me, hidden), settings, *leg));
                }
            }
            DriverSettings::Bridge(settings) => {
                input.networks.push(by_bridge((network, view), me, settings));
                if !network.internal {
                    input.ports.extend(bridge_ports(network, view, me));
                }
            }
            DriverSettings::Macvlan(..) | DriverSettings::Ipvlan(..) | DriverSettings::P2p => {}
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

fn by_bridge(
    (network, view): (&Network, &NetworkView),
    me: NodeId,
    settings: &BridgeSettings,
) -> HostNetwork {
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

/// Who may talk to whom by a link of its own: every address of the one to every one of the other, of the same family.
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

/// A port leads to one of these addresses by its own family, or to one of each if it has none.
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
        let to = network::first_of_each_family(endpoint).map(|to| (to, port.port)).collect::<Vec<_>>();
        forwards(network.id, port, to.into_iter()).collect::<Vec<_>>()
    };
    here.flat_map(|endpoint| endpoint.ports.iter().flat_map(move |port| of(endpoint, port))).collect()
}

/// Through the leg; the network's namespace knows the endpoint.
fn leg_ports(
    (network, view): (&Network, &NetworkView),
    nodes: (NodeId, &BTreeSet<NodeId>),
    settings: &OverlaySettings,
    leg: Leg,
) -> Vec<Forward> {
    let mut ports = Vec::new();
    for (endpoint, port) in network::published(view, nodes, settings) {
        let has = |v6: bool| endpoint.addresses.iter().any(|address| address.addr().is_ipv6() == v6);
        let inner = leg.inner().map(|inner| (inner.addr(), port.host_port));
        let inner = inner.into_iter().filter(|(address, _)| has(address.is_ipv6()));
        ports.extend(forwards(network.id, port, inner));
    }
    ports
}
