//! The agent in memory, running on a thread of its own, and how tests call ovctl.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use ovnet_proto::v1::{self as pb, agent_server::AgentServer};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::UnixListener, sync::oneshot};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::Code;

use crate::agent::MemoryAgent;

/// What the agent knows, and how it is to behave.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) networks: Vec<pb::Network>,
    pub(crate) endpoints: Vec<pb::Endpoint>,
    pub(crate) sandboxes: Vec<pb::SandboxDetail>,
    pub(crate) nodes: Vec<pb::NodeDetail>,
    pub(crate) diff: Vec<pb::DiffLine>,
    pub(crate) store: Vec<pb::StoreEntry>,
    pub(crate) events: Vec<pb::Event>,
    /// The stream of events ends after them.
    pub(crate) events_end: bool,
    pub(crate) unconfirmed: Vec<String>,
    /// Calls that are refused.
    pub(crate) refusals: BTreeMap<&'static str, (Code, &'static str)>,
    /// The namespace of sandboxes to come.
    pub(crate) netns: String,
    /// The files of sandboxes to come.
    pub(crate) files_dir: String,
    /// The link of networks on this host.
    pub(crate) interface: String,
    /// What was asked.
    pub(crate) calls: Vec<(&'static str, Value)>,
}

/// The agent, serving until dropped.
pub(crate) struct Fake {
    dir: TempDir,
    world: Arc<Mutex<World>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    pub(crate) fn start(world: World) -> Self {
        Self::start_when(world, std::sync::mpsc::channel().1)
    }

    /// The same; it listens at once, and answers when something can be received, or its sender is gone.
    pub(crate) fn start_when(world: World, thawed: std::sync::mpsc::Receiver<()>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("api.sock");
        let world = Arc::new(Mutex::new(world));
        let agent = MemoryAgent { world: Arc::clone(&world) };
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, bound) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = UnixListener::bind(socket).unwrap();
                ready.send(()).unwrap();
                thawed.recv().ok();
                let serve = tonic::transport::Server::builder()
                    .add_service(AgentServer::new(agent))
                    .serve_with_incoming(UnixListenerStream::new(listener));
                // Streams of events would hold up a graceful end.
                tokio::select! {
                    served = serve => served.unwrap(),
                    _dropped = stopped => {}
                }
            });
        });
        bound.recv().unwrap();
        Self { dir, world, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.dir.path().join("api.sock").display())
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = ovctl();
        command.env("OVCTL_HOST", self.host());
        command
    }

    /// Runs ovctl with the words of `line`; a word in `more` may have spaces.
    pub(crate) fn ask(&self, line: &str, more: &[&str]) -> Told {
        Told::of(self.command().args(line.split_whitespace()).args(more).output().unwrap())
    }

    /// The requests of `call`, in order.
    pub(crate) fn asked(&self, call: &str) -> Vec<Value> {
        let world = self.world.lock().unwrap();
        world
            .calls
            .iter()
            .filter(|(name, _request)| *name == call)
            .map(|(_name, request)| request.clone())
            .collect()
    }

    /// The requests of `call`, in order, without what they leave empty.
    pub(crate) fn said(&self, call: &str) -> Vec<Value> {
        let mut requests = self.asked(call);
        for request in &mut requests {
            prune(request);
        }
        requests
    }

    /// Changes what the agent knows.
    pub(crate) fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.world.lock().unwrap());
    }

    pub(crate) fn calls(&self) -> Vec<&'static str> {
        self.world.lock().unwrap().calls.iter().map(|(name, _request)| *name).collect()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Ends the agent as kill -9 would: its socket stays.
    pub(crate) fn kill(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// Takes out what is empty; whether nothing is left.
fn prune(value: &mut Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !*flag,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        // A list's elements are told apart by their places.
        Value::Array(list) => {
            for element in list.iter_mut() {
                prune(element);
            }
            list.is_empty()
        }
        Value::Object(map) => {
            map.retain(|_key, value| !prune(value));
            map.is_empty()
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// The built ovctl, with nothing of ours in its environment.
pub(crate) fn ovctl() -> Command {
    let mut command = Command::new(program());
    command.env_remove("OVCTL_HOST");
    command
}

pub(crate) fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_ovctl").into()
}

/// What ovctl told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Told {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            status: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Checks that all went well without a word on standard error, and gives the output.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!((self.status, self.err.as_str()), (Some(0), ""), "{self:?}");
        self.out
    }

    /// Checks the status, and gives standard error.
    #[track_caller]
    pub(crate) fn failed(self, status: i32) -> String {
        assert_eq!(self.status, Some(status), "{self:?}");
        self.err
    }
}
