//! Links on a link of the host, and pairs, by example.

use super::{
    bridge::{addresses, routes},
    local::{FEATURES, Shape, desired, vlan},
};
use crate::{
    drivers::*,
    model::{
        DriverSettings, EndpointId, IfName, IpvlanFlag, IpvlanMode, Mac, MacvlanMode, Parent, Timestamp,
        testing,
    },
    plan::{
        op::{LinkOp, Op},
        state::{Link, LinkKind, Netns, State},
        tests::stage::*,
        *,
    },
};

const ETH0: IfName = IfName::literal("eth0");

fn shape(settings: DriverSettings) -> Shape {
    Shape {
        settings,
        families: (true, true),
        internal: false,
        mtu: 1500,
        local: vec![(2, 0)],
        published: false,
        features: FEATURES,
    }
}

fn inside(state: &State, number: u8) -> &Link {
    &state.netns[&sandbox(number)].links[&ETH0]
}

#[test]
fn a_macvlan_link_has_its_own_address_and_a_router_outside() {
    let parent = Parent { link: FOREIGN[0], vlan: None };
    let state = desired(&shape(DriverSettings::Macvlan(parent, MacvlanMode::Bridge)));
    assert!(!state.netns.contains_key(&Netns::Host), "nothing of ours is in the host");
    let link = inside(&state, 2);
    assert_eq!(link.kind, LinkKind::Macvlan(FOREIGN[0], MacvlanMode::Bridge));
    assert_eq!(link.mac, Some(Mac::derived([10, 0, 0, 2].into())));
    assert_eq!(routes(link), ["0.0.0.0/0 via 10.0.0.1", "::/0 via fd00:1::1"]);
    assert_eq!(state.netns[&sandbox(2)].sysctls["net/ipv6/conf/eth0/accept_ra"], "0");
}

#[test]
fn an_ipvlan_link_shares_its_parents_address_and_as_a_router_needs_no_gateway() {
    let parent = Parent { link: FOREIGN[0], vlan: None };
    let state = |mode| desired(&shape(DriverSettings::Ipvlan(parent, mode, IpvlanFlag::Private)));
    let l2 = state(IpvlanMode::L2);
    assert_eq!(inside(&l2, 2).kind, LinkKind::Ipvlan(FOREIGN[0], IpvlanMode::L2, IpvlanFlag::Private));
    assert_eq!(inside(&l2, 2).mac, None);
    assert_eq!(routes(inside(&l2, 2)), ["0.0.0.0/0 via 10.0.0.1", "::/0 via fd00:1::1"]);
    for mode in [IpvlanMode::L3, IpvlanMode::L3s] {
        assert_eq!(routes(inside(&state(mode), 2)), ["0.0.0.0/0", "::/0"]);
    }
}

#[test]
fn a_link_that_shares_its_parents_address_does_not_differ_for_that() {
    let kernel = kernel();
    let parent = Parent { link: FOREIGN[0], vlan: None };
    let desired = desired(&shape(DriverSettings::Ipvlan(parent, IpvlanMode::L2, IpvlanFlag::Bridge)));
    apply_plan(&kernel, &desired).unwrap();
    kernel.edit(|state| {
        let link = state.netns.get_mut(&sandbox(2)).unwrap().links.get_mut(&ETH0).unwrap();
        link.mac = Some(Mac::internal(1, b"the parent's"));
    });
    assert_eq!(steps(&kernel, &desired), []);
}

