//! Properties of what every local driver wants, and of going from one to another.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::prelude::*;

use crate::{
    convert,
    drivers::*,
    kernel::Kernel,
    model::{
        BridgeSettings, Driver, DriverSettings, Endpoint, IfName, IpvlanFlag, IpvlanMode, MacvlanMode,
        Network, Parent, Protocol, PublishedPort, Scope, testing,
    },
    plan::{
        op::{LinkOp, NewLink, Op, SettingOp},
        state::State,
        tests::stage::*,
        *,
    },
};

/// What a test network is made of.
#[derive(Clone, Debug)]
pub(in crate::drivers) struct Shape {
    pub(in crate::drivers) settings: DriverSettings,
    /// IPv4, IPv6.
    pub(in crate::drivers) families: (bool, bool),
    pub(in crate::drivers) internal: bool,
    pub(in crate::drivers) mtu: u32,
    /// Its endpoints, with the priority of their gateways.
    pub(in crate::drivers) local: Vec<(u8, i32)>,
    pub(in crate::drivers) published: bool,
    pub(in crate::drivers) features: Features,
}

pub(in crate::drivers) const FEATURES: Features =
    Features { bridge_netfilter: true, bridge_firewall: false, ipv6: true };

pub(super) fn vlan() -> Parent {
    Parent { link: IfName::literal("eth9.10"), vlan: Some((FOREIGN[0], 10)) }
}

/// Every local driver as it is where nothing is chosen, and the choices that change what is wanted.
fn settings() -> impl Strategy<Value = DriverSettings> {
    let local = Driver::ALL.into_iter().filter(|driver| driver.scope() == Scope::Local);
    let usual: Vec<_> = local.map(|driver| convert::usual(driver, FOREIGN[0].as_str())).collect();
    let bridge = |name: Option<IfName>| {
        any::<bool>().prop_map(move |icc| {
            DriverSettings::Bridge(BridgeSettings { name, icc, ..BridgeSettings::default() })
        })
    };
    let parent = || prop_oneof![Just(Parent { link: FOREIGN[0], vlan: None }), Just(vlan())];
    let macvlan = prop_oneof![Just(MacvlanMode::Bridge), Just(MacvlanMode::Passthru)];
    let ipvlan = prop_oneof![Just(IpvlanMode::L2), Just(IpvlanMode::L3), Just(IpvlanMode::L3s)];
    prop_oneof![
        1 => bridge(None),
        1 => bridge(Some(IfName::literal("lab.1"))),
        1 => bridge(Some(FOREIGN_BRIDGE)),
        1 => (parent(), macvlan).prop_map(|(parent, mode)| DriverSettings::Macvlan(parent, mode)),
        1 => (parent(), ipvlan)
            .prop_map(|(parent, mode)| DriverSettings::Ipvlan(parent, mode, IpvlanFlag::Bridge)),
        5 => prop::sample::select(usual),
    ]
}

fn shapes() -> impl Strategy<Value = Shape> {
    (
        settings(),
        prop_oneof![Just((true, false)), Just((true, true)), Just((false, true))],
        any::<(bool, bool, bool, bool)>(),
        prop_oneof![Just(1500_u32), Just(1400), Just(9000)],
        prop::collection::btree_map(2..30_u8, -2..3_i32, 0..4),
    )
        .prop_map(|(settings, families, (internal, published, bridge_firewall, ipv6), mtu, local)| {
            let most = if is_alone(&settings) { 1 } else { usize::MAX };
            let local = local.into_iter().take(most).collect();
            let features = Features { bridge_firewall, ipv6: ipv6 || families.1, ..FEATURES };
            Shape { settings, families, internal, mtu, local, published, features }
        })
}

/// Whether there is room for but one endpoint.
fn is_alone(settings: &DriverSettings) -> bool {
    settings.profile().most.is_some_and(|most| most.count == 1)
}

fn member(network: &Network, shape: &Shape, (number, priority): (u8, i32)) -> Endpoint {
    let mut endpoint = endpoint(network, number);
    endpoint.gateway_priority = priority;
    endpoint.link_local = vec!["169.254.7.7".parse().unwrap()];
    endpoint.sysctls.insert("net/ipv4/conf/eth0/log_martians".into(), "1".into());
    if shape.published {
        let port = PublishedPort { protocol: Protocol::Tcp, host: None, host_port: 8080, port: 80 };
        endpoint.ports.push(port);
    }
    endpoint
}

pub(in crate::drivers) fn desired(shape: &Shape) -> State {
    let mut network = network(shape.families.0, shape.families.1);
    network.settings = shape.settings.clone();
    network.internal = shape.internal;
    let endpoints: Vec<Endpoint> = shape.local.iter().map(|end| member(&network, shape, *end)).collect();
    let ends = endpoints.into_iter().zip(&shape.local);
    let elements: Vec<_> =
        ends.map(|(endpoint, (number, _))| Element::Local(Box::new(endpoint), sandbox(*number))).collect();
    network.mtu = Some(shape.mtu);
    let shared = of_this_host(&env(shape.features), &network).unwrap().expect("a local driver");
    shared.desired(&elements)
}

