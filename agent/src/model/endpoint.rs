//! Endpoints: one sandbox's attachment to one network.

use ipnet::IpNet;

use super::{EndpointId, IfName, Mac, Name, NetworkId, NodeId, Timestamp};

/// An endpoint, as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its identifier.
    pub id: EndpointId,
    /// Its name, unique in the network.
    pub name: Name,
    /// The network.
    pub network: NetworkId,
    /// The sandbox's name on its node.
    pub sandbox: Name,
    /// The node that has the sandbox.
    pub node: NodeId,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its addresses with prefix length, at most one of each subnet.
    pub addresses: Vec<IpNet>,
    /// Further names in the network.
    pub aliases: Vec<Name>,
    /// Its interface in the sandbox.
    pub ifname: IfName,
    /// When it was made.
    pub created: Timestamp,
}
