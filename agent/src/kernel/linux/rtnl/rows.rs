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
    plan::{
        op::{LinkRow, RowOp},
        ownership::ROUTE_PROTOCOL,
    },
};

/// Add or replace.
const SET: u16 = NLM_F_CREATE | NLM_F_REPLACE;
/// Where broadcast, unknown and multicast go, in the table of a vxlan device.
const ALL_ZERO: [u8; 6] = [0; 6];

/// The message that sets or removes a row of the link with this index; `bridge`: whether that is a bridge.
pub(in crate::kernel::linux) fn request(op: RowOp, row: &LinkRow, index: u32, bridge: bool) -> Request {
    let set = op == RowOp::Set;
    let neighbour = match row {
        LinkRow::Address(net) => {
            let message = address(index, *net);
            return match op {
                RowOp::Set => Request { message: RouteNetlinkMessage::NewAddress(message), flags: SET },
                RowOp::Remove => Request { message: RouteNetlinkMessage::DelAddress(message), flags: 0 },
            };
        }
        LinkRow::Neighbour(ip, mac) => neighbour(index, *ip, set.then_some(*mac)),
        LinkRow::VxlanFdb(mac, vtep) => tunnel(index, mac.octets(), set.then_some(*vtep)),
        LinkRow::Flood(vtep) => tunnel(index, ALL_ZERO, Some(*vtep)),
        LinkRow::BridgeFdb(mac) => station(index, *mac, bridge),
    };
    if !set {
        return Request { message: RouteNetlinkMessage::DelNeighbour(neighbour), flags: 0 };
    }
    // Destinations of floods share one row, and a replacement would leave one of them.
    let flags = if matches!(row, LinkRow::Flood(_)) { NLM_F_CREATE | NLM_F_APPEND } else { SET };
    Request { message: RouteNetlinkMessage::NewNeighbour(neighbour), flags }
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
