//! `node ls`, `inspect`: what the store and the gossip know of the hosts.

use super::super::{Service, ServiceError};
use crate::{
    gossip::State,
    kernel::Kernel,
    model::{Node, NodeId},
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
    /// What its gossip counted since its start, by name. Of this node only: others keep theirs to themselves.
    pub counters: Vec<(&'static str, u64)>,
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
        let is_self = id == self.world.me;
        self.world.read(|intent| {
            let endpoints = intent.networks().map(|(_, view)| view.endpoints_on(id).count()).sum();
            let node = intent.nodes().get(&id)?.clone();
            Some(NodeState {
                node,
                state,
                lease: intent.is_alive(id),
                endpoints,
                is_self,
                warnings: self.warnings_of(id),
                counters: if is_self { self.gossip.counters().all() } else { Vec::new() },
            })
        })
    }

    /// What is wrong with a node; of this one also what it holds.
    fn warnings_of(&self, id: NodeId) -> Vec<String> {
        let own = (id == self.world.me).then(|| self.world.held().into_iter().chain(self.world.doubts()));
        own.into_iter().flatten().chain(self.notices.of(id)).collect()
    }
}
