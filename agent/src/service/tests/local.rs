//! Networks of one host: every verb on them, and what each driver refuses.

use tokio::net::TcpListener;

use super::*;
use crate::{
    convert::Record,
    model::{Driver, Mac},
    plan::op::{Op, SettingOp},
};

#[tokio::test]
async fn every_verb_on_a_network_of_this_host_leaves_the_clusters_keys_alone() {
    let host = Host::start().await;
    let network = host.make(("bridge", "lan"), &[], |_| ()).await.unwrap();
    assert_eq!((network.scope, network.vni), (Scope::Local, None));
    assert_eq!(network.subnets[0].prefix.to_string(), "10.0.0.0/24");
    let endpoint = host.sandbox("box", "lan").await.endpoints.remove(0);
    assert_eq!(endpoint.addresses[0].to_string(), "10.0.0.2/24", "no node has an address of its own");
    host.empty("other").await;
    host.connect(("other", "lan"), |_| ()).await.unwrap();
    let keys = host.keys(Scope::Local).await;
    for part in ["networks/", "network-names/lan", "addresses/", "endpoints/", "endpoint-names/"] {
        assert!(keys.iter().any(|key| key.contains(part)), "{part} in {keys:?}");
    }
    assert_eq!(host.keys(Scope::Global).await, [""; 0]);
    let error = refusal(host.service.remove_network("lan").await);
    assert!(error.starts_with("network lan has 2 endpoints: box, other; disconnect them first"), "{error}");
    host.service.disconnect("lan", "other", false).await.unwrap();
    host.service.remove_sandbox("box", false).await.unwrap();
    assert_eq!(host.service.prune_networks().await.unwrap(), ["lan".parse().unwrap()]);
    let keys = host.keys(Scope::Local).await;
    assert!(keys.iter().all(|key| key.contains("/sandboxes/") || key.contains("/sysctls/")), "{keys:?}");
    host.end().await;
}

