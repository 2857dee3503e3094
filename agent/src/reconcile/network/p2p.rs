//! What both ends of a p2p network share.

use crate::{
    model::Network,
    plan::{Features, P2pShared},
    reconcile::USUAL_MTU,
};

/// The shared part.
pub(super) fn shared(features: Features, network: &Network) -> P2pShared {
    P2pShared { network: network.clone(), mtu: network.mtu.unwrap_or(USUAL_MTU), features }
}
