//! Routes of ours: told by their protocol number, in the main table. A foreign one is never replaced.

use std::{fmt::Display, net::IpAddr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope},
};
use nix::{errno::Errno, libc};
use rtnetlink::RouteMessageBuilder;

use super::{
    attributes::{Attributes, address, u8_at, u32_at},
    batch::Request,
    rows::family,
    socket::Rtnl,
};
use crate::{
    kernel::linux::refusal::Refusal,
    plan::{ownership::ROUTE_PROTOCOL, state::Route},
};

/// Length of struct rtmsg.
const HEADER: usize = 12;
/// RTAX_MTU (linux/rtnetlink.h), within RTA_METRICS.
const METRIC_MTU: u16 = 2;

/// A unicast route as the kernel tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kernel::linux) struct Row {
    /// Destination.
    pub(in crate::kernel::linux) to: IpNet,
    /// Who set it.
    pub(in crate::kernel::linux) protocol: u8,
    /// Indexes of the outgoing links; more than one for a multipath route.
    pub(in crate::kernel::linux) links: Vec<u32>,
    /// The rest.
    pub(in crate::kernel::linux) route: Route,
}

/// Which routes of the main table to dump.
#[derive(Clone, Copy, Default)]
pub(in crate::kernel::linux) struct Filter {
    /// Only this protocol.
    pub(in crate::kernel::linux) protocol: Option<u8>,
    /// Only routes through this link.
    pub(in crate::kernel::linux) link: Option<u32>,
}

/// The unicast routes of the main table, both families.
pub(in crate::kernel::linux) fn dump(rtnl: &mut Rtnl, filter: Filter) -> Result<Vec<Row>, Refusal> {
    let mut rows = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = filter.protocol.map_or(RouteProtocol::Unspec, RouteProtocol::from);
        message.attributes.extend(filter.link.map(RouteAttribute::Oif));
        let outcome = rtnl.dump(RouteNetlinkMessage::GetRoute(message), &mut |body| {
            let desired = |row: &Row| {
                filter.protocol.is_none_or(|protocol| row.protocol == protocol)
                    && filter.link.is_none_or(|link| row.links.contains(&link))
            };
            // Without IPv6 in the kernel it answers with every family that it has.
            rows.extend(parse(body).filter(desired).filter(|_| u8_at(body, 0) == Some(family.into())));
        });
        match outcome {
            // The IPv4 table comes into being with its first route.
            Err(refusal) if refusal.errno == Errno::ENOENT => {}
            outcome => outcome?,
        }
    }
    Ok(rows)
}

/// Add our route or bring it to what it shall be.
pub(in crate::kernel::linux) fn set(
    rtnl: &mut Rtnl,
    index: u32,
    to: IpNet,
    route: &Route,
) -> Result<(), Refusal> {
    let message = message(index, to, route)?;
    let request = |flags| Request {
        message: RouteNetlinkMessage::NewRoute(message.clone()),
        flags: NLM_F_CREATE | flags,
    };
    match rtnl.apply(request(NLM_F_EXCL)) {
        Err(refusal) if refusal.errno == Errno::EEXIST => {}
        outcome => return outcome,
    }
    let same_place =
        |row: &&Row| row.to.trunc() == to.trunc() && row.route.metric == effective_metric(to, route);
    let there = dump(rtnl, Filter::default())?;
    let (mine, foreign): (Vec<&Row>, Vec<&Row>) =
        there.iter().filter(same_place).partition(|row| row.protocol == ROUTE_PROTOCOL);
    if let Some(foreign) = foreign.first() {
        return Err(Refusal::new(
            Errno::EEXIST,
            format!(
                "a route to {to} with metric {} exists already and is not ours (protocol {}, on link {:?}): \
                 remove it, or choose a different subnet",
                foreign.route.metric, foreign.protocol, foreign.links
            ),
        ));
    }
    if mine.iter().any(|row| row.links == [index] && row.route == *route) {
        return Ok(());
    }
    rtnl.apply(request(NLM_F_REPLACE))
}

/// Remove our route; a foreign one to the same destination stays.
pub(in crate::kernel::linux) fn remove(
    rtnl: &mut Rtnl,
    index: u32,
    to: IpNet,
    route: &Route,
) -> Result<(), Refusal> {
    // NoWhere: any scope.
    let message = ours(index, to, effective_metric(to, route))?.scope(RouteScope::NoWhere).build();
    rtnl.apply(Request { message: RouteNetlinkMessage::DelRoute(message), flags: 0 })
}

