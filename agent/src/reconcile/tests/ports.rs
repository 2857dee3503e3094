//! The host's part: computed at every event, looked at only when it is another.

use super::*;
use crate::{
    host::{Forward, HostSide},
    model::{EndpointLink, Node, OverlaySettings, Protocol, Publish, PublishedPort},
    plan::op::SettingOp,
};

fn port(host: Option<&str>, host_port: u16) -> PublishedPort {
    PublishedPort {
        protocol: Protocol::Tcp,
        host: host.map(|host| host.parse().unwrap()),
        host_port,
        port: 80,
    }
}

fn input(bench: &Bench) -> HostInput {
    HostInput::clone(bench.reconciler.host.as_ref().expect("the host is as wanted"))
}

fn forwards(bench: &Bench) -> Vec<String> {
    let text = |it: &Forward| {
        let host = it.host.map(|host| host.to_string()).unwrap_or_default();
        format!("{host}:{}->{}:{}", it.host_port, it.to, it.port)
    };
    input(bench).ports.iter().map(text).collect()
}

async fn published(network: &Network, ports: Vec<PublishedPort>) -> (Bench, Endpoint) {
    let mut bench = Bench::new().await;
    bench.sandbox("a").await;
    let mut a = endpoint(network, 2, "a");
    a.ports = ports;
    match network.scope {
        Scope::Local => bench.here(vec![known(network)]).await,
        Scope::Global => {
            bench.say(Source::Global, overlay()).await;
            bench.say(Source::Global, vec![known(network)]).await;
        }
    }
    bench.say(source_of(network), vec![there(&a)]).await;
    (bench, a)
}

#[tokio::test]
async fn a_port_on_a_bridge_leads_to_the_endpoint_in_each_family_that_both_have() {
    let ports = vec![port(None, 80), port(Some("192.0.2.7"), 81), port(Some("2001:db8::7"), 82)];
    let (bench, _) = published(&bridge(1), ports).await;
    let expected = [
        ":80->172.30.1.2:80",
        ":80->fd00:1::2:80",
        "192.0.2.7:81->172.30.1.2:80",
        "2001:db8::7:82->fd00:1::2:80",
    ];
    assert_eq!(forwards(&bench), expected);
    assert!(matches!(input(&bench).networks[..], [ref one] if one.side == HostSide::Bridge && one.icc));
}

#[tokio::test]
async fn nothing_leads_into_networks_without_a_way_in() {
    let internal = Network { internal: true, ..bridge(1) };
    for network in [internal, macvlan(2, ETH9), p2p(3)] {
        let (bench, _) = published(&network, vec![port(None, 80)]).await;
        assert_eq!(forwards(&bench), [""; 0], "{}", network.driver());
    }
}

#[tokio::test]
async fn a_port_of_an_overlay_leads_to_its_leg_and_from_there_to_the_endpoint() {
    let (mut bench, a) = published(&testing::network(), vec![port(None, 8_080)]).await;
    assert_eq!(forwards(&bench), [":8080->169.254.0.1:8080"]);
    let inside = |bench: &Bench| {
        let state = bench.kernel.state();
        let table = state.netns[&crate::plan::netns_of(a.network)].table.clone().unwrap();
        table.ports.into_values().flatten().map(|(key, to)| (key.port, to)).collect::<Vec<_>>()
    };
    assert_eq!(inside(&bench), [(8_080, (a.addresses[0].addr(), 80))]);
    // Another one is a change of the tables there and in the host, without a look.
    let looked = bench.cost().0;
    let more = Endpoint { ports: vec![port(None, 8_080), port(None, 8_081)], ..a.clone() };
    bench.say(Source::Global, vec![there(&more)]).await;
    assert_eq!(bench.cost().0, looked);
    assert_eq!(inside(&bench).len(), 2);
    bench.check_whole().await;
}

#[tokio::test]
async fn ports_of_other_hosts_are_published_here_on_a_mesh_alone() {
    let mesh = OverlaySettings { publish: Publish::Mesh, ..OverlaySettings::default() };
    for (settings, expected) in [(OverlaySettings::default(), 0), (mesh, 1)] {
        let network = Network { settings: DriverSettings::Overlay(settings), ..testing::network() };
        let (mut bench, _) = published(&network, Vec::new()).await;
        let looked = bench.cost().0;
        let mut remote = testing::endpoint(9, testing::OTHER);
        remote.ports = vec![port(None, 9_000)];
        bench.say(Source::Global, vec![there(&remote)]).await;
        assert_eq!(forwards(&bench).len(), expected);
        assert_eq!(bench.cost().0, looked, "what was programmed is known");
        bench.check_whole().await;
        bench.say(Source::Global, vec![gone(&remote)]).await;
        assert_eq!(forwards(&bench), [""; 0]);
        bench.check_whole().await;
    }
}

