//! The host's rules, followed by packets.

use super::packet::*;
use crate::{
    host::{HostInput, HostNetwork, HostSide, Underlay},
    model::Vni,
    plan::ruleset::Family,
};

fn reaches(to: &str) -> End {
    End::Reaches(format!("{to} 80"))
}

fn masqueraded(to: &str) -> End {
    End::Masqueraded(format!("{to} 80"))
}

#[test]
fn sandboxes_reach_the_outside_with_an_address_of_the_host_and_are_answered() {
    let bare = |network: &mut HostNetwork| network.masquerade = false;
    let (bridge, leg) = (bridge_of(1, |_| ()), leg_of(2, |_| ()));
    let (bare_bridge, bare_leg) = (bridge_of(3, bare), leg_of(4, bare));
    let networks = vec![bridge.clone(), leg.clone(), bare_bridge.clone(), bare_leg.clone()];
    let host = Host::new(networks, vec![]);
    for client in CLIENT {
        assert_eq!(host.sandbox_sends(&bridge, (client, 80)), masqueraded(client));
        assert_eq!(host.sandbox_sends(&leg, (client, 80)), masqueraded(client));
        assert_eq!(host.sandbox_sends(&bare_bridge, (client, 80)), reaches(client));
        assert_eq!(host.sandbox_sends(&bare_leg, (client, 80)), reaches(client));
    }
    assert!(host.answers(NIC, CLIENT[0], "172.30.1.5"));
}

#[test]
fn nobody_gets_in_from_the_outside_or_from_another_network() {
    let networks =
        vec![bridge_of(1, |_| ()), bridge_of(2, |it| it.link = "lab1".parse().unwrap()), leg_of(3, |_| ())];
    let host = Host::new(networks.clone(), vec![]);
    for to in ["172.30.1.2", "172.30.2.2", "172.30.3.2", "fd00:30:1::2", "fd00:30:3::2", "169.254.0.7"] {
        assert_eq!(host.outsider_sends((to, 80)), End::Dropped, "{to}");
        for from in networks.iter().filter(|from| host.route(ip(to)) != from.link) {
            assert_eq!(host.sandbox_sends(from, (to, 80)), End::Dropped, "{} to {to}", from.link);
        }
        assert_eq!(host.host_sends((to, 80)), reaches(to), "the host itself may");
    }
    assert_eq!(host.sandbox_sends(&networks[0], ("172.30.1.9", 80)), reaches("172.30.1.9"));
}

#[test]
fn a_published_port_is_reached_from_everywhere_and_keeps_the_clients_address() {
    let (one, other, leg) = (bridge_of(1, |_| ()), bridge_of(2, |_| ()), leg_of(3, |_| ()));
    let inner = leg_of(3, |_| ());
    let HostSide::Leg(index) = inner.side else { panic!("a leg") };
    let inner = index.inner()[0].addr().to_string();
    let ports = vec![
        published(&one, None, 8080, "172.30.1.2"),
        published(&one, None, 8080, "fd00:30:1::2"),
        published(&leg, None, 8081, &inner),
    ];
    let host = Host::new(vec![one.clone(), other.clone(), leg.clone()], ports);
    for (here, to) in HERE.into_iter().zip(["172.30.1.2", "fd00:30:1::2"]) {
        assert_eq!(host.outsider_sends((here, 8080)), reaches(to));
        assert_eq!(host.sandbox_sends(&other, (here, 8080)), reaches(to));
        assert_eq!(host.sandbox_sends(&leg, (here, 8080)), reaches(to));
        assert_eq!(host.host_sends((here, 8080)), reaches(to));
        // Its own network's sandboxes must not be answered past the host.
        assert_eq!(host.sandbox_sends(&one, (here, 8080)), masqueraded(to));
        assert_eq!(host.outsider_sends((here, 80)), End::Host, "only what is published");
    }
    assert_eq!(host.host_sends(("127.0.0.1", 8080)), masqueraded("172.30.1.2"));
    assert_eq!(host.host_sends(("::1", 8080)), End::Host, "nothing comes back to ::1");
    assert_eq!(host.outsider_sends((HERE[0], 8081)), reaches(&inner));
    assert_eq!(host.sandbox_sends(&leg, (HERE[0], 8081)), masqueraded(&inner));
    assert_eq!(host.sandbox_sends(&one, (HERE[0], 8081)), reaches(&inner));
}

