//! Networks of each driver: made with their first endpoint, gone with the last, changed at the cost of the change.

use super::*;
use crate::{drivers::outer_name, plan::netns_of, store::EtcdConfig};

pub(super) fn all() -> Vec<Network> {
    local().into_iter().chain([testing::network()]).collect()
}

pub(super) async fn with(network: &Network, sandboxes: &[&str]) -> Bench {
    let mut bench = Bench::new().await;
    for name in sandboxes {
        bench.sandbox(name).await;
    }
    if network.id == testing::network().id {
        bench.say(Source::Global, overlay()).await;
    } else {
        bench.here(vec![known(network)]).await;
    }
    bench
}

#[tokio::test]
async fn a_network_is_made_with_its_first_endpoint_and_nothing_of_it_stays_after_the_last() {
    for network in all() {
        let mut bench = with(&network, &["a", "b"]).await;
        // A router before us: nothing has to be closed after us.
        bench.kernel.edit(|state| {
            let host = state.netns.get_mut(&Netns::Host).unwrap();
            host.sysctls.values_mut().for_each(|value| *value = "1".into());
        });
        let before = but_settings(bench.kernel.state());
        let (a, b) = (endpoint(&network, 2, "a"), endpoint(&network, 3, "b"));
        let source = source_of(&network);
        bench.say(source, vec![there(&a)]).await;
        bench.say(source, vec![there(&b)]).await;
        bench.check_whole().await;
        for (endpoint, sandbox) in [(&a, "a"), (&b, "b")] {
            let links = bench.inside(sandbox);
            assert_eq!(links.keys().copied().collect::<Vec<_>>(), [endpoint.ifname], "{}", network.driver());
            assert!(endpoint.addresses.iter().all(|it| links[&endpoint.ifname].addresses.contains(it)));
        }
        bench.say(source, vec![gone(&a)]).await;
        bench.check_whole().await;
        assert!(bench.inside("a").is_empty(), "{}", network.driver());
        assert_eq!(bench.inside("b").len(), 1, "{}", network.driver());
        bench.say(source, vec![gone(&b)]).await;
        bench.check_whole().await;
        assert_eq!(but_settings(bench.kernel.state()), before, "{}", network.driver());
    }
}

#[tokio::test]
async fn an_endpoint_that_is_made_ahead_of_its_sandbox_gets_its_link_with_it() {
    for network in all() {
        let mut bench = with(&network, &["a", "b"]).await;
        let (a, b) = (endpoint(&network, 2, "a"), endpoint(&network, 3, "b"));
        let ahead = Endpoint { sandbox: None, ..b.clone() };
        let source = source_of(&network);
        bench.say(source, vec![there(&a), there(&ahead)]).await;
        bench.check_whole().await;
        assert!(bench.inside("b").is_empty(), "{}", network.driver());
        bench.say(source, vec![there(&b)]).await;
        bench.check_whole().await;
        assert_eq!(bench.inside("b").len(), 1, "{}", network.driver());
        bench.say(source, vec![there(&ahead)]).await;
        bench.check_whole().await;
        assert!(bench.inside("b").is_empty(), "{}", network.driver());
    }
}

#[tokio::test]
async fn a_store_that_the_loop_does_not_reach_is_away_and_the_kernel_has_refused_nothing() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = EtcdConfig { endpoints: vec![nobody.to_string()], ..EtcdConfig::default() };
    let mut bench = with(&testing::network(), &["a"]).await;
    bench.reconciler.local = Store::etcd(&config).unwrap();
    let endpoint = endpoint(&testing::network(), 2, "a");
    bench.say(Source::Global, vec![there(&endpoint)]).await;
    let outcome = bench.world.outcome(Unit::Network(endpoint.network)).unwrap();
    let (_, error) = &outcome.failures[0];
    assert!(matches!(error, ReconcileError::Store(_)), "{error}");
    let expected = format!("the store at {nobody} does not answer");
    assert!(error.to_string().starts_with(&expected), "{error}");
}

#[tokio::test]
async fn one_endpoint_more_costs_no_look_where_rows_stand_alone() {
    for network in all().into_iter().filter(|network| network.profile().rows_alone) {
        let mut bench = with(&network, &["a", "b"]).await;
        let source = source_of(&network);
        bench.say(source, vec![there(&endpoint(&network, 2, "a"))]).await;
        let before = bench.cost();
        let more = endpoint(&network, 3, "b");
        bench.say(source, vec![there(&more)]).await;
        let after = bench.cost();
        assert_eq!(after.0, before.0, "no look for {}", network.driver());
        assert!((3..=16).contains(&(after.1 - before.1)), "{} steps", after.1 - before.1);
        bench.say(source, vec![gone(&more)]).await;
        assert_eq!(bench.cost().0, before.0, "no look for {}", network.driver());
        assert!(bench.inside("b").is_empty());
        bench.check_whole().await;
    }
}