#[tokio::test]
async fn a_mesh_does_not_lead_to_hosts_that_are_dead() {
    let mesh = OverlaySettings { publish: Publish::Mesh, ..OverlaySettings::default() };
    let network = Network { settings: DriverSettings::Overlay(mesh), ..testing::network() };
    let (mut bench, _) = published(&network, Vec::new()).await;
    let mut remote = testing::endpoint(9, testing::OTHER);
    remote.ports = vec![port(None, 9_000)];
    let node = Node {
        id: testing::OTHER,
        name: "other".parse().unwrap(),
        vtep: "192.0.2.9".parse().unwrap(),
        gossip: "192.0.2.9:7946".parse().unwrap(),
        version: "1".into(),
        underlay_mtu: 1500,
        vxlan_port: 4789,
        created: remote.created,
    };
    let node = Fact::Node(node.id, Some(node));
    let member = Fact::Member(network.id, testing::OTHER, Some(testing::member(251, testing::OTHER)));
    bench.say(Source::Global, vec![node, member, there(&remote)]).await;
    assert_eq!(forwards(&bench).len(), 1);
    let inside = |bench: &Bench| {
        let table = bench.kernel.state().netns[&crate::plan::netns_of(network.id)].table.clone();
        table.map_or(0, |table| table.ports.into_values().flatten().count())
    };
    assert_eq!(inside(&bench), 1);
    bench.told.down(testing::OTHER);
    bench.world.look_at_node(testing::OTHER);
    bench.reconciler.round().await;
    assert_eq!((forwards(&bench).len(), inside(&bench)), (0, 0));
    bench.check_whole().await;
}

#[tokio::test]
async fn links_open_a_network_whose_sandboxes_may_not_talk() {
    let closed = BridgeSettings { icc: false, ..BridgeSettings::default() };
    let network = network(1, DriverSettings::Bridge(closed));
    let (mut bench, a) = published(&network, Vec::new()).await;
    bench.sandbox("b").await;
    let b = endpoint(&network, 3, "b");
    let linked = Endpoint {
        links: vec![
            EndpointLink { endpoint: "b".parse().unwrap(), alias: "db".parse().unwrap() },
            EndpointLink { endpoint: "nobody".parse().unwrap(), alias: "x".parse().unwrap() },
        ],
        ..a
    };
    bench.here(vec![there(&linked), there(&b)]).await;
    let allowed: Vec<String> =
        input(&bench).networks[0].allowed.iter().map(|(from, to)| format!("{from}>{to}")).collect();
    assert_eq!(allowed, ["172.30.1.2>172.30.1.3", "fd00:1::2>fd00:1::3"]);
    bench.here(vec![gone(&b)]).await;
    assert_eq!(input(&bench).networks[0].allowed, []);
}

#[tokio::test]
async fn what_is_as_it_was_programmed_costs_no_look_and_a_full_one_mends_it_all_the_same() {
    let (mut bench, _) = published(&bridge(1), vec![port(None, 80)]).await;
    let looked = bench.cost().0;
    bench.world.look_again(Unit::Host, Depth::CHANGED);
    bench.reconciler.round().await;
    assert_eq!(bench.cost().0, looked);
    bench.kernel.edit(|state| state.netns.get_mut(&Netns::Host).unwrap().table = None);
    bench.world.look_again(Unit::Host, Depth::CHANGED);
    bench.reconciler.round().await;
    assert!(bench.host().table.is_none(), "what others did is not looked for at every event");
    bench.world.look_again(Unit::Host, Depth::Full);
    bench.reconciler.round().await;
    assert!(bench.host().table.is_some());
}

#[tokio::test]
async fn after_a_step_that_failed_the_next_event_looks_in_full() {
    let (mut bench, a) = published(&bridge(1), vec![port(None, 80)]).await;
    bench.kernel.fail_when(|op| matches!(op, Op::Setting(Netns::Host, SettingOp::SetTable(_))));
    let more = Endpoint { ports: vec![port(None, 81)], ..a.clone() };
    bench.here(vec![there(&more)]).await;
    assert!(bench.failure(Unit::Host).is_some());
    bench.kernel.heal();
    bench.here(vec![there(&a)]).await;
    assert_eq!(bench.failure(Unit::Host), None);
    assert_eq!(forwards(&bench).len(), 2);
    bench.check_whole().await;
}

#[tokio::test]
async fn forwarding_is_set_where_it_is_wanted_and_left_where_it_is_forbidden() {
    for (allowed, expected) in [(true, "1"), (false, "0")] {
        let kernel = Bench::new().await.kernel;
        let mut bench = Bench::on(kernel, vec![known(&bridge(1))], allowed).await;
        bench.sandbox("a").await;
        bench.here(vec![there(&endpoint(&bridge(1), 2, "a"))]).await;
        assert_eq!(bench.host().sysctls["net/ipv4/ip_forward"], expected);
        assert_eq!(bench.reconciler.told_forwarding, !allowed);
        bench.check_whole().await;
    }
}
