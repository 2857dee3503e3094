//! A network's address space: one prefix with its gateway, range and reserved addresses.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

/// One subnet of a network. [`crate::ipam`] makes them, so the gateway, the range and the reserved addresses lie inside
/// the prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// The prefix, host bits zero.
    pub prefix: IpNet,
    /// The gateway: a bridge's own address, the same on every host, or a router's on the link of a macvlan
    /// network. `None` where the driver uses no gateway (p2p, ipvlan in mode l3).
    pub gateway: Option<IpAddr>,
    /// Where automatic addresses come from; `None` is the whole prefix.
    pub ip_range: Option<IpNet>,
    /// Addresses kept out of automatic use, by name.
    pub aux_addresses: BTreeMap<String, IpAddr>,
}

impl Subnet {
    /// Most auxiliary addresses.
    pub const MAX_AUX: usize = 256;

    /// `address` with this subnet's prefix length.
    pub fn with_prefix(&self, address: IpAddr) -> IpNet {
        match (self.prefix, address) {
            (IpNet::V4(net), IpAddr::V4(v4)) => {
                ipnet::Ipv4Net::new(v4, net.prefix_len()).map_or(IpNet::from(address), IpNet::V4)
            }
            (IpNet::V6(net), IpAddr::V6(v6)) => {
                ipnet::Ipv6Net::new(v6, net.prefix_len()).map_or(IpNet::from(address), IpNet::V6)
            }
            _ => IpNet::from(address),
        }
    }
}
