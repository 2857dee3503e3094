//! Random verbs on three nodes at once, and what must hold when they are done.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use ovagent::{
    ipam::SubnetRequest,
    kernel::MemoryKernel,
    model::Endpoint,
    service::{AttachSpec, NetworkRequest, NetworkSpec, SandboxSpec, Service, ServiceError},
    store::{KeyRange, StoreStatus, follow},
};
use proptest::{prelude::*, test_runner::FileFailurePersistence};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    invariants::{Holders, check_store, has_rows},
    nodes::Cluster,
};

/// One thing that somebody asks of a node.
#[derive(Clone, Debug)]
enum Verb {
    CreateNetwork { name: u8, vni: Option<u8>, automatic: bool },
    RemoveNetwork(u8),
    CreateSandbox { name: u8, network: Option<u8> },
    RemoveSandbox(u8),
    Connect { network: u8, sandbox: u8, address: Option<u8> },
    Disconnect { network: u8, sandbox: u8, force: bool },
    RemoveNode(u8),
}

fn verb() -> impl Strategy<Value = Verb> {
    let network = || 0..2_u8;
    let sandbox = || 0..4_u8;
    prop_oneof![
        3 => (network(), prop::option::weighted(0.5, 0..2_u8), prop::bool::weighted(0.2))
            .prop_map(|(name, vni, automatic)| Verb::CreateNetwork { name, vni, automatic }),
        2 => network().prop_map(Verb::RemoveNetwork),
        4 => (sandbox(), prop::option::weighted(0.3, network()))
            .prop_map(|(name, network)| Verb::CreateSandbox { name, network }),
        1 => sandbox().prop_map(Verb::RemoveSandbox),
        10 => (network(), sandbox(), prop::option::weighted(0.3, 0..16_u8))
            .prop_map(|(network, sandbox, address)| Verb::Connect { network, sandbox, address }),
        5 => (network(), sandbox(), prop::bool::weighted(0.1))
            .prop_map(|(network, sandbox, force)| Verb::Disconnect { network, sandbox, force }),
        1 => (1..=3_u8).prop_map(Verb::RemoveNode),
    ]
}

fn network_name(number: u8) -> String {
    format!("net{number}")
}

/// Some names are on several nodes.
fn sandbox_name(node: usize, number: u8) -> String {
    if number == 0 { "shared".into() } else { format!("s{node}-{number}") }
}

fn spec(name: u8, vni: Option<u8>, automatic: bool) -> NetworkSpec {
    let subnets = if automatic {
        SubnetRequest::default()
    } else {
        SubnetRequest {
            subnets: vec!["10.9.0.0/28".into()],
            ip_ranges: vec!["10.9.0.0/29".into()],
            ..SubnetRequest::default()
        }
    };
    let option =
        |vni| ("com.docker.network.driver.overlay.vxlanid_list".into(), (5000 + u32::from(vni)).to_string());
    let options = vni.map(option).into_iter().collect();
    let name = network_name(name);
    NetworkRequest { name, subnets, options, ..NetworkRequest::default() }.parse().unwrap()
}

async fn ask(service: &Arc<Service<MemoryKernel>>, node: usize, verb: Verb) -> Result<(), ServiceError> {
    match verb {
        Verb::CreateNetwork { name, vni, automatic } => {
            service.create_network(spec(name, vni, automatic)).await.map(drop)
        }
        Verb::RemoveNetwork(name) => service.remove_network(&network_name(name)).await.map(drop),
        Verb::CreateSandbox { name, network } => {
            let attach = |name| AttachSpec { network: network_name(name), ..AttachSpec::default() };
            let attachments = network.map(attach).into_iter().collect();
            let name = sandbox_name(node, name).parse().ok();
            service
                .create_sandbox(SandboxSpec { name, attachments, ..SandboxSpec::default() })
                .await
                .map(drop)
        }
        Verb::RemoveSandbox(name) => service.remove_sandbox(&sandbox_name(node, name), true).await.map(drop),
        Verb::Connect { network, sandbox, address } => {
            let ip = address.map(|last| IpAddr::from([10, 9, 0, last]));
            let spec = AttachSpec { network: network_name(network), ip, ..AttachSpec::default() };
            service.connect(&sandbox_name(node, sandbox), &spec).await.map(drop)
        }
        Verb::Disconnect { network, sandbox, force } => {
            service.disconnect(&network_name(network), &sandbox_name(node, sandbox), force).await
        }
        Verb::RemoveNode(number) => service.remove_node(&format!("node{number}"), true).await.map(drop),
    }
}

