//! An attach is all or nothing, in the store and in the kernel, whatever fails and whatever dies in the middle.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use ovagent::{
    kernel::MemoryKernel,
    plan::{
        op::Op,
        ruleset::{Action, Family, Match, Rule},
        state::{Netns, State},
    },
    service::{AttachSpec, ServiceError},
    store::{KeyRange, Store},
};
use tokio::runtime::Runtime;

use crate::{
    invariants::check_store,
    node::{Host, Node},
    nodes::{Cluster, generation},
};

/// The step by this number, counted from now, fails, and again whenever it is tried.
fn fail_step(kernel: &MemoryKernel, number: usize) -> Arc<Mutex<Option<Op>>> {
    let failing = Arc::new(Mutex::new(None));
    let (chosen, seen) = (Arc::clone(&failing), Mutex::new(0));
    kernel.fail_when(move |op| {
        let mut chosen = chosen.lock().unwrap();
        let mut seen = seen.lock().unwrap();
        if *seen == number && chosen.is_none() {
            *chosen = Some(op.clone());
        }
        *seen += 1;
        chosen.as_ref() == Some(op)
    });
    failing
}

/// What an attach brings about: everything but the host's own settings, which stay as they are, and with forwarding the rule
/// that it is not for strangers.
fn brought_about(mut state: State) -> State {
    let host = state.netns.entry(Netns::Host).or_default();
    host.sysctls.clear();
    let closed = |family| Rule { matches: vec![Match::Family(family)], action: Action::Drop };
    let guards = [Family::V4, Family::V6].map(closed);
    if let Some(table) = &host.table {
        let rules: Vec<&Rule> = table.chains.iter().flat_map(|chain| &chain.rules).collect();
        let bare = table.ports.is_empty() && table.vnis.is_empty() && table.vteps.is_empty();
        if bare && rules.iter().all(|rule| guards.contains(rule)) {
            host.table = None;
        }
    }
    state
}

async fn keys(store: &Store) -> Vec<String> {
    store.list(&KeyRange::everything()).await.unwrap().entries.into_iter().map(|entry| entry.key).collect()
}

