//! Published ports as Docker shows them: `80/tcp -> 0.0.0.0:8080`, and `0.0.0.0:8080->80/tcp` in lists.

use std::{collections::BTreeMap, net::IpAddr};

use ovnet_proto::v1 as pb;
use serde::Serialize;

/// Where a port is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Binding {
    /// An address of the host; 0.0.0.0 or ::, every one of that family.
    host_ip: String,
    /// A port of the host.
    host_port: String,
}

impl Binding {
    /// `ADDRESS:PORT`, with an IPv6 address in brackets.
    pub(crate) fn socket(&self) -> String {
        format!("{}:{}", bracketed(&self.host_ip), self.host_port)
    }
}

fn bracketed(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() }
}

/// A published port at one address of the host. Its order is the lists'.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reached {
    port: u32,
    protocol: String,
    ip: Option<IpAddr>,
    host_ip: String,
    host_port: u32,
}

/// The published ports of `endpoints`, in order. One at every address stands here once for each family that its endpoint has.
fn reached<'a>(endpoints: impl IntoIterator<Item = &'a pb::Endpoint>) -> Vec<Reached> {
    let mut all = Vec::new();
    for endpoint in endpoints {
        let has = |ipv6: bool| endpoint.addresses.iter().any(|address| address.contains(':') == ipv6);
        for port in &endpoint.ports {
            let every = [("0.0.0.0", has(false) || !has(true)), ("::", has(true))];
            let ips: Vec<&str> = if port.host_ip.is_empty() {
                every.into_iter().filter(|(_ip, has)| *has).map(|(ip, _has)| ip).collect()
            } else {
                vec![&port.host_ip]
            };
            all.extend(ips.into_iter().map(|ip| Reached {
                port: port.port,
                protocol: port.protocol.clone(),
                ip: ip.parse().ok(),
                host_ip: ip.to_owned(),
                host_port: port.host_port,
            }));
        }
    }
    all.sort();
    all
}

/// `{"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}`, as `docker inspect` has it.
pub(crate) fn bindings<'a>(
    endpoints: impl IntoIterator<Item = &'a pb::Endpoint>,
) -> BTreeMap<String, Vec<Binding>> {
    let mut map: BTreeMap<String, Vec<Binding>> = BTreeMap::new();
    for Reached { port, protocol, host_ip, host_port, .. } in reached(endpoints) {
        let binding = Binding { host_ip, host_port: host_port.to_string() };
        map.entry(format!("{port}/{protocol}")).or_default().push(binding);
    }
    map
}

/// `0.0.0.0:8000-8010->80-90/tcp, [::]:443->443/tcp`, as `docker ps` has it: neighbours in one.
pub(crate) fn listed<'a>(endpoints: impl IntoIterator<Item = &'a pb::Endpoint>) -> String {
    let mut groups: Vec<(Reached, u32)> = Vec::new();
    for next in reached(endpoints) {
        let continued = groups.iter_mut().rfind(|(first, more)| {
            let start = (&first.protocol, &first.host_ip, first.port + more + 1, first.host_port + more + 1);
            start == (&next.protocol, &next.host_ip, next.port, next.host_port)
        });
        match continued {
            Some((_first, more)) => *more += 1,
            None => groups.push((next, 0)),
        }
    }
    let range = |first: u32, more: u32| {
        if more == 0 { first.to_string() } else { format!("{first}-{}", first + more) }
    };
    let shown = |(first, more): &(Reached, u32)| {
        let (host, ports) = (range(first.host_port, *more), range(first.port, *more));
        format!("{}:{host}->{ports}/{}", bracketed(&first.host_ip), first.protocol)
    };
    groups.iter().map(shown).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(addresses: &[&str], ports: &[(&str, &str, u32, u32)]) -> pb::Endpoint {
        let published = |(protocol, ip, host_port, port): &(&str, &str, u32, u32)| pb::PublishedPort {
            protocol: (*protocol).into(),
            host_ip: (*ip).into(),
            host_port: *host_port,
            port: *port,
        };
        pb::Endpoint {
            addresses: addresses.iter().map(ToString::to_string).collect(),
            ports: ports.iter().map(published).collect(),
            ..pb::Endpoint::default()
        }
    }

    #[test]
    fn a_port_at_every_address_shows_once_for_each_family() {
        let port = [("tcp", "", 8080, 80)];
        assert_eq!(listed([&endpoint(&["10.0.0.2/24"], &port)]), "0.0.0.0:8080->80/tcp");
        assert_eq!(listed([&endpoint(&["fd00::2/64"], &port)]), "[::]:8080->80/tcp");
        let both = endpoint(&["10.0.0.2/24", "fd00::2/64"], &port);
        assert_eq!(listed([&both]), "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp");
        let map = bindings([&both]);
        let sockets: Vec<_> = map["80/tcp"].iter().map(Binding::socket).collect();
        assert_eq!(sockets, ["0.0.0.0:8080", "[::]:8080"]);
    }

    #[test]
    fn neighbours_show_in_one() {
        let ports =
            [("tcp", "", 8001, 81), ("tcp", "", 8000, 80), ("udp", "::1", 8000, 80), ("tcp", "", 9000, 82)];
        assert_eq!(
            listed([&endpoint(&["10.0.0.2/24"], &ports)]),
            "0.0.0.0:8000-8001->80-81/tcp, [::1]:8000->80/udp, 0.0.0.0:9000->82/tcp"
        );
        assert_eq!(listed([&endpoint(&[], &[])]), "");
    }
}