/// Refusals that a person may get; anything else is a mistake of ours.
fn is_plain(error: &ServiceError) -> bool {
    match error {
        ServiceError::Invalid(_)
        | ServiceError::Lookup(_)
        | ServiceError::Exists(_)
        | ServiceError::InUse(_)
        | ServiceError::Exhausted(_) => true,
        ServiceError::StoreAway(_)
        | ServiceError::Busy(_)
        | ServiceError::Held(_)
        | ServiceError::Kernel(_)
        | ServiceError::Missing(_)
        | ServiceError::Internal(_) => false,
    }
}

async fn run(lanes: Vec<Vec<Verb>>) {
    let cluster = Cluster::of(3).await;
    let (out, mut changes) = mpsc::channel(1);
    let (status, _) = watch::channel(StoreStatus::Starting);
    let stop = CancellationToken::new();
    let watched =
        tokio::spawn(follow(cluster.store.clone(), KeyRange::everything(), out, status, stop.clone()));
    let history = tokio::spawn(async move {
        let mut holders = Holders::default();
        while let Some(change) = changes.recv().await {
            holders.take(change);
        }
    });
    let mut running = tokio::task::JoinSet::new();
    for (lane, verbs) in lanes.into_iter().enumerate() {
        let (node, service) = (lane % 3, Arc::clone(&cluster.nodes[lane % 3].service));
        running.spawn(async move {
            for verb in verbs {
                if let Err(error) = ask(&service, node, verb.clone()).await {
                    assert!(is_plain(&error), "{verb:?} on {node}: {error}");
                }
            }
        });
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
    check_store(&cluster.store).await;
    cluster.check_in_step().await;
    check_rows(&cluster);
    stop.cancel();
    watched.await.unwrap();
    history.await.unwrap();
}

/// Every node of a network has the rows of all endpoints on the others, and its own sandboxes their interfaces.
fn check_rows(cluster: &Cluster) {
    for node in &cluster.nodes {
        let state = node.state();
        let here: Vec<Endpoint> = node.world.read(|intent| {
            let here = intent.networks().filter(|(_, view)| view.members().contains_key(&node.host.id));
            here.flat_map(|(_, view)| view.endpoints().values().cloned()).collect()
        });
        for endpoint in here {
            if let Some(owner) = cluster.nodes.iter().find(|it| it.host.id == endpoint.node) {
                let there = if owner.host.id == node.host.id {
                    state.netns.iter().any(|(netns, inside)| {
                        endpoint.sandbox.as_ref().is_some_and(|it| netns.to_string() == it.as_str())
                            && inside.links.contains_key(&endpoint.ifname)
                    })
                } else {
                    has_rows(&state, &endpoint, owner.host.vtep)
                };
                assert!(there, "{} does not have {endpoint:?}", node.host.name);
            }
        }
    }
}

#[test]
fn whatever_is_asked_of_three_nodes_at_once_the_store_stays_consistent_and_kernels_follow() {
    let config = ProptestConfig {
        cases: 24,
        max_shrink_iters: 40,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    };
    let lanes = prop::collection::vec(prop::collection::vec(verb(), 4..14), 6);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    proptest!(config, |(mut lanes in lanes)| {
        // Without networks nothing happens.
        lanes[0].insert(0, Verb::CreateNetwork { name: 0, vni: None, automatic: false });
        lanes[1].insert(0, Verb::CreateNetwork { name: 1, vni: Some(1), automatic: false });
        runtime.block_on(run(lanes));
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_attaches_at_once_share_a_small_range_and_the_last_ones_are_refused() {
    let cluster = Cluster::of(3).await;
    let spec = spec(0, None, false);
    cluster.nodes[0].service.create_network(spec).await.unwrap();
    cluster.quiet().await;
    let mut attaches = tokio::task::JoinSet::new();
    for (number, node) in cluster.nodes.iter().enumerate() {
        for sandbox in 1..=4 {
            let name = sandbox_name(number, sandbox);
            node.sandbox(&name).await;
            let service = Arc::clone(&node.service);
            attaches.spawn(async move {
                let spec = AttachSpec { network: network_name(0), ..AttachSpec::default() };
                service.connect(&name, &spec).await
            });
        }
    }
    let (mut handed, mut refused) = (BTreeSet::new(), 0);
    while let Some(attach) = attaches.join_next().await {
        match attach.unwrap() {
            Ok(attached) => assert!(handed.insert(attached.endpoint.addresses[0]), "handed out twice"),
            Err(ServiceError::Exhausted(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(handed.len() + refused, 12);
    let members = cluster.store.list(&KeyRange::prefix("/ovnet/v1/members/")).await.unwrap().entries.len();
    // A range of eight: the network's and the gateway's are nobody's, each node in it has one itself, and one that is
    // not in it yet needs two.
    let left = 6 - handed.len() - members;
    assert!(left == 0 || left == 1 && members < 3, "{left} addresses are left, with {members} nodes");
    check_store(&cluster.store).await;
    cluster.check_in_step().await;
}
