//! Outdated connections: the kernel keeps translating them as it began, although a published port or the
//! owner of an address has changed. Connection tracking does not consult the rules again for packets of a
//! known connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::ruleset::{Family, PortKey, PortMap};
use crate::model::Protocol;

/// A published port in its map, with its whole key.
type Port = (PortMap, PortKey);

/// A connection that is tracked in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its protocol, if ports of that protocol can be published.
    pub protocol: Option<Protocol>,
    /// Source and destination of its first packet, as it came; ports are 0 where the protocol has none.
    pub original: [(IpAddr, u16); 2],
    /// Source and destination of the reply packets, as they are sent.
    pub reply: [(IpAddr, u16); 2],
}

impl Connection {
    /// The two ends: the client, and the host that answers.
    pub fn addresses(&self) -> [IpAddr; 2] {
        let ([(from, _), _], [(answers, _), _]) = (self.original, self.reply);
        [from, answers]
    }
}

/// The outdated connections of one namespace, by ports and addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outdated {
    /// Ports that were added, removed or redirected elsewhere: connections to them are forgotten, unless they
    /// lead to the current destination.
    pub changed: BTreeSet<Port>,
    /// The current destinations of the ports.
    pub lead: BTreeMap<Port, (IpAddr, u16)>,
    /// Addresses of endpoints that were added or removed: all connections from and to them are forgotten.
    pub addresses: BTreeSet<IpAddr>,
}

/// A table's maps of ports.
type Ports = BTreeMap<PortMap, BTreeMap<PortKey, (IpAddr, u16)>>;

impl Outdated {
    /// The changes from one state of a table's maps to the next. If `before` is `None`, the former state is
    /// unknown, and every port counts as new.
    pub fn between(before: Option<&Ports>, after: &Ports) -> Self {
        let flat = |ports: &Ports| -> BTreeMap<Port, (IpAddr, u16)> {
            let ports =
                ports.iter().flat_map(|(map, ports)| ports.iter().map(move |(key, to)| ((*map, *key), *to)));
            ports.collect()
        };
        let (before, lead) = (before.map(flat).unwrap_or_default(), flat(after));
        let all = before.keys().chain(lead.keys());
        let changed = all.filter(|port| before.get(port) != lead.get(port)).copied().collect();
        Self { changed, lead, addresses: BTreeSet::new() }
    }

