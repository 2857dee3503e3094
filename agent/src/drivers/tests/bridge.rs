//! Bridges by example.

use super::local::{FEATURES, Shape, desired};
use crate::{
    drivers::*,
    model::{BridgeSettings, DEFAULT_NETWORK, DriverSettings, IfName, testing},
    plan::{
        Features,
        state::{Link, LinkKind, Netns, State},
        tests::stage::*,
    },
};

const PORT: IfName = IfName::literal("ovp-02020202020");
const BRIDGE: IfName = IfName::literal("ovb-ababababab");

/// A bridge network of both families with the endpoint 2.
fn shape(icc: bool) -> Shape {
    Shape {
        settings: DriverSettings::Bridge(BridgeSettings { icc, ..BridgeSettings::default() }),
        families: (true, true),
        internal: false,
        mtu: 1500,
        local: vec![(2, 0)],
        published: false,
        features: FEATURES,
    }
}

fn inside(state: &State) -> &Link {
    &state.netns[&sandbox(2)].links[&IfName::literal("eth0")]
}

/// "10.0.0.0/24 via 10.0.0.1" for each route, in their order.
pub(super) fn routes(link: &Link) -> Vec<String> {
    let via = |via| format!(" via {via}");
    link.routes.iter().map(|(to, route)| format!("{to}{}", route.via.map(via).unwrap_or_default())).collect()
}

