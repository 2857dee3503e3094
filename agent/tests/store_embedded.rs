//! What is the embedded store's own: its file, its limits, and Debian's etcdctl against it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod store_support;

use std::{path::Path, process::Command, time::Duration};

use ovagent::store::{
    Commit, Embedded, KeyRange, Store,
    embedded::{EmbeddedError, Limits},
};
use store_support::{Following, Subject, alive, child, endpoint, eventually, vni};
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_served_store_runs_in_a_process_of_its_own() {
    if !child::serve_if_asked().await {
        Subject::served().await.store.status().await.unwrap();
    }
}

#[tokio::test]
async fn a_second_opener_is_told_that_the_file_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let first = Embedded::open(Some(&path)).unwrap();
    let error = Embedded::open(Some(&path)).unwrap_err();
    assert!(matches!(&error, EmbeddedError::InUse(named) if *named == path), "{error:?}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    drop(first);
    Embedded::open(Some(&path)).unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    std::fs::write(&path, b"something else entirely, and not short at all").unwrap();
    let error = Embedded::open(Some(&path)).unwrap_err();
    assert!(matches!(error, EmbeddedError::Open { .. }), "{error:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"something else entirely, and not short at all");
    let missing = Embedded::open(Some(Path::new("/nonexistent/store.redb"))).unwrap_err();
    assert!(missing.to_string().contains("/nonexistent/store.redb"), "{missing}");
}

#[tokio::test]
async fn keys_revisions_and_leases_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let (revision, lease, cluster);
    {
        let store = Store::embedded(&Embedded::open(Some(&path)).unwrap());
        lease = store.grant(2).await.unwrap();
        let both = Commit::new().put_leased(alive(1), "leased", lease).put(vni(1), "x");
        revision = store.commit(both).await.unwrap();
        cluster = store.status().await.unwrap().cluster;
    }
    let server = Embedded::open(Some(&path)).unwrap();
    let stop = CancellationToken::new();
    let tender = tokio::spawn(server.clone().tend(stop.clone()));
    let store = Store::embedded(&server);
    let listing = store.list(&KeyRange::everything()).await.unwrap();
    assert_eq!((listing.revision, listing.entries.len()), (revision, 2));
    assert_eq!(store.status().await.unwrap().cluster, cluster, "it is the same store");
    store.renew(lease).await.unwrap();
    eventually("the lease ends", async || store.get(&alive(1)).await.unwrap().1.is_none().then_some(()))
        .await;
    assert_eq!(store.get(&vni(1)).await.unwrap().0, revision + 1);
    stop.cancel();
    tender.await.unwrap();
}

#[tokio::test]
async fn history_is_bounded_and_what_fell_out_of_it_comes_as_a_snapshot() {
    let limits = Limits { history_revisions: 50, history_bytes: 20_000 };
    let server = Embedded::open_with(None, limits).unwrap();
    let store = Store::embedded(&server);
    let mut following = Following::new(&store, KeyRange::followed());
    following.connected().await;
    // Nobody reads: the follower stands still with its first pieces, and the history moves on without it.
    let mut last = 0;
    for round in 0..500 {
        last = store.commit(Commit::new().put(endpoint(1, round), "x".repeat(200))).await.unwrap();
    }
    assert!(store.compact(last - 60).await.is_err(), "that is gone already");
    following.snapshot().await;
    loop {
        match following.next().await {
            ovagent::store::Change::Events { revision, .. } => assert!(revision <= last, "{revision}"),
            ovagent::store::Change::Snapshot(listing) => {
                assert_eq!((listing.revision, listing.entries.len()), (last, 500));
                break;
            }
        }
    }
    store.commit(Commit::new().put(endpoint(2, 0), "x")).await.unwrap();
    assert_eq!(following.events().await.1.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serving_ends_when_told_even_with_an_open_watch() {
    let server = Embedded::open(None).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let serving = tokio::spawn(server.serve(listener, stop.clone()));
    let mut following = Following::new(&store_support::etcd_store(address), KeyRange::followed());
    following.snapshot().await;
    following.connected().await;
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), serving).await.expect("it ends").unwrap().unwrap();
    following.away().await;
}