    /// Whether nothing is outdated.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.addresses.is_empty()
    }

    /// Add the changes since then.
    pub fn merge(&mut self, later: Self) {
        for port in &later.changed {
            self.lead.remove(port);
        }
        self.changed.extend(later.changed);
        self.lead.extend(later.lead);
        self.addresses.extend(later.addresses);
    }

    /// Whether this connection must be forgotten.
    pub fn has(&self, connection: &Connection) -> bool {
        connection.addresses().iter().any(|address| self.addresses.contains(address))
            || self.is_astray(connection)
    }

    /// Whether it goes to a changed port and does not lead to that port's current destination.
    fn is_astray(&self, connection: &Connection) -> bool {
        let Some(protocol) = connection.protocol else { return false };
        let [from, to] = connection.original;
        let ports = [Some(to.0), None].map(|address| {
            let map = PortMap { family: Family::of(to.0), addressed: address.is_some() };
            (map, PortKey { address, protocol, port: to.1 })
        });
        if !ports.iter().any(|port| self.changed.contains(port)) {
            return false;
        }
        let lead = ports.iter().find_map(|port| self.lead.get(port));
        let [answers, answered] = connection.reply;
        if answers != to {
            return lead != Some(&answers);
        }
        // One that nobody translated, of before the port was published. TCP's do not outlive a refusal.
        lead.is_some() && protocol == Protocol::Udp && answered == from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: (&str, u16) = ("192.0.2.2", 5555);
    const HOST: (&str, u16) = ("192.0.2.1", 9000);

    fn at((address, port): (&str, u16)) -> (IpAddr, u16) {
        (address.parse().unwrap(), port)
    }

    /// From the client to the host's port, answered by this.
    fn to(protocol: Protocol, answers: (&str, u16)) -> Connection {
        Connection {
            protocol: Some(protocol),
            original: [at(CLIENT), at(HOST)],
            reply: [at(answers), at(CLIENT)],
        }
    }

    fn ports(published: &[(Option<&str>, u16, &str)]) -> Ports {
        let mut ports = Ports::new();
        for (address, port, to) in published {
            let map = PortMap { family: Family::V4, addressed: address.is_some() };
            let address = address.map(|address| address.parse().unwrap());
            let key = PortKey { address, protocol: Protocol::Udp, port: *port };
            ports.entry(map).or_default().insert(key, (to.parse().unwrap(), 9001));
        }
        ports
    }

    const OLD: &str = "10.0.0.2";
    const NEW: &str = "10.0.0.3";

    #[test]
    fn a_connection_to_a_port_goes_when_the_port_leads_elsewhere_or_nowhere() {
        let (old, new) = (ports(&[(None, 9000, OLD)]), ports(&[(None, 9000, NEW)]));
        let (to_old, to_new) = (to(Protocol::Udp, (OLD, 9001)), to(Protocol::Udp, (NEW, 9001)));
        for (before, after, gone) in [
            (Some(&old), &new, [true, false]),
            (Some(&old), &Ports::new(), [true, true]),
            // After a start: only what leads elsewhere.
            (None, &new, [true, false]),
            (Some(&new), &new, [false, false]),
            (None, &Ports::new(), [false, false]),
        ] {
            let outdated = Outdated::between(before, after);
            assert_eq!([to_old, to_new].map(|it| outdated.has(&it)), gone, "{before:?} {after:?}");
            assert!(!outdated.has(&to(Protocol::Tcp, (OLD, 9001))), "another protocol");
        }
    }

    #[test]
    fn a_datagram_s_connection_from_before_its_port_was_published_goes() {
        let plain = to(Protocol::Udp, HOST);
        let published = Outdated::between(Some(&Ports::new()), &ports(&[(None, 9000, NEW)]));
        assert!(published.has(&plain));
        let gone = Outdated::between(Some(&ports(&[(None, 9000, NEW)])), &Ports::new());
        assert!(!gone.has(&plain), "nothing leads anywhere now");
        // Of a sandbox that goes out by the host's address, to a port with this number elsewhere.
        let masqueraded = Connection { reply: [at(HOST), at(("192.0.2.1", 5555))], ..plain };
        assert!(!published.has(&masqueraded));
    }

    #[test]
    fn a_port_of_one_address_goes_before_the_same_one_of_all() {
        let before = ports(&[(Some(HOST.0), 9000, NEW), (None, 9000, OLD)]);
        let after = ports(&[(Some(HOST.0), 9000, NEW), (None, 9000, "10.0.0.9")]);
        let outdated = Outdated::between(Some(&before), &after);
        assert!(!outdated.has(&to(Protocol::Udp, (NEW, 9001))), "it leads where it should");
        assert!(outdated.has(&to(Protocol::Udp, (OLD, 9001))));
    }

    #[test]
    fn all_that_comes_from_or_goes_to_an_address_goes_with_it() {
        let outdated = Outdated { addresses: [OLD.parse().unwrap()].into(), ..Outdated::default() };
        assert!(outdated.has(&to(Protocol::Tcp, (OLD, 80))));
        let out = Connection {
            protocol: None,
            original: [at((OLD, 0)), at(CLIENT)],
            reply: [at(CLIENT), at(HOST)],
        };
        assert!(outdated.has(&out));
        assert!(!outdated.has(&to(Protocol::Tcp, (NEW, 80))));
    }

    #[test]
    fn what_is_added_later_is_what_counts() {
        let (old, new, none) = (ports(&[(None, 9000, OLD)]), ports(&[(None, 9000, NEW)]), Ports::new());
        let mut both = Outdated::between(Some(&old), &none);
        both.merge(Outdated::between(Some(&none), &new));
        assert_eq!([OLD, NEW].map(|it| both.has(&to(Protocol::Udp, (it, 9001)))), [true, false]);
        both.merge(Outdated::between(Some(&new), &none));
        assert!(both.has(&to(Protocol::Udp, (NEW, 9001))));
    }
}
