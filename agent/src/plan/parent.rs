//! What a macvlan or ipvlan network wants: a link in each sandbox on a link of the host, and that link if it is a VLAN that
//! is ours to make.

use super::{host::Features, overlay::LocalEndpoint, state::State};
use crate::model::Network;

/// Everything that the wanted state of a macvlan or ipvlan network depends on. Its settings say which of the two it is.
#[derive(Clone, Debug)]
pub struct ParentInput<'a> {
    /// The network.
    pub network: &'a Network,
    /// The parent is a VLAN that is not there, or that is ours: it is made.
    pub make_vlan: bool,
    /// MTU of its endpoints in bytes.
    pub mtu: u32,
    /// Endpoints here.
    pub local: Vec<LocalEndpoint<'a>>,
    /// What this kernel has.
    pub features: Features,
}

/// The wanted state of the whole network.
pub fn parent(_input: &ParentInput<'_>) -> State {
    State::default()
}
