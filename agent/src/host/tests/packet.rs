//! A host that sends packets by its rules.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    host::*,
    model::{IfName, Leg, NetworkId, Protocol},
    plan::{
        ruleset::{Action, Family, Hook, LinkMatch, Match, PortKey, Rule, Table},
        state::Netns,
    },
};

/// The link to the outside, and the host's address on it.
pub(super) const NIC: IfName = IfName::literal("eth9");
pub(super) const HERE: [&str; 2] = ["198.51.100.1", "2001:db8::1"];
/// A bridge of somebody else's, and who is on it.
pub(super) const BRIDGE: IfName = IfName::literal("virbr0");
pub(super) const BRIDGED: &str = "192.168.122.9";
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
    state: Connection,
    protocol: Protocol,
    vni: Option<u32>,
}

/// What connection it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    New,
    Established,
    /// None, and it begins none.
    Invalid,
}

impl Packet {
    /// A new one of TCP.
    fn new(source: IpAddr, destination: IpAddr, port: u16) -> Self {
        Self {
            input: None,
            output: None,
            source,
            destination,
            port,
            redirected: false,
            state: Connection::New,
            protocol: Protocol::Tcp,
            vni: None,
        }
    }
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
        Self::of(&HostInput { networks, ports, ip_forward: true, ipv6: true, ..HostInput::default() })
    }

    pub(super) fn of(input: &HostInput) -> Self {
        Self { networks: input.networks.clone(), table: table_of(input) }
    }

    pub(super) fn route(&self, to: IpAddr) -> IfName {
        let behind = |network: &&HostNetwork| {
            let leg: Vec<IpNet> = match network.side {
                HostSide::Leg(leg) => leg.inner().into(),
                HostSide::Bridge => vec![],
            };
            network.subnets.iter().chain(&leg).any(|net| net.contains(&to))
        };
        let elsewhere = if to == ip(BRIDGED) { BRIDGE } else { NIC };
        self.networks.iter().find(behind).map_or(elsewhere, |network| network.link)
    }

    /// What comes in by a link, from this address to this one.
    pub(super) fn forward(&self, input: IfName, source: &str, (to, port): (&str, u16)) -> End {
        self.receive(Packet { input: Some(input), ..Packet::new(ip(source), ip(to), port) })
    }

    /// A VXLAN packet of this VNI that comes in by a link; None: one that is too short to have any.
    pub(super) fn tunnelled(&self, input: IfName, (source, to): (&str, &str), vni: Option<u32>) -> End {
        let packet = Packet::new(ip(source), ip(to), 4789);
        self.receive(Packet { input: Some(input), protocol: Protocol::Udp, vni, ..packet })
    }

    /// What belongs to no connection.
    pub(super) fn astray(&self, input: IfName, source: &str, to: &str) -> End {
        let packet = Packet::new(ip(source), ip(to), 80);
        self.receive(Packet { input: Some(input), state: Connection::Invalid, ..packet })
    }

    fn receive(&self, packet: Packet) -> End {
        if self.verdict(Hook::Raw, &packet) == Some(Fate::Verdict(Action::Drop)) {
            return End::Dropped;
        }
        // Nobody translates what belongs to no connection.
        if packet.state == Connection::Invalid {
            return self.deliver(packet);
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
        let packet = Packet { output, ..Packet::new(source, destination, port) };
        self.deliver(self.translated(Hook::Output, packet))
    }

    fn deliver(&self, packet: Packet) -> End {
        if is_local(packet.destination) {
            return End::Host;
        }
        let packet = Packet { output: Some(self.route(packet.destination)), ..packet };
        if packet.input.is_some() && self.verdict(Hook::Forward, &packet) == Some(Fate::Verdict(Action::Drop))
        {
            return End::Dropped;
        }
        let at = format!("{} {}", packet.destination, packet.port);
        let masquerades = packet.state != Connection::Invalid
            && self.verdict(Hook::Postrouting, &packet) == Some(Fate::Verdict(Action::Masquerade));
        if masquerades { End::Masqueraded(at) } else { End::Reaches(at) }
    }

    /// Whether a packet of a known connection passes.
    pub(super) fn answers(&self, input: IfName, source: &str, to: &str) -> bool {
        let output = Some(self.route(ip(to)));
        let packet = Packet {
            input: Some(input),
            output,
            state: Connection::Established,
            ..Packet::new(ip(source), ip(to), 40_000)
        };
        self.verdict(Hook::Forward, &packet) == Some(Fate::Verdict(Action::Accept))
    }

    fn translated(&self, hook: Hook, packet: Packet) -> Packet {
        match self.verdict(hook, &packet) {
            Some(Fate::Redirected(destination, port)) => {
                Packet { destination, port, redirected: true, ..packet }
            }
            Some(other) => panic!("{other:?} has no place in {hook:?}"),
            None => packet,
        }
    }

    fn verdict(&self, hook: Hook, packet: &Packet) -> Option<Fate> {
        let chain = self.table.chains.iter().find(|chain| chain.hook == hook)?;
        chain.rules.iter().find_map(|rule| self.outcome(rule, packet))
    }

    fn outcome(&self, rule: &Rule, packet: &Packet) -> Option<Fate> {
        if !rule.matches.iter().all(|condition| self.holds(condition, packet)) {
            return None;
        }
        if let Action::Goto(hook) = &rule.action {
            // At the end of that chain the packet passes: rules behind this one are not for it.
            return Some(self.verdict(*hook, packet).unwrap_or(Fate::Verdict(Action::Accept)));
        }
        let Action::Redirect(map) = &rule.action else { return Some(Fate::Verdict(rule.action.clone())) };
        let address = map.addressed.then_some(packet.destination);
        let key = PortKey { address, protocol: Protocol::Tcp, port: packet.port };
        let (to, port) = self.table.ports[map].get(&key)?;
        (map.family == Family::of(packet.destination)).then_some(Fate::Redirected(*to, *port))
    }
}

