//! What an event costs in a large network.

use ovagent::{
    convert::Record,
    model::{AddressOwner, Endpoint, EndpointId, Mac, Member, NetworkId, Node, NodeId, Timestamp},
    store::{Commit, Key, Store},
};

use crate::{
    invariants::{check_store, has_rows},
    nodes::Cluster,
};

const ENDPOINTS: u32 = 5_000;

fn address(number: u32) -> ipnet::IpNet {
    let [_, _, high, low] = number.to_be_bytes();
    format!("10.9.{high}.{low}/16").parse().unwrap()
}

/// A node that is only in the store, with very many endpoints.
async fn populate(store: &Store, network: NetworkId) {
    let node = NodeId(uuid::Uuid::from_u128(99));
    let record = Node {
        id: node,
        name: "crowded".parse().unwrap(),
        vtep: "192.0.2.99".parse().unwrap(),
        gossip: "192.0.2.99:7946".parse().unwrap(),
        version: "0".into(),
        underlay_mtu: 1500,
        vxlan_port: 4789,
        created: Timestamp(1),
    };
    let own = address(10_000);
    let member = Member { network, node, mac: Mac::derived(own.addr()), addresses: vec![own] };
    let commit = Commit::new()
        .put(Key::Node(node), record.to_bytes())
        .put(Key::Member(network, node), member.to_bytes())
        .put(Key::Mac(network, member.mac), AddressOwner::Node(node).to_bytes())
        .put(Key::Address(network, own.addr()), AddressOwner::Node(node).to_bytes());
    store.commit(commit).await.unwrap();
    let numbers: Vec<u32> = (0..ENDPOINTS).collect();
    for some in numbers.chunks(30) {
        let mut commit = Commit::new();
        for number in some {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&number.to_be_bytes());
            let (id, address) = (EndpointId::from_bytes(id), address(1_000 + number));
            let endpoint = Endpoint {
                id,
                name: format!("c{number}").parse().unwrap(),
                network,
                sandbox: Some(format!("c{number}").parse().unwrap()),
                node,
                mac: Mac::derived(address.addr()),
                addresses: vec![address],
                aliases: vec![],
                ifname: "eth0".parse().unwrap(),
                created: Timestamp(1),
                ports: vec![],
                sysctls: std::collections::BTreeMap::new(),
                link_local: vec![],
                gateway_priority: 0,
                links: vec![],
            };
            commit = commit
                .put(Key::Endpoint(network, id), endpoint.to_bytes())
                .put(Key::EndpointName(network, endpoint.name.clone()), id.to_string())
                .put(Key::Mac(network, endpoint.mac), AddressOwner::Endpoint(id).to_bytes())
                .put(Key::Address(network, address.addr()), AddressOwner::Endpoint(id).to_bytes());
        }
        store.commit(commit).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_endpoint_more_among_thousands_costs_another_node_a_few_steps_and_no_look() {
    let cluster = Cluster::of(2).await;
    cluster.network("net", "10.9.0.0/16").await;
    let [one, other] = &cluster.nodes[..] else { panic!("two nodes") };
    let network = one.world.read(|intent| *intent.networks().next().unwrap().0);
    populate(&cluster.store, network).await;
    cluster.quiet().await;
    for (node, name) in [(one, "a"), (other, "b")] {
        node.sandbox(name).await;
        node.connect("net", name).await.unwrap();
    }
    cluster.check_in_step().await;
    cluster.quiet().await;
    one.sandbox("more").await;
    let before = (other.host.kernel.applied(), other.host.kernel.looked(), one.host.kernel.looked());
    let attached = one.connect("net", "more").await.unwrap();
    assert!(attached.unconfirmed.is_empty(), "{:?}", attached.unconfirmed);
    assert!(has_rows(&other.state(), &attached.endpoint, one.host.vtep));
    let steps = other.host.kernel.applied() - before.0;
    assert!(steps <= 5, "{steps} steps");
    assert_eq!(other.host.kernel.looked(), before.1, "no look at the kernel there");
    assert_eq!(one.host.kernel.looked(), before.2, "nor here");
    one.service.disconnect("net", "more", false).await.unwrap();
    cluster.quiet().await;
    let steps = other.host.kernel.applied() - before.0;
    assert!(steps <= 10, "{steps} steps there and back");
    check_store(&cluster.store).await;
    cluster.check_in_step().await;
}
