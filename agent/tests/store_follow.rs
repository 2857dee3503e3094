//! Following a store through everything that can happen to it, on each kind of store.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod store_support;

use std::{collections::BTreeMap, time::Duration};

use nix::sys::signal::Signal;
use ovagent::store::{
    Change, Claim, Commit, KeyEvent, KeyRange, Store, StoreStatus, Tenure, hold, hold_claim,
};
use store_support::{
    Following, PATIENCE, Process, Subject, alive, child, endpoint, etcd_store, eventually,
    proxy::{Mode, Proxy},
    vni,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

macro_rules! contract {
    ($([$($kind:ident)*] $checks:tt)*) => { $( contract!(@kinds [$($kind)*] $checks); )* };
    (@kinds [$($kind:ident)*] $checks:tt) => { $( contract!(@kind $kind $checks); )* };
    (@kind $kind:ident [$($check:ident)*]) => {
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

contract!([memory disk][
    every_event_comes_once_and_in_order_under_concurrent_writers
    what_is_outside_the_range_is_not_seen
    a_cut_connection_loses_and_repeats_nothing
    what_was_compacted_while_away_comes_as_a_snapshot
    a_lease_that_expires_is_seen_as_a_deletion
    a_held_key_comes_back_and_goes_with_its_holder
    a_key_that_somebody_else_holds_is_left_alone_until_his_lease_ends
    a_follower_that_does_not_read_holds_up_nobody_and_misses_nothing
    following_stops_when_told
]);

contract!([served etcd][
    every_event_comes_once_and_in_order_under_concurrent_writers
    what_is_outside_the_range_is_not_seen
    a_cut_connection_loses_and_repeats_nothing
    what_was_compacted_while_away_comes_as_a_snapshot
    a_lease_that_expires_is_seen_as_a_deletion
    a_held_key_comes_back_and_goes_with_its_holder
    a_key_that_somebody_else_holds_is_left_alone_until_his_lease_ends
    a_follower_that_does_not_read_holds_up_nobody_and_misses_nothing
    following_stops_when_told
    a_killed_store_that_comes_back_is_followed_on
    a_hung_store_is_noticed_and_followed_on
    an_idle_follower_stays_connected
    another_store_in_its_place_is_taken_over_as_a_snapshot
    a_held_key_survives_an_outage_longer_than_its_lease
]);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_served_store_runs_in_a_process_of_its_own() {
    if !child::serve_if_asked().await {
        Subject::served().await.store.status().await.unwrap();
    }
}

/// A writer that puts its numbered keys, one change after the other, two keys in each.
async fn write(store: Store, network: u8, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let key = |at| endpoint(network, 2 * number + at);
        store.commit(Commit::new().put(key(0), "x").put(key(1), "x")).await.unwrap();
    }
}

/// Reads on until at least `keys` keys are known; checks that nothing comes twice, out of order, or in halves.
async fn gather(following: &mut Following, keys: usize, seen: &mut BTreeMap<String, i64>) {
    let mut last = seen.values().copied().max().unwrap_or(0);
    while seen.len() < keys {
        let (revision, events) = following.events().await;
        assert_eq!(revision, events.last().unwrap().entry.as_ref().unwrap().mod_revision);
        for pair in events.chunks(2) {
            let [KeyEvent { entry: Some(one), .. }, KeyEvent { entry: Some(two), .. }] = pair else {
                panic!("a change came in halves: {pair:?}")
            };
            assert_eq!(one.mod_revision, two.mod_revision, "both keys of one change come together");
            assert!(one.mod_revision > last, "{} after {last}", one.mod_revision);
            last = one.mod_revision;
            for entry in [one, two] {
                assert_eq!(
                    seen.insert(entry.key.clone(), entry.mod_revision),
                    None,
                    "{} came twice",
                    entry.key
                );
            }
        }
    }
}

async fn every_event_comes_once_and_in_order_under_concurrent_writers(subject: Subject) {
    let before = subject.store.commit(Commit::new().put(endpoint(9, 0), "x")).await.unwrap();
    let mut following = Following::new(&subject.store, KeyRange::followed());
    let snapshot = following.snapshot().await;
    assert_eq!((snapshot.revision, snapshot.entries.len()), (before, 1));
    let writers: Vec<_> =
        (1..=4).map(|network| tokio::spawn(write(subject.store.clone(), network, 0..50))).collect();
    gather(&mut following, 400, &mut BTreeMap::new()).await;
    for writer in writers {
        writer.await.unwrap();
    }
    let listing = subject.store.list(&KeyRange::followed()).await.unwrap();
    assert_eq!(listing.entries.len(), 401);
    assert_eq!(*following.status.borrow(), StoreStatus::Connected);
}

async fn what_is_outside_the_range_is_not_seen(subject: Subject) {
    let mut following = Following::new(&subject.store, KeyRange::followed());
    assert!(following.snapshot().await.entries.is_empty());
    let both = Commit::new().put(vni(1), "outside").put(endpoint(1, 1), "inside");
    let revision = subject.store.commit(both).await.unwrap();
    let (at, events) = following.events().await;
    assert_eq!((at, events.len(), &events[0].key), (revision, 1, &endpoint(1, 1).to_string()));
    subject.store.commit(Commit::new().put(vni(2), "outside")).await.unwrap();
    let gone = subject.store.commit(Commit::new().delete(endpoint(1, 1)).delete(vni(1))).await.unwrap();
    let deletion = KeyEvent { key: endpoint(1, 1).to_string(), entry: None };
    assert_eq!(following.events().await, (gone, vec![deletion]));
}

async fn a_cut_connection_loses_and_repeats_nothing(subject: Subject) {
    let proxy = Proxy::to(subject.address).await;
    let mut following = Following::new(&etcd_store(proxy.address), KeyRange::followed());
    following.snapshot().await;
    let writer = tokio::spawn(write(subject.store.clone(), 1, 0..300));
    let mut seen = BTreeMap::new();
    for keys in [40, 160, 280] {
        gather(&mut following, keys, &mut seen).await;
        // Every connection ends, with events under way; new ones are let through.
        proxy.set(Mode::Cut);
        proxy.set(Mode::Pass);
    }
    writer.await.unwrap();
    gather(&mut following, 600, &mut seen).await;
    following.connected().await;
}

async fn what_was_compacted_while_away_comes_as_a_snapshot(subject: Subject) {
    let proxy = Proxy::to(subject.address).await;
    let mut following = Following::new(&etcd_store(proxy.address), KeyRange::followed());
    following.snapshot().await;
    subject.store.commit(Commit::new().put(endpoint(1, 1), "old")).await.unwrap();
    following.events().await;
    following.connected().await;
    proxy.set(Mode::Cut);
    following.away().await;
    write(subject.store.clone(), 2, 0..5).await;
    let last = subject.store.commit(Commit::new().delete(endpoint(1, 1))).await.unwrap();
    subject.store.compact(last).await.unwrap();
    proxy.set(Mode::Pass);
    let snapshot = following.snapshot().await;
    assert_eq!((snapshot.revision, snapshot.entries.len()), (last, 10), "it replaces what was known");
    write(subject.store.clone(), 3, 0..1).await;
    gather(&mut following, 2, &mut BTreeMap::new()).await;
}

async fn a_lease_that_expires_is_seen_as_a_deletion(subject: Subject) {
    let mut following = Following::new(&subject.store, KeyRange::followed());
    following.snapshot().await;
    let lease = subject.store.grant(2).await.unwrap();
    subject.store.commit(Commit::new().put_leased(alive(1), "x", lease)).await.unwrap();
    assert_eq!(following.events().await.1[0].entry.as_ref().unwrap().lease, lease);
    assert_eq!(following.events().await.1, [KeyEvent { key: alive(1).to_string(), entry: None }]);
}

async fn a_held_key_comes_back_and_goes_with_its_holder(subject: Subject) {
    let mut following = Following::new(&subject.store, KeyRange::followed());
    following.snapshot().await;
    let stop = CancellationToken::new();
    let holder = tokio::spawn(hold(
        subject.store.clone(),
        alive(1),
        "here".into(),
        Duration::from_secs(2),
        stop.clone(),
    ));
    let held = async |following: &mut Following| {
        let entry = following.events().await.1.pop().unwrap().entry.expect("the key is there");
        assert_eq!(&entry.value[..], b"here");
        entry.lease
    };
    let lease = held(&mut following).await;
    assert_ne!(lease, 0);
    subject.store.commit(Commit::new().delete(alive(1))).await.unwrap();
    assert_eq!(following.events().await.1[0].entry, None);
    assert_eq!(held(&mut following).await, lease, "put again, with the same lease");
    subject.store.revoke(lease).await.unwrap();
    assert_eq!(following.events().await.1[0].entry, None);
    assert_ne!(held(&mut following).await, lease, "with a new lease");
    stop.cancel();
    holder.await.unwrap();
    assert_eq!(following.events().await.1[0].entry, None, "it goes with its holder");
}

async fn a_follower_that_does_not_read_holds_up_nobody_and_misses_nothing(subject: Subject) {
    let mut following = Following::new(&subject.store, KeyRange::followed());
    following.connected().await;
    following.snapshot().await;
    for writers in 0..4 {
        write(subject.store.clone(), writers, 0..250).await;
    }
    gather(&mut following, 2000, &mut BTreeMap::new()).await;
}

async fn following_stops_when_told(subject: Subject) {
    let (out, mut changes) = tokio::sync::mpsc::channel(1);
    let (tell, _status) = tokio::sync::watch::channel(StoreStatus::Starting);
    let stop = CancellationToken::new();
    let follower =
        ovagent::store::follow(subject.store.clone(), KeyRange::followed(), out, tell, stop.clone());
    let follower = tokio::spawn(follower);
    assert!(matches!(changes.recv().await, Some(Change::Snapshot(_))));
    stop.cancel();
    tokio::time::timeout(PATIENCE, follower).await.expect("it ends").unwrap();
    assert_eq!(changes.recv().await, None);
}

async fn a_killed_store_that_comes_back_is_followed_on(mut subject: Subject) {
    let mut following = Following::new(&subject.store, KeyRange::followed());
    following.snapshot().await;
    let mut seen = BTreeMap::new();
    for round in 0..3 {
        write(subject.store.clone(), 1, round * 20..round * 20 + 10).await;
        gather(&mut following, round as usize * 40 + 20, &mut seen).await;
        // What it has answered, it must still have.
        subject.process.kill();
        following.away().await;
        subject.process.start();
        subject.up().await;
        write(subject.store.clone(), 1, round * 20 + 10..round * 20 + 20).await;
        gather(&mut following, (round as usize + 1) * 40, &mut seen).await;
        following.connected().await;
    }
}

async fn a_hung_store_is_noticed_and_followed_on(subject: Subject) {
    let mut following = Following::new(&subject.store, KeyRange::followed());
    following.snapshot().await;
    following.connected().await;
    subject.process.signal(Signal::SIGSTOP);
    following.away().await;
    subject.process.signal(Signal::SIGCONT);
    following.connected().await;
    write(subject.store.clone(), 1, 0..1).await;
    gather(&mut following, 2, &mut BTreeMap::new()).await;
}

async fn an_idle_follower_stays_connected(subject: Subject) {
    let mut following = Following::new(&subject.store, KeyRange::followed());
    following.snapshot().await;
    following.connected().await;
    // A server that is pinged too often closes the connection after some 8 s.
    let lost = following.status.wait_for(|status| *status != StoreStatus::Connected);
    let lost = tokio::time::timeout(Duration::from_secs(14), lost).await;
    assert!(lost.is_err(), "{:?}", lost.unwrap().unwrap().clone());
}

async fn another_store_in_its_place_is_taken_over_as_a_snapshot(subject: Subject) {
    let proxy = Proxy::to(subject.address).await;
    let mut following = Following::new(&etcd_store(proxy.address), KeyRange::followed());
    following.snapshot().await;
    write(subject.store.clone(), 1, 0..20).await;
    gather(&mut following, 40, &mut BTreeMap::new()).await;
    let other = match subject.process {
        Process::Etcd(_) => Subject::etcd().await,
        Process::Here | Process::Served(_) => Subject::served().await,
    };
    let revision = other.store.commit(Commit::new().put(endpoint(7, 7), "other")).await.unwrap();
    proxy.redirect(other.address);
    let snapshot = following.snapshot().await;
    assert_eq!((snapshot.revision, snapshot.entries.len()), (revision, 1), "its own revisions, its own keys");
    write(other.store.clone(), 1, 0..1).await;
    gather(&mut following, 2, &mut BTreeMap::new()).await;
}

async fn a_key_that_somebody_else_holds_is_left_alone_until_his_lease_ends(subject: Subject) {
    let (store, stop) = (&subject.store, CancellationToken::new());
    let theirs = store.grant(60).await.unwrap();
    let revision = store.commit(Commit::new().put_leased(alive(1), "theirs", theirs)).await.unwrap();
    let (tell, mut tenure) = watch::channel(Tenure::default());
    let ours = Box::new(|value: &[u8]| value.starts_with(b"ours"));
    let ttl = Duration::from_secs(2);
    let claim = Claim { key: alive(1), value: "ours, new".into(), ttl, ours };
    let holder = tokio::spawn(hold_claim(store.clone(), claim, tell, stop.clone()));
    let taken = tenure.wait_for(|now| *now == Tenure::Taken("theirs".into()));
    drop(tokio::time::timeout(PATIENCE, taken).await.expect("it is told whose it is").unwrap());
    // Several rounds later it is as it was.
    tokio::time::sleep(ttl * 2).await;
    assert_eq!(store.get(&alive(1)).await.unwrap().1.unwrap().mod_revision, revision);
    store.revoke(theirs).await.unwrap();
    let held = tokio::time::timeout(PATIENCE, tenure.wait_for(|now| *now == Tenure::Held)).await;
    drop(held.expect("it is taken when it is free").unwrap());
    // What an earlier holder of the same kind left is no obstacle, though its lease lives.
    let old = store.grant(60).await.unwrap();
    store.commit(Commit::new().put_leased(alive(1), "ours, old", old)).await.unwrap();
    eventually("the key is taken over", async || {
        let entry = store.get(&alive(1)).await.ok()?.1?;
        (entry.value == "ours, new" && entry.lease != old).then_some(())
    })
    .await;
    stop.cancel();
    holder.await.unwrap();
    assert_eq!(store.get(&alive(1)).await.unwrap().1, None);
}

async fn a_held_key_survives_an_outage_longer_than_its_lease(mut subject: Subject) {
    let stop = CancellationToken::new();
    let holder = tokio::spawn(hold(
        subject.store.clone(),
        alive(1),
        "here".into(),
        Duration::from_secs(2),
        stop.clone(),
    ));
    let watcher = etcd_store(subject.address);
    let look = async || watcher.get(&alive(1)).await.ok()?.1.map(|entry| entry.lease);
    let lease = eventually("the key is there", look).await;
    subject.process.kill();
    subject.process.start();
    subject.up().await;
    watcher.revoke(lease).await.unwrap();
    let again = eventually("the key is back", async || {
        watcher.get(&alive(1)).await.ok()?.1.map(|entry| entry.lease).filter(|new| *new != lease)
    });
    assert_ne!(again.await, 0);
    stop.cancel();
    holder.await.unwrap();
    assert_eq!(watcher.get(&alive(1)).await.unwrap().1, None);
}
