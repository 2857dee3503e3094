//! Checks a new network against this host and the other networks: names, parents, bridges, routes.

use ipnet::IpNet;

use super::{
    super::{Service, ServiceError},
    spec::Wanted,
};
use crate::{
    drivers::bridge_of,
    intent::Intent,
    ipam,
    kernel::{FactLink, Facts, Kernel},
    model::{BridgeSettings, IfName, InHost, Invalid, Network, Parent, Scope, Subnet},
    plan::{
        ownership::{BRIDGE_PREFIX, LEG_PREFIX, PORT_PREFIX},
        state::{LinkKind, Look, LookAt, Netns},
    },
};

/// The default network's bridge, and the prefixes of our links' names.
const OURS: [&str; 4] = ["ovnet0", LEG_PREFIX, BRIDGE_PREFIX, PORT_PREFIX];

impl<K: Kernel> Service<K> {
    /// Refuse a network that conflicts with this host or with another network. An existing foreign bridge
    /// provides the network's addresses.
    pub(in crate::service) async fn check_network(
        &self,
        wanted: &mut Wanted,
        facts: &Facts,
    ) -> Result<(), ServiceError> {
        self.world.read(|intent| check_name(intent, &wanted.network))?;
        if let Some(settings) = wanted.network.settings.bridge().copied()
            && let Some(link) = self.check_bridge(&wanted.network, &settings, facts).await?
        {
            take_addresses(wanted, &link)?;
        }
        if let Some(parent) = wanted.network.settings.parent().copied() {
            check_parent(parent, facts)?;
            self.refuse_port(parent.link).await?;
            self.world.read(|intent| check_parent_is_free(intent, &wanted.network, parent))?;
        }
        match wanted.network.profile().in_host {
            InHost::Bridge => {
                self.check_routes(wanted, facts)?;
                self.world.read(|intent| check_subnets(intent, wanted))
            }
            InHost::Leg => self.check_routes(wanted, facts),
            // The host has no route to it.
            InHost::Parent | InHost::Nothing => Ok(()),
        }
    }

    /// A bridge takes all traffic of its ports.
    async fn refuse_port(&self, parent: IfName) -> Result<(), ServiceError> {
        let at = LookAt { links: Some([parent].into()), ..LookAt::default() };
        let seen = self.kernel.observe(Look { netns: [(Netns::Host, at)].into() }).await?;
        let there = seen.netns.get(&Netns::Host).and_then(|host| host.links.get(&parent));
        match there.and_then(|link| link.port) {
            None => Ok(()),
            Some(port) => {
                let reason = format!(
                    "it is a port of the bridge {bridge}, which takes all its traffic: choose a different \
                     link, such as {bridge} itself",
                    bridge = port.bridge
                );
                Err(Invalid::new("parent", parent.to_string(), reason).into())
            }
        }
    }

    fn check_routes(&self, wanted: &Wanted, facts: &Facts) -> Result<(), ServiceError> {
        let routes = self.foreign_routes(facts, &wanted.network);
        for subnet in wanted.chosen.iter().filter(|_| !wanted.force) {
            let all: Vec<IpNet> = routes.iter().map(|(prefix, _)| *prefix).collect();
            if let Some(route) = ipam::overlapping(subnet.prefix, &all) {
                let link =
                    routes.iter().find(|(prefix, _)| *prefix == route).map(|(_, link)| link.to_string());
                let link = link.unwrap_or_default();
                let reason = format!(
                    "it overlaps {route}, a route of this host (dev {link}): endpoints and host could not \
                     reach each other; choose a different subnet, leave it out for an automatic one, or add \
                     --force"
                );
                return Err(Invalid::new("subnet", subnet.prefix.to_string(), reason).into());
            }
        }
        Ok(())
    }

    /// The host's routes, without those of our networks and of `own`'s bridge.
    pub(in crate::service) fn foreign_routes(&self, facts: &Facts, own: &Network) -> Vec<(IpNet, IfName)> {
        let bridges: Vec<IfName> = self.world.read(|intent| {
            let networks = intent.networks().filter_map(|(_, view)| view.network());
            networks.chain([own]).filter_map(bridge_of).collect()
        });
        let foreign = facts.routes.iter().filter(|(_, link)| !is_ours(*link) && !bridges.contains(link));
        foreign.copied().collect()
    }

