//! The network `bridge`, which exists from the start. Each start of the agent makes it, or adapts it to the
//! configuration; its subnet stays the same.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use super::{
    super::{Service, ServiceError, TRIES, locks::Work, now},
    check::{subnet_of, subnets_of},
    spec::{creation, reserved},
};
use crate::{
    convert::{self, Record},
    drivers::{DEFAULT_GATEWAYS, bridge_of},
    intent::Source,
    ipam::{self, SubnetKind},
    kernel::{Facts, Kernel},
    model::{DEFAULT_DRIVER, DEFAULT_NETWORK, IfName, Invalid, Name, Network, NetworkId, Scope, Subnet},
    store::{Commit, CommitError, Key},
};

/// Its default address, as docker0 has it.
const USUAL: &str = "172.17.0.0/16";

/// The configuration of the network `bridge`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultBridge {
    /// Whether there is such a network.
    pub wanted: bool,
    /// An existing foreign bridge; `None` is our own.
    pub link: Option<IfName>,
    /// The bridge's addresses with prefix length, at most one of each family; a missing one is chosen here.
    pub addresses: Vec<IpNet>,
    /// Where endpoints' addresses come from, at most one of each family.
    pub ranges: Vec<IpNet>,
    /// The gateways of sandboxes instead of the bridge, at most one of each family.
    pub gateways: Vec<IpAddr>,
    /// MTU of its endpoints in bytes, if chosen.
    pub mtu: Option<u32>,
    /// Its sandboxes may reach each other.
    pub icc: bool,
    /// Traffic to the outside is masqueraded.
    pub masquerade: bool,
}

impl Default for DefaultBridge {
    fn default() -> Self {
        Self {
            wanted: true,
            link: None,
            addresses: Vec::new(),
            ranges: Vec::new(),
            gateways: Vec::new(),
            mtu: None,
            icc: true,
            masquerade: true,
        }
    }
}

impl<K: Kernel> Service<K> {
    /// Make or change the network `bridge` to match the configuration, once both stores have been read.
    ///
    /// # Errors
    /// Something that it needs is missing (a bridge, a free subnet), or the change would cut off endpoints;
    /// then it stays as it is.
    pub async fn prepare_bridge(&self) -> Result<(), ServiceError> {
        let Some(config) = &self.settings.default_bridge else { return Ok(()) };
        let done = self.settle_bridge(config).await;
        self.prepared.send_replace(true);
        done
    }

    /// Whether a network is the default network, and the configuration has one.
    pub(in crate::service) fn is_default_bridge(&self, id: NetworkId) -> bool {
        let wanted = self.settings.default_bridge.as_ref().is_some_and(|config| config.wanted);
        wanted && self.known_bridge().is_some_and(|network| network.id == id)
    }

    fn known_bridge(&self) -> Option<Network> {
        self.world.read(|intent| {
            let local = intent.networks().filter(|(_, view)| view.source() == Source::Local);
            let mut all = local.filter_map(|(_, view)| view.network());
            all.find(|network| network.name.as_str() == DEFAULT_NETWORK).cloned()
        })
    }

    async fn settle_bridge(&self, config: &DefaultBridge) -> Result<(), ServiceError> {
        let _turn = self.turns.wait(Work::Creation).await?;
        let known = self.known_bridge();
        if !config.wanted {
            return match known {
                Some(known) => self.remove_network_of(known.id, known.name).await.map(drop),
                None => Ok(()),
            };
        }
        let facts = self.kernel.facts().await?;
        let wanted = self.wanted_bridge(config, known.as_ref(), &facts).await?;
        match known {
            None => {
                let revision = match self.local.commit(creation(&wanted, &wanted.subnets)).await {
                    Ok(revision) => revision,
                    Err(CommitError::Refused(_)) => {
                        return Err(ServiceError::Busy(
                            "its name was taken at the same time: try again".into(),
                        ));
                    }
                    Err(CommitError::Store(error)) => return Err(error.into()),
                };
                self.follow_change(Scope::Local, revision).await;
                tracing::info!(network = DEFAULT_NETWORK, subnets = %listed(&wanted), "network created");
                Ok(())
            }
            Some(known) if known == wanted => Ok(()),
            Some(known) => self.adapt_bridge(&known, &wanted).await,
        }
    }

