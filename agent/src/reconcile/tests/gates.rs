//! Who is let in: nodes' tunnels, what is forwarded, and connections that go on.

use super::{super::connections::former, *};
use crate::{
    model::{Node, OverlaySettings, Protocol, PublishedPort},
    plan::{
        Connection,
        ruleset::{Action, Family, Hook, Match, Rule, Table},
    },
};

fn node(id: NodeId, vtep: &str) -> Fact {
    let node = Node {
        id,
        name: "other".parse().unwrap(),
        vtep: vtep.parse().unwrap(),
        gossip: format!("{vtep}:7946").parse().unwrap(),
        version: "1".into(),
        underlay_mtu: 1500,
        vxlan_port: 4789,
        created: Timestamp(1),
    };
    Fact::Node(id, Some(node))
}

fn table(bench: &Bench) -> Option<Table> {
    bench.host().table
}

fn vteps(bench: &Bench) -> Vec<String> {
    table(bench).map(|table| table.vteps.iter().map(ToString::to_string).collect()).unwrap_or_default()
}

/// The families of which nothing is forwarded but what is ours.
fn closed(bench: &Bench) -> Vec<Family> {
    let chains = table(bench).map(|table| table.chains).unwrap_or_default();
    let rules = chains.into_iter().filter(|chain| chain.hook == Hook::Forward).flat_map(|chain| chain.rules);
    let family = |rule: Rule| match (&rule.matches[..], &rule.action) {
        ([Match::Family(family)], Action::Drop) => Some(*family),
        _ => None,
    };
    rules.filter_map(family).collect()
}

async fn with_overlay(internal: bool) -> Bench {
    let mut bench = Bench::new().await;
    bench.sandbox("a").await;
    let network = Network { internal, ..testing::network() };
    bench.say(Source::Global, overlay()).await;
    bench.say(Source::Global, vec![known(&network)]).await;
    bench.say(Source::Global, vec![there(&endpoint(&network, 2, "a"))]).await;
    bench
}

#[tokio::test]
async fn a_node_that_registers_later_is_let_in_before_it_has_anything() {
    for internal in [false, true] {
        let mut bench = with_overlay(internal).await;
        let before = vteps(&bench);
        assert!(!before.contains(&"192.0.2.9".to_owned()), "{before:?}");
        assert!(before.contains(&"192.0.2.1".to_owned()), "{before:?}");
        assert_eq!(table(&bench).unwrap().vnis.len(), 1);
        bench.say(Source::Global, vec![node(testing::OTHER, "192.0.2.9")]).await;
        assert!(vteps(&bench).contains(&"192.0.2.9".to_owned()));
        // With another address, and gone.
        bench.say(Source::Global, vec![node(testing::OTHER, "192.0.2.8")]).await;
        assert!(!vteps(&bench).contains(&"192.0.2.9".to_owned()));
        bench.say(Source::Global, vec![Fact::Node(testing::OTHER, None)]).await;
        assert!(!vteps(&bench).contains(&"192.0.2.8".to_owned()));
        bench.check_whole().await;
    }
}

async fn with_bridge() -> (Bench, Endpoint) {
    let mut bench = Bench::new().await;
    bench.sandbox("a").await;
    let a = endpoint(&bridge(1), 2, "a");
    bench.here(vec![known(&bridge(1)), there(&a)]).await;
    (bench, a)
}

