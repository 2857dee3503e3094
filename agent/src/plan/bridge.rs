//! What a bridge network wants: a bridge in the host's namespace with the gateway address, and a veth for each endpoint.

use super::{host::Features, overlay::LocalEndpoint, state::State};
use crate::model::{BridgeSettings, IfName, Network, NetworkId};

/// Name of the bridge of the network that is there from the start.
const DEFAULT_BRIDGE: IfName = IfName::literal("ovnet0");
/// Name of the network that is there from the start.
pub const DEFAULT_NETWORK: &str = "bridge";

/// Everything that the wanted state of a bridge network depends on.
#[derive(Clone, Debug)]
pub struct BridgeInput<'a> {
    /// The network.
    pub network: &'a Network,
    /// What was chosen of it.
    pub settings: &'a BridgeSettings,
    /// The bridge is somebody else's: it is not made, not changed and not removed, and only gets ports.
    pub foreign: bool,
    /// MTU of its endpoints in bytes.
    pub mtu: u32,
    /// Endpoints here.
    pub local: Vec<LocalEndpoint<'a>>,
    /// What this kernel has.
    pub features: Features,
}

/// The wanted state of the whole network.
pub fn bridge(_input: &BridgeInput<'_>) -> State {
    State::default()
}

/// The bridge of a network: the chosen name, "ovnet0" for the network that is there from the start, or one from the id.
pub fn bridge_name(network: &Network, settings: &BridgeSettings) -> IfName {
    match settings.name {
        Some(name) => name,
        None if network.name.as_str() == DEFAULT_NETWORK => DEFAULT_BRIDGE,
        None => of(network.id),
    }
}

fn of(network: NetworkId) -> IfName {
    let name = format!("{}{}", super::ownership::BRIDGE_PREFIX, network.prefix(10));
    // Ten hex digits and the prefix are always a good name.
    name.parse().unwrap_or(DEFAULT_BRIDGE)
}
