//! `network ls`, `inspect`: networks, who is in them, what is used of them, and how this host reaches them.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::super::{Service, ServiceError};
use crate::{
    drivers::{self, is_here, named_link},
    intent::Intent,
    ipam::{self, Usage},
    kernel::Kernel,
    model::{Endpoint, IfName, InHost, Member, Network, NetworkId, Node, NodeId},
};

/// A subnet with what is used of it.
pub type NetworkUsage = Vec<(IpNet, Usage)>;

/// A network with what belongs to it.
#[derive(Clone, Debug)]
pub struct NetworkDetail<T> {
    /// Its record.
    pub network: Network,
    /// Its endpoints on all hosts, each as whoever asked wants it told.
    pub endpoints: Vec<T>,
    /// The nodes' parts in it.
    pub members: Vec<Member>,
    /// The nodes that the endpoints and members name.
    pub nodes: Vec<Node>,
    /// What is used of its subnets.
    pub usage: NetworkUsage,
    /// MTU of its endpoints in bytes, as this node computes it; None: it is not here.
    pub mtu: Option<u32>,
    /// This node has endpoints of it.
    pub here: bool,
    /// The subnets that this host reaches by way of it.
    pub host_routes: Vec<IpNet>,
    /// Why a subnet is not among those; empty: all are.
    pub host_route_note: String,
    /// Its link in the host, where it has one under a name that people know.
    pub interface: Option<IfName>,
}

impl<K: Kernel> Service<K> {
    /// Every network, by name.
    ///
    /// # Errors
    /// The store has not been read yet.
    pub async fn networks(&self) -> Result<Vec<Network>, ServiceError> {
        self.ready().await?;
        let mut networks: Vec<Network> = self
            .world
            .read(|intent| intent.networks().filter_map(|(_, view)| view.network()).cloned().collect());
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(networks)
    }

    /// One network, with what `tell` makes of each of its endpoints.
    ///
    /// # Errors
    /// Unknown or ambiguous; the store has not been read yet.
    pub async fn network<T>(
        &self,
        text: &str,
        tell: impl Fn(&Endpoint) -> T,
    ) -> Result<NetworkDetail<T>, ServiceError> {
        self.ready().await?;
        let id = self.world.read(|intent| intent.find_network(text).map(|(network, _)| network.id))?;
        let usage = self.usage(id);
        let endpoints = self.each_endpoint(id, |_, endpoint| tell(endpoint)).await;
        self.world.read(|intent| {
            let (network, view) = intent.find_network(text)?;
            let named: BTreeSet<NodeId> = view
                .members()
                .keys()
                .copied()
                .chain(view.endpoints().values().map(|endpoint| endpoint.node))
                .collect();
            let nodes = named.iter().filter_map(|node| intent.nodes().get(node));
            let here = is_here(view, self.world.me);
            let (host_routes, host_route_note) = host_routes(intent, network, here, self.world.me);
            Ok(NetworkDetail {
                network: network.clone(),
                endpoints,
                members: view.members().values().cloned().collect(),
                nodes: nodes.cloned().collect(),
                usage,
                mtu: self.world.mtu(id),
                here,
                host_routes,
                host_route_note,
                interface: named_link(network),
            })
        })
    }

    /// What is used of each subnet of a network.
    fn usage(&self, id: NetworkId) -> NetworkUsage {
        self.world.read(|intent| {
            let Some(view) = intent.network(id) else { return Vec::new() };
            let subnets = view.network().map(|network| network.subnets.as_slice()).unwrap_or_default();
            subnets.iter().map(|subnet| (subnet.prefix, ipam::usage(subnet, view.used()))).collect()
        })
    }
}

/// The subnets that the host reaches by way of a network, and why it does not reach others.
fn host_routes(intent: &Intent, network: &Network, here: bool, me: NodeId) -> (Vec<IpNet>, String) {
    let none = |note: &str| (Vec::new(), note.to_owned());
    if let Err(why) = network.profile().host_reaches {
        return none(why);
    }
    if network.profile().in_host == InHost::Leg && network.internal {
        return none("the network is internal");
    }
    if !here {
        return none("this host has no endpoint of the network");
    }
    let (routed, blocked) = drivers::host_routes(intent, me, network);
    let notes = blocked
        .iter()
        .map(|(prefix, other)| format!("{prefix} is routed to network {other}, which is older"));
    (routed, notes.collect::<Vec<_>>().join("; "))
}
