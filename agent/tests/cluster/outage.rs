//! Unknown is not empty: what a node cannot read it leaves as it is.

use std::net::SocketAddr;

use ovagent::{
    plan::ownership::Unit,
    service::ServiceError,
    store::{Commit, EtcdConfig, Key, KeyRange, Store, StoreStatus},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    invariants::{check_store, has_rows},
    node::{Host, Node},
    nodes::{Cluster, eventually, generation},
    proxy::{Mode, Proxy},
};

/// Two nodes in the store's process, and a third one behind a line that can be cut; each with an endpoint.
async fn with_a_far_node() -> (Cluster, Proxy, CancellationToken) {
    let mut cluster = Cluster::of(2).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(cluster.server.clone().serve(listener, stop.clone()));
    let proxy = Proxy::to(address).await;
    cluster.nodes.push(Node::start(Host::new(3), store_at(proxy.address), generation()).await);
    cluster.meet().await;
    cluster.network("net", "10.9.0.0/24").await;
    for (number, node) in cluster.nodes.iter().enumerate() {
        let name = format!("s{number}");
        node.sandbox(&name).await;
        node.connect("net", &name).await.unwrap();
    }
    cluster.quiet().await;
    (cluster, proxy, stop)
}

fn store_at(address: SocketAddr) -> Store {
    Store::etcd(&EtcdConfig { endpoints: vec![address.to_string()], ..EtcdConfig::default() }).unwrap()
}

async fn status(node: &Node, what: &str, is: impl FnMut(&StoreStatus) -> bool) {
    let mut status = node.status.clone();
    let seen = tokio::time::timeout(crate::node::PATIENCE, status.wait_for(is)).await;
    drop(seen.unwrap_or_else(|_elapsed| panic!("the store never was {what}")).unwrap());
}

async fn away(node: &Node) {
    status(node, "away", |status| matches!(status, StoreStatus::Away { .. })).await;
}

