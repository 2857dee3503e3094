//! An endpoint's interface in its sandbox, and the bridge port at its other end; all drivers use these.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{
    model::{Endpoint, IfName, Mac},
    plan::{
        Features,
        ownership::{Mark, Unit},
        state::{Link, LinkKind, Netns, Port, Route, State},
        sysctl,
    },
};

/// Metric of the default route by way of a sandbox's eth0; eth1 has one more, and so on.
const METRIC: u32 = 100;
/// Added to the metric of a default route for each step of priority below 0.
const METRIC_STEP: u32 = 10_000;
/// Prefix length of the networks that link-local addresses are in (RFC 3927, RFC 4291 section 2.5.6).
const LINK_LOCAL_V4: u8 = 16;
const LINK_LOCAL_V6: u8 = 64;

/// An endpoint of this host.
#[derive(Clone, Debug)]
pub struct LocalEndpoint<'a> {
    /// The endpoint.
    pub endpoint: &'a Endpoint,
    /// Its sandbox's namespace, which exists.
    pub sandbox: Netns,
}

/// The mark of an endpoint's objects; both ends of its veth pair have it.
pub(super) fn mark(unit: Unit, endpoint: &Endpoint) -> Mark {
    Mark::new(unit, format!("ep-{}", endpoint.id.short()))
}

/// An endpoint's interface, with its addresses and without routes.
pub(super) fn interface(kind: LinkKind, unit: Unit, endpoint: &Endpoint, mtu: u32) -> Link {
    let mut link = Link::new(kind, mark(unit, endpoint), endpoint.mac, mtu);
    link.addresses.extend(&endpoint.addresses);
    link.addresses.extend(endpoint.link_local.iter().map(|address| {
        let length = if address.is_ipv4() { LINK_LOCAL_V4 } else { LINK_LOCAL_V6 };
        IpNet::new(*address, length).unwrap_or(IpNet::from(*address))
    }));
    link
}

/// The other end of its veth pair, which is a port of a bridge.
pub(super) fn port(unit: Unit, endpoint: &Endpoint, mtu: u32, port: Port) -> Link {
    let mac = Mac::internal(0x44, endpoint.id.to_string().as_bytes());
    let mut link = Link::new(LinkKind::Veth, mark(unit, endpoint), mac, mtu);
    link.port = Some(port);
    link
}

/// Put an interface into its sandbox, with the settings that go with it.
pub(super) fn put(state: &mut State, local: &LocalEndpoint<'_>, link: Link, features: Features) {
    let sandbox = state.netns.entry(local.sandbox.clone()).or_default();
    let name = local.endpoint.ifname;
    let has_ipv6 = link.addresses.iter().any(|net| net.addr().is_ipv6());
    sandbox.sysctls.extend(hears_nobody(name, features));
    if features.ipv6 {
        // An adopted sandbox may have IPv6 off, as containers of networks without IPv6 do. And where a network has none,
        // a neighbour that plays the router must not bring it.
        let off = if has_ipv6 { "0" } else { "1" };
        sandbox.sysctls.insert(sysctl::of_link("ipv6", name, "disable_ipv6"), off.into());
    }
    let chosen = local.endpoint.sysctls.iter().map(|(key, value)| (key.clone(), value.clone()));
    sandbox.sysctls.extend(chosen);
    sandbox.links.insert(name, link);
}

/// Settings of a link that ignore router advertisements and redirects: only we set addresses and routes.
/// (IPv4 redirects are accepted if either the link or `all` accepts them.)
pub(super) fn hears_nobody(link: IfName, features: Features) -> BTreeMap<String, String> {
    let ipv6: &[_] = if features.ipv6 { &[("ipv6", "accept_ra"), ("ipv6", "accept_redirects")] } else { &[] };
    let all = [("ipv4", "accept_redirects")].iter().chain(ipv6);
    all.map(|(protocol, setting)| (sysctl::of_link(protocol, link, setting), "0".to_owned())).collect()
}

/// The default route by way of an endpoint's interface: to a gateway, or (none) on the link itself.
pub(super) fn default_route(endpoint: &Endpoint, via: Option<IpAddr>) -> Route {
    Route { via, source: None, mtu: None, metric: metric(endpoint) }
}

/// 0.0.0.0/0 or ::/0, of the address's family.
pub(super) fn default_of(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(_) => IpNet::V4(Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(Ipv6Net::default()),
    }
}

/// The metric of an endpoint's routes. The lower one wins, and each interface of a sandbox should have a
/// different one.
pub(super) fn metric(endpoint: &Endpoint) -> u32 {
    let usual = METRIC + place(endpoint.ifname);
    let steps = endpoint.gateway_priority.unsigned_abs();
    match endpoint.gateway_priority {
        0 => usual,
        1.. => METRIC.saturating_sub(steps).max(1),
        ..0 => steps.saturating_mul(METRIC_STEP).saturating_add(usual),
    }
}

/// The place of an interface among those of its sandbox, below [`METRIC_STEP`]: 3 of "eth3". Names that begin otherwise come
/// after, a hundred places for each beginning, so that "lan0" does not meet "eth0".
fn place(name: IfName) -> u32 {
    let start = name.as_str().trim_end_matches(|c: char| c.is_ascii_digit());
    let number: u32 = name.as_str()[start.len()..].parse().unwrap_or(0);
    if start == "eth" {
        return number.min(999);
    }
    // Fowler-Noll-Vo (FNV-1a, 32 bits).
    let fold = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    1_000 + start.bytes().fold(0x811c_9dc5_u32, fold) % 90 * 100 + number % 100
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::testing;

    fn metric_of(ifname: &'static str, priority: i32) -> u32 {
        let usual = testing::endpoint(2, testing::ME);
        metric(&Endpoint { ifname: IfName::literal(ifname), gateway_priority: priority, ..usual })
    }

    #[test]
    fn interfaces_come_in_the_order_of_their_numbers_unless_priorities_say_otherwise() {
        assert_eq!([metric_of("eth0", 0), metric_of("eth3", 0)], [100, 103]);
        assert_eq!([metric_of("eth5", 1), metric_of("eth5", 99)], [99, 1]);
        assert_eq!([metric_of("eth3", -1), metric_of("eth0", -1000)], [10_103, 10_000_100]);
        let falling = [("eth9", 99), ("eth9", 1), ("eth0", 0), ("eth1", 0), ("lan0", 0), ("lan1", 0)]
            .into_iter()
            .chain([("eth0", -1), ("lan0", -1), ("eth0", -2), ("zone9", -2), ("eth0", -3)]);
        let metrics: Vec<u32> = falling.map(|(name, priority)| metric_of(name, priority)).collect();
        assert!(metrics.is_sorted(), "{metrics:?}");
        assert_eq!(metrics.iter().collect::<BTreeSet<_>>().len(), metrics.len(), "{metrics:?}");
    }

    #[test]
    fn whatever_an_interface_is_called_it_stays_within_its_step_of_priority() {
        for name in ["eth0", "eth4294967296", "a", "0", "wlan0.10", "x9999", "lan"] {
            let name: IfName = name.parse().unwrap();
            assert!(place(name) < METRIC_STEP, "{name}");
        }
        assert_ne!(place(IfName::literal("lan0")), place(IfName::literal("eth0")));
    }
}
