//! From what is wanted and what is seen to the steps between them: pure and total.
//!
//! [`state`] says what can be wanted, [`ownership`] what is ours, [`op`] what can be done; the drivers and `host` say
//! what is wanted of the kernel, [`plan()`] how to get there. The `kernel` room looks and applies; `reconcile` brings
//! the two together.

mod bridge;
mod connections;
mod firewall;
mod guard;
mod host;
mod interface;
mod link;
pub mod op;
mod overlay;
pub mod ownership;
mod p2p;
mod parent;
pub mod ruleset;
mod settings;
pub mod state;
mod steps;
mod sysctl;
#[cfg(test)]
mod tests;
mod translation;

pub use bridge::{
    BridgeShared, DEFAULT_GATEWAYS, DEFAULT_NETWORK, bridge, bridge_name, bridge_port_of, own_mac,
};
pub use connections::{Connection, Outdated};
pub use guard::Underlay;
pub use host::{Features, Forward, HostInput, HostNetwork, HostSide, host};
pub use interface::LocalEndpoint;
pub use overlay::{OverlayShared, Station, is_port, netns_of, outer_name, overlay, port_of};
pub use p2p::{P2pShared, p2p};
pub use parent::{ParentShared, parent};
pub use steps::plan;
pub use sysctl::{FORWARDING_V4, FORWARDING_V6, HOST_SETTINGS, is_host_setting};
pub use translation::Redirected;
