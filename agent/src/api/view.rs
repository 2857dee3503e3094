//! Answers: what the intent has, with what belongs beside it.

use std::{collections::BTreeSet, ops::Bound};

use ovnet_proto::v1;

use crate::{
    intent::Intent,
    kernel::Kernel,
    model::{Driver, DriverSettings, Endpoint, IfName, Network, NetworkId, NodeId, Sandbox},
    plan::{bridge_name, netns_of, ownership::Unit},
    reconcile::is_here,
    service::{NodeState, Service, ServiceError},
};

/// Endpoints that are told of before others have a turn: a few milliseconds' worth.
const AT_ONCE: usize = 1000;

/// Every network.
pub(super) fn networks<K: Kernel>(service: &Service<K>) -> Vec<v1::Network> {
    let mut networks: Vec<v1::Network> = service
        .world
        .read(|intent| intent.networks().filter_map(|(_, view)| view.network()).map(Into::into).collect());
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    networks
}

/// One network with its endpoints, its nodes, and what is used of it.
pub(super) async fn network<K: Kernel>(
    service: &Service<K>,
    text: &str,
) -> Result<v1::InspectNetworkResponse, ServiceError> {
    service.ready().await?;
    let id = service.world.read(|intent| intent.find_network(text).map(|(network, _)| network.id))?;
    let usage = service.usage(id).into_iter().map(|(prefix, usage)| v1::SubnetUsage {
        prefix: prefix.to_string(),
        total: usage.total.to_string(),
        used: usage.used.to_string(),
        free: usage.free.to_string(),
    });
    let usage = usage.collect();
    let endpoints = each_endpoint(service, id, |_, endpoint| endpoint.into()).await;
    service.world.read(|intent| {
        let (network, view) = intent.find_network(text)?;
        let named: BTreeSet<NodeId> = view
            .members()
            .keys()
            .copied()
            .chain(view.endpoints().values().map(|endpoint| endpoint.node))
            .collect();
        let nodes = named.iter().filter_map(|node| intent.nodes().get(node));
        let here = is_here(view, service.world.me);
        let (host_routes, host_route_note) = host_routes(intent, network, here, service);
        Ok(v1::InspectNetworkResponse {
            network: Some(network.into()),
            endpoints,
            members: view.members().values().map(Into::into).collect(),
            nodes: nodes.map(Into::into).collect(),
            usage,
            mtu: service.world.mtu(id).unwrap_or_default(),
            here,
            host_routes,
            host_route_note,
            interface: interface(network).map(|name| name.to_string()).unwrap_or_default(),
        })
    })
}

/// A network's link in the host, where it has one under a name that people know.
fn interface(network: &Network) -> Option<IfName> {
    match &network.settings {
        DriverSettings::Bridge(settings) => Some(bridge_name(network, settings)),
        DriverSettings::Macvlan(parent, _) | DriverSettings::Ipvlan(parent, ..) => Some(parent.link),
        DriverSettings::Overlay(_) | DriverSettings::P2p => None,
    }
}

/// The subnets that the host reaches by way of a network, and why it does not reach others.
fn host_routes<K: Kernel>(
    intent: &Intent,
    network: &Network,
    here: bool,
    service: &Service<K>,
) -> (Vec<String>, String) {
    let none = |note: &str| (Vec::new(), note.to_owned());
    match network.driver() {
        Driver::Macvlan | Driver::Ipvlan => {
            return none("the kernel lets no host reach the links on its own parent; others reach them");
        }
        Driver::P2p => return none("it joins two sandboxes alone"),
        Driver::Overlay if network.internal => return none("the network is internal"),
        Driver::Overlay | Driver::Bridge => {}
    }
    if !here {
        return none("this host has no endpoint of the network");
    }
    let (routed, blocked) = crate::reconcile::host_routes(intent, service.world.me, network);
    let notes = blocked
        .iter()
        .map(|(prefix, other)| format!("{prefix} is routed to network {other}, which is older"));
    (routed.iter().map(ToString::to_string).collect(), notes.collect::<Vec<_>>().join("; "))
}

/// The endpoints of one network, or of all.
pub(super) async fn endpoints<K: Kernel>(
    service: &Service<K>,
    network: &str,
) -> Result<Vec<v1::EndpointDetail>, ServiceError> {
    service.ready().await?;
    let networks: Vec<NetworkId> = service.world.read(|intent| match network {
        "" => Ok::<_, ServiceError>(intent.networks().map(|(id, _)| *id).collect()),
        text => Ok(vec![intent.find_network(text)?.0.id]),
    })?;
    let mut all = Vec::new();
    for id in networks {
        all.append(&mut each_endpoint(service, id, detail).await);
    }
    Ok(all)
}