async fn refused_at_every_step(cluster: &Cluster, network: &str) -> usize {
    let node = &cluster.nodes[0];
    let (before, keys_before) = (brought_about(node.state()), keys(&cluster.store).await);
    for number in 0.. {
        let failing = fail_step(&node.host.kernel, number);
        let attached = node.connect(network, "late").await;
        let failed = failing.lock().unwrap().take();
        node.host.kernel.heal();
        let Some(step) = failed else {
            attached.unwrap();
            return number;
        };
        let error = attached.err().unwrap_or_else(|| panic!("it works without {step}"));
        assert!(matches!(&error, ServiceError::Kernel(text) if text.contains("injected")), "{step}: {error}");
        assert_eq!(keys(&cluster.store).await, keys_before, "after {step}");
        cluster.quiet().await;
        assert_eq!(brought_about(node.state()), before, "after {step}");
        check_store(&cluster.store).await;
    }
    unreachable!("the numbers never end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_fails_refuses_the_attach_and_nothing_of_it_stays() {
    let cluster = Cluster::of(2).await;
    let node = &cluster.nodes[0];
    cluster.network("net", "10.9.0.0/24").await;
    cluster.network("more", "10.8.0.0/24").await;
    node.sandbox("late").await;
    let first = refused_at_every_step(&cluster, "net").await;
    assert!(first > 20, "a network is more than {first} steps");
    cluster.check_in_step().await;
    node.service.disconnect("net", "late", false).await.unwrap();
    node.sandbox("early").await;
    node.connect("net", "early").await.unwrap();
    let next = refused_at_every_step(&cluster, "net").await;
    assert!((3..first).contains(&next), "an endpoint is {next} steps");
    cluster.check_in_step().await;
    refused_at_every_step(&cluster, "more").await;
    cluster.check_in_step().await;
}

/// A node on a runtime of its own, so that everything of it can be killed at once.
async fn start_apart(host: Host, store: Store) -> (Runtime, Arc<Node>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let node = runtime.spawn(Node::start(host, store, generation())).await.unwrap();
    (runtime, Arc::new(node))
}

async fn kill(runtime: Runtime) {
    tokio::task::spawn_blocking(|| runtime.shutdown_timeout(Duration::from_secs(5))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_killed_in_the_middle_of_an_attach_leaves_all_of_it_or_nothing() {
    let mut cluster = Cluster::of(2).await;
    cluster.network("net", "10.9.0.0/24").await;
    let host = cluster.nodes.remove(0).kill().await;
    let (mut there, mut gone) = (0, 0);
    for round in 0..40_usize {
        let (runtime, node) = start_apart(host.clone(), cluster.store.clone()).await;
        let name = format!("s{round}");
        let (service, sandbox) = (Arc::clone(&node.service), name.clone());
        runtime
            .spawn(async move {
                let spec = ovagent::service::SandboxSpec { name: sandbox.parse().ok(), ..Default::default() };
                service.create_sandbox(spec).await.unwrap();
            })
            .await
            .unwrap();
        // From some step on the kernel does nothing any more, as for one that is dead.
        let seen = Mutex::new(0);
        let last = if round % 4 == 0 { usize::MAX } else { round };
        host.kernel.fail_when(move |_| {
            let mut seen = seen.lock().unwrap();
            *seen += 1;
            *seen > last
        });
        let (service, sandbox) = (Arc::clone(&node.service), name.clone());
        let attach = runtime.spawn(async move {
            let spec = AttachSpec { network: "net".into(), ..AttachSpec::default() };
            service.connect(&sandbox, &spec).await
        });
        // The point at which it dies, later and later.
        let patience = Duration::from_micros(150 * (round as u64));
        drop(tokio::time::timeout(patience, attach).await);
        drop(node);
        kill(runtime).await;
        host.kernel.heal();
        let (runtime, node) = start_apart(host.clone(), cluster.store.clone()).await;
        let again = Arc::clone(&node);
        runtime.spawn(async move { again.service.remove_stray_endpoints().await.unwrap() }).await.unwrap();
        check_store(&cluster.store).await;
        let revision = cluster.quiet().await;
        node.caught_up(revision - 1).await;
        let diff = node.diff().await;
        assert!(diff.is_empty(), "after the start it would still do {diff:#?}");
        let in_store = !node.service.endpoints_of(&name.parse().unwrap()).is_empty();
        let links = node.state().netns[&Netns::Named(name.parse().unwrap())].links.len();
        assert_eq!(links, usize::from(in_store), "in the store: {in_store}");
        if in_store {
            there += 1
        } else {
            gone += 1
        }
        drop(node);
        kill(runtime).await;
    }
    // How many it was too early for depends on how fast the machine is; the later rounds are late enough on any.
    assert!(there > 0, "{there} there, {gone} gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_killed_while_it_makes_a_sandbox_leaves_it_with_all_its_networks_or_not_at_all() {
    let mut cluster = Cluster::of(2).await;
    cluster.network("net", "10.9.0.0/24").await;
    cluster.network("other", "10.8.0.0/24").await;
    let host = cluster.nodes.remove(0).kill().await;
    let (mut there, mut gone) = (0, 0);
    for round in 0..24_u64 {
        let (runtime, node) = start_apart(host.clone(), cluster.store.clone()).await;
        let name: ovagent::model::Name = format!("s{round}").parse().unwrap();
        let attachment = |network: &str| AttachSpec { network: network.into(), ..AttachSpec::default() };
        let spec = ovagent::service::SandboxSpec {
            name: Some(name.clone()),
            attachments: vec![attachment("net"), attachment("other")],
            ..Default::default()
        };
        let service = Arc::clone(&node.service);
        let made = runtime.spawn(async move { service.create_sandbox(spec).await });
        // The point at which it dies, later and later; the last rounds are let finish.
        let patience = if round < 20 { Duration::from_micros(700 * round) } else { Duration::from_secs(20) };
        if let Ok(made) = tokio::time::timeout(patience, made).await {
            made.unwrap().unwrap();
        }
        drop(node);
        kill(runtime).await;
        let (runtime, node) = start_apart(host.clone(), cluster.store.clone()).await;
        let (janitor, stop) = (Arc::clone(&node.service), tokio_util::sync::CancellationToken::new());
        runtime.spawn(async move { janitor.tidy_sandboxes(stop).await });
        let settled = async {
            node.world.reached(ovagent::reconcile::world::Revisions::default()).await;
            loop {
                let endpoints = node.service.endpoints_of(&name).len();
                let sandbox = node.world.read(|intent| intent.sandboxes().get(&name).cloned());
                match sandbox {
                    Some(sandbox) if !sandbox.unfinished && endpoints == 2 => return true,
                    None if endpoints == 0 => return false,
                    Some(_) | None => tokio::task::yield_now().await,
                }
            }
        };
        match tokio::time::timeout(Duration::from_secs(20), settled).await.expect("half a sandbox stays") {
            true => there += 1,
            false => gone += 1,
        }
        check_store(&cluster.store).await;
        drop(node);
        kill(runtime).await;
    }
    assert!(there > 0 && gone > 0, "both must have been seen: {there} there, {gone} gone");
}
