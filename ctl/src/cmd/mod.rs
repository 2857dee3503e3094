//! The commands, a room for each noun.

pub(crate) mod attend;
pub(crate) mod cluster;
pub(crate) mod completion;
pub(crate) mod confirm;
pub(crate) mod diff;
pub(crate) mod endpoint;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod man;
pub(crate) mod network;
pub(crate) mod node;
pub(crate) mod port;
pub(crate) mod run;
pub(crate) mod sandbox;
mod shape;
pub(crate) mod store;
pub(crate) mod version;

use ovnet_proto::v1 as pb;

/// The first address of the family, with its prefix length; empty if there is none.
fn address_of(endpoint: &pb::Endpoint, ipv6: bool) -> String {
    endpoint.addresses.iter().find(|address| address.contains(':') == ipv6).cloned().unwrap_or_default()
}