#[test]
fn an_overlay_without_masquerade_reaches_its_own_published_port_too() {
    let leg = leg_of(3, |it| it.masquerade = false);
    let host = Host::new(vec![leg.clone()], vec![published(&leg, None, 8081, "169.254.0.7")]);
    assert_eq!(host.sandbox_sends(&leg, (HERE[0], 8081)), masqueraded("169.254.0.7"));
    assert_eq!(host.outsider_sends((HERE[0], 8081)), reaches("169.254.0.7"));
}

#[test]
fn a_port_of_one_address_is_published_there_alone_and_goes_first() {
    let one = bridge_of(1, |_| ());
    let ports = vec![
        published(&one, Some("127.0.0.1"), 8080, "172.30.1.2"),
        published(&one, Some(HERE[1]), 8080, "fd00:30:1::2"),
        published(&one, None, 9000, "172.30.1.3"),
        published(&one, Some(HERE[0]), 9000, "172.30.1.4"),
        // Of two families: never.
        published(&one, Some(HERE[0]), 7000, "fd00:30:1::2"),
    ];
    let host = Host::new(vec![one], ports);
    assert_eq!(host.host_sends(("127.0.0.1", 8080)), masqueraded("172.30.1.2"));
    assert_eq!(host.outsider_sends((HERE[0], 8080)), End::Host);
    assert_eq!(host.outsider_sends((HERE[1], 8080)), reaches("fd00:30:1::2"));
    assert_eq!(host.outsider_sends((HERE[0], 9000)), reaches("172.30.1.4"));
    assert_eq!(host.host_sends(("127.0.0.1", 9000)), masqueraded("172.30.1.3"));
    assert_eq!(host.outsider_sends((HERE[0], 7000)), End::Host);
}

#[test]
fn sandboxes_that_may_not_talk_do_so_only_by_links_and_published_ports() {
    let apart = bridge_of(1, |it| {
        it.icc = false;
        it.allowed = vec![(ip("172.30.1.5"), ip("172.30.1.9")), (ip("fd00:30:1::5"), ip("172.30.1.9"))];
    });
    let other = bridge_of(2, |it| it.icc = false);
    let ports = vec![published(&apart, None, 8080, "172.30.1.2")];
    let host = Host::new(vec![apart.clone(), other.clone()], ports);
    let between = |from, to, port| host.forward(apart.link, from, (to, port));
    assert_eq!(between("172.30.1.6", "172.30.1.9", 80), End::Dropped);
    assert_eq!(between("172.30.1.5", "172.30.1.9", 80), reaches("172.30.1.9"));
    assert_eq!(between("172.30.1.9", "172.30.1.5", 80), End::Dropped, "one way");
    assert!(host.answers(apart.link, "172.30.1.9", "172.30.1.5"));
    assert_eq!(between("172.30.1.6", "172.30.1.2", 80), reaches("172.30.1.2"));
    assert_eq!(between("172.30.1.6", "172.30.1.2", 81), End::Dropped);
    assert_eq!(between("172.30.1.6", HERE[0], 8080), masqueraded("172.30.1.2"));
    assert_eq!(host.sandbox_sends(&apart, (CLIENT[0], 80)), masqueraded(CLIENT[0]));
    assert_eq!(host.sandbox_sends(&other, ("172.30.1.2", 80)), End::Dropped);
}