#[tokio::test]
async fn a_host_that_was_no_router_stays_none_for_strangers_as_long_as_it_forwards() {
    let (mut bench, a) = with_bridge().await;
    assert_eq!(closed(&bench), [Family::V4, Family::V6], "with the very step that forwards");
    bench.here(vec![gone(&a)]).await;
    assert_eq!(bench.host().sysctls["net/ipv4/ip_forward"], "1");
    assert_eq!(closed(&bench), [Family::V4, Family::V6], "without networks too");
    // A new agent on the same host: the store knows what was before.
    let settings = Settings {
        vtep: "192.0.2.1".parse().unwrap(),
        vxlan_port: 4789,
        gossip_port: 7946,
        store_ports: BTreeSet::new(),
        full_look: Duration::from_secs(3600),
        ip_forward: true,
    };
    let reconciler = |bench: &Bench, settings| {
        let (kernel, world) = (Arc::clone(&bench.kernel), Arc::clone(&bench.world));
        Reconciler::new(kernel, bench.told.clone(), world, bench.reconciler.local.clone(), settings)
    };
    bench.reconciler = reconciler(&bench, settings.clone());
    bench.kernel.edit(|state| state.netns.get_mut(&Netns::Host).unwrap().table = None);
    bench.world.look_again(Unit::Host, Depth::Full);
    bench.reconciler.round().await;
    assert_eq!(closed(&bench), [Family::V4, Family::V6]);
    // Who has forwarding to himself decides by himself.
    bench.reconciler = reconciler(&bench, Settings { ip_forward: false, ..settings });
    bench.world.look_again(Unit::Host, Depth::Full);
    bench.reconciler.round().await;
    assert_eq!(table(&bench), None);
}

#[tokio::test]
async fn where_somebody_else_has_rules_for_it_they_say_what_is_forwarded() {
    let (mut bench, _) = with_bridge().await;
    for (others, expected) in [
        (vec![Family::V4], vec![Family::V6]),
        (vec![Family::V4, Family::V6], vec![]),
        (vec![], vec![Family::V4, Family::V6]),
    ] {
        bench.kernel.edit(|state| {
            state.netns.get_mut(&Netns::Host).unwrap().forwarders = others.iter().copied().collect();
        });
        bench.world.look_again(Unit::Host, Depth::Full);
        bench.reconciler.round().await;
        assert_eq!(closed(&bench), expected, "{others:?}");
    }
}

#[tokio::test]
async fn forwarding_that_somebody_turns_off_and_on_again_is_theirs() {
    let (mut bench, a) = with_bridge().await;
    bench.here(vec![gone(&a)]).await;
    for (value, expected) in [("0", vec![]), ("1", vec![])] {
        bench.kernel.edit(|state| {
            let sysctls = &mut state.netns.get_mut(&Netns::Host).unwrap().sysctls;
            sysctls.values_mut().for_each(|it| *it = value.into());
        });
        bench.world.look_again(Unit::Host, Depth::Full);
        bench.reconciler.round().await;
        assert_eq!(closed(&bench), expected, "{value}");
    }
}

#[tokio::test]
async fn a_host_that_forwarded_before_goes_on_as_before() {
    let kernel = Bench::new().await.kernel;
    kernel.edit(|state| {
        let sysctls = &mut state.netns.get_mut(&Netns::Host).unwrap().sysctls;
        sysctls.values_mut().for_each(|value| *value = "1".into());
    });
    let mut bench = Bench::on(kernel, vec![known(&bridge(1))], true).await;
    bench.sandbox("a").await;
    bench.here(vec![there(&endpoint(&bridge(1), 2, "a"))]).await;
    assert!(table(&bench).is_some());
    assert_eq!(closed(&bench), []);
}

/// From a client to the host's port 9000, answered by this address.
fn connection(answers: IpAddr) -> Connection {
    let client: (IpAddr, u16) = ("192.0.2.2".parse().unwrap(), 5555);
    let port = ("192.0.2.1".parse().unwrap(), 9000);
    Connection { protocol: Some(Protocol::Udp), original: [client, port], reply: [(answers, 9001), client] }
}

/// What is left of these connections of the host when all that is outdated is forgotten.
async fn left(bench: &Bench, connections: &[Connection]) -> Vec<Connection> {
    for connection in connections {
        bench.kernel.track(Netns::Host, *connection);
    }
    for (netns, outdated) in bench.world.connections.take() {
        bench.kernel.forget(netns, outdated).await.unwrap();
    }
    bench.kernel.tracked(&Netns::Host)
}

