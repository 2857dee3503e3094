//! `version`: how this agent stands with its store.

use std::time::Duration;

use super::super::Service;
use crate::{kernel::Kernel, model::NodeId, reconcile::world::Revisions, store::StoreStatus};

/// What an agent says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentState {
    /// Its node.
    pub node: NodeId,
    /// The cluster's store, as it is reached from here.
    pub store: StoreState,
    /// What a store says is not believed, and held.
    pub held: bool,
}

/// Whether the cluster's store is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreState {
    /// Not read yet since the start.
    Unread,
    /// Its changes arrive.
    Connected {
        /// How long its last answer took, where that is too long.
        slow: Option<Duration>,
    },
    /// It cannot be reached, or does not let this host in.
    Away {
        /// Why, in one line.
        error: String,
    },
}

impl<K: Kernel> Service<K> {
    /// How this agent stands with its store; also told before any store has been read.
    pub fn state(&self) -> AgentState {
        let store = match &*self.store_status.borrow() {
            StoreStatus::Starting => StoreState::Unread,
            StoreStatus::Connected => StoreState::Connected { slow: self.global.slowness() },
            StoreStatus::Away { error, .. } => StoreState::Away { error: error.clone() },
        };
        AgentState { node: self.world.me, store, held: self.world.held().is_some() }
    }

    /// Wait until both stores have been read, however long it takes.
    pub async fn until_read(&self) {
        self.world.reached(Revisions::default()).await;
    }
}
