//! An endpoint before it is committed: names and addresses chosen from what is known, and the transaction that makes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use bytes::Bytes;
use ipnet::IpNet;

use super::{
    super::{ServiceError, now},
    admission,
    choice::Choice,
};
use crate::{
    convert::Record,
    drivers::own_mac,
    intent::{Intent, NetworkView},
    ipam::{self, Pick},
    model::{AddressOwner, Endpoint, EndpointId, InHost, Invalid, Mac, Member, Network, Scope, Subnet},
    store::{Commit, Key},
};

/// An endpoint that is not committed yet.
#[derive(Clone, Debug)]
pub(in crate::service) struct Draft {
    pub(in crate::service) network: Network,
    pub(in crate::service) endpoint: Endpoint,
    /// This node's membership; `None` if the network is local.
    pub(in crate::service) member: Option<Member>,
    /// The node has no endpoint in the network yet.
    pub(in crate::service) first: bool,
    /// Stale keys of Ethernet addresses.
    left: BTreeMap<Mac, i64>,
}

impl Draft {
    /// Choose.
    pub(in crate::service) fn new(intent: &Intent, choice: &Choice<'_>) -> Result<Self, ServiceError> {
        let gone =
            || ServiceError::InUse(format!("network {} was removed at the same time", choice.spec.network));
        let view = intent.network(choice.network).ok_or_else(gone)?;
        let network = view.network().ok_or_else(gone)?;
        admission::check(intent, network, view, choice)?;
        let mut used = view.used().clone();
        used.extend(&choice.passed_over);
        let (member, first) = match (network.scope, view.members().get(&choice.me)) {
            (Scope::Local, _) => (None, view.endpoints().is_empty()),
            (Scope::Global, Some(member)) => (Some(member.clone()), false),
            (Scope::Global, None) => (Some(own_addresses(network, view, choice, &mut used)?), true),
        };
        let addresses = endpoint_addresses(network, view, choice, &used)?;
        let id = EndpointId::from_bytes(rand::random());
        let mac = mac(view, member.as_ref(), choice, &addresses, id)?;
        let ifname = admission::interface(intent, network, choice)?;
        let endpoint = Endpoint {
            id,
            name: choice.sandbox.name.clone(),
            network: network.id,
            sandbox: Some(choice.sandbox.name.clone()),
            node: choice.me,
            mac,
            addresses,
            aliases: choice.spec.aliases.clone(),
            ifname,
            created: now(),
            ports: Vec::new(),
            sysctls: choice.spec.options.sysctls(ifname),
            link_local: choice.spec.link_local.clone(),
            gateway_priority: choice.spec.gateway_priority,
            links: choice.spec.links.clone(),
        };
        Ok(Self { network: network.clone(), endpoint, member, first, left: choice.macs.left.clone() })
    }

    /// This node's membership, if this endpoint makes it a member.
    fn joining(&self) -> Option<&Member> {
        self.member.as_ref().filter(|_| self.first)
    }

    /// All addresses that it takes.
    pub(in crate::service) fn addresses(&self) -> Vec<IpAddr> {
        let own = self.joining().into_iter().flat_map(|member| &member.addresses);
        let all = self.endpoint.addresses.iter().chain(own).map(IpNet::addr);
        all.chain(self.endpoint.link_local.iter().copied()).collect()
    }