    /// The existing foreign bridge that a network will use, if there is one.
    pub(in crate::service) async fn check_bridge(
        &self,
        network: &Network,
        settings: &BridgeSettings,
        facts: &Facts,
    ) -> Result<Option<FactLink>, ServiceError> {
        let Some(name) = settings.name else { return Ok(None) };
        let wrong = |reason: String| Err(Invalid::new("bridge name", name.to_string(), reason).into());
        let holder = self.world.read(|intent| {
            let networks = intent.networks().filter_map(|(_, view)| view.network());
            let mut others = networks.filter(|other| other.id != network.id);
            others.find(|other| bridge_of(other) == Some(name)).map(|other| other.name.clone())
        });
        if let Some(holder) = holder {
            return wrong(format!("it is the bridge of network {holder}: choose a different name"));
        }
        if is_ours(name) {
            return wrong(format!("names that start with {} are reserved for the agent", OURS.join(", ")));
        }
        let Some(link) = facts.links.iter().find(|link| link.name == name) else { return Ok(None) };
        let at = LookAt { links: Some([name].into()), ..LookAt::default() };
        let seen = self.kernel.observe(Look { netns: [(Netns::Host, at)].into() }).await?;
        let there = seen.netns.get(&Netns::Host).and_then(|host| host.links.get(&name));
        match there {
            Some(there) if there.kind != LinkKind::Bridge => wrong(
                "this host has a link of that name which is not a bridge: choose a different name".into(),
            ),
            // One of ours that is about to go, or to be found by this network.
            Some(there) if there.mark.is_some() => Ok(None),
            Some(_) => Ok(Some(link.clone())),
            None => Ok(None),
        }
    }
}

fn is_ours(link: IfName) -> bool {
    OURS.iter().any(|start| link.as_str().starts_with(start))
}

/// A name must be unique among the networks of this host and of the cluster.
fn check_name(intent: &Intent, network: &Network) -> Result<(), ServiceError> {
    let mut all = intent.networks().filter_map(|(_, view)| view.network());
    match all.find(|other| other.name == network.name) {
        None => Ok(()),
        Some(other) => Err(exists(other)),
    }
}

/// The error that a network of this name exists.
pub(in crate::service) fn exists(network: &Network) -> ServiceError {
    let place = match network.scope {
        Scope::Local => " on this host",
        Scope::Global => "",
    };
    ServiceError::Exists(format!(
        "a network named {} exists already{place}: choose a different name",
        network.name
    ))
}

/// The parent of a network, or the link below its VLAN, must be a link of this host.
fn check_parent(parent: Parent, facts: &Facts) -> Result<(), ServiceError> {
    let foreign = || facts.links.iter().filter(|link| !is_ours(link.name) && link.name.as_str() != "lo");
    let there = |name: IfName| foreign().any(|link| link.name == name);
    let missing = match parent.vlan {
        _ if there(parent.link) => return Ok(()),
        Some((on, _)) if there(on) => return Ok(()),
        Some((on, _)) => format!("neither {} nor its parent {on} exists", parent.link),
        None => "there is no such link".to_owned(),
    };
    let names: Vec<&str> = foreign().map(|link| link.name.as_str()).collect();
    let have = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Err(Invalid::new("parent", parent.link.to_string(), format!("{missing}; this host has {have}")).into())
}

/// Two networks on one link would take each other's frames.
fn check_parent_is_free(intent: &Intent, network: &Network, parent: Parent) -> Result<(), ServiceError> {
    let on = |other: &Network| other.settings.parent().is_some_and(|theirs| theirs.link == parent.link);
    let mut others = intent.networks().filter_map(|(_, view)| view.network());
    match others.find(|other| other.id != network.id && on(other)) {
        None => Ok(()),
        Some(other) => Err(ServiceError::InUse(format!(
            "parent {} is in use by network {} ({}): connect to that network, or choose a different parent, \
             such as a VLAN of it ({}.10)",
            parent.link,
            other.name,
            other.driver(),
            parent.link
        ))),
    }
}

