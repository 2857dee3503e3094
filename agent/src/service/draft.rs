//! An endpoint before it is committed: names and addresses chosen from what is known, and the transaction that makes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use bytes::Bytes;
use ipnet::IpNet;

use super::{AttachSpec, ServiceError, now};
use crate::{
    convert::Record,
    intent::{Intent, NetworkView},
    ipam::{self, Pick},
    model::{
        AddressOwner, Endpoint, EndpointId, IfName, Invalid, Mac, Member, Network, NodeId, Sandbox, Subnet,
    },
    store::{Commit, Key},
};

/// What the choice depends on besides the intent.
pub(super) struct Choice<'a> {
    pub(super) me: NodeId,
    pub(super) spec: &'a AttachSpec,
    pub(super) sandbox: &'a Sandbox,
    /// Addresses that turned out to be taken, or that others of this host are about to take.
    pub(super) passed_over: BTreeSet<IpAddr>,
    /// Interfaces that the sandbox has already.
    pub(super) interfaces: BTreeSet<IfName>,
    /// How often this was tried already.
    pub(super) attempt: u32,
}

/// An endpoint to be.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) network: Network,
    pub(super) endpoint: Endpoint,
    pub(super) member: Member,
    /// The node has no endpoint in the network yet.
    pub(super) first: bool,
}

impl Draft {
    /// Choose.
    pub(super) fn new(intent: &Intent, choice: &Choice<'_>) -> Result<Self, ServiceError> {
        let (network, view) = intent.find_network(&choice.spec.network)?;
        refuse_second(intent, network, view, choice)?;
        let mut used = view.used().clone();
        used.extend(&choice.passed_over);
        let (member, first) = match view.members().get(&choice.me) {
            Some(member) => (member.clone(), false),
            None => (own_addresses(network, choice, &mut used)?, true),
        };
        let addresses = endpoint_addresses(network, view, choice, &used)?;
        let id = EndpointId::from_bytes(rand::random());
        let mac = mac(view, &member, choice, &addresses, id)?;
        let endpoint = Endpoint {
            id,
            name: choice.sandbox.name.clone(),
            network: network.id,
            sandbox: choice.sandbox.name.clone(),
            node: choice.me,
            mac,
            addresses,
            aliases: choice.spec.aliases.clone(),
            ifname: free_interface(intent, choice)?,
            created: now(),
            ports: Vec::new(),
            sysctls: BTreeMap::new(),
            link_local: Vec::new(),
            gateway_priority: 0,
            links: Vec::new(),
        };
        Ok(Self { network: network.clone(), endpoint, member, first })
    }

    /// Every address that it takes.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let own = self.member.addresses.iter().filter(|_| self.first);
        self.endpoint.addresses.iter().chain(own).map(IpNet::addr).collect()
    }

    /// The transaction that makes it: all of it, or nothing.
    ///
    /// A node's first endpoint writes the network's record again, unchanged, so that a removal of the network that
    /// looked before this sees it; every endpoint writes the member's, so that one that leaves at the same time and
    /// believes itself the last sees that it is not.
    ///
    /// `known` is the member's value in the store, if it has one: whoever left and came back meanwhile has another.
    pub(super) fn commit(&self, known: Option<Bytes>) -> Commit {
        let (network, endpoint) = (self.network.id, &self.endpoint);
        let name = Key::EndpointName(network, endpoint.name.clone());
        let member = Key::Member(network, self.member.node);
        let mut commit = Commit::new()
            .present(Key::Network(network))
            .absent(name.clone())
            .put(Key::Endpoint(network, endpoint.id), endpoint.to_bytes())
            .put(name, endpoint.id.to_string());
        commit = match known {
            Some(value) => commit.is(member.clone(), value.clone()).put(member, value),
            None => commit.absent(member.clone()).put(member, self.member.to_bytes()),
        };
        let owner = AddressOwner::Endpoint(endpoint.id).to_bytes();
        for address in &endpoint.addresses {
            let key = Key::Address(network, address.addr());
            commit = commit.absent(key.clone()).put(key, owner.clone());
        }
        if self.first {
            commit = commit.put(Key::Network(network), self.network.to_bytes());
            let owner = AddressOwner::Node(self.member.node).to_bytes();
            for address in &self.member.addresses {
                let key = Key::Address(network, address.addr());
                commit = commit.absent(key.clone()).put(key, owner.clone());
            }
        }
        commit
    }
}

fn refuse_second(
    intent: &Intent,
    network: &Network,
    view: &NetworkView,
    choice: &Choice<'_>,
) -> Result<(), ServiceError> {
    let name = &choice.sandbox.name;
    let Some(other) = view.endpoints().values().find(|endpoint| endpoint.name == *name) else {
        return Ok(());
    };
    if other.node == choice.me {
        return Err(ServiceError::Exists(format!(
            "sandbox {name} is connected to network {} already",
            network.name
        )));
    }
    let node =
        intent.nodes().get(&other.node).map_or_else(|| other.node.to_string(), |node| node.name.to_string());
    Err(ServiceError::Exists(format!(
        "network {} has an endpoint named {name} already, on node {node}: names are unique in a network, so give the \
         sandbox another one",
        network.name
    )))
}

