//! What a verb promises when it returns, on every node.

use std::time::Duration;

use ovagent::{
    convert::Record,
    model::{AddressOwner, EndpointId, Mac, Member, Node as NodeRecord, NodeId, Timestamp},
    plan::{op::Op, ownership::Unit, state::Netns},
    service::AttachSpec,
    store::{Commit, Key, KeyRange, Store},
};

use crate::{
    invariants::{check_store, has_rows},
    nodes::{Cluster, eventually, spec},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_is_reachable_from_every_node_when_the_attach_returns() {
    let cluster = Cluster::of(3).await;
    cluster.network("net", "10.9.0.0/24").await;
    for (number, node) in cluster.nodes.iter().enumerate() {
        node.sandbox(&format!("first{number}")).await;
        let attached = node.connect("net", &format!("first{number}")).await.unwrap();
        assert!(attached.unconfirmed.is_empty(), "{:?}", attached.unconfirmed);
    }
    for (number, node) in cluster.nodes.iter().enumerate() {
        node.sandbox(&format!("second{number}")).await;
        let attached = node.connect("net", &format!("second{number}")).await.unwrap();
        assert!(attached.unconfirmed.is_empty(), "{:?}", attached.unconfirmed);
        for other in cluster.nodes.iter().filter(|other| other.host.id != node.host.id) {
            assert!(has_rows(&other.state(), &attached.endpoint, node.host.vtep), "{}", other.host.name);
        }
    }
    check_store(&cluster.store).await;
    cluster.check_in_step().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_kernel_refuses_is_named_by_the_attach() {
    let cluster = Cluster::of(3).await;
    cluster.network("net", "10.9.0.0/24").await;
    for (number, node) in cluster.nodes.iter().enumerate() {
        node.sandbox(&format!("first{number}")).await;
        node.connect("net", &format!("first{number}")).await.unwrap();
    }
    let [one, _, stuck] = &cluster.nodes[..] else { panic!("three nodes") };
    stuck.host.kernel.fail_when(|_| true);
    one.sandbox("second").await;
    let attached = one.connect("net", "second").await.unwrap();
    assert_eq!(attached.unconfirmed, ["node3"]);
    stuck.host.kernel.heal();
    stuck.world.look_again(Unit::Network(attached.endpoint.network), ovagent::reconcile::dirty::Depth::Full);
    cluster.check_in_step().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_nobody_follows_hold_up_no_verb() {
    let cluster = Cluster::of(2).await;
    cluster.network("net", "10.9.0.0/24").await;
    let [one, other] = &cluster.nodes[..] else { panic!("two nodes") };
    one.sandbox("a").await;
    one.connect("net", "a").await.unwrap();
    other.sandbox("b").await;
    other.connect("net", "b").await.unwrap();
    let unfollowed = Commit::new().put(Key::Pool("10.77.0.0/24".parse().unwrap()), "somebody's");
    cluster.store.commit(unfollowed).await.unwrap();
    let verbs = async {
        one.service.disconnect("net", "a", false).await.unwrap();
        other.service.disconnect("net", "b", false).await.unwrap();
        one.service.remove_network("net").await.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(5), verbs).await.expect("the verbs return");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_has_just_changed_another_one_builds_upon() {
    let cluster = Cluster::of(2).await;
    let [one, other] = &cluster.nodes[..] else { panic!("two nodes") };
    one.sandbox("a").await;
    other.sandbox("b").await;
    for round in 0..20 {
        let name = format!("net{round}");
        one.service.create_network(spec(&name, "10.9.0.0/29")).await.unwrap();
        // Three addresses are free after the gateway's and the nodes' own.
        let chosen =
            |ip: &str| AttachSpec { network: name.clone(), ip: ip.parse().ok(), ..AttachSpec::default() };
        other.service.connect("b", &chosen("10.9.0.5")).await.unwrap();
        other.service.disconnect(&name, "b", false).await.unwrap();
        one.service.connect("a", &chosen("10.9.0.5")).await.unwrap();
        one.service.disconnect(&name, "a", false).await.unwrap();
        other.connect(&name, "b").await.unwrap();
        other.service.disconnect(&name, "b", false).await.unwrap();
        one.service.remove_network(&name).await.unwrap();
    }
    check_store(&cluster.store).await;
    cluster.check_in_step().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attach_whose_client_goes_away_is_done_or_taken_back() {
    let cluster = Cluster::of(2).await;
    cluster.network("net", "10.9.0.0/24").await;
    let node = &cluster.nodes[0];
    for round in 0..40_u64 {
        let name = format!("s{round}");
        node.sandbox(&name).await;
        let fails = round % 2 == 1;
        if fails {
            node.host.kernel.fail_when(|op| matches!(op, Op::AddVeth(..)));
        }
        let spec = AttachSpec { network: "net".into(), ..AttachSpec::default() };
        // The client goes after more and more of the attach.
        let patience = Duration::from_micros(100 * round);
        let gone = tokio::time::timeout(patience, node.service.connect(&name, &spec)).await.is_err();
        // Whoever takes the sandbox's turn comes after it.
        let again = node.service.disconnect("net", &name, false).await;
        if fails {
            assert!(again.is_err(), "a refused endpoint of {name} was there, the client gone: {gone}");
            node.host.kernel.heal();
        }
        node.service.remove_sandbox(&name, true).await.unwrap();
        check_store(&cluster.store).await;
    }
    cluster.check_in_step().await;
    assert!(node.state().netns.keys().all(|netns| matches!(netns, Netns::Host)), "{:?}", node.state());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interface_moves_from_one_network_to_another_in_one_round() {
    let cluster = Cluster::of(1).await;
    let node = &cluster.nodes[0];
    node.sandbox("a").await;
    for round in 0..20 {
        for side in ["left", "right"] {
            let subnet = if side == "left" { "10.9.0.0/24" } else { "10.8.0.0/24" };
            node.service.create_network(spec(&format!("{side}{round}"), subnet)).await.unwrap();
        }
        // The endpoint is gone from the store at once, from the kernel when the loop gets to it.
        node.connect(&format!("left{round}"), "a").await.unwrap();
        let left = node.service.endpoints_of(&"a".parse().unwrap()).remove(0);
        let network = left.network;
        let mut commit = Commit::new()
            .delete(Key::Endpoint(network, left.id))
            .delete(Key::EndpointName(network, left.name.clone()))
            .delete(Key::Member(network, node.host.id));
        let own = node.world.read(|intent| intent.network(network).unwrap().members()[&node.host.id].clone());
        for mac in [left.mac, own.mac] {
            commit = commit.delete(Key::Mac(network, mac));
        }
        for address in left.addresses.iter().chain(&own.addresses) {
            commit = commit.delete(Key::Address(network, address.addr()));
        }
        cluster.store.commit(commit).await.unwrap();
        node.connect(&format!("right{round}"), "a").await.unwrap();
        node.service.disconnect(&format!("right{round}"), "a", false).await.unwrap();
    }
    check_store(&cluster.store).await;
    cluster.check_in_step().await;
}

fn with_mac(mac: Mac) -> AttachSpec {
    AttachSpec { network: "net".into(), mac: Some(mac), ..AttachSpec::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_choose_one_mac_at_the_same_time_one_gets_it() {
    let cluster = Cluster::of(2).await;
    cluster.network("net", "10.9.0.0/24").await;
    let [one, two] = &cluster.nodes[..] else { panic!("two nodes") };
    for round in 0..10 {
        let name = format!("rival{round}");
        one.sandbox(&name).await;
        two.sandbox(&format!("{name}b")).await;
        let spec = with_mac(format!("02:00:00:00:00:{round:02x}").parse().unwrap());
        let other = format!("{name}b");
        let (first, second) =
            tokio::join!(one.service.connect(&name, &spec), two.service.connect(&other, &spec));
        let refused = [first.err(), second.err()].into_iter().flatten().collect::<Vec<_>>();
        let [error] = &refused[..] else { panic!("{refused:?}") };
        assert!(error.to_string().contains("is taken by"), "{error}");
    }
    cluster.quiet().await;
    check_store(&cluster.store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_own_mac_an_endpoint_has_takes_another() {
    let cluster = Cluster::of(2).await;
    cluster.network("net", "10.9.0.0/24").await;
    let [one, two] = &cluster.nodes[..] else { panic!("two nodes") };
    one.sandbox("a").await;
    one.connect("net", "a").await.unwrap();
    // These have 10.9.0.4 to 10.9.0.11, and the MACs that go with the addresses after those.
    let macs = (12..20_u8).map(|last| Mac::derived([10, 9, 0, last].into()));
    for (number, mac) in macs.enumerate() {
        let name = format!("thief{number}");
        one.sandbox(&name).await;
        one.service.connect(&name, &with_mac(mac)).await.unwrap();
    }
    two.sandbox("b").await;
    let attached = two.connect("net", "b").await.unwrap();
    let network = attached.endpoint.network;
    let member = two.world.read(|intent| intent.network(network).unwrap().members()[&two.host.id].clone());
    assert_ne!(member.mac, Mac::derived(member.addresses[0].addr()));
    cluster.quiet().await;
    check_store(&cluster.store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn macs_that_agents_of_old_took_and_left_are_known_as_such() {
    let cluster = Cluster::of(1).await;
    cluster.network("net", "10.9.0.0/24").await;
    let node = &cluster.nodes[0];
    let network = node.world.read(|intent| *intent.networks().next().unwrap().0);
    for name in ["a", "b", "c"] {
        node.sandbox(name).await;
    }
    let (first, second): (Mac, Mac) =
        ("02:00:00:00:00:01".parse().unwrap(), "02:00:00:00:00:02".parse().unwrap());
    // One that has an address without a key for it.
    node.service.connect("a", &with_mac(first)).await.unwrap();
    cluster.store.commit(Commit::new().delete(Key::Mac(network, first))).await.unwrap();
    let refused = node.service.connect("b", &with_mac(first)).await.unwrap_err().to_string();
    assert!(refused.contains("is taken by endpoint a"), "{refused}");
    // One that has gone without its key.
    let gone = AddressOwner::Endpoint(EndpointId::from_bytes([9; 32]));
    cluster.store.commit(Commit::new().put(Key::Mac(network, second), gone.to_bytes())).await.unwrap();
    node.service.connect("c", &with_mac(second)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_gossip_has_lost_and_whose_lease_holds_is_named_by_the_attach() {
    let cluster = Cluster::of(2).await;
    cluster.network("net", "10.9.0.0/24").await;
    let [one, lost] = &cluster.nodes[..] else { panic!("two nodes") };
    lost.sandbox("resident").await;
    lost.connect("net", "resident").await.unwrap();
    lost.gossip.leave();
    let left =
        || one.gossip.members().borrow().get(&lost.host.id).filter(|it| !it.state.is_active()).map(drop);
    eventually("gossip has lost it", async || left()).await;
    cluster.store.commit(Commit::new().put(Key::Alive(lost.host.id), "x")).await.unwrap();
    cluster.quiet().await;
    one.sandbox("a").await;
    let attached = one.connect("net", "a").await.unwrap();
    assert_eq!(attached.unconfirmed, ["node2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lives_by_its_lease_but_is_not_heard_is_named_by_the_attach() {
    let cluster = Cluster::of(1).await;
    cluster.network("net", "10.9.0.0/24").await;
    let node = &cluster.nodes[0];
    let network = node.world.read(|intent| *intent.networks().next().unwrap().0);
    let deaf = NodeId(uuid::Uuid::from_u128(77));
    let record = NodeRecord {
        id: deaf,
        name: "deaf".parse().unwrap(),
        vtep: "192.0.2.77".parse().unwrap(),
        // Nobody is there.
        gossip: "127.0.0.1:1".parse().unwrap(),
        version: "0".into(),
        underlay_mtu: 1500,
        vxlan_port: 4789,
        created: Timestamp(1),
    };
    let own: ipnet::IpNet = "10.9.0.77/24".parse().unwrap();
    let member = Member { network, node: deaf, mac: Mac::derived(own.addr()), addresses: vec![own] };
    let commit = Commit::new()
        .put(Key::Node(deaf), record.to_bytes())
        .put(Key::Alive(deaf), "x")
        .put(Key::Member(network, deaf), member.to_bytes());
    cluster.store.commit(commit).await.unwrap();
    cluster.quiet().await;
    node.sandbox("a").await;
    let attached = node.connect("net", "a").await.unwrap();
    assert_eq!(attached.unconfirmed, ["deaf"]);
    cluster.store.commit(Commit::new().delete(Key::Alive(deaf))).await.unwrap();
    cluster.quiet().await;
    node.sandbox("b").await;
    let attached = node.connect("net", "b").await.unwrap();
    assert!(attached.unconfirmed.is_empty(), "without a lease nobody waits for it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_networks_with_equal_subnets_the_next_one_has_the_hosts_route_when_the_oldest_goes() {
    let cluster = Cluster::of(1).await;
    let node = &cluster.nodes[0];
    for round in 0..20 {
        for age in ["older", "younger"] {
            let name = format!("{age}{round}");
            node.service.create_network(spec(&name, "10.9.0.0/24")).await.unwrap();
            node.sandbox(&name).await;
            node.connect(&name, &name).await.unwrap();
        }
        node.service.disconnect(&format!("older{round}"), &format!("older{round}"), false).await.unwrap();
        cluster.check_in_step().await;
        node.service.disconnect(&format!("younger{round}"), &format!("younger{round}"), false).await.unwrap();
        node.service.remove_network(&format!("older{round}")).await.unwrap();
    }
    cluster.check_in_step().await;
    let legs =
        Store::embedded(&node.host.local).list(&KeyRange::prefix("/ovnet/local/v1/legs/")).await.unwrap();
    assert!(legs.entries.is_empty(), "every leg is given back: {:?}", legs.entries);
}
