//! States to want, and the steps that make them from nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

pub(super) use super::parts::{
    BRIDGE, Built, ETH, INNER_LEG, LEG, NETNS, PORT, VXLAN, at, inner, mac, mark, name, net, sandbox, text,
    vxlan,
};
use super::ruleset::table;
use crate::{
    model::{IfName, Vni},
    plan::{
        op::{LinkOp, LinkRow, NetnsOp, NewLink, Op, RowOp, SettingOp},
        ownership::Mark,
        ruleset::Table,
        state::{Link, LinkKind, Look, LookAt, Netns, NetnsState, Port, Route, State},
    },
};

/// A network with a sandbox and a host leg: something of everything.
pub(super) fn network() -> Built<State> {
    let (inner, sandbox) = (inner()?, sandbox()?);
    let port = |learning, unicast_flood| {
        Some(Port { bridge: BRIDGE, learning, unicast_flood, isolated: false, hairpin: false })
    };
    let route = |via: Option<IpAddr>, source, mtu| Route { via, source, mtu, metric: 100 };

    let mut bridge = Link::new(LinkKind::Bridge, mark("br0"), mac(1)?, 1450);
    bridge.addresses = [net("10.77.0.1/24")?, net("10.77.0.9/32")?, net("fd77::1/64")?].into();
    bridge.neighbours =
        [("10.77.0.5".parse().map_err(text)?, mac(5)?), ("fd77::5".parse().map_err(text)?, mac(5)?)].into();
    let mut tunnel = Link::new(
        LinkKind::Vxlan(vxlan(777, Ipv4Addr::new(192, 0, 2, 1).into())?),
        mark("vxlan0"),
        mac(2)?,
        1450,
    );
    tunnel.port = port(false, true);
    tunnel.neighbours = [("10.77.0.6".parse().map_err(text)?, mac(6)?)].into();
    tunnel.vxlan_fdb =
        [(mac(5)?, Ipv4Addr::new(192, 0, 2, 5).into()), (mac(6)?, Ipv4Addr::new(192, 0, 2, 6).into())].into();
    tunnel.flood_list = [Ipv4Addr::new(192, 0, 2, 5).into(), Ipv4Addr::new(192, 0, 2, 6).into()].into();
    tunnel.bridge_fdb = [mac(5)?, mac(6)?].into();
    let mut endpoint = Link::new(LinkKind::Veth, mark("ep-0123456789ab"), mac(3)?, 1450);
    endpoint.port = port(false, false);
    endpoint.bridge_fdb = [mac(4)?].into();
    let mut eth = Link::new(LinkKind::Veth, mark("ep-0123456789ab"), mac(4)?, 1450);
    eth.addresses = [net("10.77.0.2/24")?, net("fd77::2/64")?].into();
    eth.routes = [
        (net("0.0.0.0/0")?, route(Some("10.77.0.1".parse().map_err(text)?), None, None)),
        (net("::/0")?, route(Some("fd77::1".parse().map_err(text)?), None, None)),
    ]
    .into();
    let mut leg = Link::new(LinkKind::Veth, mark("leg"), mac(7)?, 1450);
    leg.addresses = [net("169.254.77.0/31")?, net("fe80::77:0/64")?].into();
    leg.routes =
        [(net("10.77.0.0/24")?, route(None, Some("169.254.77.0".parse().map_err(text)?), Some(1400)))].into();
    let mut inner_leg = Link::new(LinkKind::Veth, mark("leg"), mac(8)?, 1450);
    inner_leg.addresses = [net("169.254.77.1/31")?].into();

    let mut state = State::default();
    state.netns.insert(
        Netns::Host,
        NetnsState {
            links: [(LEG, leg)].into(),
            sysctls: [(format!("net/ipv4/conf/{LEG}/route_localnet"), "1".into())].into(),
            table: Some(Table::default()),
            ..NetnsState::default()
        },
    );
    let links = [(BRIDGE, bridge), (VXLAN, tunnel), (PORT, endpoint), (INNER_LEG, inner_leg)].into();
    let sysctls =
        [("net/ipv4/ip_forward".into(), "1".into()), ("net/ipv6/conf/br0/accept_dad".into(), "0".into())]
            .into();
    state.netns.insert(
        inner,
        NetnsState {
            mark: Some(mark("netns")),
            links,
            sysctls,
            table: Some(table()?),
            ..NetnsState::default()
        },
    );
    let own = NetnsState { mark: Some(mark("box")), links: [(ETH, eth)].into(), ..NetnsState::default() };
    state.netns.insert(sandbox, NetnsState { resolver: Some(50_053), ..own });
    Ok(state)
}