async fn connected(node: &Node) {
    status(node, "connected", |status| *status == StoreStatus::Connected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_loses_the_store_keeps_all_it_has_and_follows_on_when_it_is_back() {
    let (cluster, proxy, _stop) = with_a_far_node().await;
    let [one, two, far] = &cluster.nodes[..] else { panic!("three nodes") };
    let before = far.state();
    proxy.set(Mode::Cut);
    away(far).await;
    one.sandbox("new").await;
    let attached = one.connect("net", "new").await.unwrap();
    assert_eq!(attached.unconfirmed, ["node3"]);
    two.service.disconnect("net", "s1", false).await.unwrap();
    assert!(far.diff().await.is_empty(), "a full look finds nothing to do");
    assert_eq!(far.state(), before);
    proxy.set(Mode::Pass);
    eventually("the far node has the new rows", async || {
        has_rows(&far.state(), &attached.endpoint, one.host.vtep).then_some(())
    })
    .await;
    cluster.check_in_step().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_compacted_during_an_outage_comes_as_a_whole_and_removes_only_what_is_gone() {
    let (cluster, proxy, _stop) = with_a_far_node().await;
    let [one, two, far] = &cluster.nodes[..] else { panic!("three nodes") };
    proxy.set(Mode::Cut);
    away(far).await;
    one.sandbox("new").await;
    let attached = one.connect("net", "new").await.unwrap();
    let gone = two.service.endpoints_of(&"s1".parse().unwrap()).remove(0);
    two.service.disconnect("net", "s1", false).await.unwrap();
    let (head, _) = cluster.store.get(&Key::Node(one.host.id)).await.unwrap();
    cluster.store.compact(head).await.unwrap();
    let kept = one.service.endpoints_of(&"s0".parse().unwrap()).remove(0);
    assert!(has_rows(&far.state(), &kept, one.host.vtep));
    let applied = far.host.kernel.applied();
    proxy.set(Mode::Pass);
    eventually("the far node has the new rows", async || {
        has_rows(&far.state(), &attached.endpoint, one.host.vtep).then_some(())
    })
    .await;
    cluster.check_in_step().await;
    assert!(has_rows(&far.state(), &kept, one.host.vtep));
    assert!(!has_rows(&far.state(), &gone, two.host.vtep));
    let steps = far.host.kernel.applied() - applied;
    assert!(steps <= 12, "only what changed is touched, not {steps} steps");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_store_refuses_an_attach_in_bounded_time_and_nothing_of_it_stays() {
    let (cluster, proxy, _stop) = with_a_far_node().await;
    let far = &cluster.nodes[2];
    far.sandbox("late").await;
    let before = far.state();
    // The change arrives, its confirmation does not.
    proxy.set(Mode::SwallowAnswers);
    let refused = far.connect("net", "late").await;
    assert!(matches!(refused, Err(ServiceError::StoreAway(_))), "{refused:?}");
    proxy.set(Mode::Cut);
    proxy.set(Mode::Pass);
    eventually("the endpoint is taken back", async || {
        let all = cluster.store.list(&KeyRange::prefix("/ovnet/v1/endpoint-names/")).await.unwrap().entries;
        all.iter().all(|entry| !entry.key.ends_with("/late")).then_some(())
    })
    .await;
    connected(far).await;
    check_store(&cluster.store).await;
    cluster.check_in_step().await;
    assert_eq!(far.state(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_cannot_be_read_leave_what_was_there_after_a_restart_of_the_follower_too() {
    let (cluster, proxy, _stop) = with_a_far_node().await;
    let [one, _, far] = &cluster.nodes[..] else { panic!("three nodes") };
    let kept = one.service.endpoints_of(&"s0".parse().unwrap()).remove(0);
    let before = far.state();
    let garbage = Commit::new()
        .put(Key::Endpoint(kept.network, kept.id), &b"\xff\xff"[..])
        .put(Key::Network(kept.network), &b"\xff\xff"[..])
        .put(Key::Member(kept.network, one.host.id), &b"\xff\xff"[..])
        .put(Key::Node(one.host.id), &b"\xff\xff"[..]);
    cluster.store.commit(garbage).await.unwrap();
    cluster.quiet().await;
    assert!(far.diff().await.is_empty());
    assert_eq!(far.state(), before);
    // Now the same by a snapshot.
    proxy.set(Mode::Cut);
    away(far).await;
    let head = cluster.store.commit(Commit::new().put(Key::Alive(one.host.id), "x")).await.unwrap();
    cluster.store.compact(head).await.unwrap();
    proxy.set(Mode::Pass);
    connected(far).await;
    cluster.quiet().await;
    assert!(far.diff().await.is_empty());
    assert_eq!(far.state(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_starts_again_takes_no_step_although_looks_fail_at_first() {
    let mut cluster = Cluster::of(2).await;
    cluster.network("net", "10.9.0.0/24").await;
    for (number, node) in cluster.nodes.iter().enumerate() {
        node.sandbox(&format!("s{number}")).await;
        node.connect("net", &format!("s{number}")).await.unwrap();
    }
    cluster.check_in_step().await;
    for failing in 0..6 {
        let host = cluster.nodes.pop().unwrap().kill().await;
        let (applied, before) = (host.kernel.applied(), host.kernel.state());
        host.kernel.fail_looks(failing);
        cluster.nodes.push(Node::start(host, cluster.store.clone(), generation()).await);
        let node = &cluster.nodes[1];
        cluster.meet().await;
        cluster.quiet().await;
        let network = node.world.read(|intent| *intent.networks().next().unwrap().0);
        eventually("the network is as wanted", async || {
            let outcome = node.world.outcome(Unit::Network(network))?;
            outcome.failures.is_empty().then_some(())
        })
        .await;
        assert!(node.diff().await.is_empty());
        assert_eq!(node.host.kernel.applied(), applied, "no step, with {failing} looks failing");
        assert_eq!(node.state(), before);
    }
}
