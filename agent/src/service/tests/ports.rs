//! Published ports: chosen, refused with who has them, and chosen by many at once.

use std::collections::BTreeSet;

use super::*;
use crate::{
    convert::Record,
    model::{Member, Protocol, PublishedPort, testing},
};

fn any(port: u16) -> PortSpec {
    PortSpec { protocol: Protocol::Tcp, host: None, host_ports: None, port }
}

fn from(first: u16, last: u16, port: u16) -> PortSpec {
    PortSpec { host_ports: Some(first..=last), ..any(port) }
}

fn at(address: &str, spec: PortSpec) -> PortSpec {
    PortSpec { host: Some(address.parse().unwrap()), ..spec }
}

fn ports(specs: Vec<PortSpec>) -> impl FnOnce(&mut AttachSpec) {
    move |spec| spec.ports = specs
}

async fn lan(names: &[&str]) -> Host {
    let host = Host::start().await;
    host.make(("bridge", "lan"), &[], |_| ()).await.unwrap();
    for name in names {
        host.empty(name).await;
    }
    host
}

#[tokio::test]
async fn a_port_is_one_endpoints_and_a_range_gives_the_next() {
    let host = lan(&["a", "b", "c"]).await;
    let a = host.connect(("a", "lan"), ports(vec![from(7080, 7080, 80), any(81)])).await.unwrap();
    let expected = PublishedPort { protocol: Protocol::Tcp, host: None, host_port: 7080, port: 80 };
    assert_eq!(a.ports[0], expected);
    assert!((32_768..=60_999).contains(&a.ports[1].host_port), "{:?}", a.ports);
    let error = refusal(host.connect(("b", "lan"), ports(vec![from(7080, 7080, 80)])).await);
    assert!(
        error.starts_with("port 7080/tcp of this host is taken by endpoint a of network lan: choose"),
        "{error}"
    );
    let error = refusal(host.connect(("b", "lan"), ports(vec![at("192.0.2.1", from(7080, 7080, 80))])).await);
    assert!(error.starts_with("port 7080/tcp of 192.0.2.1 of this host is taken by endpoint a"), "{error}");
    let error =
        refusal(host.connect(("b", "lan"), ports(vec![from(7090, 7090, 1), from(7090, 7090, 2)])).await);
    assert!(error.contains("endpoint b of network lan, which is being connected,"), "{error}");
    let udp = PortSpec { protocol: Protocol::Udp, ..from(7080, 7080, 80) };
    let b = host.connect(("b", "lan"), ports(vec![from(7080, 7089, 80), udp])).await.unwrap();
    assert_eq!(b.ports.iter().map(|port| port.host_port).collect::<Vec<_>>(), [7081, 7080]);
    let error = refusal(host.connect(("c", "lan"), ports(vec![from(7080, 7081, 80)])).await);
    assert!(error.contains("from 7080 to 7081 is taken, the first by endpoint a of network lan"), "{error}");
    host.service.disconnect("lan", "a", false).await.unwrap();
    host.connect(("c", "lan"), ports(vec![from(7080, 7080, 80)])).await.unwrap();
    host.end().await;
}

#[tokio::test]
async fn a_process_of_the_host_is_named_and_passed_over() {
    let host = lan(&["a"]).await;
    let taken = 7900;
    host.kernel.listen(Protocol::Tcp, "0.0.0.0".parse().unwrap(), taken, "dnsmasq (pid 77)");
    let error = refusal(host.connect(("a", "lan"), ports(vec![from(taken, taken, 80)])).await);
    assert!(error.contains(&format!("port {taken}/tcp of this host is taken by dnsmasq")), "{error}");
    assert!(error.contains("(pid 77)"), "{error}");
    let a = host.connect(("a", "lan"), ports(vec![from(taken, u16::MAX, 80)])).await.unwrap();
    assert!(a.ports[0].host_port > taken);
    // One that waits at another address stands in nobody's way, and only one that waits does.
    let port = 7910;
    host.kernel.listen(Protocol::Tcp, "127.0.0.1".parse().unwrap(), port, "nginx (pid 78)");
    host.empty("b").await;
    let b = host.connect(("b", "lan"), ports(vec![at("192.0.2.1", from(port, port, 80))])).await.unwrap();
    assert_eq!(b.ports[0].host_port, port);
    host.end().await;
}