/// What a chain does with a packet.
#[derive(Debug, PartialEq)]
enum Fate {
    Verdict(Action),
    /// Its destination becomes this.
    Redirected(IpAddr, u16),
}

fn is_local(address: IpAddr) -> bool {
    address.is_loopback() || HERE.map(ip).contains(&address)
}

impl Host {
    fn holds(&self, condition: &Match, packet: &Packet) -> bool {
        let by = |link: &LinkMatch, name: Option<IfName>| {
            name.is_some_and(|name| match link {
                LinkMatch::Is(it) => name == *it,
                LinkMatch::StartsWith(start) => name.as_str().starts_with(start.as_str()),
                LinkMatch::IsNot(it) => name != *it,
                LinkMatch::StartsNotWith(start) => !name.as_str().starts_with(start.as_str()),
            })
        };
        let has =
            |family, address: IpAddr| Family::of(address) == family && self.table.vteps.contains(&address);
        match condition {
            Match::In(link) => by(link, packet.input),
            Match::Out(link) => by(link, packet.output),
            Match::Source(net) => net.contains(&packet.source),
            Match::Destination(net) => net.contains(&packet.destination),
            Match::NotDestination(net) => !net.contains(&packet.destination),
            Match::DestinationLocal => is_local(packet.destination),
            Match::DestinationElsewhere => !is_local(packet.destination),
            Match::FromBridge => packet.input == Some(BRIDGE),
            Match::ToBridge => packet.output == Some(BRIDGE),
            Match::Established => packet.state == Connection::Established,
            Match::Invalid => packet.state == Connection::Invalid,
            Match::Family(family) => *family == Family::of(packet.source),
            Match::FromVtep(family) => has(*family, packet.source),
            Match::ToVtep(family) => has(*family, packet.destination),
            Match::OtherVni => packet.vni.is_some_and(|vni| self.table.vnis.iter().all(|it| it.get() != vni)),
            Match::Redirected => packet.redirected,
            Match::Port(protocol, port) => *protocol == packet.protocol && packet.port == *port,
            Match::Other(_) => false,
        }
    }
}