#[tokio::test]
async fn peers_are_told_of_overlays_alone() {
    for network in all() {
        let mut bench = with(&network, &["a"]).await;
        bench.told.0.lock().unwrap().clear();
        let a = endpoint(&network, 2, "a");
        bench.say(source_of(&network), vec![there(&a)]).await;
        let applied = bench.told.0.lock().unwrap().len();
        bench.say(source_of(&network), vec![gone(&a), Fact::Network(network.id, None)]).await;
        let told = bench.told.0.lock().unwrap().clone();
        match network.scope {
            Scope::Local => assert_eq!(told, [], "{}", network.driver()),
            Scope::Global => {
                assert!(applied > 0 && told.last().is_some_and(|(_, at)| at.is_none()), "{told:?}")
            }
        }
    }
}

#[tokio::test]
async fn a_bridge_that_is_somebody_elses_is_used_and_left_as_it_is() {
    let name = IfName::literal("lan");
    let chosen = BridgeSettings { name: Some(name), ..BridgeSettings::default() };
    let network = network(1, DriverSettings::Bridge(chosen));
    let mut bench = with(&network, &["a"]).await;
    let theirs = foreign("bridge", 4_000);
    bench.kernel.edit(|state| {
        state.netns.get_mut(&Netns::Host).unwrap().links.insert(name, theirs.clone());
    });
    let a = endpoint(&network, 2, "a");
    bench.here(vec![there(&a)]).await;
    assert_eq!(bench.failure(Unit::Network(network.id)), None);
    assert_eq!(bench.inside("a")[&a.ifname].mtu, 4_000, "as wide as the bridge");
    let ports = |bench: &Bench| {
        let links = bench.host().links.into_values();
        links.filter(|link| link.port.is_some_and(|port| port.bridge == name)).count()
    };
    assert_eq!(ports(&bench), 1);
    bench.here(vec![gone(&a)]).await;
    assert_eq!(ports(&bench), 0);
    assert_eq!(bench.host().links[&name], theirs);
}

#[tokio::test]
async fn a_name_that_is_taken_by_what_cannot_be_the_bridge_is_an_error() {
    let chosen = BridgeSettings { name: Some(IfName::literal("eth9")), ..BridgeSettings::default() };
    let named = network(1, DriverSettings::Bridge(chosen));
    let mut bench = with(&named, &["a"]).await;
    bench.here(vec![there(&endpoint(&named, 2, "a"))]).await;
    let error = bench.failure(Unit::Network(named.id)).unwrap();
    assert_eq!(error, "eth9, the bridge of network net1, is not a bridge");
    // One that nobody chose is not taken over, bridge or not.
    let own = bridge(2);
    let name: IfName = "ovb-0202020202".parse().unwrap();
    bench.kernel.edit(|state| {
        state.netns.get_mut(&Netns::Host).unwrap().links.insert(name, foreign("bridge", 1_500));
    });
    bench.here(vec![known(&own), there(&endpoint(&own, 2, "a"))]).await;
    let error = bench.failure(Unit::Network(own.id)).unwrap();
    assert!(
        error.starts_with("bridge ovb-0202020202 exists already and does not belong to network net2"),
        "{error}"
    );
}

#[tokio::test]
async fn a_parent_that_is_gone_is_named_and_the_network_works_again_when_it_is_back() {
    for (network, below) in
        [(macvlan(2, ETH9), "eth9"), (ipvlan(4, ETH9), "eth9"), (macvlan(3, VLAN), "eth9")]
    {
        let below = IfName::literal(below);
        let mut bench = with(&network, &["a", "b"]).await;
        let a = endpoint(&network, 2, "a");
        bench.here(vec![there(&a)]).await;
        let whole = bench.kernel.state();
        // With a link go those that are on it.
        bench.kernel.edit(|state| {
            let host = state.netns.get_mut(&Netns::Host).unwrap();
            host.links.retain(|name, _| *name != below && *name != VLAN.link);
            state.netns.get_mut(&Netns::Named("a".parse().unwrap())).unwrap().links.clear();
        });
        bench.reconciler.presence().await;
        bench.reconciler.round().await;
        let unit = Unit::Network(network.id);
        let error = bench.failure(unit).unwrap();
        assert_eq!(error, format!("the parent eth9 of network {} does not exist any more", network.name));
        // Another attach says the same, and leaves nothing.
        let b = endpoint(&network, 3, "b");
        bench.here(vec![there(&b)]).await;
        assert_eq!(bench.failure(unit), Some(error));
        bench.here(vec![gone(&b)]).await;
        let cost = bench.cost();
        bench.reconciler.presence().await;
        bench.reconciler.round().await;
        assert_eq!(bench.cost().0, cost.0 + 1, "a presence, and no try that cannot succeed");
        bench.kernel.edit(|state| {
            let host = state.netns.get_mut(&Netns::Host).unwrap();
            host.links.insert(below, foreign("nic", 9_000));
        });
        bench.reconciler.presence().await;
        bench.reconciler.round().await;
        assert_eq!(bench.failure(unit), None);
        assert_eq!(but_settings(bench.kernel.state()), but_settings(whole));
    }
}