/// The route that a packet to this address takes: outgoing link and MTU metric.
pub(in crate::kernel::linux) fn toward(rtnl: &mut Rtnl, to: IpAddr) -> Result<(u32, Option<u32>), Refusal> {
    let mut message = RouteMessage::default();
    message.header.address_family = family(to);
    message.header.destination_prefix_length = if to.is_ipv4() { 32 } else { 128 };
    message.attributes.push(RouteAttribute::Destination(to.into()));
    let body = rtnl.get(RouteNetlinkMessage::GetRoute(message))?;
    let attributes = Attributes::after(&body, HEADER);
    let link = attributes.find(libc::RTA_OIF).and_then(|value| u32_at(value, 0));
    let link = link.ok_or_else(|| Refusal::new(Errno::ENETUNREACH, "the route has no link"))?;
    Ok((link, mtu(attributes)))
}

/// Our route in the main table, with what tells it from others.
fn ours(index: u32, to: IpNet, metric: u32) -> Result<RouteMessageBuilder, Refusal> {
    RouteMessageBuilder::<IpAddr>::new()
        .protocol(ROUTE_PROTOCOL.into())
        .output_interface(index)
        .priority(metric)
        .destination_prefix(to.network(), to.prefix_len())
        .map_err(impossible)
}

fn message(index: u32, to: IpNet, route: &Route) -> Result<RouteMessage, Refusal> {
    let mut builder = ours(index, to, route.metric)?;
    if route.via.is_none() && to.addr().is_ipv4() {
        builder = builder.scope(RouteScope::Link);
    }
    if let Some(via) = route.via {
        builder = builder.gateway(via).map_err(impossible)?;
    }
    if let Some(source) = route.source {
        builder = builder.pref_source(source).map_err(impossible)?;
    }
    let metrics = route.mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
    builder.get_mut().attributes.extend(metrics);
    Ok(builder.build())
}

/// The builder refuses addresses of different families.
fn impossible(error: impl Display) -> Refusal {
    Refusal::new(Errno::EINVAL, error.to_string())
}

/// The kernel takes 0 over IPv6 for its default (IP6_RT_PRIO_USER).
fn effective_metric(to: IpNet, route: &Route) -> u32 {
    if route.metric == 0 && to.addr().is_ipv6() { 1024 } else { route.metric }
}

fn mtu(attributes: Attributes<'_>) -> Option<u32> {
    let metrics = Attributes::nested(attributes.find(libc::RTA_METRICS)?);
    metrics.find(METRIC_MTU).and_then(|value| u32_at(value, 0)).filter(|mtu| *mtu != 0)
}

/// A unicast route; anything else (and what cannot be read) is left out.
fn parse(body: &[u8]) -> impl Iterator<Item = Row> {
    parse_unicast(body).into_iter()
}

fn parse_unicast(body: &[u8]) -> Option<Row> {
    let (family, length) = (u8_at(body, 0)?, u8_at(body, 1)?);
    let (protocol, kind) = (u8_at(body, 5)?, u8_at(body, 7)?);
    let cloned = u32_at(body, 8)? & libc::RTM_F_CLONED != 0;
    let attributes = Attributes::after(body, HEADER);
    let table = attributes.find(libc::RTA_TABLE).and_then(|value| u32_at(value, 0));
    if kind != libc::RTN_UNICAST || cloned || table != Some(libc::RT_TABLE_MAIN.into()) {
        return None;
    }
    let default = if i32::from(family) == libc::AF_INET { [0; 4].into() } else { IpAddr::from([0; 16]) };
    let to = attributes.find(libc::RTA_DST).map_or(Some(default), address)?;
    let mut links: Vec<u32> =
        attributes.find(libc::RTA_OIF).and_then(|value| u32_at(value, 0)).into_iter().collect();
    if let Some(hops) = attributes.find(libc::RTA_MULTIPATH) {
        links.extend(hop_links(hops));
    }
    let via = match attributes.find(libc::RTA_VIA) {
        // struct rtvia: the family, then the address.
        Some(via) => via.get(2..).and_then(address),
        None => attributes.find(libc::RTA_GATEWAY).and_then(address),
    };
    let route = Route {
        via,
        source: attributes.find(libc::RTA_PREFSRC).and_then(address),
        mtu: mtu(attributes),
        metric: attributes.find(libc::RTA_PRIORITY).and_then(|value| u32_at(value, 0)).unwrap_or(0),
    };
    Some(Row { to: IpNet::new(to, length).ok()?, protocol, links, route })
}

/// The links in RTA_MULTIPATH: struct rtnexthop (length, flags, hops, index) with attributes, one after the other.
fn hop_links(mut hops: &[u8]) -> Vec<u32> {
    let mut links = Vec::new();
    while let (Some(length), Some(index)) = (super::attributes::u16_at(hops, 0), u32_at(hops, 4)) {
        links.push(index);
        let length = usize::from(length).max(8).next_multiple_of(4);
        hops = hops.get(length..).unwrap_or_default();
    }
    links
}
