//! The presence check after a hint that links or namespaces changed: whether all created objects still exist,
//! and whether the links that they need are unchanged. The full looks check their contents.

use std::collections::BTreeSet;

use super::{Peers, ReconcileError, Reconciler, dirty::Depth};
use crate::{
    kernel::Kernel,
    model::{IfName, Name, chain},
    plan::{ownership::Unit, state::Netns},
};

impl<K: Kernel, P: Peers> Reconciler<K, P> {
    /// Mark every unit of which a namespace or a link of the host is gone, or whose links of the host have
    /// changed.
    pub(super) async fn presence(&mut self) {
        let (named, there) = match self.what_is_there().await {
            Ok(observed) => observed,
            // The next full look finds the same, or says why it cannot.
            Err(error) => {
                return tracing::debug!(
                    error = chain(&error),
                    "cannot check that created objects are still there"
                );
            }
        };
        let mut missing: BTreeSet<Unit> = BTreeSet::new();
        for (id, programmed) in &self.programmed {
            let (netns, links) = programmed.needs();
            let is_named = |netns: &Netns| matches!(netns, Netns::Named(name) if named.contains(name));
            if !netns.iter().all(is_named) || !links.iter().all(|link| there.contains(link)) {
                missing.insert(Unit::Network(*id));
            }
        }
        self.world.read(|intent| {
            let made = intent.sandboxes().values().filter(|sandbox| !sandbox.adopted);
            for sandbox in made.filter(|sandbox| !named.contains(&sandbox.name)) {
                missing.insert(Unit::Sandbox(sandbox.id));
                // What its networks had in it went with it.
                let endpoints = intent.endpoints_in(self.world.me, &sandbox.name);
                missing.extend(endpoints.map(|endpoint| Unit::Network(endpoint.network)));
            }
        });
        for unit in missing {
            tracing::info!(%unit, "another program removed part of it: repairing");
            self.world.look_again(unit, Depth::Full);
        }
        if let Some(features) = self.features {
            for id in self.overtaken(&self.bare_env(features)) {
                self.world.look_again(Unit::Network(id), Depth::Full);
            }
        }
    }

    /// The names of the named namespaces and of the host's links; links that networks need are looked at.
    async fn what_is_there(&mut self) -> Result<(BTreeSet<Name>, BTreeSet<IfName>), ReconcileError> {
        let names = self.kernel.netns_names().await?;
        let links = self.kernel.link_names().await?;
        self.refresh_foundations().await?;
        Ok((names.into_keys().collect(), links))
    }
}
