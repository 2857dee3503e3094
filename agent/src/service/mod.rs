//! The verbs and queries that people and plugins ask of the agent, on top of the store, the reconcile loop
//! and gossip.
//!
//! Every change is one transaction of a store; then the verb waits until the loop has applied it. `query` has
//! the queries, which change nothing. The fronts (`api`) only translate, and use nothing behind this module.

mod endpoint;
mod error;
mod locks;
mod network;
mod node;
mod query;
mod sandbox;

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::{mpsc, watch};

pub use endpoint::{AttachSpec, Attached, PortSpec};
pub use error::{ErrorKind, ServiceError};
pub use network::{DefaultBridge, NetworkRequest, NetworkSpec};
pub use node::{Acceptance, Condition, Conditions, Transition};
pub use query::{
    Action, AgentState, Difference, EndpointDetail, Event, Events, Missed, NetworkDetail, NetworkUsage,
    NodeState, RecordKind, SandboxDetail, SandboxState, StoreRecord, StoreState, Subject, UnitName,
};
pub use sandbox::{Adopt, CreatedSandbox, SandboxSpec, remove_sandbox_files};

use crate::{
    dns::{Dns, HostConf},
    gossip::Gossip,
    intent::{Intent, NetworkView, Source},
    ipam::Pool,
    kernel::{Kernel, Machine},
    model::{DnsChoice, NetworkId, Scope, Timestamp},
    reconcile::{
        self,
        world::{Revisions, World},
    },
    store::{Key, Store, StoreStatus},
};

/// How long a verb waits for this host's own kernel.
const LOCAL_DEADLINE: Duration = Duration::from_secs(15);
/// How long a verb waits for the stores to be read after a start.
const READ_DEADLINE: Duration = Duration::from_secs(3);
/// How long a verb waits until its change arrives in the intent.
const FOLLOW_DEADLINE: Duration = Duration::from_secs(5);
/// How long a verb waits for newer data before it refuses because of what it knows.
const CATCH_UP: Duration = Duration::from_millis(200);
/// How often a transaction is retried after a conflict.
const TRIES: u32 = 64;

/// The settings of the verbs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The pools of automatic subnets.
    pub pools: Vec<Pool>,
    /// How long an attach waits for the other hosts.
    pub attach_deadline: Duration,
    /// The directory of sandboxes' files.
    pub run_dir: PathBuf,
    /// The directory of named namespaces.
    pub netns_dir: PathBuf,
    /// The directory of files for named namespaces.
    pub netns_etc_dir: PathBuf,
    /// Defaults for sandboxes' resolvers; empty settings are taken from the host.
    pub dns: DnsChoice,
    /// The addresses of "host-gateway"; a family without one uses the sandbox's gateway.
    pub host_gateways: Vec<IpAddr>,
    /// The network `bridge`; `None` leaves it as it is.
    pub default_bridge: Option<DefaultBridge>,
}

/// The two stores of a host; they may be the same store.
#[derive(Clone, Debug)]
pub struct Stores {
    /// The cluster's.
    pub global: Store,
    /// The host's own.
    pub local: Store,
}

/// The parts that the verbs use.
pub struct Parts<K> {
    /// The state that the tasks share.
    pub world: Arc<World>,
    /// The stores that the verbs write to.
    pub stores: Stores,
    /// The host's kernel.
    pub kernel: Arc<K>,
    /// The handle of gossip.
    pub gossip: Gossip,
    /// Questions to the reconcile loop.
    pub requests: mpsc::Sender<reconcile::Request>,
    /// The resolvers of sandboxes.
    pub dns: Dns,
    /// The host's own resolv.conf.
    pub host_conf: Arc<HostConf>,
    /// The problems that the watchers found.
    pub conditions: Conditions,
    /// The status of the cluster's store, from its follower.
    pub store_status: watch::Receiver<StoreStatus>,
    /// The settings.
    pub settings: Settings,
}

/// The verbs' state.
pub struct Service<K> {
    world: Arc<World>,
    global: Store,
    local: Store,
    kernel: Arc<K>,
    machine: Arc<dyn Machine>,
    gossip: Gossip,
    loop_requests: mpsc::Sender<reconcile::Request>,
    settings: Settings,
    /// The sandboxes that are being made.
    making: sandbox::Making,
    /// The choices of running attaches on this host, so that they do not choose the same.
    choosing: endpoint::Choosing,
    /// The resolvers of sandboxes.
    dns: Dns,
    /// The host's own resolv.conf.
    host_conf: Arc<HostConf>,
    /// Whether making the network `bridge` was tried already.
    prepared: watch::Sender<bool>,
    turns: locks::Turns,
    /// The known problems of the environment.
    notices: Conditions,
    /// The status of the cluster's store.
    store_status: watch::Receiver<StoreStatus>,
}

