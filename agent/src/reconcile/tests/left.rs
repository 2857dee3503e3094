//! What an agent that died left behind, and what `cleanup` finds.

use super::*;
use crate::{
    kernel::Kernel,
    plan::{op::LinkOp, plan, state::State},
};

async fn furnished(networks: &[Network]) -> Bench {
    let mut bench = Bench::new().await;
    for name in ["a", "b"] {
        bench.sandbox(name).await;
    }
    for network in networks {
        bench.here(vec![known(network)]).await;
        for (number, name) in [(2, "a"), (3, "b")] {
            bench.here(vec![there(&endpoint(network, number, name))]).await;
        }
    }
    bench.check_whole().await;
    bench
}

fn sandboxes() -> Vec<Fact> {
    ["a", "b"].map(|name| Fact::Sandbox(name.parse().unwrap(), Some(sandbox(name)))).into()
}

#[tokio::test]
async fn links_of_endpoints_that_are_gone_are_found_in_the_sandboxes_at_the_next_start() {
    for network in local() {
        let kernel = furnished(std::slice::from_ref(&network)).await.kernel;
        // Its endpoints went while no agent ran; of one network all, of another one of two.
        for stays in [None, Some(endpoint(&network, 3, "b"))] {
            let mut facts = sandboxes();
            facts.push(known(&network));
            facts.extend(stays.iter().map(there));
            let mut next = Bench::on(Arc::clone(&kernel), facts, true).await;
            // The first try is in vain.
            kernel.fail_looks(1);
            next.reconciler.search_sandboxes().await;
            next.reconciler.search_sandboxes().await;
            next.reconciler.round().await;
            let left = next.inside("a");
            assert!(left.is_empty(), "{}: {left:?}", network.driver());
            assert_eq!(next.inside("b").len(), usize::from(stays.is_some()), "{}", network.driver());
            next.check_whole().await;
            // For the second try.
            next.here(vec![there(&endpoint(&network, 2, "a")), there(&endpoint(&network, 3, "b"))]).await;
        }
    }
}

#[tokio::test]
async fn the_first_look_is_over_when_the_last_network_is_there() {
    let kernel = Bench::new().await.kernel;
    let networks = [bridge(1), macvlan(2, ETH9)];
    let mut facts = sandboxes();
    for (network, name) in networks.iter().zip(["a", "b"]) {
        facts.extend([known(network), there(&endpoint(network, 2, name))]);
    }
    let mut bench = Bench::unseeing(kernel, facts, true);
    let world = Arc::clone(&bench.world);
    let mut first = std::pin::pin!(world.first_look());
    // The host comes first in a round, and is not all.
    bench.reconciler.full(Unit::Host).await;
    let now = Duration::ZERO;
    assert!(tokio::time::timeout(now, first.as_mut()).await.is_err(), "it was over too soon");
    let (_ask, requests) = tokio::sync::mpsc::channel(1);
    let (_hint, hints) = tokio::sync::mpsc::channel(1);
    let stop = CancellationToken::new();
    let kernel = Arc::clone(&bench.kernel);
    let task = tokio::spawn(bench.reconciler.run(requests, hints, stop.clone()));
    first.await;
    let state = kernel.state();
    for name in ["a", "b"] {
        let links = &state.netns[&Netns::Named(name.parse().unwrap())].links;
        assert_eq!(links.len(), 1, "{name}: {links:?}");
    }
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn a_link_is_removed_from_a_sandbox_after_a_failure_too() {
    let network = macvlan(2, ETH9);
    let mut bench = furnished(std::slice::from_ref(&network)).await;
    let a = endpoint(&network, 2, "a");
    bench.kernel.fail_when(|op| matches!(op, Op::Link(_, LinkOp::Remove)));
    bench.here(vec![gone(&a)]).await;
    assert!(bench.failure(Unit::Network(network.id)).is_some());
    bench.kernel.heal();
    bench.world.look_again(Unit::Network(network.id), Depth::Full);
    bench.reconciler.round().await;
    assert!(bench.inside("a").is_empty());
    bench.check_whole().await;
}

#[tokio::test]
async fn whatever_is_ours_is_found_by_its_marks_and_nothing_else() {
    let networks = local();
    let mut bench = Bench::new().await;
    let kernel = Arc::clone(&bench.kernel);
    let path = std::path::PathBuf::from("/proc/77/ns/net");
    kernel.edit(|state| {
        let mut theirs = NetnsState::default();
        theirs.links.insert(IfName::literal("tap0"), foreign("tun", 1_500));
        state.netns.insert(Netns::Path(path.clone()), theirs);
    });
    let before = but_settings(kernel.state());
    let inode = kernel.netns_inode(path.clone()).await.unwrap().unwrap();
    let adopted = Sandbox { adopted: true, netns: path, netns_inode: inode, ..sandbox("a") };
    bench.here(vec![Fact::Sandbox(adopted.name.clone(), Some(adopted.clone()))]).await;
    bench.sandbox("b").await;
    for network in &networks {
        bench.here(vec![known(network)]).await;
        bench.here(vec![there(&endpoint(network, 2, "a")), there(&endpoint(network, 3, "b"))]).await;
    }
    bench.say(Source::Global, overlay()).await;
    bench.say(Source::Global, vec![there(&endpoint(&testing::network(), 3, "b"))]).await;
    bench.world.set_resolver(adopted.id, Some(5_353));
    bench.reconciler.round().await;
    bench.check_whole().await;
    drop(bench);
    for (unit, look) in inventory(&*kernel, &[adopted]).await.unwrap() {
        let observed = kernel.observe(look).await.unwrap();
        kernel.apply(plan(unit, &State::default(), &observed)).await.unwrap();
    }
    assert_eq!(but_settings(kernel.state()), before);
}
