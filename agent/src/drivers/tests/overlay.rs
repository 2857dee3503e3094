//! Overlays: properties of their plans, and ports that come in by the host leg.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use proptest::prelude::*;

use crate::{
    drivers::*,
    kernel::Kernel,
    model::{DriverSettings, IfName, Leg, Mac, Member, Network, OverlaySettings, Protocol, testing},
    plan::{
        op::{LinkRow, Op, RowOp},
        ownership::{Mark, Unit},
        ruleset::{Action, Hook, LinkMatch, Match, Rule, Table},
        state::{Link, LinkKind, Netns, State, Vxlan},
        tests::stage::*,
        *,
    },
};

/// What a test network is made of.
#[derive(Clone, Debug)]
struct Shape {
    internal: bool,
    ipv6: bool,
    mtu: u32,
    leg: u16,
    local: BTreeSet<u8>,
    /// Remote stations by number, with the number of their host.
    remote: BTreeMap<u8, u8>,
    multicast: bool,
    masquerade: bool,
    /// Published ports of stations, here or remote.
    ports: BTreeMap<u16, u8>,
}

fn shapes() -> impl Strategy<Value = Shape> {
    (
        any::<bool>(),
        any::<bool>(),
        prop_oneof![Just(1450_u32), Just(1430), Just(8950)],
        0..4_u16,
        prop::collection::btree_set(2..30_u8, 0..4),
        prop::collection::btree_map(100..200_u8, 2..6_u8, 0..8),
        any::<(bool, bool)>(),
        prop::collection::btree_map(1..9_u16, 2..200_u8, 0..4),
    )
        .prop_map(|(internal, ipv6, mtu, leg, local, remote, (multicast, masquerade), ports)| Shape {
            internal,
            ipv6,
            mtu,
            leg,
            local,
            remote,
            multicast,
            masquerade,
            ports,
        })
}

fn vtep(host: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, host])
}

fn desired(shape: &Shape) -> State {
    let mut network: Network = network(true, shape.ipv6);
    network.internal = shape.internal;
    network.settings = DriverSettings::Overlay(OverlaySettings {
        masquerade: shape.masquerade,
        ..OverlaySettings::default()
    });
    let member: Member = testing::member(250, testing::ME);
    let endpoints: Vec<_> = shape.local.iter().map(|number| endpoint(&network, *number)).collect();
    let local = endpoints.iter().zip(&shape.local);
    let local: Vec<_> =
        local.map(|(endpoint, number)| LocalEndpoint { endpoint, sandbox: sandbox(*number) }).collect();
    let station = |(number, host): (&u8, &u8)| {
        let address = IpAddr::from([10, 0, 0, *number]);
        Station { mac: Mac::derived(address), addresses: vec![address], vtep: vtep(*host) }
    };
    let redirected = |(host_port, number): (&u16, &u8)| Redirected {
        protocol: Protocol::Tcp,
        host_port: *host_port,
        to: [10, 0, 0, *number].into(),
        port: 80,
        local: shape.local.contains(number),
    };
    let shared = OverlayShared {
        vxlan: Vxlan { vni: network.vni.unwrap(), local: vtep(1), port: 4789 },
        mtu: shape.mtu,
        leg: (!shape.internal).then(|| Leg::new(shape.leg).unwrap()),
        host_routes: if shape.internal { vec![] } else { vec![network.subnets[0].prefix] },
        network,
        member,
        ports: shape.ports.iter().map(redirected).collect(),
        flood_list: if shape.multicast {
            shape.remote.values().map(|host| vtep(*host)).collect()
        } else {
            vec![]
        },
        features: Features { bridge_netfilter: true, bridge_firewall: false, ipv6: true },
    };
    let remote: Vec<Station> = shape.remote.iter().map(station).collect();
    overlay(&shared, &local, &remote)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_state_becomes_any_other_and_foreign_things_stay(first in shapes(), second in shapes()) {
        let kernel = kernel();
        let before = foreign(&kernel.state());
        for shape in [&first, &second] {
            apply_plan(&kernel, &desired(shape))?;
        }
        prop_assert_eq!(foreign(&kernel.state()), before);
    }

    #[test]
    fn whatever_is_damaged_is_mended(shape in shapes(), damage in prop::collection::vec(any::<prop::sample::Index>(), 1..4)) {
        let kernel = kernel();
        let desired = desired(&shape);
        apply_plan(&kernel, &desired)?;
        for index in damage {
            kernel.edit(|state| damage_one(state, index));
        }
        apply_plan(&kernel, &desired)?;
    }

    #[test]
    fn nothing_of_ours_is_left_when_nothing_is_wanted(shape in shapes()) {
        let kernel = kernel();
        let before = kernel.state();
        apply_plan(&kernel, &desired(&shape))?;
        apply_plan(&kernel, &State::default())?;
        prop_assert_eq!(without_sysctls(kernel.state()), without_sysctls(before));
    }

    #[test]
    fn removing_one_host_touches_its_rows_alone(shape in shapes(), host in 2..6_u8) {
        let kernel = kernel();
        let shape = Shape { multicast: false, ports: BTreeMap::new(), ..shape };
        apply_plan(&kernel, &desired(&shape))?;
        let mut fewer = shape.clone();
        fewer.remote.retain(|_, of| *of != host);
        let gone: BTreeSet<Mac> = shape
            .remote
            .iter()
            .filter(|(_, of)| **of == host)
            .map(|(number, _)| Mac::derived(IpAddr::from([10, 0, 0, *number])))
            .collect();
        for op in apply_plan(&kernel, &desired(&fewer))? {
            let its_own = if let Op::Row(_, RowOp::Remove, LinkRow::VxlanFdb(mac, _) | LinkRow::BridgeFdb(mac)) = &op {
                gone.contains(mac)
            } else if let Op::Row(_, RowOp::Remove, LinkRow::Neighbour(address, _)) = &op {
                gone.contains(&Mac::derived(*address))
            } else {
                false
            };
            prop_assert!(its_own, "{} has nothing to do with that host", op);
        }
    }

    #[test]
    fn changed_rows_planned_alone_come_to_the_same(first in shapes(), second in shapes()) {
        let second = Shape { local: second.local, remote: second.remote, multicast: false, ..first.clone() };
        let first = Shape { multicast: false, ..first };
        let (by_rows, whole) = (kernel(), kernel());
        apply_plan(&by_rows, &desired(&first))?;
        apply_plan(&whole, &desired(&first))?;
        apply_plan(&whole, &desired(&second))?;
        let ops = plan(unit(), &desired(&second), &desired(&first));
        block_on(by_rows.apply(ops)).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(by_rows.state(), whole.state());
    }
}