#[test]
fn a_vlan_of_ours_is_made_before_what_is_on_it_and_goes_last() {
    let kernel = kernel();
    let macvlan = shape(DriverSettings::Macvlan(vlan(), MacvlanMode::Bridge));
    let ops = apply_plan(&kernel, &desired(&macvlan)).unwrap();
    let made: Vec<_> =
        ops.iter().filter_map(|op| if let Op::AddLink(new, _) = op { Some(new) } else { None }).collect();
    let [vlan, link] = &made[..] else { panic!("{made:?}") };
    assert_eq!((vlan.at.to_string(), vlan.mac), ("host/eth9.10".into(), None));
    assert_eq!(link.at.name, ETH0);
    // Somebody's VLAN of that name is left alone.
    let mut network = network(true, false);
    network.settings = macvlan.settings;
    let theirs = ParentShared {
        network,
        parent: super::local::vlan(),
        make_vlan: false,
        mtu: 1500,
        features: FEATURES,
    };
    assert_eq!(parent(&theirs, &[]), State::default());
}

#[test]
fn a_vlan_that_is_made_anew_takes_with_it_what_is_on_it() {
    let kernel = kernel();
    let desired = desired(&shape(DriverSettings::Macvlan(vlan(), MacvlanMode::Bridge)));
    apply_plan(&kernel, &desired).unwrap();
    kernel.edit(|state| {
        let host = state.netns.get_mut(&Netns::Host).unwrap();
        host.links.get_mut(&vlan().link).unwrap().kind = LinkKind::Vlan(FOREIGN[0], 11);
    });
    let ops = apply_plan(&kernel, &desired).unwrap();
    assert_eq!(ops.iter().filter(|op| matches!(op, Op::AddLink(..))).count(), 2, "{ops:?}");
}

#[test]
fn a_macvlan_link_that_has_its_parent_for_itself_gets_its_address_afterwards() {
    let parent = Parent { link: FOREIGN[0], vlan: None };
    let ops = apply_plan(&kernel(), &desired(&shape(DriverSettings::Macvlan(parent, MacvlanMode::Passthru))));
    assert!(ops.unwrap().iter().any(|op| matches!(op, Op::Link(_, LinkOp::SetMac(_)))));
}

#[test]
fn the_first_of_a_pair_waits_for_the_second_in_a_namespace_of_the_network() {
    let kernel = kernel();
    let mut pair = shape(DriverSettings::P2p);
    let waits = netns_of(testing::network().id);
    apply_plan(&kernel, &desired(&pair)).unwrap();
    assert!(kernel.state().netns[&waits].links.values().all(|link| link.up));
    assert_eq!(addresses(inside(&kernel.state(), 2)), ["10.0.0.2/24", "169.254.7.7/16", "fd00:1::2/64"]);
    assert_eq!(routes(inside(&kernel.state(), 2)), [""; 0]);

    pair.local.push((3, 0));
    apply_plan(&kernel, &desired(&pair)).unwrap();
    let both = kernel.state();
    assert!(!both.netns.contains_key(&waits));
    assert_eq!(inside(&both, 2).mark, inside(&both, 3).mark);
    assert_eq!(inside(&both, 3).mac, Some(Mac::derived([10, 0, 0, 3].into())));

    pair.local.remove(0);
    apply_plan(&kernel, &desired(&pair)).unwrap();
    let other = kernel.state();
    assert!(other.netns.contains_key(&waits) && !other.netns[&sandbox(2)].links.contains_key(&ETH0));
}

#[test]
fn of_three_that_want_to_be_a_pair_the_oldest_two_are_joined() {
    let network = network(true, false);
    let aged = |number, created| {
        let mut endpoint = endpoint(&network, number);
        (endpoint.created, endpoint.id) = (Timestamp(created), EndpointId::from_bytes([number; 32]));
        endpoint
    };
    let ends = [aged(4, 1), aged(2, 3), aged(3, 2)];
    let numbers = [4, 2, 3].map(sandbox);
    let local = ends.iter().zip(numbers).map(|(endpoint, sandbox)| LocalEndpoint { endpoint, sandbox });
    let local: Vec<_> = local.collect();
    let state = p2p(&P2pShared { network, mtu: 1500, features: FEATURES }, &local);
    assert_eq!(state.netns.keys().collect::<Vec<_>>(), [&sandbox(3), &sandbox(4)]);
}
