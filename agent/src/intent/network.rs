//! One network with its endpoints and members.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{
    Changed, Fact, Source, Touched,
    fact::{self},
    names::{self, Names},
};
use crate::model::{Endpoint, EndpointId, Mac, Member, Name, Network, NetworkId, NodeId};

/// A network as far as it is known: its record may come after, or go before, what belongs to it.
#[derive(Clone, Debug)]
pub struct NetworkView {
    source: Source,
    network: Option<Network>,
    endpoints: BTreeMap<EndpointId, Endpoint>,
    members: BTreeMap<NodeId, Member>,
    /// The endpoints of each node that has some.
    by_node: BTreeMap<NodeId, BTreeSet<EndpointId>>,
    /// Addresses of endpoints and members.
    used: BTreeSet<IpAddr>,
    names: Names,
    /// The endpoints that publish ports, and have a sandbox that does.
    published: BTreeSet<EndpointId>,
}

impl NetworkView {
    pub(super) const fn new(source: Source) -> Self {
        Self {
            source,
            network: None,
            endpoints: BTreeMap::new(),
            members: BTreeMap::new(),
            by_node: BTreeMap::new(),
            used: BTreeSet::new(),
            names: Names::new(),
            published: BTreeSet::new(),
        }
    }

    /// The store that it is in: this node's own, if it is a local network.
    pub const fn source(&self) -> Source {
        self.source
    }

    /// Its own record.
    pub fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    /// Its endpoints, of all nodes.
    pub fn endpoints(&self) -> &BTreeMap<EndpointId, Endpoint> {
        &self.endpoints
    }

    /// Its endpoints on one node.
    pub fn endpoints_on(&self, node: NodeId) -> impl Iterator<Item = &Endpoint> {
        let ids = self.by_node.get(&node).into_iter().flatten();
        ids.filter_map(|id| self.endpoints.get(id))
    }

    /// The endpoints that publish ports, of all nodes.
    pub fn published(&self) -> impl Iterator<Item = &Endpoint> {
        self.published.iter().filter_map(|id| self.endpoints.get(id))
    }

    /// The endpoints with this name or alias, whatever its case, or by the first twelve digits of their id;
    /// by id.
    pub fn endpoints_by_name(&self, text: &str) -> impl Iterator<Item = &Endpoint> {
        let short = names::short_id(text).and_then(|least| {
            let (id, _) = self.endpoints.range(least..).next()?;
            id.short().eq_ignore_ascii_case(text).then_some(*id)
        });
        let ids: BTreeSet<EndpointId> = self.names.by_name(text).chain(short).collect();
        ids.into_iter().filter_map(|id| self.endpoints.get(&id))
    }

    /// The endpoint of this name.
    pub fn endpoint_named(&self, name: &Name) -> Option<&Endpoint> {
        self.endpoints_by_name(name.as_str()).find(|endpoint| endpoint.name == *name)
    }

    /// The endpoint that has an address; link-local ones are not looked at.
    pub fn endpoint_at(&self, address: IpAddr) -> Option<&Endpoint> {
        self.endpoints.get(&self.names.by_address(address)?)
    }

    /// The nodes that have endpoints in it, with their own addresses.
    pub fn members(&self) -> &BTreeMap<NodeId, Member> {
        &self.members
    }

    /// Every address that an endpoint or a member has.
    pub fn used(&self) -> &BTreeSet<IpAddr> {
        &self.used
    }

    /// Who has an Ethernet address: an endpoint's or a node's name for it.
    pub fn holder_of_mac(&self, mac: Mac) -> Option<String> {
        let endpoint = self.endpoints.values().find(|endpoint| endpoint.mac == mac);
        let member = || self.members.values().find(|member| member.mac == mac);
        endpoint
            .map(|endpoint| format!("endpoint {}", endpoint.name))
            .or_else(|| member().map(|member| format!("node {}", member.node)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.network.is_none() && self.endpoints.is_empty() && self.members.is_empty()
    }

    /// All of it, as the facts that would remove it.
    pub(super) fn known(&self, id: NetworkId) -> impl Iterator<Item = Fact> + '_ {
        let network = self.network.iter().map(move |_| Fact::Network(id, None));
        let endpoints = self.endpoints.keys().map(move |endpoint| Fact::Endpoint(id, *endpoint, None));
        network.chain(endpoints).chain(self.members.keys().map(move |node| Fact::Member(id, *node, None)))
    }

    pub(super) fn set_network(&mut self, id: NetworkId, network: Option<Network>) -> Option<Changed> {
        let prefixes = |network: Option<&Network>| -> Vec<IpNet> {
            let subnets = network.map(|network| network.subnets.as_slice()).unwrap_or_default();
            subnets.iter().map(|subnet| subnet.prefix).collect()
        };
        let mut left = prefixes(self.network.as_ref());
        let mut one: BTreeMap<NetworkId, Network> =
            self.network.take().map(|network| (id, network)).into_iter().collect();
        let changed =
            fact::replace(&mut one, id, network, Touched::Network(id), |network| network.name.to_string());
        self.network = one.remove(&id);
        let stays = prefixes(self.network.as_ref());
        left.retain(|prefix| !stays.contains(prefix));
        changed.map(|changed| Changed { left, ..changed })
    }

    pub(super) fn set_endpoint(
        &mut self,
        network: NetworkId,
        id: EndpointId,
        endpoint: Option<Endpoint>,
    ) -> Option<Changed> {
        let addresses = |endpoint: Option<&Endpoint>| -> Vec<IpAddr> {
            endpoint
                .map(|endpoint| endpoint.addresses.iter().map(ipnet::IpNet::addr).collect())
                .unwrap_or_default()
        };
        self.account(&addresses(self.endpoints.get(&id)), &addresses(endpoint.as_ref()));
        self.rehouse(id, endpoint.as_ref().map(|endpoint| endpoint.node));
        self.names.replace(id, self.endpoints.get(&id), endpoint.as_ref());
        if endpoint.as_ref().is_some_and(|endpoint| endpoint.sandbox.is_some() && !endpoint.ports.is_empty())
        {
            self.published.insert(id);
        } else {
            self.published.remove(&id);
        }
        let touched = Touched::Endpoint(network, id);
        fact::replace(&mut self.endpoints, id, endpoint, touched, |endpoint| endpoint.name.to_string())
    }

    pub(super) fn set_member(
        &mut self,
        network: NetworkId,
        node: NodeId,
        member: Option<Member>,
    ) -> Option<Changed> {
        let addresses = |member: Option<&Member>| -> Vec<IpAddr> {
            member.map(|member| member.addresses.iter().map(ipnet::IpNet::addr).collect()).unwrap_or_default()
        };
        self.account(&addresses(self.members.get(&node)), &addresses(member.as_ref()));
        fact::replace(&mut self.members, node, member, Touched::Member(network, node), |member| {
            member.node.to_string()
        })
    }

    fn rehouse(&mut self, id: EndpointId, node: Option<NodeId>) {
        if let Some(before) = self.endpoints.get(&id).map(|endpoint| endpoint.node)
            && let Some(ids) = self.by_node.get_mut(&before)
        {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_node.remove(&before);
            }
        }
        if let Some(node) = node {
            self.by_node.entry(node).or_default().insert(id);
        }
    }

    fn account(&mut self, before: &[IpAddr], after: &[IpAddr]) {
        for address in before {
            self.used.remove(address);
        }
        self.used.extend(after);
    }
}
