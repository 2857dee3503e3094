//! Endpoints: one sandbox's attachment to one network.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use super::{EndpointId, IfName, Mac, Name, NetworkId, NodeId, PublishedPort, Timestamp};

/// An endpoint, as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its identifier.
    pub id: EndpointId,
    /// Its name, unique in the network.
    pub name: Name,
    /// The network.
    pub network: NetworkId,
    /// The sandbox's name on its node. `None` if the endpoint was made ahead of its sandbox: its name,
    /// addresses and Ethernet address are then taken, but nothing is programmed for it.
    pub sandbox: Option<Name>,
    /// The node that has the sandbox, or will have it.
    pub node: NodeId,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its addresses with prefix length, at most one of each subnet.
    pub addresses: Vec<IpNet>,
    /// Additional names in the network.
    pub aliases: Vec<Name>,
    /// Its interface in the sandbox.
    pub ifname: IfName,
    /// Creation time.
    pub created: Timestamp,
    /// Its published ports.
    pub ports: Vec<PublishedPort>,
    /// Values below /proc/sys of its interface, by key in slash form ("net/ipv4/conf/eth0/log_martians").
    pub sysctls: BTreeMap<String, String>,
    /// Additional addresses: 169.254.0.0/16 (RFC 3927) and fe80::/64 (RFC 4291) ones.
    pub link_local: Vec<IpAddr>,
    /// The endpoint of a sandbox with the highest priority has the default route; one of
    /// [`Endpoint::GATEWAY_PRIORITIES`].
    pub gateway_priority: i32,
    /// Other endpoints of the network that it may always reach, with its own names for them.
    pub links: Vec<EndpointLink>,
}

impl Endpoint {
    /// The range of gateway priorities.
    pub const GATEWAY_PRIORITIES: std::ops::RangeInclusive<i32> = -1000..=99;
    /// Most sysctls.
    pub const MAX_SYSCTLS: usize = 32;
    /// Most links.
    pub const MAX_LINKS: usize = 32;
    /// Most link-local addresses.
    pub const MAX_LINK_LOCAL: usize = 8;
}

/// A link to a second endpoint of the same network, with the linking endpoint's own name for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointLink {
    /// Its name in the network.
    pub endpoint: Name,
    /// The linking endpoint's name for it.
    pub alias: Name,
}
