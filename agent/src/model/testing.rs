//! Examples for tests.

use std::collections::BTreeMap;

use super::{
    DriverSettings, Endpoint, EndpointId, IfName, Mac, Member, Network, NetworkId, Node, NodeId,
    OverlaySettings, Scope, Subnet, Timestamp, Vni,
};

/// The node that tests take for this one.
pub(crate) const ME: NodeId = NodeId(uuid::Uuid::from_u128(1));
/// Another one.
pub(crate) const OTHER: NodeId = NodeId(uuid::Uuid::from_u128(2));

/// An overlay 10.0.0.0/24.
pub(crate) fn network() -> Network {
    Network {
        id: NetworkId::from_bytes([0xab; 32]),
        name: "ov_net1".parse().unwrap(),
        settings: DriverSettings::Overlay(OverlaySettings::default()),
        scope: Scope::Global,
        vni: Some(Vni::new(256).unwrap()),
        subnets: vec![Subnet {
            prefix: "10.0.0.0/24".parse().unwrap(),
            gateway: Some("10.0.0.1".parse().unwrap()),
            ip_range: None,
            aux_addresses: BTreeMap::new(),
        }],
        internal: false,
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
        mtu: None,
        interface_prefix: None,
        created: Timestamp(1_000),
    }
}

/// An endpoint of [`network`] by number: 10.0.0.<number>.
pub(crate) fn endpoint(number: u8, node: NodeId) -> Endpoint {
    let address: ipnet::IpNet = format!("10.0.0.{number}/24").parse().unwrap();
    Endpoint {
        id: EndpointId::from_bytes([number; 32]),
        name: format!("c{number}").parse().unwrap(),
        network: network().id,
        sandbox: Some(format!("c{number}").parse().unwrap()),
        node,
        mac: Mac::derived(address.addr()),
        addresses: vec![address],
        aliases: vec![],
        ifname: IfName::literal("eth0"),
        created: Timestamp(2_000),
        ports: vec![],
        sysctls: BTreeMap::new(),
        link_local: vec![],
        gateway_priority: 0,
        links: vec![],
    }
}

/// A node's part in [`network`], with 10.0.0.<number> of its own.
pub(crate) fn member(number: u8, node: NodeId) -> Member {
    let address: ipnet::IpNet = format!("10.0.0.{number}/24").parse().unwrap();
    Member { network: network().id, node, mac: Mac::derived(address.addr()), addresses: vec![address] }
}

/// A node's record, at 192.0.2.7.
pub(crate) fn node(id: NodeId) -> Node {
    Node {
        id,
        name: "h7".parse().unwrap(),
        vtep: [192, 0, 2, 7].into(),
        gossip: ([192, 0, 2, 7], 7946).into(),
        version: "1".into(),
        underlay_mtu: 1500,
        vxlan_port: 4789,
        created: Timestamp(1),
    }
}

/// A network and an endpoint of it on this node.
pub(crate) fn network_with_endpoint() -> (Network, Endpoint) {
    (network(), endpoint(2, ME))
}
