//! A new network, and the transaction that makes it.

use std::net::IpAddr;

use super::{super::now, NetworkSpec};
use crate::{
    convert::Record,
    model::{AddressOwner, Invalid, Network, NetworkId, Scope, Subnet, Vni},
    store::{Commit, Key},
};

/// A new network whose subnets and VNI are not chosen yet.
pub(in crate::service) struct Wanted {
    pub(in crate::service) network: Network,
    pub(in crate::service) chosen: Vec<Subnet>,
    pub(in crate::service) vni: Option<Vni>,
    /// The subnets to take from the pools, by whether they are IPv6.
    pub(in crate::service) automatic: Vec<bool>,
    /// Requested gateways.
    pub(in crate::service) gateways_asked: Vec<IpAddr>,
    /// Take a chosen subnet although it overlaps something.
    pub(in crate::service) force: bool,
}

impl Wanted {
    /// The requested network, with a new id.
    pub(in crate::service) fn new(spec: NetworkSpec) -> Self {
        let NetworkSpec { name, driver, subnets, gateways, ipv6, internal, labels, given, options } = spec;
        let has = |v6: bool| subnets.iter().any(|subnet| subnet.prefix.addr().is_ipv6() == v6);
        let mut automatic = Vec::new();
        if subnets.is_empty() {
            automatic.push(false);
        }
        if ipv6 && !has(true) {
            automatic.push(true);
        }
        let network = Network {
            id: NetworkId::from_bytes(rand::random()),
            name,
            scope: driver.scope(),
            vni: options.vni,
            subnets: subnets.clone(),
            internal,
            labels,
            options: given,
            mtu: options.mtu,
            interface_prefix: options.interface_prefix,
            settings: options.settings,
            created: now(),
        };
        let (vni, force) = (options.vni, options.force);
        Self { network, chosen: subnets, vni, automatic, gateways_asked: gateways, force }
    }
}

/// The error that a mode is not a network.
pub(in crate::service) fn refuse_mode(text: &str) -> Result<(), Invalid> {
    let wrong = |reason: &str| Err(Invalid::new("network", text, reason));
    match text {
        "none" => wrong("it is the mode without a network: create the sandbox without attachments"),
        "host" => wrong(
            "it is the mode that uses the host's own network: run the process on the host, without a sandbox",
        ),
        _ if text.starts_with("container:") => wrong(
            "it is the mode that shares another sandbox's network namespace: only a new sandbox can have it",
        ),
        _ => Ok(()),
    }
}

/// One transaction in the store of its scope: the network, its unique name and VNI, its reserved addresses.
/// `chosen` are the requested subnets.
pub(in crate::service) fn creation(network: &Network, chosen: &[Subnet]) -> Commit {
    let id = network.id;
    let mut commit = Commit::new()
        .absent(Key::NetworkName(network.name.clone()))
        .put(Key::Network(id), network.to_bytes())
        .put(Key::NetworkName(network.name.clone()), id.to_string());
    if let Some(vni) = network.vni {
        commit = commit.absent(Key::Vni(vni)).put(Key::Vni(vni), id.to_string());
    }
    for (key, owner) in reserved(network) {
        commit = commit.put(key, owner.to_bytes());
    }
    // Automatic subnets are unique in the cluster; chosen ones may be equal. On one host all is known that is taken.
    let unique =
        network.subnets.iter().filter(|subnet| network.scope == Scope::Global && !chosen.contains(subnet));
    for subnet in unique {
        let pool = Key::Pool(subnet.prefix);
        commit = commit.absent(pool.clone()).put(pool, id.to_string());
    }
    commit.in_scope(network.scope)
}

/// The reserved addresses of a network.
pub(in crate::service) fn reserved(network: &Network) -> Vec<(Key, AddressOwner)> {
    let key = |address: IpAddr| Key::Address(network.id, address);
    let mut all = Vec::new();
    for subnet in &network.subnets {
        let gateway = subnet.gateway.map(|address| (key(address), AddressOwner::Reserved("gateway".into())));
        all.extend(gateway);
        let aux = subnet.aux_addresses.iter();
        all.extend(aux.map(|(name, address)| (key(*address), AddressOwner::Reserved(name.clone()))));
    }
    all
}