#[tokio::test]
async fn networks_of_this_host_do_without_the_clusters_store() {
    let (served, away) = (Embedded::open(None).unwrap(), CancellationToken::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoints = vec![listener.local_addr().unwrap().to_string()];
    let server = {
        let away = away.clone();
        tokio::spawn(async move { served.serve(listener, away).await })
    };
    let global = Store::etcd(&crate::store::EtcdConfig { endpoints, tls: None, user: None }).unwrap();
    let host = Ground::with_store(Embedded::open(None).unwrap(), global).start(None).await;
    host.network("far").await;
    host.make(("bridge", "lan"), &[], |_| ()).await.unwrap();
    away.cancel();
    server.await.unwrap().unwrap();
    let work = async {
        host.sandbox("box", "lan").await;
        host.service.disconnect("lan", "box", false).await.unwrap();
        host.connect(("box", "lan"), |_| ()).await.unwrap();
        host.make(("p2p", "pair"), &[], |_| ()).await.unwrap();
        host.service.remove_sandbox("box", false).await.unwrap();
        host.service.remove_network("lan").await.unwrap();
        host.service.remove_network("pair").await.unwrap();
    };
    tokio::time::timeout(PATIENCE, work).await.expect("nothing waits for the cluster's store");
    host.end().await;
}

#[tokio::test]
async fn a_name_is_one_networks_in_both_scopes() {
    let host = Host::start().await;
    for (name, part) in [
        ("none", "it means the mode without a network"),
        ("host", "it means the mode that uses the host's own network"),
        ("bridge", "every host has its own network of this name"),
    ] {
        let error = refusal(host.make(("overlay", name), &[], |_| ()).await);
        assert!(
            error.starts_with(&format!("invalid network name \"{name}\"")) && error.contains(part),
            "{error}"
        );
    }
    host.network("far").await;
    host.make(("bridge", "near"), &[], |_| ()).await.unwrap();
    let error = refusal(host.make(("bridge", "far"), &[], |_| ()).await);
    assert_eq!(error, "a network named far exists already: choose a different name");
    let error = refusal(host.make(("overlay", "near"), &[], |_| ()).await);
    assert_eq!(error, "a network named near exists already on this host: choose a different name");
    host.empty("box").await;
    for (mode, part) in [
        ("host", "run the process on the host, without a sandbox"),
        ("none", "create the sandbox without attachments"),
        ("container:web", "only a new sandbox can have it"),
    ] {
        let error = refusal(host.connect(("box", mode), |_| ()).await);
        assert!(error.starts_with(&format!("invalid network \"{mode}\"")) && error.contains(part), "{error}");
    }
    let error = refusal(host.make(("brigde", "x"), &[], |_| ()).await);
    let all = Driver::ALL.map(Driver::as_str).join(", ");
    assert!(error.contains(&format!("this agent has: {all}")), "{error}");
    host.end().await;
}

#[tokio::test]
async fn each_driver_has_the_gateways_that_it_has_a_use_for() {
    let host = Host::start().await;
    let subnet = |text: &'static str| move |spec: &mut NetworkRequest| spec.subnets.subnets.push(text.into());
    let gateway = |text: &'static str| {
        move |spec: &mut NetworkRequest| {
            spec.subnets.subnets.push("10.7.0.0/24".into());
            spec.subnets.gateways.push(text.into());
        }
    };
    let pair = host.make(("p2p", "pair"), &[], subnet("10.9.0.4/31")).await.unwrap();
    assert_eq!(pair.subnets[0].gateway, None);
    let error = refusal(host.make(("p2p", "x"), &[], gateway("10.7.0.1")).await);
    assert!(error.contains("leads nowhere else, so it has no gateway"), "{error}");
    assert!(
        refusal(host.make(("bridge", "x"), &[], subnet("10.9.0.4/31")).await).contains("/30 is the smallest")
    );
    let l3 = [("parent", "eth0"), ("ipvlan_mode", "l3")];
    assert_eq!(host.make(("ipvlan", "l3"), &l3, |_| ()).await.unwrap().subnets[0].gateway, None);
    let error = refusal(host.make(("ipvlan", "x"), &l3, gateway("10.7.0.1")).await);
    assert!(error.contains("the link itself is the way out"), "{error}");
    // The outside's own subnet is what such a network is for; a bridge would take it from the host.
    let outside = host.make(("macvlan", "out"), &[("parent", "eth1")], subnet("192.0.2.0/24")).await.unwrap();
    assert_eq!(outside.subnets[0].gateway.map(|it| it.to_string()), Some("192.0.2.1".into()));
    let error = refusal(host.make(("bridge", "x"), &[], subnet("192.0.2.0/25")).await);
    assert!(error.contains("it overlaps 192.0.2.0/24, a route of this host (dev eth0)"), "{error}");
    let first = host.make(("bridge", "first"), &[], subnet("10.8.0.0/24")).await.unwrap();
    let error = refusal(host.make(("bridge", "x"), &[], subnet("10.8.0.0/16")).await);
    assert!(error.contains(&format!("it overlaps 10.8.0.0/24 of network {}", first.name)), "{error}");
    host.end().await;
}