#[test]
fn an_internal_network_has_no_way_out_and_none_in() {
    let (open, inside) = (bridge_of(1, |_| ()), bridge_of(2, |it| it.internal = true));
    let ports = vec![
        published(&open, None, 8080, "172.30.1.2"),
        // Nobody publishes there; should it be said, it is not heard.
        published(&inside, None, 8081, "172.30.2.2"),
    ];
    let host = Host::new(vec![open.clone(), inside.clone()], ports);
    assert_eq!(host.sandbox_sends(&inside, (CLIENT[0], 80)), End::Dropped);
    assert_eq!(host.sandbox_sends(&inside, (HERE[0], 8080)), End::Dropped, "nor by another's published port");
    assert_eq!(host.sandbox_sends(&inside, ("172.30.1.2", 80)), End::Dropped);
    assert_eq!(host.sandbox_sends(&open, ("172.30.2.2", 80)), End::Dropped);
    assert_eq!(host.outsider_sends(("172.30.2.2", 80)), End::Dropped);
    assert_eq!(host.outsider_sends((HERE[0], 8081)), End::Host);
    assert_eq!(host.sandbox_sends(&inside, ("172.30.2.9", 80)), reaches("172.30.2.9"));
    assert_eq!(host.host_sends(("172.30.2.2", 80)), reaches("172.30.2.2"));
}

#[test]
fn no_sandbox_reaches_what_the_host_has_on_its_loopback() {
    let (one, leg) = (bridge_of(1, |_| ()), leg_of(2, |_| ()));
    let ports = vec![published(&one, None, 8080, "172.30.1.2")];
    let host = Host::new(vec![one.clone(), leg.clone()], ports);
    for link in [one.link, leg.link] {
        for port in [631, 8080] {
            assert_eq!(host.forward(link, "172.30.1.5", ("127.0.0.1", port)), End::Dropped);
        }
    }
}

/// A node at 198.51.100.1 in a cluster with one at .2, with the overlay 900.
fn underlay() -> Underlay {
    Underlay {
        vtep: ip(HERE[0]),
        vxlan_port: 4789,
        gossip_port: 7946,
        store_ports: [2379].into(),
        vteps: [ip(HERE[0]), ip("198.51.100.2")].into(),
        vnis: [Vni::new(900).unwrap()].into(),
    }
}

#[test]
fn into_an_overlay_here_come_packets_of_nodes_only_and_other_vnis_are_others() {
    let (node, stranger) = ("198.51.100.2", CLIENT[0]);
    // The rules are the same where no network has a link in the host.
    for networks in [vec![], vec![leg_of(1, |_| ())]] {
        let input = HostInput { networks, underlay: Some(underlay()), ..HostInput::default() };
        let host = Host::of(&input);
        let from = |from, to, vni| host.tunnelled(NIC, (from, to), vni);
        assert_eq!(from(node, HERE[0], Some(900)), End::Host);
        assert_eq!(from(stranger, HERE[0], Some(900)), End::Dropped);
        assert_eq!(from(stranger, HERE[0], Some(901)), End::Host, "somebody else's");
        assert_eq!(from(stranger, HERE[0], None), End::Dropped, "a first fragment too short for a VNI");
        assert_eq!(from(CLIENT[1], HERE[1], Some(900)), End::Dropped, "the other family");
        assert_eq!(from(node, "127.0.0.1", Some(900)), End::Dropped, "not at this node's VTEP");
        let passing = host.tunnelled(NIC, (stranger, "203.0.113.7"), Some(900));
        assert_eq!(passing, End::Reaches("203.0.113.7 4789".into()), "to a node behind this one");
    }
}

