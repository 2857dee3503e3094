//! The agent without its edges: world, followers, gossip, reconcile loop, resolvers and verbs, wired in one place over a kernel, two
//! stores and a socket. `app`, tests and simulations use it, and differ in what they give it and what they run beside it.
//!
//! It spawns nothing: whoever has it runs its tasks.

mod follow;
mod peers;

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    net::UdpSocket,
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;

use self::peers::GossipPeers;
use crate::{
    dns::{self, Dns, HostConf, Listeners},
    gossip::{self, Gossip, GossipConfig},
    kernel::{Hint, Kernel, Machine, Sockets},
    model::{NodeId, chain},
    reconcile::{self, Evidence, Reconciler, world::World},
    service::{self, Conditions, Service, Stores},
    store::{StoreStatus, Tenure},
};

/// Changes, requests and hints that wait to be taken in; a full queue holds its sender back.
const QUEUE: usize = 64;
/// Pause after the watch of the kernel has ended.
const WATCH_AGAIN: Duration = Duration::from_secs(5);

/// Says whether a node is dead.
pub type IsDown = Arc<dyn Fn(NodeId) -> bool + Send + Sync>;

/// What a core is made of.
pub struct Parts<K> {
    /// Its host's kernel.
    pub kernel: Arc<K>,
    /// The cluster's store, and this host's own.
    pub stores: Stores,
    /// Whether this node holds its id: while it is another host's, nothing of the cluster is taken in, and nobody hears of it.
    pub tenure: watch::Receiver<Tenure>,
    /// What the kernel had of ours at the start.
    pub evidence: Evidence,
    /// Where gossip goes through.
    pub socket: UdpSocket,
    /// Who this node is in gossip, and everywhere.
    pub gossip: GossipConfig,
    /// Which nodes are dead.
    pub is_down: IsDown,
    /// What is wrong around this host.
    pub conditions: Conditions,
    /// The host's own resolv.conf.
    pub host_conf: Arc<HostConf>,
    /// The settings of its parts.
    pub settings: Settings,
    /// Ends its tasks.
    pub stop: CancellationToken,
}

/// The settings of a core's parts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The reconcile loop.
    pub reconcile: reconcile::Settings,
    /// The resolvers; None: sandboxes have none.
    pub dns: Option<dns::Settings>,
    /// The verbs.
    pub service: service::Settings,
}

/// A task, which ends when it is stopped.
pub struct Task {
    /// What it is called.
    pub name: &'static str,
    /// What it does.
    pub work: BoxFuture<'static, ()>,
}

/// An agent without its edges.
pub struct Core<K> {
    /// What the tasks share.
    pub world: Arc<World>,
    /// This node among the others.
    pub gossip: Gossip,
    /// Questions to the reconcile loop.
    pub requests: mpsc::Sender<reconcile::Request>,
    /// Whether the cluster's store is there.
    pub store_status: watch::Receiver<StoreStatus>,
    /// The verbs.
    pub service: Arc<Service<K>>,
    /// What is to be run until it is stopped: followers and feeds, gossip, the reconcile loop and what belongs to it.
    pub tasks: Vec<Task>,
    /// The resolvers, which have a stop of their own: they end after all that asks them for something.
    pub resolvers: Option<Listeners>,
}

impl<K: Kernel + Machine + Sockets> Core<K> {
    /// Wire these parts. Nothing happens before its tasks run.
    pub fn new(parts: Parts<K>) -> Self {
        let Parts { kernel, stores, tenure, evidence, socket, gossip, is_down, conditions, .. } = parts;
        let Settings { reconcile, dns, service } = parts.settings;
        let (stop, host_conf) = (parts.stop, parts.host_conf);
        let mut tasks = Vec::new();
        let world = Arc::new(World::new(gossip.node));
        let store_status = follow::follow_both(&mut tasks, &world, &stores, &evidence, &tenure, &stop);

        let (gossip, pump) = gossip::new(socket, gossip, stop.clone());
        tasks.push(Task::new("gossip", follow::once_undisputed(pump, tenure, stop.clone())));

        let (requests, asked) = mpsc::channel(QUEUE);
        let peers = GossipPeers { gossip: gossip.clone(), is_down: Arc::clone(&is_down) };
        let (own, local) = (Arc::clone(&world), stores.local.clone());
        let reconciler = Reconciler::new(Arc::clone(&kernel), peers, own, local, reconcile);
        let outdated = reconcile::forget(Arc::clone(&kernel), Arc::clone(&world), stop.clone());
        tasks.push(Task::new("connections", outdated));
        let (hint, hints) = mpsc::channel(QUEUE);
        tasks.push(Task::new("kernel watch", watch_kernel(Arc::clone(&kernel), hint, stop.clone())));
        tasks.push(Task::new("reconcile loop", reconciler.run(asked, hints, stop)));

        let (dns, resolvers) = match dns {
            None => (Dns::none(), None),
            Some(settings) => {
                let (dns, listeners) = Dns::new(dns::Parts {
                    world: Arc::clone(&world),
                    is_down: Box::new(move |node| is_down(node)),
                    host: Arc::clone(&host_conf),
                    machine: Arc::<K>::clone(&kernel),
                    sockets: Arc::<K>::clone(&kernel),
                    settings,
                });
                (dns, Some(listeners))
            }
        };
        let service = Service::new(service::Parts {
            world: Arc::clone(&world),
            stores,
            kernel,
            gossip: gossip.clone(),
            requests: requests.clone(),
            dns,
            host_conf,
            conditions,
            store_status: store_status.clone(),
            settings: service,
        });
        Self { world, gossip, requests, store_status, service: Arc::new(service), tasks, resolvers }
    }
}

impl Task {
    fn new(name: &'static str, work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { name, work: work.boxed() }
    }
}

/// Pass on what the kernel says of links and namespaces, again after a failure: the full looks go on without it.
async fn watch_kernel(kernel: Arc<impl Kernel>, hints: mpsc::Sender<Hint>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        if let Err(error) = kernel.watch(hints.clone(), stop.clone()).await {
            tracing::warn!(error = chain(&error), "cannot watch the host's links");
        }
        tokio::select! {
            // Nothing is lost when the pause is cut short.
            () = stop.cancelled() => return,
            () = tokio::time::sleep(WATCH_AGAIN) => {}
        }
    }
}
