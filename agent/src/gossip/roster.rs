//! Whom we take for a node: those that the store has, each at the address of its record and nowhere else.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use super::identity::Identity;
use crate::model::NodeId;

/// The nodes that the store has, with where they gossip.
pub type Nodes = BTreeMap<NodeId, SocketAddr>;

/// What we know of the store's nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Roster {
    /// None: the store has not been read since the start.
    nodes: Option<Arc<Nodes>>,
}

impl Roster {
    /// The store has these.
    pub(super) const fn of(nodes: Arc<Nodes>) -> Self {
        Self { nodes: Some(nodes) }
    }

    /// Whether the store has been read.
    pub(super) const fn is_read(&self) -> bool {
        self.nodes.is_some()
    }

    /// Whether the store has this node at this address.
    pub(super) fn knows(&self, node: NodeId, address: SocketAddr) -> bool {
        let record = self.nodes.as_ref().and_then(|nodes| nodes.get(&node));
        record.is_some_and(|record| same(*record, address))
    }

    /// Whether somebody may be shown as a member. Before the store was read that is everybody who took part.
    pub(super) fn shows(&self, identity: &Identity) -> bool {
        !self.is_read() || self.knows(identity.node, identity.address)
    }
}

/// Whether two addresses are one, whatever the kernel says besides of where a datagram came in.
pub(super) fn same(one: SocketAddr, other: SocketAddr) -> bool {
    (one.ip().to_canonical(), one.port()) == (other.ip().to_canonical(), other.port())
}
