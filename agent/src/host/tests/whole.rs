//! The host's part as a whole: deterministic, brought about, and gone again.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::packet::{End, Host, bridge_of, ip, leg_of, published, table_of};
use crate::{
    host::*,
    model::Vni,
    plan::{
        op::{Op, SettingOp},
        ownership::Unit,
        ruleset::{Family, LinkMatch, Match},
        state::{Netns, NetnsState, State},
        tests::stage::*,
        *,
    },
};

fn networks() -> impl Strategy<Value = Vec<HostNetwork>> {
    let one = |number: u8| {
        any::<[bool; 6]>().prop_map(move |[leg, internal, masquerade, icc, named, v6]| {
            let mut network = if leg { leg_of(number, |_| ()) } else { bridge_of(number, |_| ()) };
            network.masquerade = masquerade;
            network.subnets.truncate(1 + usize::from(v6));
            if !leg {
                (network.internal, network.icc) = (internal, icc);
                network.allowed =
                    vec![(ip("172.30.1.5"), ip("172.30.1.6")), (ip("172.30.1.6"), ip("172.30.1.5"))];
                if named {
                    network.link = format!("lab.{number}").parse().unwrap();
                }
            }
            network
        })
    };
    prop::collection::btree_set(1..9_u8, 0..4)
        .prop_flat_map(move |numbers| numbers.into_iter().map(one).collect::<Vec<_>>())
}

fn underlays() -> impl Strategy<Value = Underlay> {
    let nodes = prop::collection::btree_set(1..5_u8, 0..4);
    (any::<bool>(), nodes, prop::collection::btree_set(256..260_u32, 0..3)).prop_map(|(v6, nodes, vnis)| {
        let vtep =
            |number| ip(&if v6 { format!("2001:db8::{number}") } else { format!("198.51.100.{number}") });
        Underlay {
            vtep: vtep(1),
            vxlan_port: 4789,
            gossip_port: 7946,
            store_ports: [2379].into(),
            vteps: nodes.into_iter().map(vtep).chain([vtep(1)]).collect(),
            vnis: vnis.into_iter().map(|vni| Vni::new(vni).unwrap()).collect(),
        }
    })
}

fn closed() -> impl Strategy<Value = BTreeSet<Family>> {
    prop::sample::subsequence(vec![Family::V4, Family::V6], 0..=2).prop_map(|it| it.into_iter().collect())
}

fn inputs() -> impl Strategy<Value = HostInput> {
    let ports = prop::collection::vec((1..9_u8, 8000..8010_u16, 2..9_u8, any::<bool>()), 0..8);
    let rest = (any::<[bool; 2]>(), prop::option::of(underlays()), closed());
    (networks(), ports, rest).prop_map(
        |(networks, ports, ([ip_forward, bridge_firewall], underlay, closed))| {
            let forward = |(number, port, to, addressed): (u8, u16, u8, bool)| {
                let host = addressed.then_some("127.0.0.1");
                published(&bridge_of(number, |_| ()), host, port, &format!("172.30.{number}.{to}"))
            };
            let ports = ports.into_iter().map(forward).collect();
            HostInput { networks, ports, ip_forward, ipv6: true, underlay, closed, bridge_firewall }
        },
    )
}

fn bring_host_about(kernel: &crate::kernel::MemoryKernel, desired: &State) -> Result<Vec<Op>, TestCaseError> {
    bring_about_of(Unit::Host, kernel, desired)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_state_of_the_host_becomes_any_other_and_then_nothing(first in inputs(), second in inputs()) {
        let kernel = kernel();
        let before = kernel.state();
        for input in [&first, &second] {
            bring_host_about(&kernel, &host(input))?;
        }
        bring_host_about(&kernel, &host(&HostInput::default()))?;
        prop_assert_eq!(without_sysctls(kernel.state()), without_sysctls(before.clone()));
        bring_host_about(&kernel, &host(&first))?;
        bring_host_about(&kernel, &State::default())?;
        prop_assert_eq!(without_sysctls(kernel.state()), without_sysctls(before));
    }

    #[test]
    fn the_order_of_networks_ports_and_links_does_not_matter(input in inputs()) {
        let mut turned = input.clone();
        turned.networks.reverse();
        turned.networks.iter_mut().for_each(|network| network.allowed.reverse());
        turned.ports.reverse();
        prop_assert_eq!(host(&turned), host(&input));
    }

    #[test]
    fn rules_speak_only_of_links_that_networks_have(input in inputs()) {
        let links: BTreeSet<String> = input.networks.iter().map(|network| network.link.to_string()).collect();
        let Some(table) = host(&input).netns.remove(&Netns::Host).unwrap().table else {
            let tunnels = input.underlay.is_some_and(|underlay| !underlay.vnis.is_empty());
            prop_assert!(input.networks.is_empty() && input.closed.is_empty() && !tunnels);
            return Ok(());
        };
        for condition in table.chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.matches) {
            let (Match::In(link) | Match::Out(link)) = condition else { continue };
            let is_there = match link {
                LinkMatch::Is(name) => name.as_str() == "lo" || links.contains(name.as_str()),
                LinkMatch::StartsWith(start) => links.iter().any(|link| link.starts_with(start.as_str())),
                LinkMatch::IsNot(name) => name.as_str() == "lo",
                LinkMatch::StartsNotWith(_) => false,
            };
            prop_assert!(is_there, "{:?} of {:?}", link, links);
        }
        // Nothing empty: neither maps nor chains.
        prop_assert!(table.ports.values().all(|ports| !ports.is_empty()));
        prop_assert!(table.chains.iter().all(|chain| !chain.rules.is_empty()));
    }
}

