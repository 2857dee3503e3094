//! Evidence: our objects that were in the kernel when the agent started. What a store says is checked against
//! it.

use std::collections::{BTreeMap, BTreeSet};

use super::inventory::links_of;
use crate::{
    drivers::is_port,
    intent::{Intent, Source},
    kernel::{Kernel, KernelError},
    model::{IfName, NetworkId, SandboxId},
    plan::{
        ownership::Unit,
        state::{Link, Netns, NetnsState},
    },
};

/// Fewer objects than this may be those that a verb was removing when its agent was killed.
const MANY: usize = 3;

/// Our objects in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Networks that have a link in the host or a namespace.
    pub networks: BTreeSet<NetworkId>,
    /// For overlays, the ends of this host's endpoints in the network's namespace.
    pub endpoints: BTreeMap<NetworkId, BTreeSet<IfName>>,
    /// Sandboxes whose namespace we made.
    pub sandboxes: BTreeSet<SandboxId>,
    /// The former agent process did not believe the cluster's store.
    pub held: bool,
}

impl Evidence {
    /// Look for our objects, by their marks.
    ///
    /// # Errors
    /// The kernel could not be looked at.
    pub async fn gather<K: Kernel>(kernel: &K) -> Result<Self, KernelError> {
        // Each namespace is entered once, for its mark and for what is in it.
        let names = kernel.netns_names().await?.into_keys().map(Netns::Named);
        let observed = kernel.observe(links_of(names.chain([Netns::Host]))).await?;
        let mut found = Self::default();
        for (netns, state) in &observed.netns {
            let links = state.links.values().filter(|_| *netns == Netns::Host);
            for mark in links.filter_map(|link| link.mark.as_ref()).chain(&state.mark) {
                match mark.unit {
                    Unit::Network(id) => {
                        found.networks.insert(id);
                    }
                    Unit::Sandbox(id) => {
                        found.sandboxes.insert(id);
                    }
                    Unit::Host => {}
                }
            }
            if let Some(Unit::Network(id)) = state.mark.as_ref().map(|mark| mark.unit) {
                found.endpoints.insert(id, ends(id, state));
            }
        }
        Ok(found)
    }

    /// Whether there was nothing.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.sandboxes.is_empty()
    }

    /// Its networks, except those that are known from this host's own store.
    pub(super) fn of_the_cluster(&self, intent: &Intent) -> BTreeSet<NetworkId> {
        let is_local = |id: &NetworkId| {
            intent.network(*id).is_some_and(|view| view.source() == Source::Local && view.network().is_some())
        };
        self.networks.iter().filter(|id| !is_local(id)).copied().collect()
    }
}

/// The ends of endpoints in a network's namespace.
fn ends(network: NetworkId, inside: &NetnsState) -> BTreeSet<IfName> {
    let of_network = |link: &Link| link.mark.as_ref().is_some_and(|mark| mark.unit == Unit::Network(network));
    let ends = inside.links.iter().filter(|(name, link)| is_port(**name) && of_network(link));
    ends.map(|(name, _)| *name).collect()
}

/// Whether the loss of `gone` of `all` objects is more than an interrupted verb explains: at least half of
/// them, and several.
pub(crate) const fn is_most(gone: usize, all: usize) -> bool {
    gone >= MANY && gone * 2 > all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_or_less_than_half_is_not_most() {
        for (gone, all, most) in
            [(0, 0, false), (1, 1, false), (2, 2, false), (3, 3, true), (3, 6, false), (4, 6, true)]
        {
            assert_eq!(is_most(gone, all), most, "{gone} of {all}");
        }
    }
}