/// A host with the links of [`kernel`].
fn env(features: Features) -> Env {
    Env {
        me: testing::ME,
        vtep: [192, 0, 2, 1].into(),
        vxlan_port: 4789,
        underlay_mtu: 1500,
        outside_mtu: 1500,
        paths: BTreeMap::new(),
        features,
        links: Arc::new(HostLinks::of(&kernel().state().netns[&Netns::Host])),
        hidden: BTreeSet::new(),
        sandboxes: BTreeMap::new(),
        legs: BTreeMap::new(),
    }
}

fn made_links(op: &Op) -> Vec<&NewLink> {
    if let Op::AddLink(new, _) = op {
        vec![new]
    } else if let Op::AddVeth(a, b) = op {
        vec![a, b]
    } else {
        vec![]
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn any_local_network_becomes_any_other_and_foreign_things_stay(first in shapes(), second in shapes()) {
        let kernel = kernel();
        let before = foreign(&kernel.state());
        for shape in [&first, &second, &first] {
            apply_plan(&kernel, &desired(shape))?;
        }
        prop_assert_eq!(foreign(&kernel.state()), before);
    }

    #[test]
    fn whatever_is_damaged_is_mended(shape in shapes(), damage in prop::collection::vec(any::<prop::sample::Index>(), 1..4)) {
        let kernel = kernel();
        apply_plan(&kernel, &desired(&shape))?;
        for index in damage {
            kernel.edit(|state| damage_one(state, index));
        }
        apply_plan(&kernel, &desired(&shape))?;
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
    fn the_order_of_endpoints_does_not_matter(shape in shapes()) {
        let mut turned = shape.clone();
        turned.local.reverse();
        prop_assert_eq!(desired(&turned), desired(&shape));
    }

    #[test]
    fn an_endpoint_more_planned_alone_comes_to_the_same(shape in shapes(), more in (2..30_u8, -2..3_i32)) {
        prop_assume!(shape.settings.profile().rows_alone && !is_alone(&shape.settings));
        prop_assume!(shape.local.iter().all(|(number, _)| *number != more.0));
        let with = |local: Vec<(u8, i32)>| desired(&Shape { local, ..shape.clone() });
        let all = || shape.local.iter().copied().chain([more]).collect();
        let (by_rows, whole) = (kernel(), kernel());
        apply_plan(&by_rows, &with(shape.local.clone()))?;
        apply_plan(&whole, &with(all()))?;
        let ops = plan(unit(), &with(vec![more]), &with(vec![]));
        block_on(by_rows.apply(ops)).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(by_rows.state(), whole.state());
        let ops = plan(unit(), &with(vec![]), &with(vec![more]));
        block_on(by_rows.apply(ops)).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(steps(&by_rows, &with(shape.local.clone())), vec![]);
    }

    #[test]
    fn an_internal_network_has_no_default_route(shape in shapes()) {
        let desired = desired(&Shape { internal: true, ..shape });
        let links = desired.netns.values().flat_map(|netns| netns.links.values());
        let routes: BTreeSet<_> = links.flat_map(|link| link.routes.keys()).collect();
        prop_assert!(routes.iter().all(|to| to.prefix_len() > 0), "{:?}", routes);
    }

    #[test]
    fn settings_of_a_link_come_between_its_making_and_its_rise(shape in shapes()) {
        let kernel = kernel();
        let desired = desired(&shape);
        // The values are what they shall be, but go with the link.
        for _ in 0..2 {
            let ops = apply_plan(&kernel, &desired)?;
            for (netns, key) in desired.netns.iter().flat_map(|(netns, state)| {
                state.sysctls.keys().map(move |key| (netns, key))
            }) {
                let Some(name) = sysctl::link_of(key) else { continue };
                let set = ops.iter().position(|op| matches!(op, Op::Setting(at, SettingOp::SetSysctl(it, _)) if at == netns && it == key));
                let is_it = |new: &&NewLink| new.at.netns == *netns && new.at.name == name;
                let made = ops.iter().position(|op| made_links(op).iter().any(is_it));
                let up = ops.iter().position(|op| {
                    matches!(op, Op::Link(at, LinkOp::SetUp(true)) if at.netns == *netns && at.name == name)
                });
                prop_assert!(made.is_some() && made < set && set < up, "{key}: {ops:?}");
            }
            kernel.edit(|state| {
                for netns in state.netns.values_mut() {
                    netns.links.retain(|_, link| link.mark.is_none());
                }
            });
        }
    }
}