proptest! {
    #[test]
    fn what_is_not_redirected_gets_into_no_other_network(input in inputs()) {
        prop_assume!(!input.networks.is_empty());
        let host = Host::of(&input);
        for to in &input.networks {
            let address = format!("{}", to.subnets[0].hosts().nth(6).unwrap());
            prop_assert_eq!(host.outsider_sends((&address, 80)), End::Dropped);
            for from in input.networks.iter().filter(|from| from.id != to.id) {
                prop_assert_eq!(host.sandbox_sends(from, (&address, 80)), End::Dropped);
            }
            let within = host.forward(to.link, &address, (&address, 81));
            let may = to.icc && to.side == HostSide::Bridge;
            prop_assert_eq!(within == End::Dropped, !may, "{:?}", to);
        }
    }
}

fn sysctls(networks: Vec<HostNetwork>, ip_forward: bool, ipv6: bool) -> BTreeMap<String, String> {
    let input = HostInput { networks, ip_forward, ipv6, ..HostInput::default() };
    host(&input).netns.remove(&Netns::Host).unwrap().sysctls
}

#[test]
fn forwarding_is_set_for_the_families_that_are_routed_and_only_if_it_may_be() {
    let keys = |network, ip_forward, ipv6| sysctls(vec![network], ip_forward, ipv6).into_keys().collect();
    let set = |network| -> Vec<String> { keys(network, true, true) };
    let (v4, v6) = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding");
    let only = |v6: bool| move |it: &mut HostNetwork| it.subnets.retain(|net| net.addr().is_ipv6() == v6);
    assert!(sysctls(vec![], true, true).is_empty());
    assert_eq!(set(bridge_of(1, |_| ())), [v4, v6]);
    assert_eq!(keys(bridge_of(1, |_| ()), false, true), [""; 0]);
    assert_eq!(keys(bridge_of(1, |_| ()), true, false), [v4]);
    assert_eq!(set(bridge_of(1, only(false))), [v4]);
    assert_eq!(set(bridge_of(1, only(true))), [v6]);
    assert_eq!(set(leg_of(1, only(true))), [v4, v6], "a leg has both");
    let internal = |icc| {
        bridge_of(1, |it| {
            only(false)(it);
            (it.internal, it.icc) = (true, icc);
        })
    };
    assert_eq!(set(internal(true)), [""; 0], "nothing is routed there");
    assert_eq!(set(internal(false)), [v4], "but by way of links");
}

#[test]
fn forward_accepts_are_for_the_links_that_there_are_by_family() {
    let networks = vec![
        bridge_of(1, |it| it.subnets.truncate(1)),
        bridge_of(2, |it| {
            it.subnets.truncate(1);
            it.link = "ovnet0".parse().unwrap();
        }),
        leg_of(3, |_| ()),
    ];
    let input = HostInput { networks, ip_forward: true, ipv6: true, ..HostInput::default() };
    let forward_accepts = host(&input).netns.remove(&Netns::Host).unwrap().forward_accepts;
    let starts = |name: &str| LinkMatch::StartsWith(name.parse().unwrap());
    let v4 = [starts("ovb-"), starts("ovh-"), LinkMatch::Is("ovnet0".parse().unwrap())];
    assert_eq!(forward_accepts, [(Family::V4, v4.into()), (Family::V6, [starts("ovh-")].into())].into());
}

#[test]
fn where_a_family_has_no_chain_for_forward_accepts_none_are_made() {
    let kernel = kernel();
    kernel.edit(|state| {
        state.netns.get_mut(&Netns::Host).unwrap().forward_accepts.remove(&Family::V6);
    });
    let input = HostInput { networks: vec![bridge_of(1, |_| ())], ip_forward: true, ..HostInput::default() };
    let ops = bring_host_about(&kernel, &host(&input)).unwrap();
    let families: Vec<Family> = ops
        .iter()
        .filter_map(|op| {
            if let Op::Setting(_, SettingOp::SetForwardAccepts(family, _)) = op {
                Some(*family)
            } else {
                None
            }
        })
        .collect();
    assert_eq!(families, [Family::V4]);
}

#[test]
fn a_thousand_published_ports_are_two_rules_and_a_map() {
    let one = bridge_of(1, |_| ());
    let many = |ports: u16| {
        let ports = (0..ports).map(|port| published(&one, None, 8000 + port, "172.30.1.2")).collect();
        table_of(&HostInput { networks: vec![one.clone()], ports, ip_forward: true, ..HostInput::default() })
    };
    let rules = |table: &ruleset::Table| table.chains.iter().map(|chain| chain.rules.len()).sum::<usize>();
    let (few, thousand) = (many(1), many(1000));
    assert_eq!(rules(&few), rules(&thousand));
    assert_eq!(thousand.ports.values().map(BTreeMap::len).sum::<usize>(), 1000);
}

#[test]
fn a_host_without_networks_has_nothing_of_ours() {
    assert_eq!(host(&HostInput::default()).netns[&Netns::Host], NetnsState::default());
}
