//! Nodes, and what a node owns in a network.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::{EndpointId, Mac, Name, NetworkId, NodeId, Timestamp};

/// A host that runs the agent, as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its identifier: made once, kept in the state directory.
    pub id: NodeId,
    /// Its name, the host's name unless chosen.
    pub name: Name,
    /// Its address for VXLAN.
    pub vtep: IpAddr,
    /// Its address for gossip.
    pub gossip: SocketAddr,
    /// The agent's version.
    pub version: String,
    /// MTU of the underlay at this node, in bytes.
    pub underlay_mtu: u32,
    /// UDP port of its VXLAN devices.
    pub vxlan_port: u16,
    /// When it first registered.
    pub created: Timestamp,
}

/// A node's presence in a network: it has endpoints there and owns an address of each subnet, for the host
/// itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The network.
    pub network: NetworkId,
    /// The node.
    pub node: NodeId,
    /// Its br0's Ethernet address.
    pub mac: Mac,
    /// Its own addresses with prefix length, one of each subnet.
    pub addresses: Vec<IpNet>,
}

/// The owner of an address: the value of `addresses/<network>/<address>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressOwner {
    /// An endpoint.
    Endpoint(EndpointId),
    /// A node, for its host.
    Node(NodeId),
    /// Reserved: "gateway" or the name of an auxiliary address.
    Reserved(String),
}
