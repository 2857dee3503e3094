//! What states to want are made of: names, addresses, marks.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    model::{IfName, Mac, Name, NetworkId, Vni},
    plan::{
        op::LinkRef,
        ownership::{Mark, Unit},
        state::{Netns, Vxlan},
    },
};

/// The namespaces that checks make.
pub(super) const NETNS: [&str; 2] = ["ovk-net", "ovk-box"];
/// The link that checks make in the host's namespace.
pub(super) const LEG: IfName = IfName::literal("ovh-ovk");
pub(super) const BRIDGE: IfName = IfName::literal("br0");
pub(super) const VXLAN: IfName = IfName::literal("vxlan0");
pub(super) const PORT: IfName = IfName::literal("ep-ovk");
pub(super) const INNER_LEG: IfName = IfName::literal("ovn");
pub(super) const ETH: IfName = IfName::literal("eth0");
/// UDP port of the vxlan devices: not the usual one, which somebody may use.
pub(super) const UDP_PORT: u16 = 14789;

/// What a check cannot go on without.
pub(super) type Built<T> = Result<T, String>;

pub(super) fn name(text: &str) -> Built<Name> {
    text.parse().map_err(|error: crate::model::Invalid| error.to_string())
}

pub(super) fn net(text: &str) -> Built<IpNet> {
    text.parse().map_err(|error| format!("{text}: {error}"))
}

pub(super) fn mac(number: u32) -> Built<Mac> {
    let [a, b, c, d] = number.to_be_bytes();
    Mac::new([0x02, 0x77, a, b, c, d]).map_err(|error| error.to_string())
}

/// The namespace with the bridge.
pub(super) fn inner() -> Built<Netns> {
    name(NETNS[0]).map(Netns::Named)
}

/// The sandbox.
pub(super) fn sandbox() -> Built<Netns> {
    name(NETNS[1]).map(Netns::Named)
}

pub(super) fn mark(role: &str) -> Mark {
    Mark::new(Unit::Network(NetworkId::from_bytes([7; 32])), role)
}

pub(super) fn vxlan(vni: u32, local: IpAddr) -> Built<Vxlan> {
    Ok(Vxlan { vni: Vni::new(vni).map_err(|error| error.to_string())?, local, port: UDP_PORT })
}

pub(super) fn at(netns: &Netns, name: IfName) -> LinkRef {
    LinkRef { netns: netns.clone(), name }
}

pub(super) fn text(error: std::net::AddrParseError) -> String {
    error.to_string()
}
