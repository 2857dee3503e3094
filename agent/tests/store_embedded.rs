//! What is the embedded store's own: its file, its limits, and Debian's etcdctl against it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod store_support;

use std::{path::Path, process::Command, time::Duration};

use ovagent::store::{
    Commit, Embedded, Key, KeyRange, Store,
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
    assert_eq!(etcdctl(&subject, &["put", "/ovnet/v1/a", "1"]), "OK\n");
    assert_eq!(etcdctl(&subject, &["put", "/ovnet/v1/b", "2"]), "OK\n");
    assert_eq!(etcdctl(&subject, &["put", "--prev-kv", "/ovnet/v1/b", "3"]), "OK\n/ovnet/v1/b\n2\n");
    assert_eq!(etcdctl(&subject, &["get", "--prefix", "/ovnet/v1/"]), "/ovnet/v1/a\n1\n/ovnet/v1/b\n3\n");
    assert_eq!(etcdctl(&subject, &["get", "", "--prefix", "--keys-only", "--limit=1"]).trim(), "/ovnet/v1/a");
    assert_eq!(etcdctl(&subject, &["get", "--from-key", "/ovnet/v1/b", "--print-value-only"]), "3\n");
    assert_eq!(
        etcdctl(&subject, &["get", "/ovnet/v1/b", "--rev=3", "--print-value-only"]),
        "2\n",
        "as it was"
    );
    assert_eq!(etcdctl(&subject, &["get", "--prefix", "/ovnet/v1/", "--rev=2"]), "/ovnet/v1/a\n1\n");
    assert_eq!(etcdctl(&subject, &["del", "--prefix", "/ovnet/v1/"]), "2\n");
    assert_eq!(
        etcdctl(&subject, &["get", "--prefix", "/ovnet/v1/", "--rev=4"]),
        "/ovnet/v1/a\n1\n/ovnet/v1/b\n3\n"
    );
    assert_eq!(etcdctl(&subject, &["compaction", "5"]), "compacted revision 5\n");
    let gone = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &subject.address.to_string(), "get", "/ovnet/v1/a", "--rev=2"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&gone.stderr).contains("required revision has been compacted"));
}

