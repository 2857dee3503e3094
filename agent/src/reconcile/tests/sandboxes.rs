//! Sandboxes' own part: the namespace, and the rules that lead to the resolver.

use super::*;
use crate::{kernel::Kernel, plan::op::SettingOp};

/// Where the rules in a namespace lead.
fn leads_to(bench: &Bench, netns: &Netns) -> Option<u16> {
    bench.kernel.state().netns.get(netns).and_then(|state| state.resolver)
}

fn said(sandbox: &Sandbox) -> Fact {
    Fact::Sandbox(sandbox.name.clone(), Some(sandbox.clone()))
}

async fn adopted(bench: &Bench, name: &str) -> (Sandbox, Netns) {
    let path = std::path::PathBuf::from(format!("/proc/{name}/ns/net"));
    let netns = Netns::Path(path.clone());
    bench.kernel.edit(|state| drop(state.netns.insert(netns.clone(), NetnsState::default())));
    let inode = bench.kernel.netns_inode(path.clone()).await.unwrap().unwrap();
    (Sandbox { adopted: true, netns: path, netns_inode: inode, ..sandbox(name) }, netns)
}

#[tokio::test]
async fn what_a_sandbox_asks_of_its_resolver_goes_to_the_port_that_was_said() {
    let mut bench = Bench::new().await;
    let ours = (sandbox("a"), Netns::Named("a".parse().unwrap()));
    let theirs = adopted(&bench, "b").await;
    for (sandbox, netns) in [ours, theirs] {
        bench.here(vec![said(&sandbox)]).await;
        assert_eq!(leads_to(&bench, &netns), None);
        for port in [5_301, 5_302] {
            bench.world.set_resolver(sandbox.id, Some(port));
            bench.reconciler.round().await;
            let told = bench.world.resolver_programmed(sandbox.id, Some(port));
            tokio::time::timeout(Duration::from_secs(5), told).await.unwrap();
            assert_eq!(leads_to(&bench, &netns), Some(port));
            bench.check_whole().await;
        }
        let cost = bench.cost();
        bench.world.set_resolver(sandbox.id, Some(5_302));
        bench.reconciler.round().await;
        assert_eq!(bench.cost(), cost, "the same said again is nothing");
        bench.world.set_resolver(sandbox.id, None);
        bench.reconciler.round().await;
        assert_eq!(leads_to(&bench, &netns), None);
        assert_eq!(bench.world.resolver(sandbox.id), None);
    }
}

#[tokio::test]
async fn an_adopted_namespace_is_left_without_our_rules_when_its_sandbox_goes() {
    let mut bench = Bench::new().await;
    let (sandbox, netns) = adopted(&bench, "b").await;
    bench.here(vec![said(&sandbox)]).await;
    bench.world.set_resolver(sandbox.id, Some(5_301));
    bench.reconciler.round().await;
    assert!(leads_to(&bench, &netns).is_some());
    bench.kernel.fail_when(|op| matches!(op, Op::Setting(_, SettingOp::RemoveResolver)));
    bench.here(vec![Fact::Sandbox(sandbox.name.clone(), None)]).await;
    assert!(bench.failure(Unit::Sandbox(sandbox.id)).is_some());
    bench.kernel.heal();
    bench.reconciler.resync().await;
    bench.reconciler.round().await;
    assert_eq!(leads_to(&bench, &netns), None);
    assert!(bench.kernel.state().netns.contains_key(&netns), "the namespace is not ours to remove");
}

#[tokio::test]
async fn as_long_as_nothing_is_said_of_a_resolver_the_rules_stay_as_they_are() {
    let mut bench = Bench::new().await;
    let (sandbox, netns) = adopted(&bench, "b").await;
    bench.here(vec![said(&sandbox)]).await;
    bench.world.set_resolver(sandbox.id, Some(5_301));
    bench.reconciler.round().await;
    let mut next = Bench::on(Arc::clone(&bench.kernel), vec![said(&sandbox)], true).await;
    assert!(leads_to(&next, &netns).is_some(), "an agent that starts again has no sockets yet");
    next.world.set_resolver(sandbox.id, None);
    next.reconciler.round().await;
    assert_eq!(leads_to(&next, &netns), None);
}

