//! A link as the kernel tells it (struct ifinfomsg and attributes, rtnetlink(7)).

use std::collections::{BTreeMap, BTreeSet};

use nix::libc;

use super::{conf::Conf, lower::Lower};
use crate::{
    kernel::linux::rtnl::attributes::{Attributes, address, text, u8_at, u16_at, u32_at},
    model::{IfName, Mac, Vni},
    plan::state::{Link, LinkKind, Port, Vxlan},
};

/// Length of struct ifinfomsg.
const HEADER: usize = 16;
/// Within IFLA_INFO_DATA of a vxlan device (linux/if_link.h).
const VXLAN_ID: u16 = 1;
const VXLAN_LOCAL: u16 = 4;
const VXLAN_PORT: u16 = 15;
const VXLAN_LOCAL6: u16 = 17;
/// Within IFLA_INFO_SLAVE_DATA of a bridge port.
const PORT_HAIRPIN: u16 = 4;
const PORT_LEARNING: u16 = 8;
const PORT_UNICAST_FLOOD: u16 = 9;
const PORT_ISOLATED: u16 = 33;

/// A link without what hangs off it.
#[derive(Clone, Debug)]
pub(in crate::kernel::linux) struct LinkRow {
    pub(in crate::kernel::linux) index: u32,
    pub(in crate::kernel::linux) name: IfName,
    pub(in crate::kernel::linux) loopback: bool,
    /// Up, with a carrier.
    pub(in crate::kernel::linux) running: bool,
    /// Index of the bridge (bond, VRF …) that it belongs to; 0: none.
    pub(in crate::kernel::linux) master: u32,
    /// What it is on, and how; its kind is for the reader to fill in with the parent's name.
    pub(in crate::kernel::linux) lower: Option<Lower>,
    /// A bridge port's flags; the bridge's name is for the reader to fill in from `master`.
    pub(in crate::kernel::linux) port: Option<Port>,
    pub(in crate::kernel::linux) conf: Conf,
    pub(in crate::kernel::linux) link: Link,
}

/// The link in this message, or `None` if its name is not text.
pub(in crate::kernel::linux) fn parse(body: &[u8]) -> Option<LinkRow> {
    let (index, flags) = (u32_at(body, 4)?, u32_at(body, 8)?);
    let has = |flag: libc::c_int| flags & flag.unsigned_abs() != 0;
    let attributes = Attributes::after(body, HEADER);
    let number = |kind| attributes.find(kind).and_then(|value| u32_at(value, 0));
    let name: IfName = attributes.find(libc::IFLA_IFNAME).and_then(text)?.parse().ok()?;
    let info = Attributes::nested(attributes.find(libc::IFLA_LINKINFO).unwrap_or_default());
    let link = Link {
        kind: kind(info),
        mark: attributes.find(libc::IFLA_IFALIAS).and_then(text).and_then(|alias| alias.parse().ok()),
        mac: attributes
            .find(libc::IFLA_ADDRESS)
            .and_then(|value| value.try_into().ok())
            .and_then(|octets| Mac::new(octets).ok()),
        mtu: number(libc::IFLA_MTU)?,
        up: has(libc::IFF_UP),
        port: None,
        addresses: BTreeSet::new(),
        routes: BTreeMap::new(),
        neighbours: BTreeMap::new(),
        vxlan_fdb: BTreeMap::new(),
        flood_list: BTreeSet::new(),
        bridge_fdb: BTreeSet::new(),
    };
    Some(LinkRow {
        index,
        name,
        loopback: has(libc::IFF_LOOPBACK),
        running: has(libc::IFF_UP) && has(libc::IFF_RUNNING),
        master: number(libc::IFLA_MASTER).unwrap_or(0),
        lower: Lower::parse(attributes, info),
        port: port(info, name),
        conf: Conf::parse(attributes),
        link,
    })
}

fn kind(info: Attributes<'_>) -> LinkKind {
    let kind = info.find(libc::IFLA_INFO_KIND).and_then(text).unwrap_or_default();
    match kind {
        "bridge" => LinkKind::Bridge,
        "veth" => LinkKind::Veth,
        "vxlan" => {
            let data = Attributes::nested(info.find(libc::IFLA_INFO_DATA).unwrap_or_default());
            vxlan(data).map_or_else(|| LinkKind::Other(kind.into()), LinkKind::Vxlan)
        }
        _ => LinkKind::Other(kind.into()),
    }
}

/// `None` for a device that we would never make (without a VNI or a pinned source).
fn vxlan(data: Attributes<'_>) -> Option<Vxlan> {
    let port = data.find(VXLAN_PORT).and_then(|value| u16_at(value, 0))?;
    Some(Vxlan {
        vni: Vni::new(u32_at(data.find(VXLAN_ID)?, 0)?).ok()?,
        local: data.find(VXLAN_LOCAL).or_else(|| data.find(VXLAN_LOCAL6)).and_then(address)?,
        port: u16::from_be(port),
    })
}

/// The UDP port of the vxlan device in this message, whatever else the device is; None: it is none.
pub(in crate::kernel::linux) fn vxlan_port(body: &[u8]) -> Option<u16> {
    let info = Attributes::nested(Attributes::after(body, HEADER).find(libc::IFLA_LINKINFO)?);
    let data = Attributes::nested(info.find(libc::IFLA_INFO_DATA)?);
    let is_vxlan = info.find(libc::IFLA_INFO_KIND).and_then(text) == Some("vxlan");
    data.find(VXLAN_PORT).filter(|_| is_vxlan).and_then(|value| u16_at(value, 0)).map(u16::from_be)
}

fn port(info: Attributes<'_>, bridge: IfName) -> Option<Port> {
    if info.find(libc::IFLA_INFO_SLAVE_KIND).and_then(text) != Some("bridge") {
        return None;
    }
    let data = Attributes::nested(info.find(libc::IFLA_INFO_SLAVE_DATA)?);
    let flag = |kind| data.find(kind).and_then(|value| u8_at(value, 0)).is_some_and(|value| value != 0);
    Some(Port {
        bridge,
        learning: flag(PORT_LEARNING),
        unicast_flood: flag(PORT_UNICAST_FLOOD),
        isolated: flag(PORT_ISOLATED),
        hairpin: flag(PORT_HAIRPIN),
    })
}
