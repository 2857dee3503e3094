//! The rules in an overlay's namespace: destination NAT of published ports that come in over the host leg,
//! and source NAT of what goes out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{BRIDGE, INNER, OverlayShared};
use crate::{
    model::{Leg, Protocol},
    plan::ruleset::{Action, Chain, Family, Hook, LinkMatch, Match, PortKey, PortMap, Rule, Table},
};

/// A published port of an overlay's endpoint, on a host of the network. The host sends it to the inner end of
/// its leg, with the same port number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Redirected {
    /// Of both ports.
    pub protocol: Protocol,
    /// The host's port.
    pub host_port: u16,
    /// The endpoint's address.
    pub to: IpAddr,
    /// The endpoint's port.
    pub port: u16,
    /// The endpoint is on this host.
    pub local: bool,
}

/// The table of a network with this leg.
pub(super) fn table(input: &OverlayShared, leg: Leg) -> Table {
    let ports = ports(&input.ports);
    let mut chains = Vec::new();
    if !ports.is_empty() {
        chains.push(Chain { hook: Hook::Prerouting, rules: redirects(&ports, leg) });
    }
    if masquerades(input) {
        // What belongs to no connection would leave with an endpoint's own address.
        let out = Match::Out(LinkMatch::Is(INNER));
        let astray = Rule { matches: vec![out, Match::Invalid], action: Action::Drop };
        chains.push(Chain { hook: Hook::Forward, rules: vec![astray] });
    }
    chains.push(Chain { hook: Hook::Postrouting, rules: sources(input) });
    Table { ports, chains, ..Table::default() }
}

fn ports(redirected: &[Redirected]) -> BTreeMap<PortMap, BTreeMap<PortKey, (IpAddr, u16)>> {
    let mut ports: BTreeMap<PortMap, BTreeMap<PortKey, (IpAddr, u16)>> = BTreeMap::new();
    // The same one said twice is the first by order, not by place.
    for port in redirected.iter().collect::<BTreeSet<_>>() {
        let map = PortMap { family: Family::of(port.to), addressed: false };
        let key = PortKey { address: None, protocol: port.protocol, port: port.host_port };
        ports.entry(map).or_default().entry(key).or_insert((port.to, port.port));
    }
    ports
}

/// Only traffic to the leg's own address: the host also sends to the endpoints' addresses, to any port.
fn redirects(ports: &BTreeMap<PortMap, BTreeMap<PortKey, (IpAddr, u16)>>, leg: Leg) -> Vec<Rule> {
    let by_leg = |map: &PortMap| {
        let mut inner = leg.inner().into_iter().map(|net| net.addr());
        let own = inner.find(|address| Family::of(*address) == map.family)?;
        let matches = vec![Match::In(LinkMatch::Is(INNER)), Match::Destination(IpNet::from(own))];
        Some(Rule { matches, action: Action::Redirect(*map) })
    };
    ports.keys().filter_map(by_leg).collect()
}

fn sources(input: &OverlayShared) -> Vec<Rule> {
    let (by_leg, by_bridge) = (LinkMatch::Is(INNER), LinkMatch::Is(BRIDGE));
    let mut rules = Vec::new();
    if masquerades(input) {
        rules.extend(input.network.subnets.iter().map(|subnet| Rule {
            matches: vec![Match::Source(subnet.prefix), Match::Out(by_leg.clone())],
            action: Action::Masquerade,
        }));
    }
    // An endpoint here answers by this namespace, whoever asked: it may know the client's address.
    let here: BTreeSet<IpAddr> = input.ports.iter().filter(|port| port.local).map(|port| port.to).collect();
    rules.extend(here.into_iter().map(|to| Rule {
        matches: vec![
            Match::In(by_leg.clone()),
            Match::Out(by_bridge.clone()),
            Match::Destination(IpNet::from(to)),
            Match::Redirected,
        ],
        action: Action::Accept,
    }));
    // A host's packets come from its node's own address, which every other host knows the way to.
    rules.extend(input.member.addresses.iter().map(|own| Rule {
        matches: vec![
            Match::In(by_leg.clone()),
            Match::Out(by_bridge.clone()),
            Match::Destination(own.trunc()),
        ],
        action: Action::SourceNat(own.addr()),
    }));
    rules
}

fn masquerades(input: &OverlayShared) -> bool {
    input.network.settings.overlay().is_none_or(|settings| settings.masquerade)
}
