//! What a p2p network wants: a veth pair between two sandboxes. While there is but one, the other end waits in a namespace
//! of the network's own.

use super::{host::Features, overlay::LocalEndpoint, state::State};
use crate::model::Network;

/// Everything that the wanted state of a p2p network depends on.
#[derive(Clone, Debug)]
pub struct P2pInput<'a> {
    /// The network.
    pub network: &'a Network,
    /// MTU of its endpoints in bytes.
    pub mtu: u32,
    /// Endpoints here: one or two.
    pub local: Vec<LocalEndpoint<'a>>,
    /// What this kernel has.
    pub features: Features,
}

/// The wanted state of the whole network.
pub fn p2p(_input: &P2pInput<'_>) -> State {
    State::default()
}
