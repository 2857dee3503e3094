//! Messages for links.
//!
//! A link is created under a temporary name and gets its own name together with its mark in one later message: a link under
//! a name of ours always has its mark, whatever dies between the two.

use std::{net::IpAddr, os::fd::RawFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{BridgeStpState, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkExtentMask},
};
use rtnetlink::{LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan};

use super::batch::Request;
use crate::{
    kernel::linux::refusal::Refusal,
    model::{IfName, Mac},
    plan::{
        op::NewLink,
        state::{Port, Vxlan},
    },
};

/// The group (`ip link … group`) of links that go together: a number that other programs are unlikely to use
/// ("ovnt").
const GOING: u32 = 0x6f76_6e74;

/// The name that a link has until it has its mark: always the same one for the same link, so that what a crash left
/// behind is found and removed by the next attempt.
pub(in crate::kernel::linux) fn temporary_name(new: &NewLink) -> Result<IfName, Refusal> {
    // Fowler-Noll-Vo (FNV-1a, 32 bits) of where and what the link is.
    let text = format!("{} {} {}", new.at.netns, new.at.name, new.mark);
    let hash =
        text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("ovt{hash:08x}").parse().map_err(|invalid: crate::model::Invalid| {
        Refusal::new(nix::errno::Errno::EINVAL, invalid.to_string())
    })
}

/// Make a bridge: no STP, no forward delay, no multicast snooping.
pub(in crate::kernel::linux) fn new_bridge(temporary: IfName, new: &NewLink) -> Request {
    // It follows the MTU of its ports until its own is changed for the first time, so it is created with another one than
    // it shall have.
    let mtu = if new.mtu == 1500 { 1400 } else { 1500 };
    // `LinkBridge::new` would have it created up.
    let bridge = LinkMessageBuilder::<LinkBridge>::new(temporary.as_str())
        .forward_delay(0)
        .stp_state(BridgeStpState::Disabled)
        .mcast_snooping(false);
    create(with_mac(bridge, new.mac).mtu(mtu))
}

/// Make a vxlan device. Sent on a socket of the agent's own namespace, where the device's UDP socket stays;
/// `target`: the namespace in which the device is created, if it is a different one.
pub(in crate::kernel::linux) fn new_vxlan(
    temporary: IfName,
    new: &NewLink,
    vxlan: &Vxlan,
    target: Option<RawFd>,
) -> Request {
    let device = LinkVxlan::new(temporary.as_str(), vxlan.vni.get())
        .port(vxlan.port)
        .ttl(64)
        .learning(false)
        .proxy(true);
    let device = match vxlan.local {
        // RFC 7348 section 5: no outer checksum over IPv4.
        IpAddr::V4(local) => device.local(local).udp_csum(false),
        IpAddr::V6(local) => device.local6(local),
    };
    create(in_netns(with_mac(device, new.mac).mtu(new.mtu), target))
}

/// Make a veth pair; `target`: the namespace in which the peer is created, if it is another one than the socket's.
pub(in crate::kernel::linux) fn new_veth(
    main: (IfName, &NewLink),
    peer: (IfName, &NewLink),
    target: Option<RawFd>,
) -> Request {
    let other = with_mac(LinkUnspec::new_with_name(peer.0.as_str()), peer.1.mac).mtu(peer.1.mtu);
    // `LinkVeth::new` knows the peer's name alone.
    let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(in_netns(other, target).build())))
        .name(main.0.as_str());
    create(with_mac(pair, main.1.mac).mtu(main.1.mtu))
}

/// Give a new link its name and its mark.
pub(in crate::kernel::linux) fn name_and_mark(index: u32, new: &NewLink) -> Request {
    set(at(index).mtu(new.mtu).name(new.at.name.as_str()).alias(new.mark.to_string()))
}

/// Remove the link with this name.
pub(in crate::kernel::linux) fn remove_named(name: IfName) -> Request {
    delete(LinkUnspec::new_with_name(name.as_str()))
}

/// Remove the link with this index.
pub(in crate::kernel::linux) fn remove(index: u32) -> Request {
    delete(at(index))
}