/// Debian's etcdctl; its output, or a panic with its error.
fn etcdctl(subject: &Subject, arguments: &[&str]) -> String {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", &subject.address.to_string()]).args(arguments);
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("this test needs etcdctl: apt-get install etcd-client ({error})"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "etcdctl {arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_reads_writes_and_deletes() {
    let subject = Subject::memory().await;
    assert_eq!(etcdctl(&subject, &["put", "/a", "1"]), "OK\n");
    assert_eq!(etcdctl(&subject, &["put", "/b", "2"]), "OK\n");
    assert_eq!(etcdctl(&subject, &["put", "--prev-kv", "/b", "3"]), "OK\n/b\n2\n");
    assert_eq!(etcdctl(&subject, &["get", "--prefix", "/"]), "/a\n1\n/b\n3\n");
    assert_eq!(etcdctl(&subject, &["get", "", "--prefix", "--keys-only", "--limit=1"]).trim(), "/a");
    assert_eq!(etcdctl(&subject, &["get", "--from-key", "/b", "--print-value-only"]), "3\n");
    assert_eq!(etcdctl(&subject, &["get", "/b", "--rev=3", "--print-value-only"]), "2\n", "as it was");
    assert_eq!(etcdctl(&subject, &["get", "--prefix", "/", "--rev=2"]), "/a\n1\n");
    assert_eq!(etcdctl(&subject, &["del", "--prefix", "/"]), "2\n");
    assert_eq!(etcdctl(&subject, &["get", "--prefix", "/", "--rev=4"]), "/a\n1\n/b\n3\n");
    assert_eq!(etcdctl(&subject, &["compaction", "5"]), "compacted revision 5\n");
    let gone = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &subject.address.to_string(), "get", "/a", "--rev=2"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&gone.stderr).contains("required revision has been compacted"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_compares_and_leases_and_asks_for_health() {
    let subject = Subject::memory().await;
    let address = subject.address.to_string();
    let lease = etcdctl(&subject, &["lease", "grant", "100"]);
    let id = lease.split_whitespace().nth(1).unwrap().to_owned();
    etcdctl(&subject, &["put", "/leased", "x", "--lease", &id]);
    let left = etcdctl(&subject, &["lease", "timetolive", "--keys", &id]);
    assert!(left.contains("granted with TTL(100s)") && left.contains("[/leased]"), "{left}");
    assert!(etcdctl(&subject, &["lease", "list"]).contains(&id));
    let kept = etcdctl(&subject, &["lease", "keep-alive", "--once", &id]);
    assert!(kept.contains("keepalived with TTL(100)"), "{kept}");
    assert!(etcdctl(&subject, &["lease", "revoke", &id]).contains("revoked"));
    assert_eq!(etcdctl(&subject, &["get", "/leased"]), "");
    let status = etcdctl(&subject, &["endpoint", "status"]);
    assert!(status.starts_with(&address) && status.contains("ovnet"), "{status}");
    etcdctl(&subject, &["endpoint", "health"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "create(\"/t\") = \"0\"\n\nput /t yes\n\nput /t no\n\n").unwrap();
    let txn = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &address, "txn"])
        .stdin(file.reopen().unwrap())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&txn.stdout), "SUCCESS\n\nOK\n");
    assert_eq!(etcdctl(&subject, &["get", "/t", "--print-value-only"]), "yes\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_watches_from_an_older_revision() {
    let subject = Subject::memory().await;
    etcdctl(&subject, &["put", "/w", "1"]);
    etcdctl(&subject, &["put", "/w", "2"]);
    etcdctl(&subject, &["del", "/w"]);
    let watch = tokio::process::Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args([
            "--endpoints",
            &subject.address.to_string(),
            "watch",
            "--prefix",
            "/w",
            "--rev=2",
            "--prev-kv",
        ])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let expected = "PUT\n/w\n1\nPUT\n/w\n1\n/w\n2\nDELETE\n/w\n2\n/w\n\n";
    let mut text = Vec::new();
    let mut out = watch.stdout.unwrap();
    let read = async {
        while text.len() < expected.len() {
            tokio::io::AsyncReadExt::read_buf(&mut out, &mut text).await.unwrap();
        }
    };
    tokio::time::timeout(store_support::PATIENCE, read).await.expect("etcdctl prints the events");
    assert_eq!(String::from_utf8_lossy(&text), expected);
}
