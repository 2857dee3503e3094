//! What the rest of the agent holds, and the other ends of its channels, which the pump holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{Counters, Members, Nodes};
use crate::model::{NetworkId, NodeId};

/// Most questions that wait for the pump.
const MAX_REQUESTS: usize = 256;
/// Most seeds that wait for the pump.
const MAX_SEEDS: usize = 4096;
/// How much later than its deadline a question may be over.
const GRACE: Duration = Duration::from_millis(50);

/// The handle to the gossip. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gossip {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Confirm>,
    members: watch::Receiver<Arc<Members>>,
    stop: CancellationToken,
}

/// The pump's ends.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) shared: Arc<Shared>,
    pub(super) requests: mpsc::Receiver<Confirm>,
    pub(super) members: watch::Sender<Arc<Members>>,
}

/// What both sides reach.
#[derive(Debug, Default)]
pub(super) struct Shared {
    inbox: Mutex<Inbox>,
    wake: Notify,
    pub(super) counters: Arc<Counters>,
}

/// News whose last state counts: never lost, and never more than one entry for each network.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// Addresses to announce ourselves to.
    pub(super) seeds: BTreeSet<SocketAddr>,
    /// The nodes that the store has, if that is news.
    pub(super) nodes: Option<Arc<Nodes>>,
    /// Revisions that were applied; none: the network is no longer here.
    pub(super) networks: BTreeMap<NetworkId, Option<i64>>,
}

/// A question to the pump.
#[derive(Debug)]
pub(super) struct Confirm {
    pub(super) network: NetworkId,
    pub(super) revision: i64,
    pub(super) nodes: BTreeMap<NodeId, SocketAddr>,
    pub(super) deadline: Instant,
    /// Gets those who did not confirm.
    pub(super) reply: oneshot::Sender<BTreeSet<NodeId>>,
}

/// A handle and the pump's ends; `stop` is what [`Gossip::leave`] cancels.
pub(super) fn pair(stop: CancellationToken) -> (Gossip, Ends) {
    let shared = Arc::new(Shared::default());
    let (requests, from_handle) = mpsc::channel(MAX_REQUESTS);
    let (to_handle, members) = watch::channel(Arc::default());
    let ends = Ends { shared: Arc::clone(&shared), requests: from_handle, members: to_handle };
    (Gossip { shared, requests, members, stop }, ends)
}

impl Gossip {
    /// The members, now and whenever they change. Empty until the pump runs.
    pub fn members(&self) -> watch::Receiver<Arc<Members>> {
        self.members.clone()
    }

    /// The nodes that the store has, with where they gossip: nobody else takes part, nor they from elsewhere. To be told
    /// once the store has been read, and whenever that changes; while the store is away the last word holds.
    pub fn know(&self, nodes: Nodes) {
        self.shared.tell(|inbox| inbox.nodes = Some(Arc::new(nodes)));
    }

    /// Addresses where other nodes may be, besides those given before: we announce ourselves there at once, and again
    /// with growing pauses as long as no member has that address.
    pub fn seed(&self, addresses: Vec<SocketAddr>) {
        self.shared.tell(|inbox| {
            let room = MAX_SEEDS.saturating_sub(inbox.seeds.len());
            inbox.seeds.extend(addresses.into_iter().take(room));
        });
    }

    /// Asks nodes, each at its gossip address, whether they have applied a network up to a revision of the store, until
    /// all have or the deadline, counted from now, has passed. Returns those that did not confirm.
    ///
    /// Dropping the future ends the question.
    pub async fn confirm(
        &self,
        network: NetworkId,
        revision: i64,
        nodes: Vec<(NodeId, SocketAddr)>,
        deadline: Duration,
    ) -> BTreeSet<NodeId> {
        let nodes: BTreeMap<NodeId, SocketAddr> = nodes.into_iter().collect();
        if nodes.is_empty() {
            return BTreeSet::new();
        }
        let all = nodes.keys().copied().collect();
        let deadline = Instant::now() + deadline;
        let (reply, answer) = oneshot::channel();
        let request = Confirm { network, revision, nodes, deadline, reply };
        let answered = async {
            self.requests.send(request).await.ok()?;
            answer.await.ok()
        };
        // No answer at all: the pump does not run (any more), or is far behind.
        timeout_at(deadline + GRACE, answered).await.ok().flatten().unwrap_or(all)
    }

    /// We have programmed a network up to this revision of the store: whoever asked for it, or for less, is answered.
    pub fn applied(&self, network: NetworkId, revision: i64) {
        self.shared.tell(|inbox| inbox.networks.insert(network, Some(revision)));
    }

    /// We have nothing of a network any more: whoever waits for us to apply something of it is answered, for there is
    /// nothing left to apply.
    pub fn forget(&self, network: NetworkId) {
        self.shared.tell(|inbox| inbox.networks.insert(network, None));
    }

    /// What happened to datagrams.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.counters)
    }

    /// Tells the others that this node goes, and ends the pump. What is programmed stays.
    pub fn leave(&self) {
        self.stop.cancel();
    }
}

impl Shared {
    /// Waits until there is something in the inbox. Loses nothing when it is dropped.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Empties the inbox.
    pub(super) fn news(&self) -> Inbox {
        std::mem::take(&mut *self.inbox.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn tell<T>(&self, change: impl FnOnce(&mut Inbox) -> T) {
        change(&mut self.inbox.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_one();
    }
}
