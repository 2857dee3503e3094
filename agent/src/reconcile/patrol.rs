//! After a hint that links or namespaces changed: is everything that was made still there? What is inside, the full
//! looks see to.

use std::collections::BTreeSet;

use super::{Peers, Reconciler, dirty::Depth};
use crate::{
    intent::NetworkView,
    kernel::{Kernel, KernelError},
    model::{IfName, Name},
    plan::{
        netns_of, outer_name,
        ownership::Unit,
        state::{Look, LookAt, Netns},
    },
};

impl<K: Kernel, P: Peers> Reconciler<K, P> {
    /// Have every unit looked at of which a namespace or the host's end of its leg is gone.
    pub(super) async fn patrol(&mut self) {
        let (netns, links) = match self.what_is_there().await {
            Ok(there) => there,
            // The next full look finds the same, or says why it cannot.
            Err(error) => return tracing::debug!(error = super::chain(&error), "cannot patrol"),
        };
        let mut missing: BTreeSet<Unit> = BTreeSet::new();
        for (id, programmed) in &self.programmed {
            let inside = matches!(netns_of(*id), Netns::Named(name) if netns.contains(&name));
            let leg = !programmed.base.has_leg() || links.contains(&outer_name(*id));
            if !inside || !leg {
                missing.insert(Unit::Network(*id));
            }
        }
        self.world.read(|intent| {
            let made = intent.sandboxes().values().filter(|sandbox| !sandbox.adopted);
            for sandbox in made.filter(|sandbox| !netns.contains(&sandbox.name)) {
                missing.insert(Unit::Sandbox(sandbox.id));
                // What its networks had in it went with it.
                let mine = |view: &NetworkView| {
                    view.endpoints_on(self.world.me).any(|it| it.sandbox == sandbox.name)
                };
                missing.extend(
                    intent.networks().filter(|(_, view)| mine(view)).map(|(id, _)| Unit::Network(*id)),
                );
            }
        });
        for unit in missing {
            tracing::info!(?unit, "something of it was removed by somebody else: mending");
            self.world.look_again(unit, Depth::Full);
        }
    }

    async fn what_is_there(&self) -> Result<(BTreeSet<Name>, BTreeSet<IfName>), KernelError> {
        let named = self.kernel.named_netns().await?;
        let host = LookAt { links: None, ..LookAt::default() };
        let seen = self.kernel.observe(Look { netns: [(Netns::Host, host)].into() }).await?;
        let links = seen.netns.into_values().flat_map(|state| state.links.into_keys()).collect();
        Ok((named.into_iter().map(|(name, _)| name).collect(), links))
    }
}