/// [`network`] with random numbers of rows, addresses and flags.
pub(super) fn random_network(seed: u64) -> Built<State> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut state = network()?;
    let over_v6 = random.random_bool(0.5);
    let vtep = |number: u8| -> IpAddr {
        if over_v6 {
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into()).into()
        } else {
            Ipv4Addr::new(192, 0, 2, number).into()
        }
    };
    let mtu = random.random_range(1280..=9000);
    let inner = state.netns.get_mut(&inner()?).ok_or("no namespace")?;
    inner.table = if random.random_bool(0.7) { Some(table()?) } else { None };
    for (name, link) in &mut inner.links {
        link.mtu = mtu;
        if *name == VXLAN {
            link.kind = LinkKind::Vxlan(vxlan(random.random_range(1..=Vni::MAX), vtep(1))?);
            link.flood_list = (2..random.random_range(2..9)).map(vtep).collect();
            link.vxlan_fdb.clear();
            link.bridge_fdb.clear();
            for number in 1..random.random_range(1..60_u32) {
                let (mac, to) = (mac(1000 + number)?, vtep(random.random_range(2..9)));
                link.vxlan_fdb.insert(mac, to);
                link.bridge_fdb.insert(mac);
                link.neighbours.insert(Ipv4Addr::from(0x0a4d_0100 + number).into(), mac);
            }
        }
        if let Some(port) = &mut link.port {
            port.learning = random.random();
            port.unicast_flood = random.random();
            port.isolated = random.random();
        }
        link.addresses.retain(|_| random.random_bool(0.8));
    }
    let host = state.netns.get_mut(&Netns::Host).ok_or("no host")?;
    host.table = [None, Some(Table::default())].choose(&mut random).cloned().flatten();
    if let Some(leg) = host.links.get_mut(&LEG) {
        for route in leg.routes.values_mut() {
            route.metric = random.random_range(1..4000);
            route.mtu = random.random_bool(0.5).then_some(1300);
        }
    }
    let sandbox = state.netns.get_mut(&sandbox()?).ok_or("no sandbox")?;
    sandbox.resolver = random.random_bool(0.7).then(|| random.random_range(1..=u16::MAX));
    Ok(state)
}

/// Where to look to see all of this.
pub fn look_at(state: &State) -> Look {
    let one = |netns: &NetnsState| LookAt {
        links: Some(netns.links.keys().copied().collect()),
        bare: false,
        sysctls: netns.sysctls.keys().cloned().collect(),
        table: true,
        resolver: true,
        forward_accepts: true,
    };
    Look { netns: state.netns.iter().map(|(netns, state)| (netns.clone(), one(state))).collect() }
}

/// The steps that make all of this from nothing.
pub fn steps(state: &State) -> Vec<Op> {
    let mut ops = Vec::new();
    for (netns, desired) in &state.netns {
        ops.extend(desired.mark.clone().map(|mark| Op::Netns(netns.clone(), NetnsOp::Add(mark))));
    }
    let mut ends: BTreeMap<&Mark, NewLink> = BTreeMap::new();
    for (netns, name, link) in links(state) {
        let Some(mark) = &link.mark else { continue };
        let new = NewLink { at: at(netns, name), mark: mark.clone(), mac: link.mac, mtu: link.mtu };
        match link.kind {
            LinkKind::Veth => match ends.remove(mark) {
                Some(other) => ops.push(Op::AddVeth(other, new)),
                None => {
                    ends.insert(mark, new);
                }
            },
            LinkKind::Bridge
            | LinkKind::Vxlan(_)
            | LinkKind::Macvlan(..)
            | LinkKind::Ipvlan(..)
            | LinkKind::Vlan(..)
            | LinkKind::Other(_) => {
                ops.push(Op::AddLink(new, link.kind.clone()));
            }
        }
    }
    for (netns, name, link) in links(state) {
        ops.extend(link.port.map(|port| Op::Link(at(netns, name), LinkOp::SetPort(Some(port)))));
        ops.push(Op::Link(at(netns, name), LinkOp::SetUp(link.up)));
        ops.extend(
            link.addresses.iter().map(|net| Op::Row(at(netns, name), RowOp::Set, LinkRow::Address(*net))),
        );
    }
    ops.extend(rows(state));
    for (netns, desired) in &state.netns {
        let set = |op| Op::Setting(netns.clone(), op);
        let sysctl = |(key, value): (&String, &String)| SettingOp::SetSysctl(key.clone(), value.clone());
        ops.extend(desired.sysctls.iter().map(sysctl).map(set));
        ops.extend(desired.table.clone().map(SettingOp::SetTable).map(set));
        ops.extend(desired.resolver.map(SettingOp::SetResolver).map(set));
    }
    ops
}

/// The steps of [`steps`] for what hangs off links.
pub(super) fn rows(state: &State) -> Vec<Op> {
    let mut ops = Vec::new();
    for (netns, name, link) in links(state) {
        let at = || at(netns, name);
        let set = |row| Op::Row(at(), RowOp::Set, row);
        ops.extend(link.routes.iter().map(|(to, route)| Op::Link(at(), LinkOp::SetRoute(*to, *route))));
        ops.extend(link.neighbours.iter().map(|(ip, mac)| set(LinkRow::Neighbour(*ip, *mac))));
        ops.extend(link.vxlan_fdb.iter().map(|(mac, vtep)| set(LinkRow::VxlanFdb(*mac, *vtep))));
        ops.extend(link.flood_list.iter().map(|vtep| set(LinkRow::Flood(*vtep))));
        ops.extend(link.bridge_fdb.iter().map(|mac| set(LinkRow::BridgeFdb(*mac))));
    }
    ops
}

fn links(state: &State) -> impl Iterator<Item = (&Netns, IfName, &Link)> {
    state
        .netns
        .iter()
        .flat_map(|(netns, state)| state.links.iter().map(move |(name, link)| (netns, *name, link)))
}

/// These names.
pub(super) fn names(names: &[IfName]) -> Option<BTreeSet<IfName>> {
    Some(names.iter().copied().collect())
}