#[test]
fn no_sandbox_reaches_a_port_of_the_agent_here_or_on_another_node() {
    let networks = vec![
        leg_of(1, |_| ()),
        bridge_of(2, |_| ()),
        bridge_of(3, |it| it.link = "lab3".parse().unwrap()),
        bridge_of(4, |it| it.internal = true),
    ];
    let input = HostInput { networks: networks.clone(), underlay: Some(underlay()), ..HostInput::default() };
    let host = Host::of(&input);
    for network in &networks {
        for to in [HERE[0], HERE[1], "198.51.100.2"] {
            // Its own address, and those of nodes.
            for from in ["172.30.2.5", HERE[0], "198.51.100.2"] {
                for vni in [Some(900), Some(901), None] {
                    assert_eq!(
                        host.tunnelled(network.link, (from, to), vni),
                        End::Dropped,
                        "{} {to}",
                        network.link
                    );
                }
            }
            assert_eq!(host.sandbox_sends(network, (to, 2379)), End::Dropped, "{} {to}", network.link);
        }
        assert_eq!(host.sandbox_sends(network, (HERE[0], 80)), End::Host, "the host's other ports are open");
    }
    // A store, a tunnel of a sandbox's own elsewhere.
    assert_eq!(
        host.sandbox_sends(&networks[1], (CLIENT[0], 2379)),
        End::Masqueraded("198.51.100.9 2379".into())
    );
    assert_eq!(host.outsider_sends((HERE[0], 2379)), End::Host, "other hosts need the store");
}

#[test]
fn nobody_outside_reaches_a_port_that_is_published_on_the_loopback() {
    let one = bridge_of(1, |_| ());
    let host = Host::new(vec![one.clone()], vec![published(&one, Some("127.0.0.1"), 8080, "172.30.1.2")]);
    assert_eq!(host.outsider_sends(("127.0.0.1", 8080)), End::Dropped);
    assert_eq!(host.host_sends(("127.0.0.1", 8080)), masqueraded("172.30.1.2"));
}

#[test]
fn what_belongs_to_no_connection_leaves_no_network_that_masquerades() {
    let bare = |network: &mut HostNetwork| network.masquerade = false;
    let networks = vec![bridge_of(1, |_| ()), leg_of(2, |_| ()), bridge_of(3, bare), leg_of(4, bare)];
    let host = Host::new(networks.clone(), vec![]);
    for network in &networks {
        let from = network.subnets[0].hosts().nth(4).unwrap().to_string();
        let left = host.astray(network.link, &from, CLIENT[0]);
        let expected = if network.masquerade { End::Dropped } else { reaches(CLIENT[0]) };
        assert_eq!(left, expected, "{}", network.link);
        assert_ne!(host.sandbox_sends(network, (CLIENT[0], 80)), End::Dropped);
    }
}

#[test]
fn a_host_that_was_no_router_before_routes_for_nobody_else() {
    let one = bridge_of(1, |_| ());
    let both = [Family::V4, Family::V6];
    let beyond = ["203.0.113.7", "2001:db8:7::7"];
    for (networks, closed) in [
        (vec![one.clone()], &both[..]),
        (vec![one.clone()], &both[..1]),
        (vec![], &both[..]),
        (vec![one.clone()], &[]),
    ] {
        let closed: std::collections::BTreeSet<Family> = closed.iter().copied().collect();
        let input = HostInput { networks: networks.clone(), closed: closed.clone(), ..HostInput::default() };
        let host = Host::of(&input);
        for (to, family) in beyond.into_iter().zip(both) {
            let expected = if closed.contains(&family) { End::Dropped } else { reaches(to) };
            assert_eq!(host.outsider_sends((to, 80)), expected, "{to} {closed:?}");
            assert_eq!(host.host_sends((to, 80)), reaches(to));
            for network in &networks {
                assert_eq!(host.sandbox_sends(network, (to, 80)), masqueraded(to));
            }
        }
    }
}

#[test]
fn what_stays_within_a_bridge_of_somebody_else_passes_a_closed_host() {
    let closed = [Family::V4].into();
    let input = HostInput { networks: vec![bridge_of(1, |_| ())], closed, ..HostInput::default() };
    for bridge_firewall in [false, true] {
        let host = Host::of(&HostInput { bridge_firewall, ..input.clone() });
        let within = host.forward(BRIDGE, "192.168.122.8", (BRIDGED, 80));
        // Where the firewall does not see frames of bridges, such a packet is routed.
        assert_eq!(within == End::Dropped, !bridge_firewall);
        assert_eq!(host.forward(BRIDGE, BRIDGED, (CLIENT[0], 80)), End::Dropped);
        assert_eq!(host.forward(NIC, CLIENT[0], (BRIDGED, 80)), End::Dropped);
    }
}
