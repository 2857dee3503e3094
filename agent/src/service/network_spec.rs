//! A network as it is asked for, and the transaction that makes it.

use std::{collections::BTreeMap, net::IpAddr};

use super::{ServiceError, now};
use crate::{
    convert::{self, Record},
    ipam::{self, SubnetKind, SubnetRequest},
    model::{
        AddressOwner, Driver, DriverSettings, Invalid, IpvlanMode, Name, Network, NetworkId, Scope, Subnet,
        Vni,
    },
    plan::DEFAULT_NETWORK,
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

/// Names that are modes of `run` and `sandbox create`.
const MODES: [(&str, &str); 2] =
    [("none", "the mode without a network"), ("host", "the mode that uses the host's own network")];

/// What is known of a network before its subnets and VNI are settled.
pub(super) struct Wanted {
    pub(super) network: Network,
    pub(super) chosen: Vec<Subnet>,
    pub(super) vni: Option<Vni>,
    /// Subnets that are to be taken from the pools: IPv6 ones or not.
    pub(super) automatic: Vec<bool>,
    /// Gateways that were asked for.
    pub(super) gateways_asked: Vec<IpAddr>,
    /// Take a chosen subnet although it overlaps something.
    pub(super) force: bool,
}

pub(super) fn parse(spec: NetworkSpec) -> Result<Wanted, ServiceError> {
    let name = parse_name(&spec.name)?;
    let driver = if spec.driver.is_empty() { Driver::Overlay } else { spec.driver.parse()? };
    let mut all = spec.options;
    if spec.force {
        all.insert("ovnet.force".into(), "true".into());
    }
    let options = convert::parse_options(driver, &all)?;
    convert::check_labels(&spec.labels)?;
    refuse_gateways(&options.settings, &spec.subnets.gateways)?;
    let chosen = ipam::parse_subnets(&spec.subnets, SubnetKind::of(&options.settings))?;
    let gateways_asked = spec.subnets.gateways.iter().filter_map(|text| text.parse().ok()).collect();
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
    Ok(Wanted { network, chosen, vni: options.vni, automatic, gateways_asked, force: options.force })
}

/// Say of a mode that it is no network.
pub(super) fn refuse_mode(text: &str) -> Result<(), Invalid> {
    let wrong = |reason: &str| Err(Invalid::new("network", text, reason));
    match text {
        "none" => wrong("it is the mode without a network: a sandbox without attachments has it"),
        "host" => wrong(
            "it is the mode that uses the host's own network: run the process on the host, without a sandbox",
        ),
        _ if text.starts_with("container:") => wrong(
            "it is the mode that shares another sandbox's network namespace: only a new sandbox can have it",
        ),
        _ => Ok(()),
    }
}

fn parse_name(text: &str) -> Result<Name, Invalid> {
    if let Some((_, what)) = MODES.iter().find(|(mode, _)| *mode == text) {
        let reason = format!("it stands for {what}: choose another name");
        return Err(Invalid::new("network name", text, reason));
    }
    if text == DEFAULT_NETWORK {
        let reason = "each host has a network of this name, of its own, unless its agent is told --bridge none: choose another name";
        return Err(Invalid::new("network name", text, reason));
    }
    Name::parse("network name", text)
}

/// Say why there is no gateway where there is none.
fn refuse_gateways(settings: &DriverSettings, asked: &[String]) -> Result<(), Invalid> {
    let reason = match settings {
        DriverSettings::P2p => {
            "a p2p network joins two sandboxes and leads nowhere else, so it has no gateway: leave it out"
        }
        DriverSettings::Ipvlan(_, IpvlanMode::L3 | IpvlanMode::L3s, _) => {
            "in the modes l3 and l3s of ipvlan the link itself is the way out, so it has no gateway: leave it out"
        }
        DriverSettings::Overlay(_)
        | DriverSettings::Bridge(_)
        | DriverSettings::Macvlan(..)
        | DriverSettings::Ipvlan(_, IpvlanMode::L2, _) => return Ok(()),
    };
    asked.first().map_or(Ok(()), |text| Err(Invalid::new("gateway", text, reason)))
}

/// One transaction in the store of its scope: the network, its unique name and VNI, its reserved addresses. `chosen` are
/// the subnets that were asked for.
pub(super) fn creation(network: &Network, chosen: &[Subnet]) -> Commit {
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

/// The addresses of a network that are no endpoint's.
pub(super) fn reserved(network: &Network) -> Vec<(Key, AddressOwner)> {
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
