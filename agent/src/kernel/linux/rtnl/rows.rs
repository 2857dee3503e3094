//! Messages for what comes in numbers: addresses, neighbours and forwarding rows.
//!
//! Each is one message that bears repetition, so that thousands go out in batches. They are put together by hand:
//! rtnetlink builds neighbours inside requests to its own connection only, and an address with a broadcast address.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressProtocol},
    neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
};

use super::batch::Request;
use crate::{
    model::Mac,
    plan::{op::Op, ownership::ROUTE_PROTOCOL},
};

/// Add or replace.
const SET: u16 = NLM_F_CREATE | NLM_F_REPLACE;
/// Where broadcast, unknown and multicast go, in the table of a vxlan device.
const ALL_ZERO: [u8; 6] = [0; 6];

/// The message of this step on the link with this index, which is a bridge or not; None: it is not a row.
pub(in crate::kernel::linux) fn request(op: &Op, (index, bridge): (u32, bool)) -> Option<Request> {
    let (message, flags) = match op {
        Op::AddAddress(_, net) => (RouteNetlinkMessage::NewAddress(address(index, *net)), SET),
        Op::RemoveAddress(_, net) => (RouteNetlinkMessage::DelAddress(address(index, *net)), 0),
        Op::SetNeighbour(_, ip, mac) => {
            (RouteNetlinkMessage::NewNeighbour(neighbour(index, *ip, Some(*mac))), SET)
        }
        Op::RemoveNeighbour(_, ip) => (RouteNetlinkMessage::DelNeighbour(neighbour(index, *ip, None)), 0),
        Op::SetTunnel(_, mac, vtep) => {
            (RouteNetlinkMessage::NewNeighbour(tunnel(index, mac.octets(), Some(*vtep))), SET)
        }
        Op::RemoveTunnel(_, mac) => (RouteNetlinkMessage::DelNeighbour(tunnel(index, mac.octets(), None)), 0),
        Op::AddFlood(_, vtep) => {
            let message = tunnel(index, ALL_ZERO, Some(*vtep));
            (RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_APPEND)
        }
        Op::RemoveFlood(_, vtep) => {
            (RouteNetlinkMessage::DelNeighbour(tunnel(index, ALL_ZERO, Some(*vtep))), 0)
        }
        Op::SetStation(_, mac) => (RouteNetlinkMessage::NewNeighbour(station(index, *mac, bridge)), SET),
        Op::RemoveStation(_, mac) => (RouteNetlinkMessage::DelNeighbour(station(index, *mac, bridge)), 0),
        Op::AddNetns(..)
        | Op::RemoveNetns(_)
        | Op::AddLink(..)
        | Op::AddVeth(..)
        | Op::RemoveLink(_)
        | Op::SetMac(..)
        | Op::SetMtu(..)
        | Op::SetPort(..)
        | Op::SetUp(..)
        | Op::SetRoute(..)
        | Op::RemoveRoute(..)
        | Op::SetSysctl(..)
        | Op::SetTable(..)
        | Op::ChangePorts(..)
        | Op::RemoveTable(_)
        | Op::SetResolver(..)
        | Op::RemoveResolver(_)
        | Op::SetOpenings(..) => return None,
    };
    Some(Request { message, flags })
}

/// Whether [`request`] has a message for this step.
pub(in crate::kernel::linux) fn is_row(op: &Op) -> bool {
    matches!(
        op,
        Op::AddAddress(..)
            | Op::RemoveAddress(..)
            | Op::SetNeighbour(..)
            | Op::RemoveNeighbour(..)
            | Op::SetTunnel(..)
            | Op::RemoveTunnel(..)
            | Op::AddFlood(..)
            | Op::RemoveFlood(..)
            | Op::SetStation(..)
            | Op::RemoveStation(..)
    )
}

/// AF_INET or AF_INET6.
pub(in crate::kernel::linux) fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn address(index: u32, net: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(net.addr());
    message.header.prefix_len = net.prefix_len();
    message.header.index = index;
    message.header.flags = AddressHeaderFlags::Nodad;
    message.attributes = vec![
        AddressAttribute::Local(net.addr()),
        AddressAttribute::Address(net.addr()),
        // Tells our link-local addresses from the kernel's own (since Linux 5.18; before, it is passed over).
        AddressAttribute::Protocol(AddressProtocol::Other(ROUTE_PROTOCOL)),
    ];
    message
}

fn neighbour(index: u32, ip: IpAddr, mac: Option<Mac>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(ip);
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes.push(NeighbourAttribute::Destination(ip.into()));
    let lladdr = mac.map(|mac| NeighbourAttribute::LinkLayerAddress(mac.octets().to_vec()));
    message.attributes.extend(lladdr);
    message
}

fn row(index: u32, mac: [u8; 6]) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
    message
}

/// A row of the vxlan device's own table (`self permanent`).
fn tunnel(index: u32, mac: [u8; 6], vtep: Option<IpAddr>) -> NeighbourMessage {
    let mut message = row(index, mac);
    message.header.flags = NeighbourFlags::Own;
    message.header.state = NeighbourState::Permanent;
    message.attributes.extend(vtep.map(|vtep| NeighbourAttribute::Destination(vtep.into())));
    message
}

/// A row of the table of the port's bridge (`master static`; `permanent` would mean the bridge's own address), or of a bridge for
/// itself (`self permanent`).
fn station(index: u32, mac: Mac, bridge: bool) -> NeighbourMessage {
    let mut message = row(index, mac.octets());
    (message.header.flags, message.header.state) = match bridge {
        true => (NeighbourFlags::Own, NeighbourState::Permanent),
        false => (NeighbourFlags::Controller, NeighbourState::Noarp),
    };
    message
}
