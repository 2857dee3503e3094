//! Messages for links.
//!
//! A link is born under a passing name and gets its own name together with its mark in one later message: a link under
//! a name of ours always has its mark, whatever dies between the two.

use std::{net::IpAddr, os::fd::RawFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{
        BridgeStpState, InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth,
        InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
    },
};

use super::{batch::Request, refusal::Refusal};
use crate::{
    model::{IfName, Mac},
    plan::{
        op::NewLink,
        state::{Port, Vxlan},
    },
};

/// A new bridge follows the MTU of its ports until its own is changed for the first time, so it is born with another one
/// than it shall have.
const BIRTH_MTUS: [u32; 2] = [1500, 1400];

/// The group (`ip link … group`) of links that go together: a number that nobody else takes ("ovnt").
const GOING: u32 = 0x6f76_6e74;

/// The name that a link has until it has its mark: always the same one for the same link, so that what a crash left
/// behind is found and removed by the next attempt.
pub(super) fn passing_name(new: &NewLink) -> Result<IfName, Refusal> {
    // Fowler-Noll-Vo (FNV-1a, 32 bits) of where and what the link is.
    let text = format!("{} {} {}", new.at.netns, new.at.name, new.mark);
    let hash =
        text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("ovt{hash:08x}").parse().map_err(|invalid: crate::model::Invalid| {
        Refusal::new(nix::errno::Errno::EINVAL, invalid.to_string())
    })
}

/// Make a bridge: no STP, no forward delay, no multicast snooping.
pub(super) fn new_bridge(passing: IfName, new: &NewLink) -> Request {
    let mtu = BIRTH_MTUS.into_iter().find(|mtu| *mtu != new.mtu);
    let data = InfoData::Bridge(vec![
        InfoBridge::ForwardDelay(0),
        InfoBridge::StpState(BridgeStpState::Disabled),
        InfoBridge::MulticastSnooping(false),
    ]);
    create(body(passing, new.mac, mtu), InfoKind::Bridge, data)
}

/// Make a vxlan device. Sent on a socket of the agent's own namespace, where the device's UDP socket stays; `target`:
/// the namespace in which the device is born, if it is another one.
pub(super) fn new_vxlan(passing: IfName, new: &NewLink, vxlan: &Vxlan, target: Option<RawFd>) -> Request {
    let mut data = vec![
        InfoVxlan::Id(vxlan.vni.get()),
        InfoVxlan::Port(vxlan.port),
        InfoVxlan::Ttl(64),
        InfoVxlan::Learning(false),
        InfoVxlan::Proxy(true),
    ];
    match vxlan.local {
        // RFC 7348 section 5: no outer checksum over IPv4.
        IpAddr::V4(local) => data.extend([InfoVxlan::Local(local), InfoVxlan::UDPCsum(false)]),
        IpAddr::V6(local) => data.push(InfoVxlan::Local6(local)),
    }
    let mut message = body(passing, new.mac, Some(new.mtu));
    message.attributes.extend(target.map(LinkAttribute::NetNsFd));
    create(message, InfoKind::Vxlan, InfoData::Vxlan(data))
}

/// Make a veth pair; `target`: the namespace in which the peer is born, if it is another one than the socket's.
pub(super) fn new_veth(main: (IfName, &NewLink), peer: (IfName, &NewLink), target: Option<RawFd>) -> Request {
    let mut other = body(peer.0, peer.1.mac, Some(peer.1.mtu));
    other.attributes.extend(target.map(LinkAttribute::NetNsFd));
    let data = InfoData::Veth(InfoVeth::Peer(other));
    create(body(main.0, main.1.mac, Some(main.1.mtu)), InfoKind::Veth, data)
}

/// Give a new-born link its name and its mark.
pub(super) fn name_and_mark(index: u32, new: &NewLink) -> Request {
    let mut message = at(index);
    message.attributes = vec![
        LinkAttribute::Mtu(new.mtu),
        LinkAttribute::IfName(new.at.name.to_string()),
        LinkAttribute::IfAlias(new.mark.to_string()),
    ];
    set(message)
}

/// Remove the link with this name.
pub(super) fn remove_named(name: IfName) -> Request {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_string()));
    Request { message: RouteNetlinkMessage::DelLink(message), flags: 0 }
}

/// Remove the link with this index.
pub(super) fn remove(index: u32) -> Request {
    Request { message: RouteNetlinkMessage::DelLink(at(index)), flags: 0 }
}

/// Put the link into the group of those that go together.
pub(super) fn set_group(index: u32) -> Request {
    let mut message = at(index);
    message.attributes.push(LinkAttribute::Group(GOING));
    set(message)
}

/// Remove all links of that group.
pub(super) fn remove_group() -> Request {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::Group(GOING));
    Request { message: RouteNetlinkMessage::DelLink(message), flags: 0 }
}

/// Change its Ethernet address.
pub(super) fn set_mac(index: u32, mac: Mac) -> Request {
    let mut message = at(index);
    message.attributes.push(LinkAttribute::Address(mac.octets().to_vec()));
    set(message)
}

/// Change its MTU.
pub(super) fn set_mtu(index: u32, mtu: u32) -> Request {
    let mut message = at(index);
    message.attributes.push(LinkAttribute::Mtu(mtu));
    set(message)
}

/// Up or down.
pub(super) fn set_up(index: u32, up: bool) -> Request {
    let mut message = at(index);
    message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
    message.header.change_mask = LinkFlags::Up;
    set(message)
}

/// Up, with an ifalias: what the `lo` of a namespace that we make gets.
pub(super) fn set_up_and_mark(index: u32, mark: String) -> Request {
    let mut message = at(index);
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes.push(LinkAttribute::IfAlias(mark));
    set(message)
}

/// Make it a port of the bridge with this index (0: of none).
pub(super) fn set_bridge(index: u32, bridge: u32) -> Request {
    let mut message = at(index);
    message.attributes.push(LinkAttribute::Controller(bridge));
    set(message)
}

/// Set a bridge port's flags. Only once it is one: the kernel looks for the bridge before it reads the flags.
pub(super) fn set_port(index: u32, port: &Port) -> Request {
    let mut message = at(index);
    let data =
        vec![InfoBridgePort::Learning(port.learning), InfoBridgePort::UnicastFlood(port.unicast_flood)];
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(data)),
    ]));
    Request { message: RouteNetlinkMessage::NewLink(message), flags: 0 }
}

fn at(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

fn set(message: LinkMessage) -> Request {
    Request { message: RouteNetlinkMessage::SetLink(message), flags: 0 }
}

fn body(name: IfName, mac: Mac, mtu: Option<u32>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes =
        vec![LinkAttribute::IfName(name.to_string()), LinkAttribute::Address(mac.octets().to_vec())];
    message.attributes.extend(mtu.map(LinkAttribute::Mtu));
    message
}

fn create(mut message: LinkMessage, kind: InfoKind, data: InfoData) -> Request {
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind), LinkInfo::Data(data)]));
    Request { message: RouteNetlinkMessage::NewLink(message), flags: NLM_F_CREATE | NLM_F_EXCL }
}
