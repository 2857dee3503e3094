//! The host's own rules: published ports, isolation between networks, and masquerading.
//!
//! *Ours* are the links of all networks in the host: the outer ends of legs, and bridges. Traffic into one of
//! them passes only if a rule accepts it; traffic from one to the outside passes unless a rule drops it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
};

use ipnet::IpNet;

use super::{
    guard::{self, LO, LOOPBACK, rule},
    inputs::{Forward, HostInput, HostNetwork, HostSide},
};
use crate::{
    model::{Leg, NetworkId},
    plan::ruleset::{Action, Chain, Family, Hook, LinkMatch, Match, PortKey, PortMap, Rule, Table},
};

/// The inputs of the rules.
struct Scene<'a> {
    /// In order of their links.
    networks: &'a [&'a HostNetwork],
    /// In order; only those that lead into one of the networks.
    ports: BTreeSet<&'a Forward>,
    /// Our links, as the fewest conditions.
    ours: BTreeSet<LinkMatch>,
    /// Families of which only our traffic is forwarded.
    closed: &'a BTreeSet<Family>,
    /// Frames within a bridge pass these rules too.
    bridge_firewall: bool,
}

/// The host's table for these networks, which are in order; `None` if it would be empty.
pub(super) fn table(input: &HostInput, networks: &[&HostNetwork]) -> Option<Table> {
    let open: BTreeSet<NetworkId> =
        networks.iter().filter(|network| !network.internal).map(|network| network.id).collect();
    let fits = |port: &&Forward| {
        let one_family = port.host.is_none_or(|host| Family::of(host) == Family::of(port.to));
        one_family && open.contains(&port.network)
    };
    let scene = Scene {
        networks,
        ports: input.ports.iter().filter(fits).collect(),
        ours: networks.iter().map(|network| network.links()).collect(),
        closed: &input.closed,
        bridge_firewall: input.bridge_firewall,
    };
    let maps = scene.maps();
    let chains = [
        (Hook::Prerouting, redirects(&maps, |_| None)),
        (Hook::Output, redirects(&maps, except_loopback)),
        (Hook::Forward, scene.forward()),
        (Hook::Postrouting, scene.postrouting()),
    ];
    let chains = chains.into_iter().filter(|(_, rules)| !rules.is_empty());
    let mut table = guard::table(input.underlay.as_ref(), &scene.ours);
    table.chains.extend(chains.map(|(hook, rules)| Chain { hook, rules }));
    table.ports = maps;
    (!table.chains.is_empty()).then_some(table)
}

/// Traffic to a published port at an address of the host; ports with an address come first.
fn redirects(
    maps: &BTreeMap<PortMap, BTreeMap<PortKey, (IpAddr, u16)>>,
    also: impl Fn(PortMap) -> Option<Match>,
) -> Vec<Rule> {
    let mut maps: Vec<PortMap> = maps.keys().copied().collect();
    maps.sort_by_key(|map| (!map.addressed, map.family));
    let redirect = |map| rule([Match::DestinationLocal].into_iter().chain(also(map)), Action::Redirect(map));
    maps.into_iter().map(redirect).collect()
}

/// An answer to ::1 can come back only over `lo`, so refusing at once is better.
fn except_loopback(map: PortMap) -> Option<Match> {
    let loopback = Match::NotDestination(IpNet::from(IpAddr::V6(Ipv6Addr::LOCALHOST)));
    (map.family == Family::V6).then_some(loopback)
}