/// The node's own address of each subnet, for the host.
fn own_addresses(
    network: &Network,
    choice: &Choice<'_>,
    used: &mut BTreeSet<IpAddr>,
) -> Result<Member, ServiceError> {
    // The addresses that were asked for are not the node's to take.
    used.extend(choice.spec.ip.iter().chain(&choice.spec.ip6));
    let mut addresses = Vec::new();
    for subnet in &network.subnets {
        let address = pick(subnet, used, choice)?;
        used.insert(address);
        addresses.push(subnet.with_prefix(address));
    }
    let mac = Mac::derived(addresses.first().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpNet::addr));
    Ok(Member { network: network.id, node: choice.me, mac, addresses })
}

/// One address of each family that the network has: the chosen one, or one of the first subnet with a free one.
fn endpoint_addresses(
    network: &Network,
    view: &NetworkView,
    choice: &Choice<'_>,
    used: &BTreeSet<IpAddr>,
) -> Result<Vec<IpNet>, ServiceError> {
    let mut addresses = Vec::new();
    for (v6, chosen, flag) in [(false, choice.spec.ip, "--ip"), (true, choice.spec.ip6, "--ip6")] {
        if let Some(chosen) = chosen {
            if chosen.is_ipv6() != v6 {
                let family = if v6 { "IPv6" } else { "IPv4" };
                let reason = format!("{flag} takes an {family} address");
                return Err(Invalid::new("address", chosen.to_string(), reason).into());
            }
            let subnet = ipam::check_chosen(&network.subnets, chosen)?;
            if view.used().contains(&chosen) {
                return Err(taken(network, view, chosen));
            }
            addresses.push(subnet.with_prefix(chosen));
            continue;
        }
        let mut exhausted = None;
        for subnet in network.subnets.iter().filter(|subnet| subnet.prefix.addr().is_ipv6() == v6) {
            match pick(subnet, used, choice) {
                Ok(address) => {
                    addresses.push(subnet.with_prefix(address));
                    exhausted = None;
                    break;
                }
                Err(error) => exhausted = Some(error),
            }
        }
        if let Some(error) = exhausted {
            return Err(error);
        }
    }
    Ok(addresses)
}

/// Who has an address, said to whoever asked for it.
pub(super) fn taken(network: &Network, view: &NetworkView, address: IpAddr) -> ServiceError {
    let has = |addresses: &[IpNet]| addresses.iter().any(|it| it.addr() == address);
    let endpoint = view.endpoints().values().find(|endpoint| has(&endpoint.addresses));
    let member = view.members().values().find(|member| has(&member.addresses));
    let holder = match (endpoint, member) {
        (Some(endpoint), _) => format!("endpoint {}", endpoint.name),
        (None, Some(member)) => format!("node {}, for its host", member.node),
        (None, None) => "another endpoint".into(),
    };
    ServiceError::Exists(format!("address {address} of network {} is taken by {holder}", network.name))
}

fn pick(subnet: &Subnet, used: &BTreeSet<IpAddr>, choice: &Choice<'_>) -> Result<IpAddr, ServiceError> {
    // The lowest is what people expect; after a collision with another host a random one spreads the two.
    let pick = if choice.attempt == 0 { Pick::Lowest } else { Pick::Random(rand::random()) };
    ipam::choose(subnet, used, pick).map_err(|error| ServiceError::Exhausted(error.to_string()))
}

fn mac(
    view: &NetworkView,
    member: &Member,
    choice: &Choice<'_>,
    addresses: &[IpNet],
    id: EndpointId,
) -> Result<Mac, ServiceError> {
    let holder =
        |mac: Mac| if member.mac == mac { Some("this node".into()) } else { view.holder_of_mac(mac) };
    if let Some(chosen) = choice.spec.mac {
        return match holder(chosen) {
            None => Ok(chosen),
            Some(holder) => Err(ServiceError::Exists(format!("MAC address {chosen} is taken by {holder}"))),
        };
    }
    let derived = addresses.first().map(|address| Mac::derived(address.addr()));
    Ok(derived
        .filter(|mac| holder(*mac).is_none())
        .unwrap_or_else(|| Mac::internal(0x46, id.to_string().as_bytes())))
}

/// The first of eth0, eth1, … that the sandbox does not have.
fn free_interface(intent: &Intent, choice: &Choice<'_>) -> Result<IfName, ServiceError> {
    let mut used = choice.interfaces.clone();
    for (_, view) in intent.networks() {
        let mine = view.endpoints_on(choice.me).filter(|endpoint| endpoint.sandbox == choice.sandbox.name);
        used.extend(mine.map(|endpoint| endpoint.ifname));
    }
    let names = (0..1_000).filter_map(|number| format!("eth{number}").parse::<IfName>().ok());
    let mut free = names.filter(|name| !used.contains(name));
    free.next().ok_or_else(|| {
        ServiceError::Exhausted(format!("sandbox {} has 1000 interfaces already", choice.sandbox.name))
    })
}
