//! Holds and doubts: sources that are held as a whole, records with an unexplained removal, and records that
//! cannot be read. None of these leads to a removal until they are back or an operator decides.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::watch;

use super::{World, lock};
use crate::{
    intent::{Source, Touched},
    model::{ClusterId, EndpointId, NetworkId},
    plan::ownership::Unit,
    reconcile::dirty::Depth,
};

/// Removals by verbs of this host that are remembered until the store's change comes back.
const EXPECTED_MAX: usize = 100_000;

/// What is not believed, and what is expected.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// Why a source is held, in words.
    held: BTreeMap<Source, String>,
    /// The sources that an operator has accepted.
    accepted: BTreeSet<Source>,
    /// A person did so since the agent started.
    losses_accepted: BTreeSet<Source>,
    /// Records that stay although the store has no more of them.
    kept: BTreeMap<Source, BTreeSet<Touched>>,
    /// Records that are in the store, and that this agent has never read.
    unknown: BTreeMap<Source, BTreeSet<Touched>>,
    /// Endpoints of this host that a verb of this host is removing.
    expected: BTreeSet<EndpointId>,
}

/// Counts the changes of what is held.
pub(super) type Turn = watch::Sender<u64>;

impl World {
    /// Why this host removes nothing and refuses changes, in words; `None` if nothing is held.
    pub fn held(&self) -> Option<String> {
        let holds = lock(&self.holds);
        // What is wrong with this host comes before what follows from it.
        let mut texts: Vec<&str> = holds.held.values().rev().map(String::as_str).collect();
        texts.dedup();
        (!texts.is_empty()).then(|| texts.join("; "))
    }

    /// Whether a person has accepted, since the agent started, that a source lost records.
    pub fn is_loss_accepted(&self, source: Source) -> bool {
        lock(&self.holds).losses_accepted.contains(&source)
    }

    /// Why a source is held, in words, if it is.
    pub fn why_held(&self, source: Source) -> Option<String> {
        lock(&self.holds).held.get(&source).cloned()
    }

    /// Whether a source is held.
    pub fn is_held(&self, source: Source) -> bool {
        lock(&self.holds).held.contains_key(&source)
    }

    /// Records that are kept although the store does not have them, and those that cannot be read, each in words.
    pub fn doubts(&self) -> Vec<String> {
        let holds = lock(&self.holds);
        let kept = holds.kept.values().flatten().map(|touched| {
            format!(
                "{touched} was deleted from the store while others refer to it: this host keeps it as it was"
            )
        });
        let unknown = holds.unknown.values().flatten().map(|touched| {
            format!(
                "{touched} in the store is missing or cannot be read: this host removes nothing that \
                 belongs to it"
            )
        });
        kept.chain(unknown).collect()
    }

    /// Wait until something is held, accepted or let go that was not at the last call on this receiver.
    pub fn hold_changes(&self) -> watch::Receiver<u64> {
        self.hold_turn.subscribe()
    }

    /// An operator accepts what a source says, whatever is held because of it.
    pub fn accept(&self, source: Source) {
        let mut holds = lock(&self.holds);
        holds.accepted.insert(source);
        holds.losses_accepted.insert(source);
        drop(holds);
        self.hold_turn.send_modify(|turn| *turn = turn.wrapping_add(1));
    }

    /// Hold a source, or release it (`None`). Returns whether that is a change.
    pub(in crate::reconcile) fn set_held(&self, source: Source, why: Option<String>) -> bool {
        let mut holds = lock(&self.holds);
        let changed = match why {
            Some(why) => holds.held.insert(source, why.clone()).as_ref() != Some(&why),
            None => holds.held.remove(&source).is_some(),
        };
        drop(holds);
        if changed {
            self.hold_turn.send_modify(|turn| *turn = turn.wrapping_add(1));
        }
        changed
    }

    /// Whether an operator has accepted what a source says; true only once.
    pub(in crate::reconcile) fn take_accepted(&self, source: Source) -> bool {
        lock(&self.holds).accepted.remove(&source)
    }

    /// A verb of this host is about to remove this endpoint.
    pub fn expect_removal(&self, endpoint: EndpointId) {
        let mut holds = lock(&self.holds);
        if holds.expected.len() < EXPECTED_MAX {
            holds.expected.insert(endpoint);
        }
    }

