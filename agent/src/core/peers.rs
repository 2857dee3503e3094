//! What the reconcile loop knows of the other nodes, and tells them.

use super::IsDown;
use crate::{
    gossip::Gossip,
    model::{NetworkId, NodeId},
    reconcile::Peers,
};

/// The others, by gossip.
pub(super) struct GossipPeers {
    pub(super) gossip: Gossip,
    pub(super) is_down: IsDown,
}

impl Peers for GossipPeers {
    fn is_down(&self, node: NodeId) -> bool {
        (self.is_down)(node)
    }

    fn applied(&self, network: NetworkId, revision: i64) {
        self.gossip.applied(network, revision);
    }

    fn left(&self, network: NetworkId) {
        self.gossip.forget(network);
    }
}
