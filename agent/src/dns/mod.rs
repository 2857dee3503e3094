//! The resolver of each sandbox, at 127.0.0.11: names of endpoints from the intent, everything else from the upstreams.
//!
//! `zone` and `outside` are pure: what is answered, and what is asked of whom. `message` and `wire` are the edge to
//! packets, `upstream` asks others, `server` answers one sandbox, `listeners` keeps the sockets of all. The rules that
//! lead port 53 to them are the loop's ([`World::set_resolver`]).

mod cache;
mod copy;
mod error;
mod exchange;
mod listeners;
mod message;
mod outside;
mod question;
mod resolv;
mod server;
mod upstream;
mod wire;
mod zone;

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use tokio::sync::{mpsc, oneshot};

pub use error::DnsError;
pub use listeners::Listeners;
pub use outside::direct_servers;
pub use resolv::{HostConf, RESOLVER, ResolvConf, Server};

use crate::{
    intent::Intent,
    kernel::{Machine, Sockets},
    model::{DnsChoice, Name, NodeId, SandboxId},
    reconcile::world::World,
};

/// Verbs that wait to be heard.
const QUEUE: usize = 64;

/// Says whether a node is dead, by gossip and its host's silence.
pub type IsDown = Box<dyn Fn(NodeId) -> bool + Send + Sync>;

/// The settings of the resolvers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where named namespaces are.
    pub netns_dir: PathBuf,
    /// Where a copy of what the cluster's store says is kept, for a start without that store.
    pub copy: PathBuf,
    /// For sandboxes for which nothing was chosen.
    pub defaults: DnsChoice,
}

/// What the resolvers are over.
pub struct Parts {
    /// What the tasks share.
    pub world: Arc<World>,
    /// Which nodes are dead.
    pub is_down: IsDown,
    /// The host's own resolv.conf.
    pub host: Arc<HostConf>,
    /// Whose processes and namespaces the sandboxes have.
    pub machine: Arc<dyn Machine>,
    /// Where their sockets are opened.
    pub sockets: Arc<dyn Sockets>,
    /// The settings.
    pub settings: Settings,
}

/// What all resolvers share.
struct Shared {
    world: Arc<World>,
    is_down: IsDown,
    host: Arc<HostConf>,
    defaults: DnsChoice,
    forwarder: upstream::Forwarder,
    machine: Arc<dyn Machine>,
    /// What the cluster's store said before this start, until it has been read.
    before: RwLock<Option<Intent>>,
}

impl Shared {
    /// Read what is known, and what was known before if that is not all there is to know.
    fn read<T>(&self, read: impl FnOnce(&Intent, Option<&Intent>) -> T) -> T {
        let before = self.before.read().unwrap_or_else(PoisonError::into_inner);
        self.world.read(|intent| read(intent, before.as_ref().filter(|_| !intent.loaded())))
    }
}

/// What is asked of the task that keeps the sockets.
#[derive(Debug)]
enum Ask {
    /// See to this sandbox now. The port, if it needs a resolver.
    Ensure(Name, oneshot::Sender<Result<Option<(SandboxId, u16)>, DnsError>>),
    /// Close its sockets, and keep them closed: its namespace is about to go.
    Close(SandboxId, oneshot::Sender<()>),
}

/// The verbs' side of the resolvers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Dns {
    ask: Option<mpsc::Sender<Ask>>,
    world: Option<Arc<World>>,
}

impl Dns {
    /// The verbs' side, and the task for [`Listeners::run`].
    pub fn new(parts: Parts) -> (Self, Listeners) {
        let (ask, asked) = mpsc::channel(QUEUE);
        let world = Arc::clone(&parts.world);
        (Self { ask: Some(ask), world: Some(world) }, Listeners::new(parts, asked))
    }

    /// No resolvers, for tests of what is above them.
    pub fn none() -> Self {
        Self { ask: None, world: None }
    }

    /// Have the sandbox's resolver answer, if it is to have one: when this returns, port 53 of 127.0.0.11 leads there. It does
    /// return late where the kernel refuses: put a limit on it.
    ///
    /// # Errors
    /// Its sockets cannot be had, with the reason.
    pub async fn ensure(&self, sandbox: &Name) -> Result<(), DnsError> {
        let (Some(ask), Some(world)) = (&self.ask, &self.world) else { return Ok(()) };
        let (reply, replied) = oneshot::channel();
        if ask.send(Ask::Ensure(sandbox.clone(), reply)).await.is_err() {
            return Err(DnsError::Stopping);
        }
        if let Some((id, port)) = replied.await.map_err(|_gone| DnsError::Stopping)?? {
            world.resolver_programmed(id, Some(port)).await;
        }
        Ok(())
    }

    /// Close the sandbox's sockets, which keep its namespace alive: before that is removed. They stay closed.
    pub async fn close(&self, sandbox: SandboxId) {
        let Some(ask) = &self.ask else { return };
        let (reply, replied) = oneshot::channel();
        if ask.send(Ask::Close(sandbox, reply)).await.is_ok() {
            // Without an answer the agent is stopping, and they are closed as well.
            drop(replied.await);
        }
    }
}