/// An overlay with the endpoint 5 here and nothing else.
fn shape() -> Shape {
    Shape {
        internal: false,
        ipv6: false,
        mtu: 1450,
        leg: 0,
        local: [5].into(),
        remote: BTreeMap::new(),
        multicast: false,
        masquerade: true,
        ports: BTreeMap::new(),
    }
}

#[test]
fn another_units_links_are_not_looked_at() {
    let kernel = kernel();
    let stranger = Mark::new(Unit::Network(crate::model::NetworkId::from_bytes([1; 32])), "leg");
    kernel.edit(|state| {
        let link = Link::new(LinkKind::Veth, stranger.clone(), Mac::internal(1, b"a"), 1500);
        state.netns.entry(Netns::Host).or_default().links.insert(IfName::literal("ovh-other"), link);
    });
    assert!(steps(&kernel, &State::default()).is_empty());
}

#[test]
fn a_veth_whose_end_was_renamed_is_made_anew() {
    let kernel = kernel();
    let desired = desired(&shape());
    apply_plan(&kernel, &desired).unwrap();
    kernel.edit(|state| {
        let links = &mut state.netns.get_mut(&sandbox(5)).unwrap().links;
        let end = links.remove("eth0".parse::<IfName>().as_ref().unwrap()).unwrap();
        links.insert(IfName::literal("lan0"), end);
    });
    apply_plan(&kernel, &desired).unwrap();
    let state = kernel.state();
    let links = &state.netns[&sandbox(5)].links;
    assert!(links.contains_key(&IfName::literal("eth0")) && !links.contains_key(&IfName::literal("lan0")));
}

fn table(shape: &Shape) -> Table {
    desired(shape).netns[&netns_of(testing::network().id)].table.clone().unwrap()
}

fn rules(table: &Table, hook: Hook) -> Vec<Rule> {
    let chains = table.chains.iter().filter(|chain| chain.hook == hook);
    chains.flat_map(|chain| chain.rules.clone()).collect()
}

#[test]
fn an_endpoint_here_is_told_the_clients_address_and_a_remote_one_the_nodes_own() {
    let table = table(&Shape { ports: [(8080, 5), (8081, 100), (8082, 5)].into(), ..shape() });
    let redirects = rules(&table, Hook::Prerouting);
    let [Rule { matches, action: Action::Redirect(map) }] = &redirects[..] else { panic!("{redirects:?}") };
    let own = Match::Destination("169.254.0.1/32".parse().unwrap());
    assert_eq!(matches, &[Match::In(LinkMatch::Is(IfName::literal("ovn"))), own]);
    let to: Vec<(u16, String)> =
        table.ports[map].iter().map(|(key, (to, port))| (key.port, format!("{to}:{port}"))).collect();
    let expected = [(8080, "10.0.0.5:80"), (8081, "10.0.0.100:80"), (8082, "10.0.0.5:80")];
    assert_eq!(to, expected.map(|(port, to)| (port, to.to_owned())));

    let sources = rules(&table, Hook::Postrouting);
    let [out, kept, own] = &sources[..] else { panic!("{sources:?}") };
    assert_eq!(out.action, Action::Masquerade);
    assert_eq!(kept.action, Action::Accept);
    assert!(kept.matches.contains(&Match::Redirected));
    assert!(kept.matches.contains(&Match::Destination("10.0.0.5/32".parse().unwrap())));
    assert_eq!(own.action, Action::SourceNat("10.0.0.250".parse().unwrap()));
}

#[test]
fn an_overlay_without_masquerade_sends_out_its_endpoints_own_addresses() {
    let masquerades = |masquerade| {
        let rules = rules(&table(&Shape { masquerade, ..shape() }), Hook::Postrouting);
        rules.iter().any(|rule| rule.action == Action::Masquerade)
    };
    assert!(masquerades(true) && !masquerades(false));
}

#[test]
fn only_the_leg_of_an_overlay_with_published_ports_routes_from_the_loopback() {
    let localnet = |ports| {
        let host = desired(&Shape { ports, ..shape() }).netns.remove(&Netns::Host).unwrap();
        host.sysctls.get("net/ipv4/conf/ovh-ababababab/route_localnet").cloned()
    };
    assert_eq!(localnet(BTreeMap::new()), None);
    assert_eq!(localnet([(8080, 100)].into()), Some("1".into()));
}