#[tokio::test]
async fn connections_to_a_port_that_went_and_from_an_address_that_changed_hands_are_forgotten() {
    let (mut bench, a) = with_bridge().await;
    let port = PublishedPort { protocol: Protocol::Udp, host: None, host_port: 9000, port: 9001 };
    let with_port = Endpoint { ports: vec![port], ..a.clone() };
    let address = a.addresses[0].addr();
    bench.world.connections.take();
    bench.here(vec![there(&with_port)]).await;
    let good = connection(address);
    assert_eq!(left(&bench, &[good, connection("172.30.1.9".parse().unwrap())]).await, [good]);
    // Nothing has changed: nothing is looked for.
    bench.world.look_again(Unit::Host, Depth::Full);
    bench.reconciler.round().await;
    assert!(bench.world.connections.take().is_empty());
    bench.world.connections.set_former(BTreeMap::new());
    bench.here(vec![there(&a)]).await;
    assert_eq!(left(&bench, &[]).await, [], "the port went");
    let out = Connection { protocol: None, original: [(address, 0), good.original[0]], ..good };
    bench.here(vec![gone(&a)]).await;
    assert_eq!(left(&bench, &[out]).await, [], "the address went");
    bench.world.connections.done(BTreeMap::new());
    // What is there by then is new, and stays.
    bench.here(vec![there(&a)]).await;
    assert_eq!(left(&bench, &[out]).await, [out]);
    bench.world.connections.done(BTreeMap::new());
    // Given out again before anybody got to it: it is seen to before it is there.
    bench.here(vec![gone(&a)]).await;
    bench.here(vec![there(&a)]).await;
    assert_eq!(bench.kernel.tracked(&Netns::Host), []);
    assert_eq!(left(&bench, &[out]).await, [out]);
}

#[tokio::test]
async fn an_address_with_connections_from_before_the_agent_is_seen_to_before_it_is_given_out() {
    for is_known in [false, true] {
        let mut bench = Bench::new().await;
        bench.sandbox("a").await;
        let a = endpoint(&bridge(1), 2, "a");
        bench.kernel.track(Netns::Host, connection(a.addresses[0].addr()));
        if is_known {
            bench.world.connections.set_former(former(&*bench.kernel).await.unwrap());
        }
        bench.here(vec![known(&bridge(1)), there(&a)]).await;
        assert_eq!(bench.kernel.tracked(&Netns::Host), [], "{is_known}");
    }
}

#[tokio::test]
async fn an_agent_that_starts_forgets_only_what_leads_astray() {
    let (mut bench, a) = with_bridge().await;
    let port = PublishedPort { protocol: Protocol::Udp, host: None, host_port: 9000, port: 9001 };
    bench.here(vec![there(&Endpoint { ports: vec![port], ..a.clone() })]).await;
    bench.world.connections.take();
    bench.reconciler.host = None;
    bench.world.look_again(Unit::Host, Depth::Full);
    bench.world.look_again(Unit::Network(a.network), Depth::Full);
    bench.reconciler.round().await;
    let good = connection(a.addresses[0].addr());
    let out = Connection { protocol: None, original: [(a.addresses[0].addr(), 0), good.original[0]], ..good };
    let stale = connection("172.30.1.9".parse().unwrap());
    assert_eq!(left(&bench, &[good, out, stale]).await, [good, out]);
}

#[tokio::test]
async fn ports_within_an_overlay_that_lead_elsewhere_are_followed_there() {
    let mut bench = Bench::new().await;
    bench.sandbox("a").await;
    let network =
        Network { settings: DriverSettings::Overlay(OverlaySettings::default()), ..testing::network() };
    bench.say(Source::Global, overlay()).await;
    bench.say(Source::Global, vec![known(&network)]).await;
    let port = |port| PublishedPort { protocol: Protocol::Tcp, host: None, host_port: 8080, port };
    let mut a = endpoint(&network, 2, "a");
    a.ports =
        (0..4).map(|more| PublishedPort { host_port: 9000 + more, ..port(80) }).chain([port(80)]).collect();
    bench.say(Source::Global, vec![there(&a)]).await;
    bench.world.connections.take();
    a.ports[4] = port(81);
    bench.say(Source::Global, vec![there(&a)]).await;
    let noted = bench.world.connections.take();
    let inside = &noted[&crate::plan::netns_of(network.id)];
    assert_eq!(inside.changed.len(), 1, "{inside:?}");
    assert_eq!(inside.lead.values().map(|to| to.1).collect::<Vec<_>>(), [81]);
}
