//! The legs of this host: which network has which.

use std::collections::BTreeSet;

use super::{Peers, ReconcileError, Reconciler};
use crate::{
    drivers::is_here,
    kernel::Kernel,
    model::{Leg, Network, NetworkId, chain},
    store::{Commit, Key},
};

impl<K: Kernel, P: Peers> Reconciler<K, P> {
    /// Each overlay here that is not internal needs a leg: the lowest free index, kept in the local store.
    pub(super) async fn ensure_leg(&mut self, id: NetworkId) -> Result<(), ReconcileError> {
        let needs = self.world.read(|intent| {
            let view = intent.network(id).filter(|view| is_here(view, self.world.me));
            let network = view.and_then(|view| view.network());
            network.is_some_and(Network::has_leg)
        });
        if !needs || self.legs.contains_key(&id) {
            return Ok(());
        }
        let taken: BTreeSet<Leg> = self.legs.values().copied().collect();
        let leg = Leg::lowest_free(|leg| taken.contains(&leg)).ok_or(ReconcileError::NoLeg)?;
        let commit = Commit::new().put(Key::Leg(id), leg.index().to_string());
        self.local.commit(commit).await?;
        self.legs.insert(id, leg);
        Ok(())
    }

    pub(super) async fn release_leg(&mut self, id: NetworkId) {
        if self.legs.contains_key(&id) {
            match self.local.commit(Commit::new().delete(Key::Leg(id))).await {
                Ok(_) => {
                    self.legs.remove(&id);
                }
                Err(error) => tracing::warn!(error = chain(&error), "cannot release a host leg"),
            }
        }
    }
}
