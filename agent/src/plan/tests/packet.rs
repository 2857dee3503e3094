//! A host that sends packets by its rules.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    model::{IfName, NetworkId, Protocol},
    plan::{
        ruleset::{Action, Family, Hook, LinkMatch, Match, PortKey, Rule, Table},
        state::Netns,
        *,
    },
};

/// The link to the outside, and the host's address on it.
pub(super) const NIC: IfName = IfName::literal("eth9");
pub(super) const HERE: [&str; 2] = ["198.51.100.1", "2001:db8::1"];
/// Somebody outside.
pub(super) const CLIENT: [&str; 2] = ["198.51.100.9", "2001:db8::9"];

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A packet that begins a connection, unless it belongs to one.
#[derive(Clone, Debug)]
struct Packet {
    input: Option<IfName>,
    output: Option<IfName>,
    source: IpAddr,
    destination: IpAddr,
    port: u16,
    redirected: bool,
    established: bool,
}

/// Where a packet gets to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    Dropped,
    /// The host itself.
    Host,
    /// This address and port, from its own address.
    Reaches(String),
    /// The same, from an address of the host.
    Masqueraded(String),
}

/// A host with networks, and its table.
pub(super) struct Host {
    networks: Vec<HostNetwork>,
    table: Table,
}

pub(super) fn bridge_of(number: u8, change: impl FnOnce(&mut HostNetwork)) -> HostNetwork {
    let subnets = [format!("172.30.{number}.0/24"), format!("fd00:30:{number}::/64")];
    let mut network = HostNetwork {
        id: NetworkId::from_bytes([number; 32]),
        link: format!("ovb-{number}").parse().unwrap(),
        side: HostSide::Bridge,
        subnets: subnets.map(|subnet| subnet.parse().unwrap()).into(),
        internal: false,
        masquerade: true,
        icc: true,
        allowed: vec![],
    };
    change(&mut network);
    network
}

pub(super) fn leg_of(number: u8, change: impl FnOnce(&mut HostNetwork)) -> HostNetwork {
    let mut network = bridge_of(number, |_| ());
    network.link = format!("ovh-{number}").parse().unwrap();
    network.side = HostSide::Leg(Leg::new(number.into()).unwrap());
    change(&mut network);
    network
}

/// A port of one endpoint, 80, at this one of the host, and its address if one is chosen.
pub(super) fn published(network: &HostNetwork, host: Option<&str>, host_port: u16, to: &str) -> Forward {
    let (protocol, host) = (Protocol::Tcp, host.map(ip));
    Forward { network: network.id, protocol, host, host_port, to: ip(to), port: 80 }
}

pub(super) fn table_of(input: &HostInput) -> Table {
    host(input).netns.remove(&Netns::Host).unwrap().table.unwrap()
}

impl Host {
    pub(super) fn new(networks: Vec<HostNetwork>, ports: Vec<Forward>) -> Self {
        let input = HostInput { networks: networks.clone(), ports, ip_forward: true, ipv6: true };
        Self { networks, table: table_of(&input) }
    }

    pub(super) fn route(&self, to: IpAddr) -> IfName {
        let behind = |network: &&HostNetwork| {
            let leg: Vec<IpNet> = match network.side {
                HostSide::Leg(leg) => leg.inner().into(),
                HostSide::Bridge => vec![],
            };
            network.subnets.iter().chain(&leg).any(|net| net.contains(&to))
        };
        self.networks.iter().find(behind).map_or(NIC, |network| network.link)
    }

    /// What comes in by a link, from this address to this one.
    pub(super) fn forward(&self, input: IfName, source: &str, (to, port): (&str, u16)) -> End {
        let packet = Packet {
            input: Some(input),
            output: None,
            source: ip(source),
            destination: ip(to),
            port,
            redirected: false,
            established: false,
        };
        if self.verdict(Hook::Raw, &packet) == Some(Outcome::Verdict(Action::Drop)) {
            return End::Dropped;
        }
        self.deliver(self.translated(Hook::Prerouting, packet))
    }

    /// What comes from a sandbox of a network: out of an overlay from its leg's address.
    pub(super) fn sandbox_sends(&self, network: &HostNetwork, to: (&str, u16)) -> End {
        let v4 = ip(to.0).is_ipv4();
        let source = match network.side {
            HostSide::Leg(leg) if network.masquerade => leg.inner()[usize::from(!v4)].addr(),
            HostSide::Leg(_) | HostSide::Bridge => {
                let mut hosts =
                    network.subnets.iter().find(|net| net.addr().is_ipv4() == v4).unwrap().hosts();
                hosts.nth(4).unwrap()
            }
        };
        self.forward(network.link, &source.to_string(), to)
    }

