//! `node ls`, `rm`: what the store and the gossip know of the hosts.

use std::sync::Arc;

use super::{Service, ServiceError, TRIES, now, turns::to_the_end};
use crate::{
    gossip::State,
    kernel::Kernel,
    model::{Node, NodeId, Scope},
    store::{Commit, Identity, Key},
};

/// A node with what is known of its state.
#[derive(Clone, Debug)]
pub struct NodeState {
    /// Its record.
    pub node: Node,
    /// As gossip has it; None: gossip never met it.
    pub state: Option<State>,
    /// Its lease holds.
    pub lease: bool,
    /// How many endpoints it has.
    pub endpoints: usize,
    /// It is this one.
    pub is_self: bool,
    /// What is wrong with it, or with the way to it, a sentence each.
    pub warnings: Vec<String>,
}

impl<K: Kernel> Service<K> {
    /// Every registered node.
    ///
    /// # Errors
    /// The store has not been read yet.
    pub async fn nodes(&self) -> Result<Vec<NodeState>, ServiceError> {
        self.ready().await?;
        let ids: Vec<NodeId> = self.world.read(|intent| intent.nodes().keys().copied().collect());
        Ok(ids.into_iter().filter_map(|id| self.node_state(id)).collect())
    }

    /// One node by name, id or start of the id; "self" is this one.
    ///
    /// # Errors
    /// Unknown or ambiguous.
    pub async fn node(&self, text: &str) -> Result<NodeState, ServiceError> {
        self.ready().await?;
        let id = self.world.read(|intent| intent.find_node(text, self.world.me).map(|node| node.id))?;
        self.node_state(id)
            .ok_or_else(|| ServiceError::Busy(format!("node {text} was removed at the same time")))
    }

    fn node_state(&self, id: NodeId) -> Option<NodeState> {
        let state = self.gossip.members().borrow().get(&id).map(|member| member.state);
        self.world.read(|intent| {
            let endpoints = intent.networks().map(|(_, view)| view.endpoints_on(id).count()).sum();
            let node = intent.nodes().get(&id)?.clone();
            Some(NodeState {
                node,
                state,
                lease: intent.is_alive(id),
                endpoints,
                is_self: id == self.world.me,
                warnings: self.warnings_of(id),
            })
        })
    }

    /// What is wrong with a node; of this one also what it holds.
    fn warnings_of(&self, id: NodeId) -> Vec<String> {
        let own = (id == self.world.me).then(|| self.world.held().into_iter().chain(self.world.doubts()));
        own.into_iter().flatten().chain(self.notices.of(id)).collect()
    }

    /// Forget a node that is gone for good, with all its endpoints and addresses. How many endpoints it had comes back.
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
                "node {name} is this one: to take this host out, stop the agent and run ovagent cleanup"
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