#[tokio::test]
async fn one_that_shares_a_namespace_has_nothing_of_its_own_and_an_owner_that_left_stays() {
    let mut bench = Bench::new().await;
    bench.sandbox("a").await;
    let sharer = Sandbox {
        adopted: true,
        shares: Some("a".parse().unwrap()),
        netns: "/run/netns/a".into(),
        netns_inode: bench.kernel.netns_inode("/run/netns/a".into()).await.unwrap().unwrap(),
        ..sandbox("b")
    };
    let before = bench.kernel.state();
    bench.here(vec![said(&sharer)]).await;
    bench.world.set_resolver(sharer.id, Some(5_301));
    bench.reconciler.round().await;
    assert_eq!(bench.kernel.state(), before);
    let cost = bench.cost();
    bench.here(vec![said(&Sandbox { left: true, ..sandbox("a") })]).await;
    assert_eq!(bench.cost(), cost);
    bench.check_whole().await;
    bench.here(vec![Fact::Sandbox("b".parse().unwrap(), None)]).await;
    assert_eq!(bench.kernel.state(), before);
    bench.here(vec![Fact::Sandbox("a".parse().unwrap(), None)]).await;
    assert!(!bench.kernel.state().netns.contains_key(&Netns::Named("a".parse().unwrap())));
}

#[tokio::test]
async fn who_listens_hears_of_all_of_a_record_but_that_it_is_finished_and_the_kernel_of_what_concerns_it() {
    let mut bench = Bench::new().await;
    let mut changes = bench.world.changes();
    let made = Sandbox { unfinished: true, ..sandbox("a") };
    bench.here(vec![said(&made)]).await;
    assert!(changes.try_recv().is_ok());
    let cost = bench.cost();
    bench.here(vec![said(&sandbox("a"))]).await;
    assert!(changes.try_recv().is_err(), "it is finished: nothing for those who listen");
    for other in [
        Sandbox { hostname: "other".into(), ..sandbox("a") },
        Sandbox { left: true, ..sandbox("a") },
        Sandbox { domain: "example.net".into(), ..sandbox("a") },
    ] {
        bench.here(vec![said(&other)]).await;
        assert!(changes.try_recv().is_ok(), "{other:?}");
    }
    assert_eq!(bench.cost(), cost, "none of it is the kernel's business");
    // Another one by the same name is: the old one goes, the new one comes.
    let next = Sandbox { id: SandboxId::from_bytes([9; 32]), ..sandbox("a") };
    bench.here(vec![said(&next)]).await;
    assert!(changes.try_recv().is_ok());
    assert_eq!(bench.failure(Unit::Sandbox(next.id)), None);
    let netns = bench.kernel.state().netns.remove(&Netns::Named("a".parse().unwrap())).unwrap();
    assert_eq!(netns.mark.unwrap().unit, Unit::Sandbox(next.id));
}

/// A look at a sandbox's own part, and what is done about it once these facts have come in between.
async fn look_and_then(bench: &mut Bench, sandbox: &Sandbox, facts: Vec<Fact>) {
    let unit = Unit::Sandbox(sandbox.id);
    let plan = bench.reconciler.look(unit).await.unwrap();
    bench.at += 1;
    bench.world.feed(Source::Local, bench.at, facts);
    let failures = bench.reconciler.apply_plan(unit, plan).await;
    assert!(failures.is_empty(), "{failures:?}");
}

#[tokio::test]
async fn a_sandbox_that_goes_while_it_is_looked_at_takes_its_namespace_along() {
    let mut bench = Bench::new().await;
    let netns = Netns::Named("a".parse().unwrap());
    // The second has the first one's name, and its namespace the inode of the first one's.
    for id in [1, 2] {
        let sandbox = Sandbox { id: SandboxId::from_bytes([id; 32]), ..sandbox("a") };
        bench.here(vec![said(&sandbox)]).await;
        bench.reconciler.resync().await;
        bench.reconciler.round().await;
        assert!(bench.kernel.state().netns.contains_key(&netns));
        look_and_then(&mut bench, &sandbox, vec![Fact::Sandbox(sandbox.name.clone(), None)]).await;
        bench.reconciler.round().await;
        assert!(!bench.kernel.state().netns.contains_key(&netns), "it stays for ever");
    }
}

#[tokio::test]
async fn whose_a_namespace_is_is_not_told_by_a_namesake_that_had_its_inode() {
    let mut bench = Bench::new().await;
    let netns = Netns::Named("a".parse().unwrap());
    let old = sandbox("a");
    let new = Sandbox { id: SandboxId::from_bytes([2; 32]), ..old.clone() };
    bench.here(vec![said(&old)]).await;
    bench.reconciler.resync().await;
    bench.reconciler.round().await;
    bench.here(vec![Fact::Sandbox(old.name.clone(), None)]).await;
    bench.here(vec![said(&new)]).await;
    let marked = bench.reconciler.marked_units().await.unwrap();
    assert!(
        marked.contains(&Unit::Sandbox(new.id)) && !marked.contains(&Unit::Sandbox(old.id)),
        "{marked:?}"
    );
    bench.here(vec![Fact::Sandbox(new.name.clone(), None)]).await;
    assert!(!bench.kernel.state().netns.contains_key(&netns));
}