/// A bridge's subnet is a route of the host, so it must not overlap another network's subnet.
fn check_subnets(intent: &Intent, wanted: &Wanted) -> Result<(), ServiceError> {
    let others = intent.networks().filter_map(|(_, view)| view.network());
    for other in others.filter(|other| other.id != wanted.network.id) {
        let matters = match other.profile().in_host {
            InHost::Bridge => true,
            InHost::Leg => !other.internal && !wanted.force,
            InHost::Parent | InHost::Nothing => false,
        };
        let theirs: Vec<IpNet> =
            other.subnets.iter().filter(|_| matters).map(|subnet| subnet.prefix).collect();
        for subnet in &wanted.chosen {
            if let Some(prefix) = ipam::overlapping(subnet.prefix, &theirs) {
                let reason = format!(
                    "it overlaps {prefix} of network {}: the host could reach only one of the two; choose a \
                     different subnet, or leave it out for an automatic one",
                    other.name
                );
                return Err(Invalid::new("subnet", subnet.prefix.to_string(), reason).into());
            }
        }
    }
    Ok(())
}

/// A network on a foreign bridge uses the bridge's addresses as its gateways.
fn take_addresses(wanted: &mut Wanted, link: &FactLink) -> Result<(), ServiceError> {
    if wanted.chosen.is_empty() {
        wanted.chosen = subnets_of(link)?;
        wanted.network.subnets.clone_from(&wanted.chosen);
        wanted.automatic.clear();
        return Ok(());
    }
    for subnet in &mut wanted.chosen {
        let own = link.addresses.iter().find(|own| subnet.prefix == own.trunc()).map(IpNet::addr);
        let asked = subnet.gateway.filter(|gateway| wanted.gateways_asked.contains(gateway));
        match own {
            Some(own) if asked.is_none_or(|asked| asked == own) => subnet.gateway = Some(own),
            Some(own) => {
                let reason = format!(
                    "the bridge {} has {own} in {}, and is not the agent's",
                    link.name, subnet.prefix
                );
                return Err(Invalid::new("gateway", asked.unwrap_or(own).to_string(), reason).into());
            }
            None => {
                let reason = format!(
                    "the bridge {} is not the agent's, and has no address there: give it one, or leave --subnet out for the \
                     subnet that it has",
                    link.name
                );
                return Err(Invalid::new("subnet", subnet.prefix.to_string(), reason).into());
            }
        }
    }
    wanted.network.subnets.clone_from(&wanted.chosen);
    Ok(())
}

/// The subnets of a foreign bridge: those of its first address of each family.
pub(in crate::service) fn subnets_of(link: &FactLink) -> Result<Vec<Subnet>, Invalid> {
    let usable = |own: &&IpNet| {
        own.prefix_len() + 2 <= own.max_prefix_len()
            && match own {
                IpNet::V4(v4) => !v4.addr().is_link_local(),
                IpNet::V6(v6) => !v6.addr().is_unicast_link_local(),
            }
    };
    let first = |v6: bool| link.addresses.iter().filter(usable).find(|own| own.addr().is_ipv6() == v6);
    let subnets: Vec<Subnet> = [false, true].into_iter().filter_map(first).map(subnet_of).collect();
    if subnets.is_empty() {
        let reason = "it is not the agent's, and has no address that can be a network's gateway: give it one";
        return Err(Invalid::new("bridge name", link.name.to_string(), reason));
    }
    Ok(subnets)
}

/// The subnet whose gateway has this address with prefix length.
pub(in crate::service) fn subnet_of(gateway: &IpNet) -> Subnet {
    Subnet {
        prefix: gateway.trunc(),
        gateway: Some(gateway.addr()),
        ip_range: None,
        aux_addresses: std::collections::BTreeMap::new(),
    }
}