pub(super) fn addresses(link: &Link) -> Vec<String> {
    link.addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn a_bridge_has_the_gateways_and_a_sandbox_its_default_routes_to_them() {
    let state = desired(&shape(true));
    let host = &state.netns[&Netns::Host];
    assert_eq!(host.links[&BRIDGE].kind, LinkKind::Bridge);
    assert_eq!(addresses(&host.links[&BRIDGE]), ["10.0.0.1/24", "fd00:1::1/64"]);
    let port = host.links[&PORT].port.unwrap();
    assert_eq!((port.bridge, port.learning, port.unicast_flood), (BRIDGE, true, true));
    assert!(!port.isolated && !port.hairpin);
    assert_eq!(host.sysctls["net/ipv6/conf/ovb-ababababab/accept_ra"], "0");
    assert_eq!(addresses(inside(&state)), ["10.0.0.2/24", "169.254.7.7/16", "fd00:1::2/64"]);
    assert_eq!(routes(inside(&state)), ["0.0.0.0/0 via 10.0.0.1", "::/0 via fd00:1::1"]);
    let sandbox = &state.netns[&sandbox(2)].sysctls;
    assert_eq!(sandbox["net/ipv6/conf/eth0/disable_ipv6"], "0");
    assert_eq!(sandbox["net/ipv4/conf/eth0/log_martians"], "1");
}

#[test]
fn sandboxes_that_may_not_talk_have_nothing_on_the_link_but_the_gateway() {
    let state = desired(&shape(false));
    let host = &state.netns[&Netns::Host];
    assert!(host.links[&PORT].port.unwrap().isolated);
    assert_eq!(host.sysctls["net/ipv4/conf/ovb-ababababab/send_redirects"], "0");
    assert_eq!(addresses(inside(&state)), ["10.0.0.2/32", "169.254.7.7/16", "fd00:1::2/128"]);
    let both = ["10.0.0.0/24 via 10.0.0.1", "10.0.0.1/32", "fd00:1::/64 via fd00:1::1", "fd00:1::1/128"];
    let mut expected = vec!["0.0.0.0/0 via 10.0.0.1", "::/0 via fd00:1::1"];
    expected.extend(both);
    let mut observed = routes(inside(&state));
    observed.sort();
    expected.sort_unstable();
    assert_eq!(observed, expected);
    let mut internal = routes(inside(&desired(&Shape { internal: true, ..shape(false) })));
    internal.sort();
    assert_eq!(internal, both);
}

#[test]
fn where_bridged_frames_pass_the_firewall_it_keeps_sandboxes_apart_and_ports_send_back() {
    let features = Features { bridge_firewall: true, ..FEATURES };
    for icc in [true, false] {
        let state = desired(&Shape { features, ..shape(icc) });
        let port = state.netns[&Netns::Host].links[&PORT].port.unwrap();
        assert!(port.hairpin && !port.isolated);
    }
}

#[test]
fn a_bridge_of_somebody_else_gets_ports_and_nothing_else() {
    let settings = BridgeSettings { name: Some(FOREIGN_BRIDGE), icc: false, ..BridgeSettings::default() };
    let settings = DriverSettings::Bridge(settings);
    let state = desired(&Shape { settings, published: true, ..shape(false) });
    let host = &state.netns[&Netns::Host];
    assert_eq!(host.links.keys().collect::<Vec<_>>(), [&PORT]);
    assert_eq!(host.links[&PORT].port.unwrap().bridge, FOREIGN_BRIDGE);
    assert!(host.sysctls.is_empty(), "{:?}", host.sysctls);
}

#[test]
fn only_a_bridge_with_published_ports_routes_from_the_loopback() {
    let localnet = |published| {
        let host = desired(&Shape { published, ..shape(true) }).netns.remove(&Netns::Host).unwrap();
        host.sysctls.get("net/ipv4/conf/ovb-ababababab/route_localnet").cloned()
    };
    assert_eq!((localnet(false), localnet(true)), (None, Some("1".into())));
}

#[test]
fn a_network_without_ipv6_has_none_on_its_bridge() {
    let without = desired(&Shape { families: (true, false), ..shape(true) });
    assert_eq!(without.netns[&Netns::Host].sysctls["net/ipv6/conf/ovb-ababababab/disable_ipv6"], "1");
    assert_eq!(without.netns[&sandbox(2)].sysctls["net/ipv6/conf/eth0/disable_ipv6"], "1");
    let features = Features { ipv6: false, ..FEATURES };
    let no_such_thing = desired(&Shape { families: (true, false), features, ..shape(true) });
    for netns in [Netns::Host, sandbox(2)] {
        let sysctls = &no_such_thing.netns[&netns].sysctls;
        assert!(!sysctls.keys().any(|key| key.starts_with("net/ipv6/")), "{sysctls:?}");
    }
}

#[test]
fn another_default_gateway_is_an_auxiliary_address_by_dockers_name() {
    let mut network = network(true, true);
    let chosen = [("10.0.0.0/24", "10.0.0.254"), ("fd00:1::/64", "fd00:1::fe")];
    for (subnet, (name, (_, gateway))) in network.subnets.iter_mut().zip(DEFAULT_GATEWAYS.iter().zip(chosen))
    {
        subnet.aux_addresses.insert((*name).to_owned(), gateway.parse().unwrap());
    }
    let endpoint = endpoint(&network, 2);
    let state = |icc| {
        let settings = BridgeSettings { icc, ..BridgeSettings::default() };
        let network = network.clone();
        let shared = BridgeShared { network, settings, foreign: false, mtu: 1500, features: FEATURES };
        bridge(&shared, &[LocalEndpoint { endpoint: &endpoint, sandbox: sandbox(2) }])
    };
    assert_eq!(routes(inside(&state(true))), ["0.0.0.0/0 via 10.0.0.254", "::/0 via fd00:1::fe"]);
    let alone = routes(inside(&state(false)));
    for route in ["10.0.0.254/32", "10.0.0.1/32", "10.0.0.0/24 via 10.0.0.1", "0.0.0.0/0 via 10.0.0.254"] {
        assert!(alone.iter().any(|it| it == route), "{route}: {alone:?}");
    }
    apply_plan(&kernel(), &state(false)).unwrap();
}

#[test]
fn bridges_have_the_chosen_name_or_one_of_their_own() {
    let mut network = testing::network();
    let usual = BridgeSettings::default();
    assert_eq!(bridge_name(&network, &usual), BRIDGE);
    network.name = DEFAULT_NETWORK.parse().unwrap();
    assert_eq!(bridge_name(&network, &usual).as_str(), "ovnet0");
    let chosen = BridgeSettings { name: Some(FOREIGN_BRIDGE), ..usual };
    assert_eq!(bridge_name(&network, &chosen), FOREIGN_BRIDGE);
}