#[tokio::test]
async fn a_parent_is_a_link_of_this_host_that_no_other_network_is_on() {
    let host = Host::start().await;
    let error = refusal(host.make(("macvlan", "x"), &[("parent", "eth9")], |_| ()).await);
    assert_eq!(error, "invalid parent \"eth9\": there is no such link; this host has eth0, eth1");
    let error = refusal(host.make(("macvlan", "x"), &[("parent", "eth9.10")], |_| ()).await);
    assert!(error.contains("neither eth9.10 nor its parent eth9 exists"), "{error}");
    let error = refusal(host.make(("ipvlan", "x"), &[("parent", "lo")], |_| ()).await);
    assert!(error.contains("this host has eth0, eth1"), "{error}");
    host.make(("macvlan", "mv"), &[("parent", "eth0")], |_| ()).await.unwrap();
    let error = refusal(host.make(("ipvlan", "x"), &[("parent", "eth0")], |_| ()).await);
    assert!(error.starts_with("parent eth0 is in use by network mv (macvlan)"), "{error}");
    host.kernel.edit(|state| {
        let bridge = "br7".parse().unwrap();
        let port = crate::plan::state::Port {
            bridge,
            learning: true,
            unicast_flood: true,
            isolated: false,
            hairpin: false,
        };
        let links = &mut state.netns.get_mut(&Netns::Host).unwrap().links;
        links.get_mut(&"eth1".parse::<crate::model::IfName>().unwrap()).unwrap().port = Some(port);
    });
    let error = refusal(host.make(("macvlan", "x"), &[("parent", "eth1")], |_| ()).await);
    assert!(error.contains("invalid parent \"eth1\": it is a port of the bridge br7"), "{error}");
    host.kernel.edit(|state| {
        let links = &mut state.netns.get_mut(&Netns::Host).unwrap().links;
        links.get_mut(&"eth1".parse::<crate::model::IfName>().unwrap()).unwrap().port = None;
    });
    host.make(("ipvlan", "vlan"), &[("parent", "eth0.10")], |_| ()).await.unwrap();
    let error = refusal(host.make(("macvlan", "x"), &[], |_| ()).await);
    assert!(error.contains("-o parent=LINK"), "{error}");
    let all = ["a", "b", "c"].map(|name| host.make(("macvlan", name), &[("parent", "eth1")], |_| ()));
    let made = futures_util::future::join_all(all).await;
    assert_eq!(
        made.iter().filter(|made| made.is_ok()).count(),
        1,
        "one of those who come at the same time: {made:?}"
    );
    host.end().await;
}

/// A link that is somebody else's.
fn foreign(host: &Host, name: &str, kind: LinkKind, addresses: &[&str]) {
    let (link, mac): (_, Mac) = (name.parse().unwrap(), "02:00:00:00:99:01".parse().unwrap());
    host.kernel.edit(|state| {
        let mark = Mark::new(Unit::Host, "x");
        let there = Link { mark: None, ..Link::new(kind, mark, mac, 1500) };
        state.netns.get_mut(&Netns::Host).unwrap().links.insert(link, there);
    });
    let mut facts = host.kernel.facts_now();
    let addresses: Vec<ipnet::IpNet> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    facts.routes.extend(addresses.iter().map(|own| (own.trunc(), link)));
    facts.links.push(FactLink { name: link, mtu: 1500, up: true, addresses });
    host.kernel.set_facts(facts);
}

#[tokio::test]
async fn a_bridge_has_a_name_that_nobody_else_has_or_is_used_as_it_is() {
    let host = Host::start().await;
    foreign(&host, "br7", LinkKind::Bridge, &["172.30.0.7/24", "fd00:7::7/64", "fe80::7/64"]);
    foreign(&host, "bare", LinkKind::Bridge, &[]);
    foreign(&host, "dum0", LinkKind::Other("dummy".into()), &[]);
    let named = |name: &'static str| [("com.docker.network.bridge.name", name)];
    let made = host.make(("bridge", "theirs"), &named("br7"), |_| ()).await.unwrap();
    let subnets: Vec<String> =
        made.subnets.iter().map(|subnet| subnet.with_prefix(subnet.gateway.unwrap()).to_string()).collect();
    assert_eq!(subnets, ["172.30.0.7/24", "fd00:7::7/64"], "the bridge's addresses are the gateways");
    for (name, part) in [
        ("br7", "it is the bridge of network theirs"),
        ("dum0", "this host has a link of that name which is not a bridge"),
        ("bare", "has no address that can be a network's gateway"),
        ("ovb-1", "are reserved for the agent"),
        ("ovnet0", "are reserved for the agent"),
    ] {
        let error = refusal(host.make(("bridge", "x"), &named(name), |_| ()).await);
        assert!(error.starts_with("invalid bridge name") && error.contains(part), "{error}");
    }
    host.service.remove_network("theirs").await.unwrap();
    let with = |prefix: &'static str, gateway: &'static str| {
        move |spec: &mut NetworkRequest| {
            spec.subnets.subnets.push(prefix.into());
            spec.subnets.gateways.extend(Some(gateway.to_owned()).filter(|text| !text.is_empty()));
        }
    };
    let error = refusal(host.make(("bridge", "x"), &named("br7"), with("172.31.0.0/24", "")).await);
    assert!(error.contains("the bridge br7 is not the agent's, and has no address there"), "{error}");
    let error = refusal(host.make(("bridge", "x"), &named("br7"), with("172.30.0.0/24", "172.30.0.1")).await);
    assert!(error.contains("the bridge br7 has 172.30.0.7 in 172.30.0.0/24"), "{error}");
    let made = host.make(("bridge", "x"), &named("br7"), with("172.30.0.0/24", "")).await.unwrap();
    assert_eq!(made.subnets[0].gateway.map(|it| it.to_string()), Some("172.30.0.7".into()));
    host.make(("bridge", "new"), &named("br9"), |_| ()).await.unwrap();
    host.end().await;
}