impl<K: Kernel + Machine> Service<K> {
    /// The verbs over these parts.
    pub fn new(parts: Parts<K>) -> Self {
        let Parts { world, stores, kernel, gossip, requests, dns, host_conf, .. } = parts;
        let prepared = watch::Sender::new(parts.settings.default_bridge.is_none());
        Self {
            world,
            global: stores.global,
            local: stores.local,
            machine: Arc::<K>::clone(&kernel),
            kernel,
            gossip,
            loop_requests: requests,
            settings: parts.settings,
            making: sandbox::Making::default(),
            choosing: endpoint::Choosing::default(),
            dns,
            host_conf,
            prepared,
            turns: locks::Turns::default(),
            notices: parts.conditions,
            store_status: parts.store_status,
        }
    }
}

impl<K: Kernel> Service<K> {
    /// Wait a moment for the stores to be read after a start, then refuse: without the intent no query can be
    /// answered, and a node that does not hold its id must not act.
    ///
    /// # Errors
    /// [`ServiceError::StoreAway`]; [`ServiceError::InUse`] while another host has this one's id;
    /// [`ServiceError::Held`] if a store was not believed at the start.
    async fn ready(&self) -> Result<(), ServiceError> {
        if let Some(conflict) = self.notices.conflict() {
            return Err(ServiceError::InUse(conflict));
        }
        if !self.world.read(Intent::loaded)
            && let Some(why) = self.world.held()
        {
            return Err(ServiceError::Held(why));
        }
        let read = self.world.reached(Revisions::default());
        if tokio::time::timeout(READ_DEADLINE, read).await.is_ok() {
            // Nobody has to know that the network `bridge` comes a moment after the stores.
            let mut prepared = self.prepared.subscribe();
            drop(tokio::time::timeout(READ_DEADLINE, prepared.wait_for(|prepared| *prepared)).await);
            return Ok(());
        }
        Err(ServiceError::StoreAway(
            "the store has not been read yet since the agent started: is it running, and reachable from this host? \
             (`ovctl version` shows the store's address)"
                .into(),
        ))
    }

    /// As [`Service::ready`], for a verb that changes something: it is also refused while anything is held.
    ///
    /// # Errors
    /// As [`Service::ready`], and [`ServiceError::Held`].
    async fn ready_to_change(&self) -> Result<(), ServiceError> {
        self.ready().await?;
        match self.world.held() {
            Some(why) => Err(ServiceError::Held(why)),
            None => Ok(()),
        }
    }

    /// The store that has the networks of this scope.
    const fn store(&self, scope: Scope) -> &Store {
        match scope {
            Scope::Global => &self.global,
            Scope::Local => &self.local,
        }
    }

    /// The scope of a network and of all that belongs to it.
    fn scope_of(&self, network: NetworkId) -> Scope {
        let source = self.world.read(|intent| intent.network(network).map(NetworkView::source));
        match source {
            Some(Source::Local) => Scope::Local,
            Some(Source::Global) | None => Scope::Global,
        }
    }

    /// Wait until the intent reflects the store's change at `revision`. False if the follower does not get
    /// there in time.
    ///
    /// The intent only reaches revisions that changed a followed key: networks, endpoints, members and nodes.
    /// It does not reach those that changed only addresses or foreign keys, nor always the store's latest
    /// one.
    async fn hears_of(&self, scope: Scope, revision: i64) -> bool {
        let reached = self.world.reached(at(scope, revision));
        tokio::time::timeout(FOLLOW_DEADLINE, reached).await.is_ok()
    }

    /// Wait for our own change, which holds even if the watch does not deliver it in time.
    async fn follow_change(&self, scope: Scope, revision: i64) {
        if !self.hears_of(scope, revision).await {
            tracing::warn!(revision, %scope, "the store accepted a change, but its watch has not delivered \
                                              it");
        }
    }

    /// Wait a moment until the intent reflects the store's current state. False if it may not.
    ///
    /// The store's latest revision may not have changed a followed key, so this wait often takes its full
    /// short time. Use it only before a refusal.
    async fn catch_up(&self) -> bool {
        let caught_up = async {
            let (revision, _) = self.global.get(&Key::Node(self.world.me)).await.ok()?;
            self.world.reached(Revisions { global: revision, local: 0 }).await;
            Some(())
        };
        tokio::time::timeout(CATCH_UP, caught_up).await.is_ok_and(|reached| reached.is_some())
    }
}

/// A revision of the store that has the networks of this scope.
const fn at(scope: Scope, revision: i64) -> Revisions {
    match scope {
        Scope::Global => Revisions { global: revision, local: 0 },
        Scope::Local => Revisions { global: 0, local: revision },
    }
}

/// Now, by the wall clock.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
