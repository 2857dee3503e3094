//! Stores in processes of their own, which end with the test, however it ends.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use nix::{sys::signal::Signal, unistd::Pid};
use ovagent::store::Embedded;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::free_port;

/// Says to this very test binary that it is to be a store.
const SERVE: &str = "OVNET_TEST_SERVE";

/// A process that is killed when this is dropped, or when the test's thread dies.
pub(crate) struct Running(Option<Child>);

impl Running {
    fn start(command: &[&str], environment: &[(&str, String)]) -> Self {
        let mut start = Command::new("setpriv");
        start.args(["--pdeathsig", "KILL", "--"]).args(command).stdin(Stdio::null());
        start.stdout(Stdio::null()).stderr(Stdio::null()).envs(environment.iter().cloned());
        Self(Some(start.spawn().unwrap_or_else(|error| panic!("cannot start setpriv {command:?}: {error}"))))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.0.as_ref().expect("it runs");
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.0.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A real etcd with a directory of its own.
pub(crate) struct EtcdProcess {
    pub(crate) address: SocketAddr,
    pub(crate) child: Running,
    arguments: Vec<String>,
    _dir: TempDir,
}

impl EtcdProcess {
    /// Starts one. `more` arguments with `https` in them make it listen with TLS.
    pub(crate) fn new(more: &[String]) -> Self {
        assert!(
            Path::new("/usr/bin/etcd").exists() || Path::new("/usr/local/bin/etcd").exists(),
            "this test needs a real etcd: apt-get install etcd-server"
        );
        let dir = tempfile::tempdir().unwrap();
        let (client, peer) = (free_port(), free_port());
        let scheme =
            if more.iter().any(|argument| argument.starts_with("--cert-file")) { "https" } else { "http" };
        let mut arguments: Vec<String> = vec![
            "etcd".into(),
            "--name=test".into(),
            format!("--data-dir={}", dir.path().display()),
            format!("--listen-client-urls={scheme}://127.0.0.1:{client}"),
            format!("--advertise-client-urls={scheme}://127.0.0.1:{client}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-cluster=test=http://127.0.0.1:{peer}"),
            "--heartbeat-interval=100".into(),
            "--election-timeout=1000".into(),
        ];
        arguments.extend_from_slice(more);
        let mut process = Self {
            address: SocketAddr::from(([127, 0, 0, 1], client)),
            child: Running(None),
            arguments,
            _dir: dir,
        };
        process.start();
        process
    }

    pub(crate) fn start(&mut self) {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        self.child = Running::start(&arguments, &[]);
    }
}

/// The embedded store, served by this test binary in another process.
pub(crate) struct ServedProcess {
    pub(crate) address: SocketAddr,
    pub(crate) child: Running,
    dir: TempDir,
}

impl ServedProcess {
    pub(crate) fn new() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut process = Self { address, child: Running(None), dir: tempfile::tempdir().unwrap() };
        process.start();
        process
    }

    pub(crate) fn start(&mut self) {
        let binary = std::env::current_exe().unwrap();
        let file = self.dir.path().join("store.redb");
        let serve = format!("{}={}", self.address, file.display());
        self.child = Running::start(
            &[binary.to_str().unwrap(), "--exact", "a_served_store_runs_in_a_process_of_its_own"],
            &[(SERVE, serve)],
        );
    }
}

/// Serves until killed, if that is what this process was started for.
pub(crate) async fn serve_if_asked() -> bool {
    let Ok(serve) = std::env::var(SERVE) else { return false };
    let (address, file) = serve.split_once('=').expect("address=file");
    let server = Embedded::open(Some(Path::new(file))).unwrap();
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    tokio::spawn(server.clone().tend(CancellationToken::new()));
    server.serve(listener, CancellationToken::new()).await.unwrap();
    true
}