    /// The network of the configuration; it keeps its existing subnets unless the configuration sets others.
    async fn wanted_bridge(
        &self,
        config: &DefaultBridge,
        known: Option<&Network>,
        facts: &Facts,
    ) -> Result<Network, ServiceError> {
        let options = options(config);
        let parsed = convert::parse_options(DEFAULT_DRIVER, &options)?;
        let mut network = Network {
            id: known.map_or_else(|| NetworkId::from_bytes(rand::random()), |known| known.id),
            name: Name::parse("network name", DEFAULT_NETWORK)?,
            settings: parsed.settings.clone(),
            scope: Scope::Local,
            vni: None,
            subnets: Vec::new(),
            internal: false,
            labels: BTreeMap::new(),
            options,
            mtu: parsed.mtu,
            interface_prefix: None,
            created: known.map_or_else(now, |known| known.created),
        };
        network.subnets = match config.link {
            Some(link) => self.subnets_of_bridge(&network, link, facts).await?,
            None => self.own_subnets(config, known, &network, facts)?,
        };
        for range in &config.ranges {
            place_range(&mut network.subnets, *range)?;
        }
        for gateway in &config.gateways {
            place_gateway(&mut network.subnets, *gateway)?;
        }
        if network.has_ipv6() {
            parsed.check_ipv6()?;
        }
        Ok(network)
    }

    /// The subnets of the foreign bridge.
    async fn subnets_of_bridge(
        &self,
        network: &Network,
        link: IfName,
        facts: &Facts,
    ) -> Result<Vec<Subnet>, ServiceError> {
        let Some(settings) = network.settings.bridge() else { return Ok(Vec::new()) };
        match self.check_bridge(network, settings, facts).await? {
            Some(there) => Ok(subnets_of(&there)?),
            None => {
                let reason = "this host has no bridge of this name: make it, or leave --bridge out to let \
                              the agent make one";
                Err(Invalid::new("bridge name", link.to_string(), reason).into())
            }
        }
    }

    /// The subnets of our own bridge: those of the configured addresses, else its existing ones, else free
    /// ones.
    fn own_subnets(
        &self,
        config: &DefaultBridge,
        known: Option<&Network>,
        network: &Network,
        facts: &Facts,
    ) -> Result<Vec<Subnet>, ServiceError> {
        let known = known.filter(|known| bridge_of(known) == bridge_of(network));
        let mut subnets = Vec::new();
        for v6 in [false, true] {
            let of_family = |net: &&IpNet| net.addr().is_ipv6() == v6;
            let kept = known
                .and_then(|known| known.subnets.iter().find(|subnet| subnet.prefix.addr().is_ipv6() == v6));
            let range = config.ranges.iter().find(of_family);
            let usual: IpNet = USUAL.parse().unwrap_or_default();
            if let Some(address) = config.addresses.iter().find(of_family) {
                subnets.push(subnet_of(address));
            } else if let Some(kept) =
                kept.filter(|kept| range.is_none_or(|range| kept.prefix.contains(range)))
            {
                let gateway = kept.gateway.map(|gateway| kept.with_prefix(gateway));
                subnets.extend(gateway.as_ref().map(subnet_of));
            } else if let Some(range) = range.filter(|range| v6 || !usual.contains(*range)) {
                let no_room =
                    || Invalid::new("address range", range.to_string(), "it is too small for endpoints");
                subnets.push(ipam::automatic(*range, SubnetKind::WithGateway).ok_or_else(no_room)?);
            } else if !v6 {
                subnets.push(self.free_subnet(network, facts, range.is_some())?);
            }
        }
        Ok(subnets)
    }

    /// The usual subnet, or the first free one of the pools.
    fn free_subnet(
        &self,
        network: &Network,
        facts: &Facts,
        usual_alone: bool,
    ) -> Result<Subnet, ServiceError> {
        let routes = self.foreign_routes(facts, network);
        let mut taken: Vec<IpNet> = routes.into_iter().map(|(prefix, _)| prefix).collect();
        self.world.read(|intent| {
            let others = intent.networks().filter_map(|(_, view)| view.network());
            let subnets = others.filter(|other| other.id != network.id).flat_map(|other| &other.subnets);
            taken.extend(subnets.map(|subnet| subnet.prefix));
        });
        let usual: IpNet = USUAL.parse().unwrap_or_default();
        let prefix = match ipam::overlapping(usual, &taken) {
            None => Some(usual),
            Some(_) if usual_alone => None,
            Some(_) => ipam::pick_subnet(&self.settings.pools, &taken, false),
        };
        prefix.and_then(|prefix| ipam::automatic(prefix, SubnetKind::WithGateway)).ok_or_else(|| {
            ServiceError::Exhausted(format!(
                "no subnet is free for network {DEFAULT_NETWORK}: give its bridge an address with --bip, or configure more with \
                 --default-address-pool"
            ))
        })
    }

