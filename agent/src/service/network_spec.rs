//! A network as it is asked for, and the transaction that makes it.

use std::collections::BTreeMap;

use super::{ServiceError, now};
use crate::{
    convert::{self, Record},
    ipam::{self, SubnetRequest},
    model::{AddressOwner, Driver, Name, Network, NetworkId, Subnet, Vni},
    store::{Commit, Key},
};

/// A network as it was asked for.
#[derive(Clone, Debug, Default)]
pub struct NetworkSpec {
    /// Its name.
    pub name: String,
    /// Its driver; empty: overlay.
    pub driver: String,
    /// Chosen subnets.
    pub subnets: SubnetRequest,
    /// Also an IPv6 subnet.
    pub ipv6: bool,
    /// No way to the host or the outside.
    pub internal: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Options as given with `-o`.
    pub options: BTreeMap<String, String>,
    /// Take a chosen subnet although it overlaps a route of the host.
    pub force: bool,
}

/// What is known of a network before its subnets and VNI are settled.
pub(super) struct Wanted {
    pub(super) network: Network,
    pub(super) chosen: Vec<Subnet>,
    pub(super) vni: Option<Vni>,
    pub(super) automatic: Vec<bool>,
}

pub(super) fn parse(spec: NetworkSpec) -> Result<Wanted, ServiceError> {
    let name = Name::parse("network name", &spec.name)?;
    let driver = if spec.driver.is_empty() { Driver::Overlay } else { spec.driver.parse()? };
    let mut all = spec.options;
    if spec.force {
        all.insert("ovnet.force".into(), "true".into());
    }
    let options = convert::parse_options(driver, &all)?;
    convert::check_labels(&spec.labels)?;
    let chosen = ipam::parse_subnets(&spec.subnets, ipam::SubnetKind::of(&options.settings))?;
    let has = |v6: bool| chosen.iter().any(|subnet| subnet.prefix.addr().is_ipv6() == v6);
    let mut automatic = Vec::new();
    if !has(false) && chosen.is_empty() {
        automatic.push(false);
    }
    if spec.ipv6 && !has(true) {
        automatic.push(true);
    }
    if has(true) || spec.ipv6 {
        options.check_ipv6()?;
    }
    let network = Network {
        id: NetworkId::from_bytes(rand::random()),
        name,
        scope: driver.scope(),
        vni: options.vni,
        subnets: chosen.clone(),
        internal: spec.internal,
        labels: spec.labels,
        options: all,
        mtu: options.mtu,
        interface_prefix: options.interface_prefix.clone(),
        settings: options.settings.clone(),
        created: now(),
    };
    Ok(Wanted { network, chosen, vni: options.vni, automatic })
}

/// One transaction: the network, its unique name and VNI, its reserved addresses.
pub(super) fn creation(network: &Network, wanted: &Wanted) -> Commit {
    let id = network.id;
    let mut commit = Commit::new()
        .absent(Key::NetworkName(network.name.clone()))
        .put(Key::Network(id), network.to_bytes())
        .put(Key::NetworkName(network.name.clone()), id.to_string());
    if let Some(vni) = network.vni {
        commit = commit.absent(Key::Vni(vni)).put(Key::Vni(vni), id.to_string());
    }
    for subnet in &network.subnets {
        let reserved = |what: &str| AddressOwner::Reserved(what.to_owned()).to_bytes();
        if let Some(gateway) = subnet.gateway {
            commit = commit.put(Key::Address(id, gateway), reserved("gateway"));
        }
        for (name, address) in &subnet.aux_addresses {
            commit = commit.put(Key::Address(id, *address), reserved(name));
        }
        // Automatic subnets are unique in the cluster; chosen ones may be equal.
        if !wanted.chosen.contains(subnet) {
            let pool = Key::Pool(subnet.prefix);
            commit = commit.absent(pool.clone()).put(pool, id.to_string());
        }
    }
    commit
}