/// What etcdctl says when it is refused.
fn refused(subject: &Subject, arguments: &[&str]) -> String {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", &subject.address.to_string()]).args(arguments);
    let output = command.output().unwrap();
    assert!(!output.status.success(), "etcdctl {arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_of_the_serving_host_alone_is_neither_read_nor_changed_over_the_network() {
    let subject = Subject::memory().await;
    let (private, shared) = (Key::Sysctl("net.ipv4.ip_forward".into()), vni(7));
    let lease = subject.store.grant(100).await.unwrap();
    let both = Commit::new().put_leased(private.clone(), "0", lease).put(shared.clone(), "x");
    subject.store.commit(both).await.unwrap();
    let (private_text, shared_text) = (private.to_string(), shared.to_string());
    for everything in
        [&["get", "", "--prefix"][..], &["get", "--prefix", "/ovnet"], &["get", "/", "--from-key"]]
    {
        assert_eq!(etcdctl(&subject, everything), format!("{shared_text}\nx\n"), "{everything:?}");
    }
    assert_eq!(etcdctl(&subject, &["get", &private_text]), "");
    assert_eq!(etcdctl(&subject, &["get", "--prefix", "/ovnet", "--rev=2"]), format!("{shared_text}\nx\n"));
    let keys = etcdctl(&subject, &["lease", "timetolive", "--keys", &format!("{lease:x}")]);
    assert!(!keys.contains(&private_text), "{keys}");
    for change in [
        &["put", "/ovnet/local/v1/sysctls/kernel.core_pattern", "|/bin/sh"][..],
        &["del", &private_text],
        &["del", "--prefix", "/ovnet"],
        &["del", "", "--prefix"],
        &["del", "--from-key", "/ovnet/v1/"],
    ] {
        let said = refused(&subject, change);
        assert!(said.contains("permission denied") && said.contains("/ovnet/v1/"), "{change:?}: {said}");
    }
    for (guard, then) in [
        (format!("value(\"{private_text}\") = \"0\""), format!("put {shared_text} y")),
        (format!("value(\"{shared_text}\") = \"x\""), format!("put {private_text} 1")),
        (format!("value(\"{shared_text}\") = \"x\""), "del --prefix /ovnet".into()),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{guard}\n\n{then}\n\n\n")).unwrap();
        let address = subject.address.to_string();
        let mut txn = Command::new("etcdctl");
        txn.env("ETCDCTL_API", "3").args(["--endpoints", &address, "txn"]).stdin(file.reopen().unwrap());
        let said = String::from_utf8_lossy(&txn.output().unwrap().stderr).into_owned();
        assert!(said.contains("permission denied"), "{guard} {then}: {said}");
    }
    // A watch of everything tells of what is served, and of nothing else.
    let range = KeyRange::prefix("/ovnet");
    let mut following = Following::new(&store_support::etcd_store(subject.address), range);
    let entries = following.snapshot().await.entries;
    assert_eq!(entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), [shared_text.as_str()]);
    following.connected().await;
    subject.store.commit(Commit::new().put(private.clone(), "1")).await.unwrap();
    subject.store.commit(Commit::new().put(shared, "y")).await.unwrap();
    let (_, events) = following.events().await;
    assert_eq!(events.iter().map(|event| event.key.as_str()).collect::<Vec<_>>(), [shared_text.as_str()]);
    let (_, record) = subject.store.get(&private).await.unwrap();
    assert_eq!(&record.unwrap().value[..], b"1", "the agent itself sees and changes all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_compares_and_leases_and_asks_for_health() {
    let subject = Subject::memory().await;
    let address = subject.address.to_string();
    let lease = etcdctl(&subject, &["lease", "grant", "100"]);
    let id = lease.split_whitespace().nth(1).unwrap().to_owned();
    etcdctl(&subject, &["put", "/ovnet/v1/leased", "x", "--lease", &id]);
    let left = etcdctl(&subject, &["lease", "timetolive", "--keys", &id]);
    assert!(left.contains("granted with TTL(100s)") && left.contains("[/ovnet/v1/leased]"), "{left}");
    assert!(etcdctl(&subject, &["lease", "list"]).contains(&id));
    let kept = etcdctl(&subject, &["lease", "keep-alive", "--once", &id]);
    assert!(kept.contains("keepalived with TTL(100)"), "{kept}");
    assert!(etcdctl(&subject, &["lease", "revoke", &id]).contains("revoked"));
    assert_eq!(etcdctl(&subject, &["get", "/ovnet/v1/leased"]), "");
    let status = etcdctl(&subject, &["endpoint", "status"]);
    assert!(status.starts_with(&address) && status.contains("ovnet"), "{status}");
    etcdctl(&subject, &["endpoint", "health"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        "create(\"/ovnet/v1/t\") = \"0\"\n\nput /ovnet/v1/t yes\n\nput /ovnet/v1/t no\n\n",
    )
    .unwrap();
    let txn = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &address, "txn"])
        .stdin(file.reopen().unwrap())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&txn.stdout), "SUCCESS\n\nOK\n");
    assert_eq!(etcdctl(&subject, &["get", "/ovnet/v1/t", "--print-value-only"]), "yes\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_watches_from_an_older_revision() {
    let subject = Subject::memory().await;
    etcdctl(&subject, &["put", "/ovnet/v1/w", "1"]);
    etcdctl(&subject, &["put", "/ovnet/v1/w", "2"]);
    etcdctl(&subject, &["del", "/ovnet/v1/w"]);
    let watch = tokio::process::Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args([
            "--endpoints",
            &subject.address.to_string(),
            "watch",
            "--prefix",
            "/ovnet/v1/w",
            "--rev=2",
            "--prev-kv",
        ])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let expected =
        "PUT\n/ovnet/v1/w\n1\nPUT\n/ovnet/v1/w\n1\n/ovnet/v1/w\n2\nDELETE\n/ovnet/v1/w\n2\n/ovnet/v1/w\n\n";
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