    /// Rewrite the network's record, unless that would cut off endpoints.
    async fn adapt_bridge(&self, known: &Network, wanted: &Network) -> Result<(), ServiceError> {
        let _turn = self.turns.wait(Work::Network(known.id)).await?;
        self.world.read(|intent| match intent.network(known.id) {
            Some(view) => refuse_cut_off(known, wanted, view.endpoints().values()),
            None => Ok(()),
        })?;
        for _ in 0..TRIES {
            let key = Key::Network(known.id).in_scope(Scope::Local);
            let Some(entry) = self.local.get(&key).await?.1 else {
                return Err(ServiceError::Busy("it was removed at the same time".into()));
            };
            let mut commit = Commit::new()
                .unchanged(Key::Network(known.id), entry.mod_revision)
                .put(Key::Network(known.id), wanted.to_bytes());
            let (old, new) = (reserved(known), reserved(wanted));
            for (key, _) in old.iter().filter(|(key, _)| !new.iter().any(|(other, _)| other == key)) {
                commit = commit.delete(key.clone());
            }
            for (key, owner) in new {
                commit = commit.put(key, owner.to_bytes());
            }
            match self.local.commit(commit.in_scope(Scope::Local)).await {
                Ok(revision) => {
                    self.follow_change(Scope::Local, revision).await;
                    tracing::info!(network = DEFAULT_NETWORK, subnets = %listed(wanted), "network changed");
                    return Ok(());
                }
                Err(CommitError::Refused(_)) => {}
                Err(CommitError::Store(error)) => return Err(error.into()),
            }
        }
        Err(ServiceError::Busy("it keeps changing: try again".into()))
    }
}

/// The options as given with `-o`: those that differ from the defaults.
fn options(config: &DefaultBridge) -> BTreeMap<String, String> {
    let mut options = BTreeMap::new();
    let mut set = |name: &str, value: String| options.insert(format!("com.docker.network.{name}"), value);
    if let Some(link) = config.link {
        set("bridge.name", link.to_string());
    }
    if let Some(mtu) = config.mtu {
        set("driver.mtu", mtu.to_string());
    }
    if !config.icc {
        set("bridge.enable_icc", "false".into());
    }
    if !config.masquerade {
        set("bridge.enable_ip_masquerade", "false".into());
    }
    options
}

fn place_range(subnets: &mut [Subnet], range: IpNet) -> Result<(), Invalid> {
    let Some(subnet) = subnets.iter_mut().find(|subnet| subnet.prefix.contains(&range)) else {
        return Err(Invalid::new("fixed-cidr", range.to_string(), outside(subnets)));
    };
    // The whole of it is no range.
    subnet.ip_range = (subnet.prefix != range).then_some(range);
    Ok(())
}

fn place_gateway(subnets: &mut [Subnet], gateway: IpAddr) -> Result<(), Invalid> {
    let Some(subnet) = subnets.iter_mut().find(|subnet| subnet.prefix.contains(&gateway)) else {
        return Err(Invalid::new("default-gateway", gateway.to_string(), outside(subnets)));
    };
    let [v4, v6] = DEFAULT_GATEWAYS;
    if subnet.gateway != Some(gateway) {
        subnet.aux_addresses.insert(if gateway.is_ipv6() { v6 } else { v4 }.to_owned(), gateway);
    }
    Ok(())
}

fn outside(subnets: &[Subnet]) -> String {
    let all: Vec<String> = subnets.iter().map(|subnet| subnet.prefix.to_string()).collect();
    format!(
        "it lies outside network {DEFAULT_NETWORK} ({}): choose a different one, or change the network with \
         --bip",
        all.join(", ")
    )
}

/// Endpoints keep their addresses and their bridge.
fn refuse_cut_off<'a>(
    known: &Network,
    wanted: &Network,
    endpoints: impl Iterator<Item = &'a crate::model::Endpoint>,
) -> Result<(), ServiceError> {
    let bridges = [known, wanted].map(bridge_of);
    let same_subnet = |address: &IpNet| {
        let subnet = wanted.subnets.iter().find(|subnet| subnet.prefix == address.trunc());
        let is_free = |subnet: &Subnet| {
            let mut others = subnet.aux_addresses.values().chain(&subnet.gateway);
            others.all(|other| *other != address.addr())
        };
        subnet.is_some_and(is_free)
    };
    let cut_off: Vec<String> = endpoints
        .filter(|endpoint| bridges[0] != bridges[1] || !endpoint.addresses.iter().all(same_subnet))
        .map(|endpoint| endpoint.name.to_string())
        .collect();
    if cut_off.is_empty() {
        return Ok(());
    }
    Err(ServiceError::InUse(format!(
        "network {DEFAULT_NETWORK} stays as it is ({}), because a change would cut off {}: disconnect them, \
         and restart the agent",
        listed(known),
        cut_off.join(", ")
    )))
}

fn listed(network: &Network) -> String {
    let all: Vec<String> = network
        .subnets
        .iter()
        .map(|subnet| subnet.gateway.map_or(subnet.prefix, |gateway| subnet.with_prefix(gateway)).to_string())
        .collect();
    all.join(", ")
}