#[tokio::test]
async fn however_many_ports_are_asked_for_the_hosts_listeners_are_read_once() {
    let host = lan(&["a", "b"]).await;
    let specs: Vec<PortSpec> = (1..=1000).map(any).collect();
    let a = host.connect(("a", "lan"), ports(specs)).await.unwrap();
    assert_eq!(host.kernel.listeners_read(), 1);
    let chosen: BTreeSet<u16> = a.ports.iter().map(|port| port.host_port).collect();
    assert_eq!(chosen.len(), 1000);
    assert!(chosen.iter().all(|port| (32_768..=60_999).contains(port)));
    host.connect(("b", "lan"), |_| ()).await.unwrap();
    assert_eq!(host.kernel.listeners_read(), 1, "without a port there is nothing to look for");
    host.end().await;
}

#[tokio::test]
async fn listeners_that_cannot_be_read_are_not_taken_for_none() {
    let host = lan(&["a"]).await;
    host.kernel.fail_listeners();
    let error = refusal(host.connect(("a", "lan"), ports(vec![any(80)])).await);
    assert_eq!(error, "cannot find out which ports of this host are in use: injected");
    host.connect(("a", "lan"), |_| ()).await.unwrap();
    host.end().await;
}

#[tokio::test]
async fn the_port_of_the_vxlan_devices_is_not_given_away() {
    let host = lan(&["a"]).await;
    let node = crate::model::Node {
        id: ME,
        name: "here".parse().unwrap(),
        vtep: "192.0.2.1".parse().unwrap(),
        gossip: "192.0.2.1:7946".parse().unwrap(),
        version: "0".into(),
        underlay_mtu: 1500,
        vxlan_port: 4789,
        created: Timestamp(1),
    };
    let revision =
        host.service.global.commit(Commit::new().put(Key::Node(ME), node.to_bytes())).await.unwrap();
    host.service.follow_change(Scope::Global, revision).await;
    let udp = PortSpec { protocol: Protocol::Udp, ..from(4789, 4789, 1) };
    let error = refusal(host.connect(("a", "lan"), ports(vec![udp])).await);
    assert!(error.contains("is taken by the VXLAN devices of the agent's overlays"), "{error}");
    host.end().await;
}

#[tokio::test]
async fn many_at_once_get_a_port_each_and_one_of_them_a_certain_one() {
    let names: Vec<String> = (0..8).map(|number| format!("box{number}")).collect();
    let host = lan(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    // Of two networks, one of each scope, so that no turn keeps them apart.
    host.network("far").await;
    let attach = |(at, name): (usize, &String), specs| {
        let (host, name, network) = (&host, name.clone(), if at % 2 == 0 { "lan" } else { "far" });
        async move { host.connect((&name, network), ports(specs)).await }
    };
    let all = names.iter().enumerate().map(|each| attach(each, vec![from(7200, 7207, 80)]));
    let mut got: Vec<u16> = futures_util::future::join_all(all)
        .await
        .into_iter()
        .map(|endpoint| endpoint.unwrap().ports[0].host_port)
        .collect();
    got.sort_unstable();
    assert_eq!(got, (7200..=7207).collect::<Vec<_>>());
    for (at, name) in names.iter().enumerate() {
        host.service.disconnect(if at % 2 == 0 { "lan" } else { "far" }, name, false).await.unwrap();
    }
    let all = names.iter().enumerate().map(|each| attach(each, vec![from(7300, 7300, 80)]));
    let done = futures_util::future::join_all(all).await;
    assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1, "{done:?}");
    for error in done.into_iter().filter_map(Result::err) {
        assert!(error.to_string().contains("is taken by endpoint box"), "{error}");
    }
    host.end().await;
}