    /// The transaction that makes it, all or nothing, in the store that has the network.
    ///
    /// In a network of the cluster, a node's first endpoint writes the network's record again, unchanged, so
    /// that a concurrent removal of the network fails. Every endpoint writes the member's record, so that a
    /// concurrent removal of the supposedly last endpoint fails. A local network has one writer at a time.
    ///
    /// `known` is the member's value in the store, if it has one; the value differs if the node left and came
    /// back meanwhile.
    pub(in crate::service) fn commit(&self, known: Option<Bytes>) -> Commit {
        let (network, endpoint) = (self.network.id, &self.endpoint);
        let name = Key::EndpointName(network, endpoint.name.clone());
        let mut commit = Commit::new()
            .present(Key::Network(network))
            .absent(name.clone())
            .put(Key::Endpoint(network, endpoint.id), endpoint.to_bytes())
            .put(name, endpoint.id.to_string());
        if let Some(own) = &self.member {
            let member = Key::Member(network, own.node);
            commit = match known {
                Some(value) => commit.is(member.clone(), value.clone()).put(member, value),
                None => commit.absent(member.clone()).put(member, own.to_bytes()),
            };
        }
        let owner = AddressOwner::Endpoint(endpoint.id).to_bytes();
        let addresses = endpoint.addresses.iter().map(IpNet::addr);
        for address in addresses.chain(endpoint.link_local.iter().copied()) {
            let key = Key::Address(network, address);
            commit = commit.absent(key.clone()).put(key, owner.clone());
        }
        commit = self.take_mac(commit, endpoint.mac, owner);
        if let Some(own) = self.joining() {
            commit = commit.put(Key::Network(network), self.network.to_bytes());
            let owner = AddressOwner::Node(own.node).to_bytes();
            for address in &own.addresses {
                let key = Key::Address(network, address.addr());
                commit = commit.absent(key.clone()).put(key, owner.clone());
            }
            commit = self.take_mac(commit, own.mac, owner);
        }
        commit.in_scope(self.network.scope)
    }

    /// Adds the Ethernet address to `commit`. A local network does not need this: this node knows all of its
    /// addresses.
    fn take_mac(&self, commit: Commit, mac: Mac, owner: Bytes) -> Commit {
        let key = Key::Mac(self.network.id, mac);
        match (self.network.scope, self.left.get(&mac)) {
            (Scope::Local, _) => commit,
            (Scope::Global, None) => commit.absent(key.clone()).put(key, owner),
            (Scope::Global, Some(revision)) => commit.unchanged(key.clone(), *revision).put(key, owner),
        }
    }
}

/// The node's own address of each subnet, for the host.
fn own_addresses(
    network: &Network,
    view: &NetworkView,
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
    let derived = Mac::derived(addresses.first().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpNet::addr));
    let other = |number: u8| {
        Mac::internal(0x48, &[&network.id.as_bytes()[..], choice.me.0.as_bytes(), &[number]].concat())
    };
    let free = |mac: &Mac| {
        choice.spec.mac != Some(*mac)
            && !choice.macs.taken.contains(mac)
            && view.holder_of_mac(*mac).is_none()
    };
    let none = || ServiceError::Exhausted("no Ethernet address is free for this node".into());
    let mac = std::iter::once(derived).chain((0..=u8::MAX).map(other)).find(free).ok_or_else(none)?;
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
                let reason = format!("{flag} expects an {family} address");
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

/// The owner of an address, in words, for the error message.
pub(in crate::service) fn taken(network: &Network, view: &NetworkView, address: IpAddr) -> ServiceError {
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
    member: Option<&Member>,
    choice: &Choice<'_>,
    addresses: &[IpNet],
    id: EndpointId,
) -> Result<Mac, ServiceError> {
    let own = match (member, view.network()) {
        (Some(member), _) => Some((member.mac, "this node")),
        (None, Some(network)) if network.profile().in_host == InHost::Bridge => {
            Some((own_mac(network.id), "the network's bridge"))
        }
        (None, _) => None,
    };
    let holder = |mac: Mac| match own {
        Some((own, holder)) if own == mac => Some(holder.to_owned()),
        _ => view.holder_of_mac(mac),
    };
    if let Some(chosen) = choice.spec.mac {
        return match holder(chosen) {
            None => Ok(chosen),
            Some(holder) => Err(ServiceError::Exists(format!("MAC address {chosen} is taken by {holder}"))),
        };
    }
    let derived = addresses.first().map(|address| Mac::derived(address.addr()));
    Ok(derived
        .filter(|mac| holder(*mac).is_none() && !choice.macs.taken.contains(mac))
        .unwrap_or_else(|| Mac::internal(0x46, id.to_string().as_bytes())))
}