    /// What comes from somebody outside.
    pub(super) fn outsider_sends(&self, to: (&str, u16)) -> End {
        self.forward(NIC, CLIENT[usize::from(ip(to.0).is_ipv6())], to)
    }

    /// What a process of the host sends.
    pub(super) fn host_sends(&self, (to, port): (&str, u16)) -> End {
        let own = HERE[usize::from(ip(to).is_ipv6())];
        let source = if ip(to).is_loopback() { ip(to) } else { ip(own) };
        let (destination, output) = (ip(to), Some(self.route(ip(to))));
        let packet =
            Packet { input: None, output, source, destination, port, redirected: false, established: false };
        self.deliver(self.translated(Hook::Output, packet))
    }

    fn deliver(&self, packet: Packet) -> End {
        if is_local(packet.destination) {
            return End::Host;
        }
        let packet = Packet { output: Some(self.route(packet.destination)), ..packet };
        if packet.input.is_some()
            && self.verdict(Hook::Forward, &packet) == Some(Outcome::Verdict(Action::Drop))
        {
            return End::Dropped;
        }
        let at = format!("{} {}", packet.destination, packet.port);
        let masquerades =
            self.verdict(Hook::Postrouting, &packet) == Some(Outcome::Verdict(Action::Masquerade));
        if masquerades { End::Masqueraded(at) } else { End::Reaches(at) }
    }

    /// Whether a packet of a known connection passes.
    pub(super) fn answers(&self, input: IfName, source: &str, to: &str) -> bool {
        let output = Some(self.route(ip(to)));
        let packet = Packet {
            input: Some(input),
            output,
            source: ip(source),
            destination: ip(to),
            port: 40_000,
            redirected: false,
            established: true,
        };
        self.verdict(Hook::Forward, &packet) == Some(Outcome::Verdict(Action::Accept))
    }

    fn translated(&self, hook: Hook, packet: Packet) -> Packet {
        match self.verdict(hook, &packet) {
            Some(Outcome::Redirected(destination, port)) => {
                Packet { destination, port, redirected: true, ..packet }
            }
            Some(other) => panic!("{other:?} has no place in {hook:?}"),
            None => packet,
        }
    }

    fn verdict(&self, hook: Hook, packet: &Packet) -> Option<Outcome> {
        let chain = self.table.chains.iter().find(|chain| chain.hook == hook)?;
        chain.rules.iter().find_map(|rule| self.outcome(rule, packet))
    }

    fn outcome(&self, rule: &Rule, packet: &Packet) -> Option<Outcome> {
        if !rule.matches.iter().all(|condition| holds(condition, packet)) {
            return None;
        }
        let Action::Redirect(map) = &rule.action else { return Some(Outcome::Verdict(rule.action.clone())) };
        let address = map.addressed.then_some(packet.destination);
        let key = PortKey { address, protocol: Protocol::Tcp, port: packet.port };
        let (to, port) = self.table.ports[map].get(&key)?;
        (map.family == Family::of(packet.destination)).then_some(Outcome::Redirected(*to, *port))
    }
}

/// What a chain does with a packet.
#[derive(Debug, PartialEq)]
enum Outcome {
    Verdict(Action),
    /// Its destination becomes this.
    Redirected(IpAddr, u16),
}

fn is_local(address: IpAddr) -> bool {
    address.is_loopback() || HERE.map(ip).contains(&address)
}

fn holds(condition: &Match, packet: &Packet) -> bool {
    let by = |link: &LinkMatch, name: Option<IfName>| {
        name.is_some_and(|name| match link {
            LinkMatch::Is(it) => name == *it,
            LinkMatch::StartsWith(start) => name.as_str().starts_with(start.as_str()),
            LinkMatch::StartsNotWith(start) => !name.as_str().starts_with(start.as_str()),
        })
    };
    match condition {
        Match::In(link) => by(link, packet.input),
        Match::Out(link) => by(link, packet.output),
        Match::Source(net) => net.contains(&packet.source),
        Match::Destination(net) => net.contains(&packet.destination),
        Match::NotDestination(net) => !net.contains(&packet.destination),
        Match::DestinationLocal => is_local(packet.destination),
        Match::Established => packet.established,
        Match::Redirected => packet.redirected,
        Match::Port(protocol, port) => *protocol == Protocol::Tcp && packet.port == *port,
        Match::Other(_) => false,
    }
}
