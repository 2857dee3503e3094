//! Nodes, members and owners of addresses.

use std::net::SocketAddr;

use ovnet_proto::v1::{self, address_owner::Owner};

use super::{
    each,
    limits::{self, MAX_ADDRESSES, MAX_TEXT},
    subnet::{address, net, parsed},
};
use crate::model::{AddressOwner, Invalid, Member, Name, Node, Timestamp};

impl From<&Node> for v1::Node {
    fn from(node: &Node) -> Self {
        Self {
            id: node.id.to_string(),
            name: node.name.to_string(),
            vtep: node.vtep.to_string(),
            gossip: node.gossip.to_string(),
            version: node.version.clone(),
            underlay_mtu: node.underlay_mtu,
            vxlan_port: node.vxlan_port.into(),
            created_ms: node.created.0,
        }
    }
}

impl TryFrom<v1::Node> for Node {
    type Error = Invalid;

    fn try_from(wire: v1::Node) -> Result<Self, Invalid> {
        limits::text("version", &wire.version, MAX_TEXT)?;
        let vtep = address("VTEP", &wire.vtep)?;
        if vtep.is_unspecified() || vtep.is_multicast() {
            return Err(Invalid::new("VTEP", wire.vtep, "expected the unicast address of a host"));
        }
        let gossip: SocketAddr =
            parsed("gossip address", &wire.gossip, "expected an address with port such as 192.0.2.1:7946")?;
        let port = u16::try_from(wire.vxlan_port).ok().filter(|port| *port != 0);
        let wrong_port =
            || Invalid::new("VXLAN port", wire.vxlan_port.to_string(), "expected a number from 1 to 65535");
        Ok(Self {
            id: wire.id.parse()?,
            name: Name::parse("node name", &wire.name)?,
            vtep,
            gossip,
            version: wire.version,
            underlay_mtu: wire.underlay_mtu,
            vxlan_port: port.ok_or_else(wrong_port)?,
            created: Timestamp(wire.created_ms),
        })
    }
}

impl From<&Member> for v1::Member {
    fn from(member: &Member) -> Self {
        Self {
            network_id: member.network.to_string(),
            node_id: member.node.to_string(),
            mac: member.mac.to_string(),
            addresses: member.addresses.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<v1::Member> for Member {
    type Error = Invalid;

    fn try_from(wire: v1::Member) -> Result<Self, Invalid> {
        Ok(Self {
            network: wire.network_id.parse()?,
            node: wire.node_id.parse()?,
            mac: wire.mac.parse()?,
            addresses: each("node address", &wire.addresses, MAX_ADDRESSES, |text| {
                net("node address", text)
            })?,
        })
    }
}

impl From<&AddressOwner> for v1::AddressOwner {
    fn from(owner: &AddressOwner) -> Self {
        let owner = match owner {
            AddressOwner::Endpoint(id) => Owner::EndpointId(id.to_string()),
            AddressOwner::Node(id) => Owner::NodeId(id.to_string()),
            AddressOwner::Reserved(name) => Owner::Reserved(name.clone()),
        };
        Self { owner: Some(owner) }
    }
}

impl TryFrom<v1::AddressOwner> for AddressOwner {
    type Error = Invalid;

    fn try_from(wire: v1::AddressOwner) -> Result<Self, Invalid> {
        match wire.owner {
            Some(Owner::EndpointId(id)) => Ok(Self::Endpoint(id.parse()?)),
            Some(Owner::NodeId(id)) => Ok(Self::Node(id.parse()?)),
            Some(Owner::Reserved(name)) => {
                limits::text("reserved address", &name, MAX_TEXT)?;
                Ok(Self::Reserved(name))
            }
            None => Err(Invalid::new("address owner", "", "expected an endpoint, a node or a reserved name")),
        }
    }
}