#[tokio::test]
async fn a_vlan_of_somebody_else_is_used_and_stays() {
    let network = macvlan(3, VLAN);
    let mut bench = with(&network, &["a"]).await;
    let theirs = foreign("vlan", 1_400);
    bench.kernel.edit(|state| {
        state.netns.get_mut(&Netns::Host).unwrap().links.insert(VLAN.link, theirs.clone());
    });
    let a = endpoint(&network, 2, "a");
    bench.here(vec![there(&a)]).await;
    assert_eq!(bench.inside("a")[&a.ifname].mtu, 1_400, "its parent's");
    bench.here(vec![gone(&a)]).await;
    assert_eq!(bench.host().links[&VLAN.link], theirs);
}

#[tokio::test]
async fn the_mtu_is_the_chosen_one_or_that_of_what_it_goes_through() {
    let expected = [(bridge(1), 1_500), (macvlan(2, ETH9), 9_000), (ipvlan(4, ETH9), 9_000), (p2p(5), 1_500)];
    for (network, mtu) in expected {
        let chosen = Network { mtu: Some(1_300), ..network.clone() };
        for (network, mtu) in [(network, mtu), (chosen, 1_300)] {
            let mut bench = with(&network, &["a"]).await;
            let a = endpoint(&network, 2, "a");
            bench.here(vec![there(&a)]).await;
            assert_eq!(bench.inside("a")[&a.ifname].mtu, mtu, "{}", network.driver());
            assert_eq!(bench.world.mtu(network.id), Some(mtu));
        }
    }
}

#[tokio::test]
async fn a_presence_check_finds_a_bridge_a_port_or_a_vlan_that_was_removed() {
    let (on_bridge, on_vlan) = (bridge(1), macvlan(3, VLAN));
    let mut bench = with(&on_bridge, &["a"]).await;
    bench.here(vec![known(&on_vlan)]).await;
    bench.here(vec![there(&endpoint(&on_bridge, 2, "a")), there(&endpoint(&on_vlan, 2, "a"))]).await;
    bench.check_whole().await;
    let whole = bench.kernel.state();
    let ours: Vec<IfName> =
        bench.host().links.iter().filter(|(_, it)| it.mark.is_some()).map(|(n, _)| *n).collect();
    assert_eq!(ours.len(), 3, "{ours:?}");
    for name in ours {
        bench.kernel.edit(|state| {
            let lost = state.netns.get_mut(&Netns::Host).unwrap().links.remove(&name).unwrap();
            if name.as_str().starts_with("ovp-") {
                // Its other end goes with it.
                for netns in state.netns.values_mut() {
                    netns.links.retain(|_, link| link.mark != lost.mark);
                }
            }
        });
        bench.reconciler.presence().await;
        bench.reconciler.round().await;
        assert_eq!(but_settings(bench.kernel.state()), but_settings(whole.clone()), "{name}");
        let cost = bench.cost();
        bench.reconciler.presence().await;
        bench.reconciler.round().await;
        assert_eq!(bench.cost().0, cost.0 + 1, "a presence of what is whole marks nothing");
    }
}

#[tokio::test]
async fn an_overlay_gives_its_route_to_a_bridge_with_the_same_addresses_and_has_it_back() {
    let mut bench = with(&testing::network(), &["a", "b"]).await;
    bench.say(Source::Global, vec![there(&testing::endpoint(2, ME))]).await;
    bench.sandbox("c2").await;
    let routes = |bench: &Bench| bench.host().links[&outer_name(testing::network().id)].routes.len();
    assert_eq!(routes(&bench), 1);
    let mut same = bridge(1);
    same.subnets = testing::network().subnets;
    bench.here(vec![known(&same)]).await;
    assert_eq!(routes(&bench), 1, "there is nothing of it on this host yet");
    let b = endpoint(&same, 9, "b");
    bench.here(vec![there(&b)]).await;
    assert_eq!(routes(&bench), 0);
    bench.check_whole().await;
    bench.here(vec![gone(&b)]).await;
    assert_eq!(routes(&bench), 1);
    assert!(bench.kernel.state().netns.contains_key(&netns_of(testing::network().id)));
}
