//! The state that the agent's tasks share: the intent, the dirty units, and the outcomes of looks.
//!
//! One writer each: the followers feed the intent, the reconcile loop records outcomes. Locks are held for
//! moments and never across an await; whoever waits does so on a watch channel. `resolvers` has the ports of
//! the sandboxes' resolvers, `holds` has holds and doubts.

mod connections;
mod holds;
mod resolvers;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError, RwLock},
};

use tokio::sync::{Notify, broadcast, watch};

use self::{connections::Connections, holds::Holds, resolvers::Resolvers};
use super::{
    dirty::{Depth, Dirty},
    error::ReconcileError,
};
use crate::{
    intent::{Changed, Fact, Intent, Source, Touched},
    model::{ClusterId, Name, NetworkId, NodeId, Sandbox, SandboxId},
    plan::{op::Op, ownership::Unit},
};

/// Revisions of the two stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revisions {
    /// Of the cluster's.
    pub global: i64,
    /// Of this node's own.
    pub local: i64,
}

impl Revisions {
    /// Whether both are at least as far as `other`.
    pub fn reach(self, other: Self) -> bool {
        self.global >= other.global && self.local >= other.local
    }
}

/// The outcome of the last look at a unit.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The revisions that it reflects.
    pub at: Revisions,
    /// Steps that failed, with the reason; the unit is retried. Empty if the kernel is as desired.
    pub failures: Vec<(Option<Op>, ReconcileError)>,
}

/// The shared state.
#[derive(Debug)]
pub struct World {
    /// This node.
    pub me: NodeId,
    intent: RwLock<Intent>,
    revisions: watch::Sender<Option<Revisions>>,
    dirty: Mutex<Dirty>,
    wake: Notify,
    outcomes: Mutex<BTreeMap<Unit, Outcome>>,
    /// MTU of the endpoints of the networks here, in bytes.
    mtus: Mutex<BTreeMap<NetworkId, u32>>,
    /// Connections that are to be forgotten.
    pub(super) connections: Connections,
    /// Where the resolvers of sandboxes listen.
    resolvers: Mutex<Resolvers>,
    rounds: watch::Sender<u64>,
    /// Everything has been looked at once since the start.
    all_looked_at: watch::Sender<bool>,
    changes: broadcast::Sender<Changed>,
    /// What of the stores is not believed.
    holds: Mutex<Holds>,
    hold_turn: holds::Turn,
    /// The identity of this node's cluster.
    cluster: watch::Sender<Option<ClusterId>>,
}

impl World {
    /// A world before any snapshot.
    pub fn new(me: NodeId) -> Self {
        Self {
            me,
            intent: RwLock::default(),
            revisions: watch::Sender::new(None),
            dirty: Mutex::default(),
            wake: Notify::new(),
            outcomes: Mutex::default(),
            mtus: Mutex::default(),
            connections: Connections::default(),
            resolvers: Mutex::default(),
            rounds: watch::Sender::new(0),
            all_looked_at: watch::Sender::new(false),
            changes: broadcast::Sender::new(1024),
            holds: Mutex::default(),
            hold_turn: watch::Sender::new(0),
            cluster: watch::Sender::new(None),
        }
    }

