//! What both ends of a p2p network share.

use crate::{
    model::Network,
    plan::{Features, LocalEndpoint, P2pInput, p2p, state::State},
    reconcile::USUAL_MTU,
};

/// What both ends of a p2p network share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::reconcile) struct Base {
    network: Network,
    /// MTU of its endpoints in bytes.
    pub(super) mtu: u32,
    features: Features,
}

impl Base {
    pub(super) fn wanted(&self, local: Vec<LocalEndpoint<'_>>) -> State {
        p2p(&P2pInput { network: &self.network, mtu: self.mtu, local, features: self.features })
    }
}

/// The shared part.
pub(super) fn base(features: Features, network: &Network) -> Base {
    Base { network: network.clone(), mtu: network.mtu.unwrap_or(USUAL_MTU), features }
}
