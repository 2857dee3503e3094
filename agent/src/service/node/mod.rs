//! Nodes: `node rm` removes one with all that it has.
//!
//! `conditions` has their current problems, `accept` how an operator accepts an implausible store.

mod accept;
mod conditions;

pub use accept::Acceptance;
pub use conditions::{Condition, Conditions, Transition};

use std::sync::Arc;

use super::{Service, ServiceError, TRIES, locks::to_the_end, now};
use crate::{
    kernel::Kernel,
    model::{NodeId, Scope},
    store::{Commit, Identity, Key},
};

impl<K: Kernel> Service<K> {
    /// Remove a node that is gone for good, with all its endpoints and addresses. Returns the number of its
    /// endpoints.
    ///
    /// # Errors
    /// Unknown; this node itself; still alive (unless forced); the store away.
    pub async fn remove_node(
        self: &Arc<Self>,
        text: &str,
        force: bool,
    ) -> Result<(NodeId, u32), ServiceError> {
        let (service, text) = (Arc::clone(self), text.to_owned());
        to_the_end(async move { service.forget_node(&text, force).await }).await
    }

    async fn forget_node(&self, text: &str, force: bool) -> Result<(NodeId, u32), ServiceError> {
        self.ready_to_change().await?;
        let state = self.node(text).await?;
        let (id, name) = (state.node.id, state.node.name);
        if state.is_self {
            return Err(ServiceError::InUse(format!(
                "node {name} is this host: to remove it from the cluster, stop the agent and run ovagent \
                 cleanup"
            )));
        }
        if !force && (state.lease || state.state.is_some_and(|state| state.is_active())) {
            return Err(ServiceError::InUse(format!(
                "node {name} is alive: stop its agent first, or use --force (it comes back when its agent starts again)"
            )));
        }
        // That a person removed it is why it will find nothing of its own in the store.
        self.global
            .commit(Commit::new().put(Key::Identity(Identity::Removed(id)), now().0.to_string()))
            .await?;
        let mut endpoints = 0;
        // A node that lives may have made some more meanwhile.
        for _ in 0..TRIES {
            match self.remove_endpoints_of(id).await? {
                0 => break,
                removed => endpoints += removed,
            }
        }
        let commit = Commit::new().delete(Key::Node(id)).delete(Key::Alive(id));
        let revision = self.global.commit(commit).await?;
        self.follow_change(Scope::Global, revision).await;
        tracing::info!(node = %name, endpoints, "node removed");
        Ok((id, endpoints))
    }
}