    /// The endpoints among these that no verb of this host is removing.
    pub(in crate::reconcile) fn unexpected(
        &self,
        removed: Vec<(NetworkId, EndpointId)>,
    ) -> Vec<(NetworkId, EndpointId)> {
        let holds = lock(&self.holds);
        removed.into_iter().filter(|(_, id)| !holds.expected.contains(id)).collect()
    }

    /// These endpoints are gone.
    pub(in crate::reconcile) fn forget_expected(&self, gone: &[(NetworkId, EndpointId)]) {
        let mut holds = lock(&self.holds);
        for (_, id) in gone {
            holds.expected.remove(id);
        }
    }

    /// The records of a source that are kept although it does not have them.
    pub(in crate::reconcile) fn kept(&self, source: Source) -> BTreeSet<Touched> {
        lock(&self.holds).kept.get(&source).cloned().unwrap_or_default()
    }

    /// What is kept, and what has never been read, of a source. Those of which nothing was known are about to be looked at;
    /// what became known, or is gone for good, is looked at again.
    pub(in crate::reconcile) fn set_doubts(
        &self,
        source: Source,
        kept: BTreeSet<Touched>,
        unknown: BTreeSet<Touched>,
    ) {
        let mut holds = lock(&self.holds);
        let before = holds.unknown.insert(source, unknown.clone()).unwrap_or_default();
        holds.kept.insert(source, kept);
        drop(holds);
        let over: Vec<Touched> = before.difference(&unknown).cloned().collect();
        if !over.is_empty() {
            self.look_again_after_doubt(&over);
        }
    }

    /// Look again at the units of these records, which are no longer in doubt.
    fn look_again_after_doubt(&self, over: &[Touched]) {
        let mut units: BTreeSet<Unit> = [Unit::Host].into();
        for touched in over {
            match touched {
                Touched::Network(id)
                | Touched::Endpoint(id, _)
                | Touched::Member(id, _)
                | Touched::Leg(id) => {
                    units.insert(Unit::Network(*id));
                }
                Touched::Node(_) | Touched::Sandbox(_) => self.read(|intent| {
                    units.extend(intent.networks().map(|(id, _)| Unit::Network(*id)));
                    units.extend(intent.sandboxes().values().map(|sandbox| Unit::Sandbox(sandbox.id)));
                }),
                Touched::Alive(_) => {}
            }
        }
        for unit in units {
            self.look_again(unit, Depth::Full);
        }
    }

    /// The records of a source that have never been read.
    pub(in crate::reconcile) fn unknown(&self, source: Source) -> BTreeSet<Touched> {
        lock(&self.holds).unknown.get(&source).cloned().unwrap_or_default()
    }

    /// Whether something about a network is in the stores and has never been read: nothing of it may be removed.
    pub(in crate::reconcile) fn in_doubt(&self, network: NetworkId) -> bool {
        lock(&self.holds).unknown.values().flatten().any(|touched| match touched {
            Touched::Network(id) | Touched::Endpoint(id, _) | Touched::Member(id, _) | Touched::Leg(id) => {
                *id == network
            }
            // Where it is, or what is in it, is not known: it may be about any network.
            Touched::Node(_) | Touched::Sandbox(_) => true,
            Touched::Alive(_) => false,
        })
    }

    /// Whether that is true of any network that the host's own part depends on.
    pub(in crate::reconcile) fn host_in_doubt(&self) -> bool {
        lock(&self.holds).unknown.values().flatten().any(|touched| match touched {
            // A node's address is among those that the tunnel takes packets from.
            Touched::Network(_)
            | Touched::Endpoint(..)
            | Touched::Member(..)
            | Touched::Leg(_)
            | Touched::Node(_) => true,
            Touched::Sandbox(_) | Touched::Alive(_) => false,
        })
    }

    /// Whether that is true of any sandbox.
    pub(in crate::reconcile) fn sandboxes_in_doubt(&self) -> bool {
        let holds = lock(&self.holds);
        holds.unknown.values().flatten().any(|touched| matches!(touched, Touched::Sandbox(_)))
    }

    /// The identity of this node's cluster; `None` if it is not known yet.
    pub fn cluster(&self) -> Option<ClusterId> {
        *self.cluster.borrow()
    }

    /// The identity of this node's cluster, as it becomes known.
    pub fn cluster_changes(&self) -> watch::Receiver<Option<ClusterId>> {
        self.cluster.subscribe()
    }

    /// The identity of this node's cluster is this one.
    pub fn set_cluster(&self, id: ClusterId) {
        self.cluster.send_if_modified(|known| {
            let changed = *known != Some(id);
            *known = Some(id);
            changed
        });
    }
}
