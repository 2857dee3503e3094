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
    /// The sandbox's name on its node. None: it was made ahead of its sandbox. Its name, addresses and Ethernet address are
    /// taken, and nothing is programmed for it.
    pub sandbox: Option<Name>,
    /// The node that has the sandbox, or is to have it.
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
    /// Its ports that are reached at its host.
    pub ports: Vec<PublishedPort>,
    /// Values below /proc/sys of its interface, by key in slash form ("net/ipv4/conf/eth0/log_martians").
    pub sysctls: BTreeMap<String, String>,
    /// Further addresses: 169.254.0.0/16 (RFC 3927) and fe80::/64 (RFC 4291) ones.
    pub link_local: Vec<IpAddr>,
    /// Of a sandbox's endpoints the one with the highest has the default route; from
    /// [`Endpoint::GATEWAY_PRIORITIES`].
    pub gateway_priority: i32,
    /// Other endpoints of the network that it may talk to, whatever the network says, and its own names for them.
    pub links: Vec<EndpointLink>,
}

impl Endpoint {
    /// Gateway priorities that there are.
    pub const GATEWAY_PRIORITIES: std::ops::RangeInclusive<i32> = -1000..=99;
    /// Most sysctls.
    pub const MAX_SYSCTLS: usize = 32;
    /// Most links.
    pub const MAX_LINKS: usize = 32;
    /// Most link-local addresses.
    pub const MAX_LINK_LOCAL: usize = 8;
}

/// Another endpoint of the same network, by a name of one's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointLink {
    /// Its name in the network.
    pub endpoint: Name,
    /// The name that the one who links it knows it by.
    pub alias: Name,
}