    /// Read the intent. `read` must not block.
    pub fn read<T>(&self, read: impl FnOnce(&Intent) -> T) -> T {
        read(&self.intent.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Take in what a store says has changed at `revision`.
    pub fn feed(&self, source: Source, revision: i64, facts: Vec<Fact>) {
        self.take_in(&facts.iter().map(Fact::touched).collect(), |intent| {
            intent.apply(source, revision, facts)
        });
    }

    /// Take in a store's whole snapshot at `revision`. What it does not name is gone, but for `unreadable`.
    pub fn feed_snapshot(
        &self,
        source: Source,
        revision: i64,
        facts: Vec<Fact>,
        unreadable: &BTreeSet<Touched>,
    ) {
        let mut named: BTreeSet<Touched> = facts.iter().map(Fact::touched).collect();
        self.read(|intent| named.extend(intent.sandboxes().keys().cloned().map(Touched::Sandbox)));
        self.take_in(&named, |intent| intent.replace(source, revision, facts, unreadable));
        // Whoever waits for what is held of a source hears that it has been read.
        self.hold_turn.send_modify(|turn| *turn = turn.wrapping_add(1));
    }

    fn take_in(&self, named: &BTreeSet<Touched>, change: impl FnOnce(&mut Intent) -> Vec<Changed>) {
        let mut intent = self.intent.write().unwrap_or_else(PoisonError::into_inner);
        let was_loaded = intent.loaded();
        let before = sandboxes(&intent, named);
        let mut changed = change(&mut intent);
        // That a sandbox has been finished is nothing to those who listen.
        changed.retain(|change| {
            let Touched::Sandbox(name) = &change.touched else { return true };
            let finished = |sandbox: &Sandbox| Sandbox { unfinished: false, ..sandbox.clone() };
            let now = intent.sandboxes().get(name).map(finished);
            now.is_none() || now != before.get(name).map(finished)
        });
        let mut dirty = lock(&self.dirty);
        for change in &changed {
            if let Touched::Sandbox(name) = &change.touched {
                let (before, now) = (before.get(name), intent.sandboxes().get(name));
                // Its hostname, or that it was left, is nothing to the kernel.
                if before.map(in_kernel) == now.map(in_kernel) {
                    continue;
                }
                if let Some(gone) = before {
                    dirty.add(Unit::Sandbox(gone.id), Depth::Full);
                }
            }
            dirty.mark(change, &intent, self.me);
        }
        drop(dirty);
        let loaded = intent.loaded();
        // Told while the intent is held: of two feeders the slower one must not take back what the other has told.
        self.revisions.send_replace(loaded.then(|| revisions(&intent)));
        drop(intent);
        if was_loaded {
            for change in changed {
                // Nobody may be listening.
                drop(self.changes.send(change));
            }
        }
        self.wake.notify_one();
    }

    /// Look at a unit again.
    pub fn look_again(&self, unit: Unit, depth: Depth) {
        lock(&self.dirty).add(unit, depth);
        self.wake.notify_one();
    }

    /// Look again at everything of a node, because its liveness has changed.
    pub fn look_at_node(&self, node: NodeId) {
        self.read(|intent| lock(&self.dirty).node(node, intent));
        self.wake.notify_one();
    }

    /// Changes of the intent from now on.
    pub fn changes(&self) -> broadcast::Receiver<Changed> {
        self.changes.subscribe()
    }

    /// Wait until there may be something to look at.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Take what is to be looked at, with the revisions that it reflects. None while a store has not been read yet.
    pub(super) fn take_dirty(&self) -> Option<(Dirty, Revisions)> {
        let intent = self.intent.read().unwrap_or_else(PoisonError::into_inner);
        if !intent.loaded() {
            return None;
        }
        let dirty = std::mem::take(&mut *lock(&self.dirty));
        Some((dirty, revisions(&intent)))
    }

    /// Record the outcome of a look.
    pub(super) fn record(&self, unit: Unit, outcome: Outcome) {
        lock(&self.outcomes).insert(unit, outcome);
        self.rounds.send_modify(|round| *round = round.wrapping_add(1));
    }

    /// Say that everything has been looked at since the start.
    pub(super) fn looked_at_all(&self) {
        self.all_looked_at.send_replace(true);
    }

    /// Wait until everything that there was at the start has been looked at once, and applied if possible.
    pub async fn first_look(&self) {
        let mut looked = self.all_looked_at.subscribe();
        // The sender lives as long as self: this cannot fail.
        drop(looked.wait_for(|looked| *looked).await);
    }

    /// The outcome of the last look at a unit.
    pub fn outcome(&self, unit: Unit) -> Option<Outcome> {
        lock(&self.outcomes).get(&unit).cloned()
    }

    /// Forget what came of looks at units that are gone, if that was known at `before` already: nobody waits so long.
    pub(super) fn forget_outcomes(&self, before: Revisions) {
        self.read(|intent| {
            let sandboxes: BTreeSet<SandboxId> = intent.sandboxes().values().map(|it| it.id).collect();
            lock(&self.outcomes).retain(|unit, outcome| {
                let there = match unit {
                    Unit::Host => true,
                    Unit::Network(id) => intent.network(*id).is_some(),
                    Unit::Sandbox(id) => sandboxes.contains(id),
                };
                there || !before.reach(outcome.at) || !outcome.failures.is_empty()
            });
            lock(&self.resolvers).retain(|id, _| sandboxes.contains(id));
        });
    }

    /// What the intent reflects now.
    pub fn known(&self) -> Revisions {
        self.read(revisions)
    }

    /// The MTU of a network's endpoints as it was last programmed here, in bytes.
    pub fn mtu(&self, network: NetworkId) -> Option<u32> {
        lock(&self.mtus).get(&network).copied()
    }

    pub(super) fn set_mtu(&self, network: NetworkId, mtu: Option<u32>) {
        let mut mtus = lock(&self.mtus);
        match mtu {
            Some(mtu) => mtus.insert(network, mtu),
            None => mtus.remove(&network),
        };
    }

    /// Wait until both stores have been read and the intent reflects at least `revisions`. It never does reflect one
    /// that changed nothing that is followed, until something else does: ask for what wrote a followed key, and put a
    /// limit on it.
    pub async fn reached(&self, revisions: Revisions) {
        let mut observed = self.revisions.subscribe();
        // The sender lives as long as self: this cannot fail.
        drop(observed.wait_for(|now| now.is_some_and(|now| now.reach(revisions))).await);
    }

    /// Wait until a unit has been looked at with at least `revisions`, and say what came of it.
    pub async fn programmed(&self, unit: Unit, revisions: Revisions) -> Outcome {
        let mut rounds = self.rounds.subscribe();
        loop {
            rounds.mark_unchanged();
            if let Some(outcome) = self.outcome(unit).filter(|outcome| outcome.at.reach(revisions)) {
                return outcome;
            }
            if rounds.changed().await.is_err() {
                return Outcome::default();
            }
        }
    }
}

fn revisions(intent: &Intent) -> Revisions {
    let of = |source| intent.revision(source).unwrap_or_default();
    Revisions { global: of(Source::Global), local: of(Source::Local) }
}

/// The sandboxes that may change, as they are.
fn sandboxes(intent: &Intent, named: &BTreeSet<Touched>) -> BTreeMap<Name, Sandbox> {
    let concerned = named.iter().filter_map(|touched| match touched {
        Touched::Sandbox(name) => intent.sandboxes().get_key_value(name),
        Touched::Network(_)
        | Touched::Endpoint(..)
        | Touched::Member(..)
        | Touched::Node(_)
        | Touched::Alive(_)
        | Touched::Leg(_) => None,
    });
    concerned.map(|(name, sandbox)| (name.clone(), sandbox.clone())).collect()
}

/// What the kernel has of a sandbox depends on this of its record.
fn in_kernel(sandbox: &Sandbox) -> (SandboxId, bool, &Path, u64, Option<&Name>) {
    let Sandbox { id, adopted, netns, netns_inode, shares, .. } = sandbox;
    (*id, *adopted, netns, *netns_inode, shares.as_ref())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