/// What `tell` makes of every endpoint of a network. Others have their turns in between: with very many it takes a while.
async fn each_endpoint<K: Kernel, T>(
    service: &Service<K>,
    network: NetworkId,
    tell: impl Fn(&Intent, &Endpoint) -> T,
) -> Vec<T> {
    let (mut told, mut after) = (Vec::new(), Bound::Unbounded);
    loop {
        let last = service.world.read(|intent| {
            let some = intent.network(network)?.endpoints().range((after, Bound::Unbounded)).take(AT_ONCE);
            some.map(|(id, endpoint)| (told.push(tell(intent, endpoint)), *id).1).last()
        });
        let Some(last) = last else { return told };
        after = Bound::Excluded(last);
        tokio::task::yield_now().await;
    }
}

/// One endpoint.
pub(super) async fn endpoint<K: Kernel>(
    service: &Service<K>,
    text: &str,
) -> Result<v1::EndpointDetail, ServiceError> {
    service.ready().await?;
    service.world.read(|intent| Ok(detail(intent, intent.find_endpoint(text)?)))
}

fn detail(intent: &Intent, endpoint: &Endpoint) -> v1::EndpointDetail {
    v1::EndpointDetail {
        endpoint: Some(endpoint.into()),
        network: intent.network(endpoint.network).and_then(|view| view.network()).map(Into::into),
        node: intent.nodes().get(&endpoint.node).map(Into::into),
    }
}

/// Every sandbox of this node.
pub(super) async fn sandboxes<K: Kernel>(
    service: &Service<K>,
) -> Result<Vec<v1::SandboxDetail>, ServiceError> {
    service.ready().await?;
    let sandboxes: Vec<Sandbox> = service.world.read(|intent| intent.sandboxes().values().cloned().collect());
    let mut details = Vec::with_capacity(sandboxes.len());
    for sandbox in sandboxes {
        details.push(sandbox_detail(service, &sandbox).await?);
    }
    Ok(details)
}

/// One sandbox.
pub(super) async fn sandbox<K: Kernel>(
    service: &Service<K>,
    text: &str,
) -> Result<v1::SandboxDetail, ServiceError> {
    service.ready().await?;
    let sandbox = service.world.read(|intent| intent.find_sandbox(text).cloned())?;
    sandbox_detail(service, &sandbox).await
}

async fn sandbox_detail<K: Kernel>(
    service: &Service<K>,
    sandbox: &Sandbox,
) -> Result<v1::SandboxDetail, ServiceError> {
    let endpoints = service.endpoints_of(&sandbox.name);
    let networks = service.world.read(|intent| {
        let views = endpoints.iter().filter_map(|endpoint| intent.network(endpoint.network));
        views.filter_map(|view| view.network()).map(Into::into).collect()
    });
    let state = match service.is_present(sandbox).await? {
        false => "gone",
        true if sandbox.left => "left",
        true => "up",
    };
    Ok(v1::SandboxDetail {
        sandbox: Some(sandbox.into()),
        endpoints: endpoints.iter().map(Into::into).collect(),
        networks,
        state: state.to_owned(),
        files_dir: service.files_of(sandbox).display().to_string(),
    })
}

/// One node.
pub(super) fn node<K: Kernel>(service: &Service<K>, state: NodeState) -> v1::NodeDetail {
    let counters = if state.is_self { service.gossip.counters().all() } else { Vec::new() };
    v1::NodeDetail {
        node: Some((&state.node).into()),
        state: state.state.map_or_else(|| "unknown".to_owned(), |state| state.to_string()),
        is_self: state.is_self,
        lease: state.lease,
        endpoints: u32::try_from(state.endpoints).unwrap_or(u32::MAX),
        warnings: state.warnings,
        counters: counters.into_iter().map(|(name, count)| (name.to_owned(), count.to_string())).collect(),
    }
}

/// A unit's name for people.
pub(super) fn unit<K: Kernel>(service: &Service<K>, unit: Unit) -> String {
    service.world.read(|intent| match unit {
        Unit::Host => "host".to_owned(),
        Unit::Network(id) => match intent.network(id).and_then(|view| view.network()) {
            Some(network) => format!("network {}", network.name),
            None => format!("network {} (removed)", netns_of(id)),
        },
        Unit::Sandbox(id) => match intent.sandboxes().values().find(|sandbox| sandbox.id == id) {
            Some(sandbox) => format!("sandbox {}", sandbox.name),
            None => format!("sandbox {} (removed)", id.short()),
        },
    })
}
