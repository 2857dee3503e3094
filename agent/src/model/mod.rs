//! The nouns: identifiers, names, addresses, networks, endpoints, nodes, sandboxes.
//!
//! All input becomes one of these types at the edge, or an [`Invalid`] that quotes it. There is no tokio,
//! netlink or protobuf here; `convert` translates these types to and from the wire.

mod chain;
mod driver;
mod endpoint;
mod id;
mod invalid;
mod leg;
mod mac;
mod name;
mod network;
mod node;
mod port;
mod sandbox;
mod scope;
mod settings;
mod subnet;
#[cfg(test)]
pub(crate) mod testing;
mod vni;

pub use chain::chain;
pub use driver::{Driver, DriverSettings, InHost, Most, Profile};
pub use endpoint::{Endpoint, EndpointLink};
pub use id::{ClusterId, EndpointId, NetworkId, NodeId, SandboxId};
pub use invalid::Invalid;
pub use leg::Leg;
pub use mac::Mac;
pub use name::{IfName, Name};
pub use network::{DEFAULT_DRIVER, DEFAULT_NETWORK, Network};
pub use node::{AddressOwner, Member, Node};
pub use port::{Protocol, PublishedPort};
pub use sandbox::{DnsChoice, ExtraHost, HostAddress, Sandbox};
pub use scope::Scope;
pub use settings::{BridgeSettings, IpvlanFlag, IpvlanMode, MacvlanMode, OverlaySettings, Parent, Publish};
pub use subnet::Subnet;
pub use vni::Vni;

/// Milliseconds since the Unix epoch. The core never reads a clock; the edges pass the time in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);