#[tokio::test]
async fn addresses_are_the_hosts_and_of_a_family_that_the_endpoint_has() {
    let host = lan(&["a"]).await;
    for (address, part) in [
        ("203.0.113.9", "no link of this host has it"),
        ("fd00::1", "the endpoint has no IPv6 address in network lan"),
        ("::1", "choose 127.0.0.1"),
    ] {
        let error = refusal(host.connect(("a", "lan"), ports(vec![at(address, any(80))])).await);
        assert!(error.contains(&format!("\"{address}\"")) && error.contains(part), "{error}");
    }
    let binding = [("com.docker.network.bridge.host_binding_ipv4", "192.0.2.1")];
    host.make(("bridge", "bound"), &binding, |_| ()).await.unwrap();
    let specs =
        vec![from(7400, 7400, 1), at("0.0.0.0", from(7401, 7401, 1)), at("127.0.0.1", from(7402, 7402, 1))];
    let endpoint = host.connect(("a", "bound"), ports(specs)).await.unwrap();
    let hosts: Vec<Option<String>> =
        endpoint.ports.iter().map(|port| port.host.map(|host| host.to_string())).collect();
    assert_eq!(hosts, [Some("192.0.2.1".into()), None, Some("127.0.0.1".into())]);
    host.end().await;
}

#[tokio::test]
async fn networks_that_lead_nowhere_or_outside_already_publish_nothing() {
    let host = lan(&["a"]).await;
    host.make(("bridge", "inside"), &[], |spec| spec.internal = true).await.unwrap();
    host.make(("p2p", "pair"), &[], |_| ()).await.unwrap();
    host.make(("macvlan", "mv"), &[("parent", "eth0")], |_| ()).await.unwrap();
    for (network, part) in [
        ("inside", "network inside (bridge) publishes no ports: it is internal"),
        ("pair", "network pair (p2p) publishes no ports: it joins two sandboxes"),
        (
            "mv",
            "network mv (macvlan) publishes no ports: its endpoints have addresses on the outside network",
        ),
    ] {
        let error = refusal(host.connect(("a", network), ports(vec![any(80)])).await);
        assert!(error.starts_with(part), "{error}");
    }
    assert_eq!(host.left().await, ["/ovnet/local/v1/sandboxes/a"]);
    host.end().await;
}

#[tokio::test]
async fn in_an_overlay_a_port_is_published_once_whatever_the_address() {
    let host = lan(&["a", "b"]).await;
    host.network("far").await;
    host.connect(("a", "far"), ports(vec![at("192.0.2.1", from(7500, 7500, 80))])).await.unwrap();
    let other = || ports(vec![at("198.51.100.1", from(7500, 7500, 80))]);
    let error = refusal(host.connect(("b", "far"), other()).await);
    assert!(error.contains("is taken by endpoint a of network far"), "{error}");
    host.connect(("b", "lan"), other()).await.unwrap();
    host.end().await;
}

#[tokio::test]
async fn what_a_mesh_publishes_elsewhere_is_taken_here_too() {
    let host = lan(&["a", "b"]).await;
    let mesh = host.make(("overlay", "mesh"), &[("ovnet.publish", "mesh")], |_| ()).await.unwrap();
    // An endpoint of another host.
    let port = PublishedPort { protocol: Protocol::Tcp, host: None, host_port: 7600, port: 80 };
    let remote = Endpoint { network: mesh.id, ports: vec![port], ..testing::endpoint(200, testing::OTHER) };
    let member = Member { network: mesh.id, ..testing::member(201, testing::OTHER) };
    let commit = Commit::new()
        .put(Key::Endpoint(mesh.id, remote.id), remote.to_bytes())
        .put(Key::Member(mesh.id, testing::OTHER), member.to_bytes());
    let revision = host.service.global.commit(commit).await.unwrap();
    host.service.follow_change(Scope::Global, revision).await;
    // It is no concern of this host's until it is on that network.
    host.connect(("a", "lan"), ports(vec![from(7600, 7600, 80)])).await.unwrap();
    let error = refusal(host.connect(("b", "mesh"), |_| ()).await);
    assert!(
        error.starts_with(
            "network mesh publishes port 7600/tcp of endpoint c200 on all its hosts, but on this host \
             endpoint a of network lan uses the port"
        ),
        "{error}"
    );
    host.service.disconnect("lan", "a", false).await.unwrap();
    host.connect(("b", "mesh"), |_| ()).await.unwrap();
    let error = refusal(host.connect(("a", "lan"), ports(vec![from(7600, 7600, 80)])).await);
    assert!(error.contains("is taken by endpoint c200 of network mesh"), "{error}");
    host.end().await;
}
