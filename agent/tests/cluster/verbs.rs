//! What a verb promises when it returns, on every node.

use std::time::Duration;

use ovagent::{
    plan::ownership::Unit,
    store::{Commit, Key},
};

use crate::{
    invariants::{check_store, has_rows},
    nodes::Cluster,
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