#[tokio::test]
async fn a_sandbox_that_a_crash_left_unfinished_goes_with_its_endpoints_in_both_scopes() {
    let host = Host::start().await;
    host.network("far").await;
    host.make(("bridge", "near"), &[], |_| ()).await.unwrap();
    let sandbox = host.sandbox("box", "far").await.sandbox;
    host.connect(("box", "near"), |_| ()).await.unwrap();
    let unfinished = crate::model::Sandbox { unfinished: true, ..sandbox };
    let commit = Commit::new().put(Key::Sandbox("box".parse().unwrap()), unfinished.to_bytes());
    let revision = host.service.local.commit(commit).await.unwrap();
    host.service.follow_change(Scope::Local, revision).await;
    let host = host.end().await.start(None).await;
    let janitor = host.janitor();
    host.service.ready().await.unwrap();
    host.until_no_sandboxes().await;
    assert_eq!(host.left().await, [""; 0]);
    host.end().await;
    janitor.await.unwrap();
}

#[tokio::test]
async fn an_attach_that_the_kernel_refuses_leaves_nothing_in_it() {
    let host = Host::start().await;
    host.make(("bridge", "lan"), &[], |_| ()).await.unwrap();
    host.empty("box").await;
    let before = host.kernel.state();
    host.kernel.fail_when(
        |op| matches!(op, Op::Setting(_, SettingOp::SetSysctl(key, _)) if key.ends_with("no_such_thing")),
    );
    let sysctl = |spec: &mut AttachSpec| {
        spec.options = options(&[("sysctls", "net.ipv4.conf.IFNAME.no_such_thing=1")]);
    };
    let error = refusal(host.connect(("box", "lan"), sysctl).await);
    assert!(
        error.contains("this host cannot set sysctl net.ipv4.conf.eth0.no_such_thing=1 in box"),
        "{error}"
    );
    let links = |state: &crate::plan::state::State| {
        let all = state
            .netns
            .iter()
            .map(|(netns, there)| (netns.clone(), there.links.keys().copied().collect::<Vec<_>>()));
        all.collect::<Vec<_>>()
    };
    assert_eq!(links(&host.kernel.state()), links(&before));
    assert_eq!(host.left().await, ["/ovnet/local/v1/sandboxes/box"]);
    host.end().await;
}

#[tokio::test]
async fn what_the_kernel_lacks_is_told_from_what_it_refuses() {
    let host = Host::start().await;
    host.make(("bridge", "lan"), &[], |_| ()).await.unwrap();
    host.empty("box").await;
    host.kernel.lack_when(|op| matches!(op, Op::AddLink(..)));
    let error = host.connect(("box", "lan"), |_| ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Missing, "{error}");
    let text = error.to_string();
    assert!(
        text.starts_with("this host cannot ") && text.contains("the kernel has no such devices"),
        "{text}"
    );
    host.kernel.heal();
    host.kernel.fail_when(|op| matches!(op, Op::AddLink(..)));
    let error = host.connect(("box", "lan"), |_| ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State, "{error}");
    host.kernel.heal();
    host.connect(("box", "lan"), |_| ()).await.unwrap();
    host.end().await;
}
