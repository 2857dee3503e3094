//! What every store must do, checked on each kind of them: reads, changes, leases. `store_follow.rs` has following.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod store_support;

use std::{sync::atomic::Ordering, time::Duration};

use ovagent::store::{Commit, CommitError, Guard, KeyRange, StoreError};
use store_support::{
    Subject, alive, child, endpoint, etcd_store, eventually, free_port,
    proxy::{Mode, Proxy},
    vni,
};

/// Every check on every kind of store.
macro_rules! contract {
    ($($check:ident),* $(,)?) => {
        contract!(@kind memory $($check)*);
        contract!(@kind disk $($check)*);
        contract!(@kind served $($check)*);
        contract!(@kind etcd $($check)*);
    };
    (@kind $kind:ident $($check:ident)*) => {
        mod $kind {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $check() {
                    super::$check(Subject::$kind().await).await;
                }
            )*
        }
    };
}

contract!(
    of_32_racing_creators_exactly_one_wins,
    a_conflict_names_the_guard_and_what_was_found,
    a_transaction_happens_whole_or_not_at_all,
    a_put_inside_a_deleted_range_is_refused_with_everything_around_it,
    a_list_in_pages_shows_one_revision,
    a_lease_takes_its_keys_away_and_a_dead_one_binds_none,
    a_change_whose_answer_is_lost_is_made_exactly_once,
    a_change_whose_request_is_lost_is_made_after_all,
    a_lost_change_that_lost_the_race_is_refused,
    dead_endpoints_do_not_make_changes_fail,
    a_store_that_is_away_is_named_in_the_error,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_served_store_runs_in_a_process_of_its_own() {
    if !child::serve_if_asked().await {
        let health = Subject::served().await.store.status().await.unwrap();
        assert!(health.version.contains("ovnet") && health.cluster != 0, "{health:?}");
    }
}

async fn of_32_racing_creators_exactly_one_wins(subject: Subject) {
    let race = (0..32u8).map(|who| {
        let store = subject.store.clone();
        tokio::spawn(async move { store.commit(Commit::new().absent(vni(7)).put(vni(7), vec![who])).await })
    });
    let mut winners = Vec::new();
    for (who, racer) in (0..32u8).zip(race.collect::<Vec<_>>()) {
        match racer.await.unwrap() {
            Ok(revision) => winners.push((who, revision)),
            Err(CommitError::Refused(refusals)) => assert_eq!(refusals[0].guard, Guard::Absent(vni(7))),
            Err(CommitError::Store(error)) => panic!("{error}"),
        }
    }
    let [(who, revision)] = winners[..] else { panic!("winners: {winners:?}") };
    let entry = subject.store.get(&vni(7)).await.unwrap().1.unwrap();
    assert_eq!((entry.value.as_ref(), entry.mod_revision), ([who].as_slice(), revision));
}

async fn a_conflict_names_the_guard_and_what_was_found(subject: Subject) {
    let store = &subject.store;
    let first = store.commit(Commit::new().put(vni(1), "a").put(vni(2), "b")).await.unwrap();
    let second = store.commit(Commit::new().unchanged(vni(1), first).put(vni(1), "c")).await.unwrap();
    assert!(second > first);
    let stale = Commit::new()
        .present(vni(2))
        .unchanged(vni(1), first)
        .absent(vni(2))
        .present(vni(3))
        .unchanged(vni(3), 0)
        .is(vni(1), "c")
        .is(vni(2), "B")
        .is(vni(3), "")
        .put(vni(9), "never");
    let equal = Commit::new().is(vni(1), "c").put(vni(1), "c");
    let third = store.commit(equal).await.unwrap();
    assert!(third > second);
    let Err(CommitError::Refused(refusals)) = store.commit(stale).await else { panic!("it must be refused") };
    let seen: Vec<_> = refusals
        .iter()
        .map(|refusal| (&refusal.guard, refusal.found.as_ref().map(|found| &found.value[..])))
        .collect();
    assert_eq!(
        seen,
        [
            (&Guard::Unchanged(vni(1), first), Some(&b"c"[..])),
            (&Guard::Absent(vni(2)), Some(&b"b"[..])),
            (&Guard::Present(vni(3)), None),
            (&Guard::Is(vni(2), "B".into()), Some(&b"b"[..])),
            (&Guard::Is(vni(3), "".into()), None),
        ]
    );
    assert_eq!(store.get(&vni(9)).await.unwrap(), (third, None));
}

async fn a_transaction_happens_whole_or_not_at_all(subject: Subject) {
    let store = &subject.store;
    let filled = (1..=100).fold(Commit::new(), |commit, number| commit.put(endpoint(1, number), "x"));
    let revision = store.commit(filled).await.unwrap();
    let all = store.list(&KeyRange::everything()).await.unwrap();
    assert_eq!(all.entries.len(), 100);
    assert!(all.entries.iter().all(|entry| entry.mod_revision == revision), "one change, one revision");
    let network = ovagent::model::NetworkId::from_bytes([1; 32]);
    let swap =
        Commit::new().delete_range(KeyRange::endpoints_of(network)).put(endpoint(2, 1), "y").delete(vni(5));
    let swapped = store.commit(swap).await.unwrap();
    assert_eq!(swapped, revision + 1);
    let left = store.list(&KeyRange::everything()).await.unwrap();
    assert_eq!(
        left.entries.iter().map(|entry| &entry.key).collect::<Vec<_>>(),
        [&endpoint(2, 1).to_string()]
    );
    let nothing = store.commit(Commit::new().delete(vni(5))).await.unwrap();
    assert_eq!(nothing, swapped, "a change that changes nothing makes no revision");
}

async fn a_put_inside_a_deleted_range_is_refused_with_everything_around_it(subject: Subject) {
    let both = Commit::new().put(vni(8), "x").delete_range(KeyRange::everything()).put(vni(9), "y");
    let Err(CommitError::Store(error)) = subject.store.commit(both).await else {
        panic!("it must be refused")
    };
    assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
    assert!(subject.store.list(&KeyRange::everything()).await.unwrap().entries.is_empty());
}

async fn a_list_in_pages_shows_one_revision(subject: Subject) {
    const COUNT: u32 = 25_000;
    for start in (1..=COUNT).step_by(100) {
        let part =
            (start..start + 100).fold(Commit::new(), |commit, number| commit.put(endpoint(2, number), "x"));
        subject.store.commit(part).await.unwrap();
    }
    let (first, last) = (endpoint(1, 0), endpoint(3, 0));
    let pair = |turn: u32| {
        let value = turn.to_string();
        Commit::new()
            .put(first.clone(), value.clone())
            .put(last.clone(), value)
            .delete(endpoint(2, turn % COUNT))
    };
    subject.store.commit(pair(0)).await.unwrap();
    let (store, stop) = (subject.store.clone(), tokio_util::sync::CancellationToken::new());
    let (stopped, changes) = (stop.clone(), (1..).map(pair).take(2000).collect::<Vec<_>>());
    let writer = tokio::spawn(async move {
        for change in changes {
            if stopped.is_cancelled() {
                return;
            }
            store.commit(change).await.unwrap();
        }
    });
    for _ in 0..5 {
        let listing = subject.store.list(&KeyRange::everything()).await.unwrap();
        let keys: Vec<_> = listing.entries.iter().map(|entry| &entry.key).collect();
        assert!(keys.is_sorted_by(|one, other| one < other), "sorted, and none twice");
        let value =
            |at: usize| std::str::from_utf8(&listing.entries[at].value).unwrap().parse::<usize>().unwrap();
        let turn = value(0);
        assert_eq!(value(keys.len() - 1), turn, "the first and the last page show the same moment");
        assert_eq!(keys.len(), 2 + COUNT as usize - turn, "and so does all between");
        assert!(listing.entries.iter().all(|entry| entry.mod_revision <= listing.revision));
        // Each page costs etcd a walk over all that is left.
        assert_eq!(listing.pages, 2);
    }
    stop.cancel();
    writer.await.unwrap();
}

async fn a_lease_takes_its_keys_away_and_a_dead_one_binds_none(subject: Subject) {
    let store = &subject.store;
    let lease = store.grant(2).await.unwrap();
    store.commit(Commit::new().put_leased(alive(1), "x", lease).put(vni(1), "stays")).await.unwrap();
    assert_eq!(store.get(&alive(1)).await.unwrap().1.unwrap().lease, lease);
    eventually("the key goes with its lease", async || {
        store.get(&alive(1)).await.unwrap().1.is_none().then_some(())
    })
    .await;
    let late = store.commit(Commit::new().put(vni(2), "never").put_leased(alive(1), "x", lease)).await;
    assert!(matches!(late, Err(CommitError::Store(StoreError::LeaseGone { .. }))), "{late:?}");
    assert!(matches!(store.renew(lease).await, Err(StoreError::LeaseGone { .. })));
    store.revoke(lease).await.unwrap();
    let entries = store.list(&KeyRange::everything()).await.unwrap().entries;
    assert_eq!(entries.iter().map(|entry| &entry.value[..]).collect::<Vec<_>>(), [b"stays"]);
}

async fn a_change_whose_answer_is_lost_is_made_exactly_once(subject: Subject) {
    let proxy = Proxy::to(subject.address).await;
    let store = etcd_store(proxy.address);
    store.status().await.unwrap();
    proxy.set(Mode::SwallowAnswers);
    let lost = store.clone();
    let commit =
        tokio::spawn(async move { lost.commit(Commit::new().absent(vni(1)).put(vni(1), "x")).await });
    let made = eventually("the change arrives", async || subject.store.get(&vni(1)).await.unwrap().1).await;
    proxy.set(Mode::Cut);
    proxy.set(Mode::Pass);
    assert_eq!(commit.await.unwrap().unwrap(), made.mod_revision);
    assert_eq!(subject.store.get(&vni(1)).await.unwrap(), (made.mod_revision, Some(made)));
}

async fn a_change_whose_request_is_lost_is_made_after_all(subject: Subject) {
    let proxy = Proxy::to(subject.address).await;
    let store = etcd_store(proxy.address);
    store.status().await.unwrap();
    proxy.set(Mode::SwallowRequests);
    let lost = store.clone();
    let commit = tokio::spawn(async move { lost.commit(Commit::new().put(vni(1), "x")).await });
    eventually("the change is on its way", async || {
        (proxy.swallowed.load(Ordering::Relaxed) > 0).then_some(())
    })
    .await;
    assert_eq!(subject.store.get(&vni(1)).await.unwrap().1, None);
    proxy.set(Mode::Cut);
    proxy.set(Mode::Pass);
    let revision = commit.await.unwrap().unwrap();
    assert_eq!(subject.store.get(&vni(1)).await.unwrap().1.unwrap().mod_revision, revision);
}

async fn a_lost_change_that_lost_the_race_is_refused(subject: Subject) {
    let proxy = Proxy::to(subject.address).await;
    let store = etcd_store(proxy.address);
    store.status().await.unwrap();
    proxy.set(Mode::SwallowRequests);
    let lost = store.clone();
    let commit =
        tokio::spawn(async move { lost.commit(Commit::new().absent(vni(1)).put(vni(1), "ours")).await });
    eventually("the change is on its way", async || {
        (proxy.swallowed.load(Ordering::Relaxed) > 0).then_some(())
    })
    .await;
    subject.store.commit(Commit::new().put(vni(1), "theirs")).await.unwrap();
    proxy.set(Mode::Cut);
    proxy.set(Mode::Pass);
    let Err(CommitError::Refused(refusals)) = commit.await.unwrap() else { panic!("it must be refused") };
    assert_eq!(&refusals[0].found.as_ref().unwrap().value[..], b"theirs");
}

async fn dead_endpoints_do_not_make_changes_fail(subject: Subject) {
    let dead = || format!("127.0.0.1:{}", free_port());
    let endpoints = vec![dead(), subject.address.to_string(), dead()];
    let store =
        ovagent::store::Store::etcd(&ovagent::store::EtcdConfig { endpoints, ..Default::default() }).unwrap();
    for number in 1..=100 {
        store.commit(Commit::new().absent(vni(number)).put(vni(number), "x")).await.unwrap();
    }
    assert_eq!(store.list(&KeyRange::everything()).await.unwrap().entries.len(), 100);
}

async fn a_store_that_is_away_is_named_in_the_error(subject: Subject) {
    let proxy = Proxy::to(subject.address).await;
    let store = etcd_store(proxy.address);
    store.status().await.unwrap();
    proxy.set(Mode::Cut);
    let asked = tokio::time::timeout(Duration::from_secs(15), store.list(&KeyRange::everything())).await;
    let error = asked.expect("an answer in time").unwrap_err();
    assert!(matches!(error, StoreError::Away { .. }), "{error:?}");
    assert!(error.to_string().contains(&proxy.address.to_string()), "{error}");
    let refused =
        etcd_store(([127, 0, 0, 1], free_port()).into()).commit(Commit::new().put(vni(1), "x")).await;
    assert!(
        matches!(refused, Err(CommitError::Store(StoreError::Away { .. }))),
        "never sent, so known: {refused:?}"
    );
    proxy.set(Mode::Pass);
    eventually("it is back", async || store.list(&KeyRange::everything()).await.ok()).await;
}