/// Put the link into the group of those that go together.
pub(in crate::kernel::linux) fn set_group(index: u32) -> Request {
    set(at(index).link_group(GOING))
}

/// Remove all links of that group.
pub(in crate::kernel::linux) fn remove_group() -> Request {
    delete(LinkMessageBuilder::<LinkUnspec>::new().link_group(GOING))
}

/// Change its Ethernet address.
pub(in crate::kernel::linux) fn set_mac(index: u32, mac: Mac) -> Request {
    set(at(index).address(octets(mac)))
}

/// Change its MTU.
pub(in crate::kernel::linux) fn set_mtu(index: u32, mtu: u32) -> Request {
    set(at(index).mtu(mtu))
}

/// Up or down.
pub(in crate::kernel::linux) fn set_up(index: u32, up: bool) -> Request {
    set(if up { at(index).up() } else { at(index).down() })
}

/// Up, with an ifalias: what the `lo` of a namespace that we make gets.
pub(in crate::kernel::linux) fn set_up_and_mark(index: u32, mark: String) -> Request {
    set(at(index).up().alias(mark))
}

/// Make it a port of the bridge with this index (0: of none).
pub(in crate::kernel::linux) fn set_bridge(index: u32, bridge: u32) -> Request {
    set(at(index).controller(bridge))
}

/// Set a bridge port's flags. Only once it is one: the kernel looks for the bridge before it reads the flags.
pub(in crate::kernel::linux) fn set_port(index: u32, port: &Port) -> Request {
    let message = LinkBridgePort::new(index)
        .learning(port.learning)
        .flood(port.unicast_flood)
        .isolated(port.isolated)
        .hairpin(port.hairpin)
        .build();
    // The kernel reads a port's flags in RTM_NEWLINK alone.
    Request { message: RouteNetlinkMessage::NewLink(message), flags: 0 }
}

/// Ask for the link with this name.
pub(in crate::kernel::linux) fn named(name: IfName) -> RouteNetlinkMessage {
    ask(LinkUnspec::new_with_name(name.as_str()))
}

/// Ask for the link with this index.
pub(in crate::kernel::linux) fn indexed(index: u32) -> RouteNetlinkMessage {
    ask(at(index))
}

/// Ask for all links.
pub(in crate::kernel::linux) fn all() -> RouteNetlinkMessage {
    ask(LinkMessageBuilder::<LinkUnspec>::new())
}

fn at(index: u32) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_index(index)
}

fn octets(mac: Mac) -> Vec<u8> {
    mac.octets().to_vec()
}

/// With this Ethernet address; `None` leaves the choice to the kernel.
pub(in crate::kernel::linux) fn with_mac<T>(
    link: LinkMessageBuilder<T>,
    mac: Option<Mac>,
) -> LinkMessageBuilder<T> {
    match mac {
        Some(mac) => link.address(octets(mac)),
        None => link,
    }
}

/// Born in this namespace; None: in that of the socket.
pub(in crate::kernel::linux) fn in_netns<T>(
    link: LinkMessageBuilder<T>,
    target: Option<RawFd>,
) -> LinkMessageBuilder<T> {
    match target {
        Some(target) => link.setns_by_fd(target),
        None => link,
    }
}

/// Make it; it must not be there.
pub(in crate::kernel::linux) fn create<T>(link: LinkMessageBuilder<T>) -> Request {
    Request { message: RouteNetlinkMessage::NewLink(link.build()), flags: NLM_F_CREATE | NLM_F_EXCL }
}

fn set(link: LinkMessageBuilder<LinkUnspec>) -> Request {
    Request { message: RouteNetlinkMessage::SetLink(link.build()), flags: 0 }
}

fn delete(link: LinkMessageBuilder<LinkUnspec>) -> Request {
    Request { message: RouteNetlinkMessage::DelLink(link.build()), flags: 0 }
}

/// Without the statistics, which nobody here reads.
fn ask(link: LinkMessageBuilder<LinkUnspec>) -> RouteNetlinkMessage {
    let slim = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
    RouteNetlinkMessage::GetLink(link.append_extra_attribute(slim).build())
}