impl Scene<'_> {
    fn maps(&self) -> BTreeMap<PortMap, BTreeMap<PortKey, (IpAddr, u16)>> {
        let mut maps: BTreeMap<PortMap, BTreeMap<PortKey, (IpAddr, u16)>> = BTreeMap::new();
        for port in &self.ports {
            let map = PortMap { family: Family::of(port.to), addressed: port.host.is_some() };
            let key = PortKey { address: port.host, protocol: port.protocol, port: port.host_port };
            maps.entry(map).or_default().entry(key).or_insert((port.to, port.port));
        }
        maps
    }

    fn forward(&self) -> Vec<Rule> {
        if self.networks.is_empty() {
            return self.strangers();
        }
        let mut rules = vec![rule([Match::Established], Action::Accept)];
        let bridges = self.networks.iter().filter(|network| matches!(network.side, HostSide::Bridge));
        let (internal, open): (Vec<&HostNetwork>, Vec<&HostNetwork>) =
            bridges.copied().partition(|network| network.internal);
        // An internal network has no way out, to published ports of others neither.
        for network in internal {
            let link = LinkMatch::Is(network.link);
            rules.extend(self.within(network));
            rules.push(rule([Match::In(link.clone())], Action::Drop));
            rules.push(rule([Match::Out(link)], Action::Drop));
        }
        let into = |link: &LinkMatch| Match::Out(link.clone());
        rules.extend(self.ours.iter().map(|link| rule([Match::Redirected, into(link)], Action::Accept)));
        for network in open {
            rules.extend(self.within(network));
        }
        // From the outside and from other networks: nothing else.
        rules.extend(self.ours.iter().map(|link| rule([into(link)], Action::Drop)));
        let from = |link: &LinkMatch| Match::In(link.clone());
        // What belongs to no connection would leave with a sandbox's own address.
        let astray = self.masquerading();
        rules.extend(astray.iter().map(|link| rule([from(link), Match::Invalid], Action::Drop)));
        if !self.closed.is_empty() {
            rules.extend(self.ours.iter().map(|link| rule([from(link)], Action::Accept)));
            rules.extend(self.strangers());
        }
        rules
    }

    /// Traffic that is not ours. Frames within a foreign bridge are not forwarded by the host, although they
    /// pass this chain.
    fn strangers(&self) -> Vec<Rule> {
        let within = rule([Match::FromBridge, Match::ToBridge], Action::Accept);
        let within = (self.bridge_firewall && !self.closed.is_empty()).then_some(within);
        let closed = self.closed.iter().map(|family| rule([Match::Family(*family)], Action::Drop));
        within.into_iter().chain(closed).collect()
    }

    /// The links of the networks that masquerade; one name prefix covers a group if all of its links do.
    fn masquerading(&self) -> BTreeSet<LinkMatch> {
        let open = || self.networks.iter().filter(|network| !network.internal);
        let plain: BTreeSet<LinkMatch> =
            open().filter(|network| !network.masquerade).map(|network| network.links()).collect();
        let link = |network: &&HostNetwork| match network.links() {
            links if plain.contains(&links) => LinkMatch::Is(network.link),
            links => links,
        };
        open().filter(|network| network.masquerade).map(link).collect()
    }

    /// Between the sandboxes of one bridge.
    fn within(&self, network: &HostNetwork) -> Vec<Rule> {
        let link = LinkMatch::Is(network.link);
        let same = [Match::In(link.clone()), Match::Out(link)];
        if network.icc {
            return vec![rule(same, Action::Accept)];
        }
        let allowed = network.allowed.iter().filter(|(from, to)| Family::of(*from) == Family::of(*to));
        let pairs = allowed.collect::<BTreeSet<_>>().into_iter().map(|(from, to)| {
            let ends = [Match::Source(IpNet::from(*from)), Match::Destination(IpNet::from(*to))];
            rule(same.iter().cloned().chain(ends), Action::Accept)
        });
        let theirs = self.ports.iter().filter(|port| port.network == network.id);
        let published: BTreeSet<_> = theirs.map(|port| (port.to, port.protocol, port.port)).collect();
        let published = published.into_iter().map(|(to, protocol, port)| {
            let there = [Match::Destination(IpNet::from(to)), Match::Port(protocol, port)];
            rule(same.iter().cloned().chain(there), Action::Accept)
        });
        pairs.chain(published).chain([rule(same.iter().cloned(), Action::Drop)]).collect()
    }

    fn postrouting(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        // A sandbox that reaches its own network by a published port must not be answered past this host.
        for network in self.networks.iter().filter(|network| self.publishes(network)) {
            let out = || Match::Out(LinkMatch::Is(network.link));
            let hairpin =
                |source| rule([Match::Redirected, out(), Match::Source(source)], Action::Masquerade);
            rules.extend(insiders(network).into_iter().map(hairpin));
        }
        // What the host sends from 127.0.0.1 is answered to an address that is on the link.
        if self.ports.iter().any(|port| port.to.is_ipv4()) {
            let from_loopback = |link: &LinkMatch| {
                let out = Match::Out(link.clone());
                rule([Match::Source(LOOPBACK.into()), out], Action::Masquerade)
            };
            rules.extend(self.ours.iter().map(from_loopback));
        }
        let outside = self.leaving();
        if !outside.is_empty() {
            // What stays here keeps its address.
            let here = self.ours.iter().cloned().chain([LinkMatch::Is(LO)]);
            rules.extend(here.map(|link| rule([Match::Out(link)], Action::Accept)));
            rules.extend(outside.into_iter().map(|net| rule([Match::Source(net)], Action::Masquerade)));
        }
        rules
    }

    fn publishes(&self, network: &HostNetwork) -> bool {
        self.ports.iter().any(|port| port.network == network.id)
    }

    /// The source addresses that are masqueraded when they leave the host.
    fn leaving(&self) -> BTreeSet<IpNet> {
        let mut sources = BTreeSet::new();
        for network in self.networks.iter().filter(|network| network.masquerade && !network.internal) {
            match network.side {
                HostSide::Bridge => sources.extend(&network.subnets),
                HostSide::Leg(_) => {
                    sources.insert(IpNet::V4(Leg::RANGE_V4));
                    if network.has(Family::V6) {
                        sources.insert(IpNet::V6(Leg::RANGE_V6));
                    }
                }
            }
        }
        sources
    }
}

/// The source addresses of a network's own sandboxes when their traffic reaches the host.
fn insiders(network: &HostNetwork) -> BTreeSet<IpNet> {
    match network.side {
        HostSide::Bridge => network.subnets.iter().copied().collect(),
        HostSide::Leg(leg) => {
            let of_leg = leg.inner().into_iter().filter(|net| network.has(Family::of(net.addr())));
            let mut sources: BTreeSet<IpNet> = of_leg.map(|net| IpNet::from(net.addr())).collect();
            if !network.masquerade {
                sources.extend(&network.subnets);
            }
            sources
        }
    }
}
