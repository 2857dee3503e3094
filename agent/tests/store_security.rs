//! TLS and users, against a real etcd.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod store_support;

use std::{path::Path, path::PathBuf, process::Command};

use ovagent::store::{Commit, CommitError, EtcdConfig, KeyRange, Retry, Store, StoreError, TlsPaths};
use store_support::{Following, Subject, child, child::EtcdProcess, endpoint, eventually, free_port, vni};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_served_store_runs_in_a_process_of_its_own() {
    if !child::serve_if_asked().await {
        Subject::served().await.store.status().await.unwrap();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("this test needs {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority in `dir`, with a certificate for a server and one for a client.
struct Authority<'a>(&'a Path);

impl<'a> Authority<'a> {
    fn new(dir: &'a Path, name: &str) -> Self {
        let authority = Self(dir);
        let (key, cert) = (authority.file("ca.key"), authority.file("ca.pem"));
        run(Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-days", "2", "-subj", &format!("/CN={name}"), "-keyout"])
            .arg(key)
            .arg("-out")
            .arg(cert));
        authority
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
        let (key, cert) = (self.file(&format!("{name}.key")), self.file(&format!("{name}.pem")));
        let (request, extensions) = (self.file("request.csr"), self.file("extensions"));
        let text = "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n";
        std::fs::write(&extensions, text).unwrap();
        run(Command::new("openssl")
            .args(["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-subj", &format!("/CN={name}"), "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&request));
        run(Command::new("openssl")
            .args(["x509", "-req", "-days", "2", "-CAcreateserial", "-in"])
            .arg(&request)
            .arg("-CA")
            .arg(self.file("ca.pem"))
            .arg("-CAkey")
            .arg(self.file("ca.key"))
            .arg("-extfile")
            .arg(&extensions)
            .arg("-out")
            .arg(&cert));
        (cert, key)
    }
}

fn config(process: &EtcdProcess, tls: Option<TlsPaths>) -> EtcdConfig {
    EtcdConfig { endpoints: vec![process.address.to_string()], tls, user: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_with_tls_lets_in_who_has_a_certificate_and_nobody_else() {
    let (dir, strange) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let authority = Authority::new(dir.path(), "test authority");
    let (server_cert, server_key) = authority.issue("server");
    let (cert, key) = authority.issue("client");
    let process = EtcdProcess::new(&[
        format!("--cert-file={}", server_cert.display()),
        format!("--key-file={}", server_key.display()),
        format!("--trusted-ca-file={}", authority.file("ca.pem").display()),
        "--client-cert-auth".into(),
    ]);
    let paths = TlsPaths { ca: Some(authority.file("ca.pem")), cert: Some(cert), key: Some(key) };
    let store = Store::etcd(&config(&process, Some(paths.clone()))).unwrap();
    eventually("the store answers over TLS", async || store.status().await.ok()).await;
    store.commit(Commit::new().put(endpoint(1, 1), "x")).await.unwrap();
    let mut following = Following::new(&store, KeyRange::followed());
    assert_eq!(following.snapshot().await.entries.len(), 1);

    let stranger = Authority::new(strange.path(), "another authority");
    for wrong in [
        TlsPaths { cert: None, key: None, ..paths.clone() },
        TlsPaths { ca: Some(stranger.file("ca.pem")), ..paths },
    ] {
        let store = Store::etcd(&config(&process, Some(wrong.clone()))).unwrap();
        let error = store.list(&KeyRange::everything()).await.unwrap_err();
        assert!(matches!(error, StoreError::Away { .. }), "{wrong:?}: {error:?}");
    }
    let plain = Store::etcd(&config(&process, None)).unwrap();
    assert!(plain.list(&KeyRange::everything()).await.is_err(), "not without TLS");
}

#[test]
fn tls_files_that_cannot_be_used_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "test authority");
    let (cert, key) = authority.issue("client");
    let (ca, no_pem, missing) =
        (authority.file("ca.pem"), authority.file("no.pem"), authority.file("missing.pem"));
    std::fs::write(&no_pem, "hello").unwrap();
    let refused = |ca: Option<&PathBuf>, cert: Option<&PathBuf>, key: Option<&PathBuf>| {
        let tls = TlsPaths { ca: ca.cloned(), cert: cert.cloned(), key: key.cloned() };
        let config = EtcdConfig { endpoints: vec!["127.0.0.1:1".into()], tls: Some(tls), user: None };
        let error = Store::etcd(&config).unwrap_err();
        assert_eq!(error.retry(), Retry::Never);
        error.to_string()
    };
    assert!(refused(Some(&missing), None, None).contains("CA file"));
    assert!(refused(Some(&missing), None, None).contains("missing.pem"));
    assert!(refused(Some(&no_pem), None, None).contains("no.pem: it is not a PEM file"));
    assert!(refused(None, None, None).contains("TLS needs a CA file"));
    assert!(refused(Some(&ca), Some(&cert), None).contains("belong together"));
    assert!(refused(Some(&ca), Some(&cert), Some(&missing)).contains("key file"));
    // A key where the certificate belongs.
    assert!(refused(Some(&ca), Some(&key), Some(&cert)).contains("do not match"));
}

#[test]
fn an_endpoint_that_is_none_is_quoted() {
    for wrong in
        ["", "host", "host:", ":2379", "host:0", "host:99999", "http://host:2379", "ho st:1", "a/b:1"]
    {
        let config =
            EtcdConfig { endpoints: vec!["good:2379".into(), wrong.into()], ..EtcdConfig::default() };
        let error = Store::etcd(&config).unwrap_err().to_string();
        assert!(
            error.contains(&format!("{wrong:?}")) && error.contains("expected host:port"),
            "{wrong}: {error}"
        );
    }
    assert!(Store::etcd(&EtcdConfig::default()).is_err());
    let config = EtcdConfig { endpoints: vec!["[::1]:2379".into()], ..EtcdConfig::default() };
    Store::etcd(&config).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_with_users_lets_in_who_has_the_password_across_restarts() {
    let mut process = EtcdProcess::new(&["--auth-token=simple".into()]);
    let open = Store::etcd(&config(&process, None)).unwrap();
    eventually("the store answers", async || open.status().await.ok()).await;
    let ctl = |arguments: &[&str]| {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &process.address.to_string()]).args(arguments);
        run(&mut command);
    };
    ctl(&["user", "add", "root:r"]);
    ctl(&["user", "grant-role", "root", "root"]);
    ctl(&["user", "add", "ovnet:secret"]);
    ctl(&["role", "add", "ovnet"]);
    ctl(&["role", "grant-permission", "ovnet", "--prefix=true", "readwrite", "/ovnet/v1/"]);
    ctl(&["user", "grant-role", "ovnet", "ovnet"]);
    ctl(&["auth", "enable"]);

    let login = |password: &str| {
        let user = Some(("ovnet".into(), password.into()));
        Store::etcd(&EtcdConfig { user, ..config(&process, None) }).unwrap()
    };
    let store = login("secret");
    let mut following = Following::new(&store, KeyRange::followed());
    following.snapshot().await;
    store.commit(Commit::new().absent(endpoint(1, 1)).put(endpoint(1, 1), "x")).await.unwrap();
    assert_eq!(following.events().await.1.len(), 1);

    for stranger in [login("wrong"), open] {
        let read = stranger.list(&KeyRange::everything()).await.unwrap_err();
        assert!(matches!(read, StoreError::Auth { .. }), "{read:?}");
        let write = stranger.commit(Commit::new().put(vni(1), "x")).await;
        assert!(matches!(write, Err(CommitError::Store(StoreError::Auth { .. }))), "{write:?}");
    }
    let beyond = store.list(&KeyRange::local()).await.unwrap_err();
    assert!(matches!(beyond, StoreError::Auth { .. }), "outside the role: {beyond:?}");

    // Tokens of the simple kind are forgotten in a restart.
    process.child.kill();
    following.away().await;
    process.start();
    let again = Commit::new().put(endpoint(1, 2), "y");
    eventually("a change is taken again", async || store.commit(again.clone()).await.ok()).await;
    assert_eq!(following.events().await.1[0].key, endpoint(1, 2).to_string());
    following.connected().await;
}

#[test]
fn a_password_is_not_shown() {
    let config = EtcdConfig { user: Some(("ovnet".into(), "secret".into())), ..EtcdConfig::default() };
    let text = format!("{config:?}");
    assert!(text.contains("ovnet") && !text.contains("secret"), "{text}");
    assert_ne!(free_port(), 0);
}
