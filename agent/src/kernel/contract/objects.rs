//! Checks on what is applied and seen.

use std::net::Ipv4Addr;

use super::{
    apply,
    build::{self, BRIDGE, Built, ETH, LEG, PORT, VXLAN, at, inner, mac, net, network, sandbox},
    chain, cleared, expect, steps,
};
use crate::{
    kernel::Kernel,
    plan::{
        op::{LinkOp, LinkRow, NetnsOp, Op, RowOp, SettingOp},
        state::{Link, Look, LookAt, Netns, Port, Route, State},
    },
};

/// How many random states.
const SEEDS: u64 = 24;

pub(super) async fn seen_as_applied<K: Kernel>(kernel: &K) -> Built<()> {
    cleared(kernel, async {
        let desired = network()?;
        apply(kernel, steps(&desired)).await?;
        expect(kernel, &desired).await?;
        let named = kernel.named_netns().await.map_err(|error| chain(&error))?;
        let ours: Vec<_> =
            named.into_iter().filter(|(name, _)| build::NETNS.contains(&name.as_str())).collect();
        let expected = [
            (build::name(build::NETNS[1])?, Some(build::mark("box"))),
            (build::name(build::NETNS[0])?, Some(build::mark("netns"))),
        ];
        if ours != expected {
            return Err(format!("named namespaces: {ours:?}"));
        }
        let links = kernel.link_names().await.map_err(|error| chain(&error))?;
        let made = desired.netns.get(&Netns::Host).into_iter().flat_map(|host| host.links.keys());
        if let Some(missing) = made.into_iter().find(|name| !links.contains(*name)) {
            return Err(format!("{missing} is not among the names of links: {links:?}"));
        }
        let names = kernel.netns_names().await.map_err(|error| chain(&error))?;
        for (name, _) in ours {
            let inode = kernel.netns_inode(format!("/run/netns/{name}").into()).await;
            let inode = inode.map_err(|error| chain(&error))?;
            if names.get(&name).copied() != inode {
                return Err(format!("{name} has inode {inode:?}, and the names are {names:?}"));
            }
        }
        Ok(())
    })
    .await
}

pub(super) async fn again<K: Kernel>(kernel: &K) -> Built<()> {
    cleared(kernel, async {
        let desired = network()?;
        apply(kernel, steps(&desired)).await?;
        let makes = |op: &Op| matches!(op, Op::Netns(_, NetnsOp::Add(_)) | Op::AddLink(..) | Op::AddVeth(..));
        apply(kernel, steps(&desired).into_iter().filter(|op| !makes(op)).collect()).await?;
        expect(kernel, &desired).await
    })
    .await
}

pub(super) async fn random<K: Kernel>(kernel: &K) -> Built<()> {
    for seed in 0..SEEDS {
        let outcome = cleared(kernel, async {
            let desired = build::random_network(seed)?;
            apply(kernel, steps(&desired)).await?;
            expect(kernel, &desired).await
        });
        outcome.await.map_err(|text| format!("seed {seed}: {text}"))?;
    }
    Ok(())
}

/// Change each field of the state and tell the kernel.
pub(super) async fn changes<K: Kernel>(kernel: &K) -> Built<()> {
    cleared(kernel, async {
        let mut desired = network()?;
        apply(kernel, steps(&desired)).await?;
        let mut ops = change_bridge(&mut desired)?;
        ops.extend(change_tunnel(&mut desired)?);
        ops.extend(change_ends(&mut desired)?);
        apply(kernel, ops).await?;
        expect(kernel, &desired).await
    })
    .await
}

fn link<'a>(state: &'a mut State, netns: &Netns, name: crate::model::IfName) -> Built<&'a mut Link> {
    state
        .netns
        .get_mut(netns)
        .and_then(|netns| netns.links.get_mut(&name))
        .ok_or_else(|| format!("no {name}"))
}

fn change_bridge(desired: &mut State) -> Built<Vec<Op>> {
    let inner = inner()?;
    let here = || at(&inner, BRIDGE);
    let bridge = link(desired, &inner, BRIDGE)?;
    bridge.mac = Some(mac(11)?);
    bridge.bridge_fdb = [mac(11)?].into();
    bridge.mtu = 1300;
    bridge.addresses.remove(&net("10.77.0.9/32")?);
    bridge.addresses.insert(net("10.77.0.10/32")?);
    let neighbour = Ipv4Addr::new(10, 77, 0, 5).into();
    bridge.neighbours.insert(neighbour, mac(12)?);
    let mut ops = vec![
        // The row of the old address stays if somebody set it.
        Op::Row(here(), RowOp::Remove, LinkRow::BridgeFdb(mac(1)?)),
        Op::Link(here(), LinkOp::SetMac(mac(11)?)),
        Op::Link(here(), LinkOp::SetMtu(1300)),
        Op::Row(here(), RowOp::Remove, LinkRow::Address(net("10.77.0.9/32")?)),
        Op::Row(here(), RowOp::Set, LinkRow::Address(net("10.77.0.10/32")?)),
        Op::Row(here(), RowOp::Set, LinkRow::Neighbour(neighbour, mac(12)?)),
        Op::Setting(inner.clone(), SettingOp::SetSysctl("net/ipv4/ip_forward".into(), "0".into())),
        Op::Setting(inner.clone(), SettingOp::RemoveTable),
    ];
    let gone = "fd77::5".parse().map_err(|error| format!("{error}"))?;
    bridge.neighbours.remove(&gone);
    // It goes whatever its value is.
    ops.push(Op::Row(here(), RowOp::Remove, LinkRow::Neighbour(gone, mac(99)?)));
    let netns = desired.netns.get_mut(&inner).ok_or("no namespace")?;
    netns.sysctls.insert("net/ipv4/ip_forward".into(), "0".into());
    netns.table = None;
    Ok(ops)
}

/// Somebody gives a port the bridge's own address, by which nobody is heard behind the bridge any more.
pub(super) async fn own_row<K: Kernel>(kernel: &K) -> Built<()> {
    cleared(kernel, async {
        let whole = network()?;
        apply(kernel, steps(&whole)).await?;
        let (inner, own) = (inner()?, mac(1)?);
        let (bridge, port) = (|| at(&inner, BRIDGE), || at(&inner, PORT));
        let mut bent = whole.clone();
        link(&mut bent, &inner, BRIDGE)?.bridge_fdb.clear();
        link(&mut bent, &inner, PORT)?.bridge_fdb.insert(own);
        apply(
            kernel,
            vec![
                Op::Row(bridge(), RowOp::Remove, LinkRow::BridgeFdb(own)),
                Op::Row(port(), RowOp::Set, LinkRow::BridgeFdb(own)),
            ],
        )
        .await?;
        expect(kernel, &bent).await?;
        apply(
            kernel,
            vec![
                Op::Row(port(), RowOp::Remove, LinkRow::BridgeFdb(own)),
                Op::Row(bridge(), RowOp::Set, LinkRow::BridgeFdb(own)),
            ],
        )
        .await?;
        expect(kernel, &whole).await
    })
    .await
}

fn change_tunnel(desired: &mut State) -> Built<Vec<Op>> {
    let inner = inner()?;
    let here = || at(&inner, VXLAN);
    let tunnel = link(desired, &inner, VXLAN)?;
    let (old, new) = (Ipv4Addr::new(192, 0, 2, 5).into(), Ipv4Addr::new(192, 0, 2, 7).into());
    tunnel.vxlan_fdb.insert(mac(5)?, new);
    tunnel.vxlan_fdb.remove(&mac(6)?);
    tunnel.flood_list.remove(&old);
    tunnel.flood_list.insert(new);
    tunnel.bridge_fdb.remove(&mac(6)?);
    let port = Port { bridge: BRIDGE, learning: true, unicast_flood: false, isolated: true, hairpin: false };
    tunnel.port = Some(port);
    Ok(vec![
        Op::Row(here(), RowOp::Set, LinkRow::VxlanFdb(mac(5)?, new)),
        // It goes whatever its value is.
        Op::Row(here(), RowOp::Remove, LinkRow::VxlanFdb(mac(6)?, new)),
        Op::Row(here(), RowOp::Remove, LinkRow::Flood(old)),
        Op::Row(here(), RowOp::Set, LinkRow::Flood(new)),
        Op::Row(here(), RowOp::Remove, LinkRow::BridgeFdb(mac(6)?)),
        Op::Link(here(), LinkOp::SetPort(Some(port))),
    ])
}

fn change_ends(desired: &mut State) -> Built<Vec<Op>> {
    let (inner, sandbox) = (inner()?, sandbox()?);
    let endpoint = link(desired, &inner, PORT)?;
    endpoint.port = None;
    endpoint.bridge_fdb.clear();
    endpoint.up = false;
    let eth = link(desired, &sandbox, ETH)?;
    let (default, other) = (net("0.0.0.0/0")?, net("198.51.100.0/24")?);
    let gone = eth.routes.remove(&default).ok_or("no default route")?;
    let added = Route { via: None, source: Some(Ipv4Addr::new(10, 77, 0, 2).into()), mtu: None, metric: 7 };
    eth.routes.insert(other, added);
    let leg = link(desired, &Netns::Host, LEG)?;
    let to = net("10.77.0.0/24")?;
    let route = leg.routes.get_mut(&to).ok_or("no route")?;
    route.mtu = None;
    route.via = Some(Ipv4Addr::new(169, 254, 77, 1).into());
    let route = *route;
    let here = at(&inner, PORT);
    Ok(vec![
        Op::Link(here.clone(), LinkOp::SetPort(None)),
        Op::Link(at(&sandbox, ETH), LinkOp::RemoveRoute(default, gone)),
        Op::Link(at(&sandbox, ETH), LinkOp::SetRoute(other, added)),
        Op::Link(at(&Netns::Host, LEG), LinkOp::SetRoute(to, route)),
        Op::Link(here, LinkOp::SetUp(false)),
    ])
}

pub(super) async fn narrow_look<K: Kernel>(kernel: &K) -> Built<()> {
    cleared(kernel, async {
        let desired = network()?;
        apply(kernel, steps(&desired)).await?;
        let at = LookAt { links: build::names(&[BRIDGE, ETH]), ..LookAt::default() };
        let gone = Netns::Named(build::name("ovk-gone")?);
        let look = Look { netns: [(inner()?, at), (gone.clone(), LookAt::default())].into() };
        let observed = kernel.observe(look).await.map_err(|error| chain(&error))?;
        let observed =
            (!observed.netns.contains_key(&gone)).then(|| observed.netns.get(&inner().ok()?)).flatten();
        let observed = observed.ok_or("a namespace that is not there was seen, or one that is was not")?;
        let bridge = desired.netns.get(&inner()?).and_then(|netns| netns.links.get(&BRIDGE));
        if observed.links.len() != 1 || observed.links.get(&BRIDGE) != bridge {
            return Err(format!("links: {:?}", observed.links));
        }
        if !observed.sysctls.is_empty() || observed.table.is_some() {
            return Err("sysctls or the table were seen although the look did not name them".into());
        }
        whole_look(kernel, &desired).await
    })
    .await
}

/// A look without names sees every link, with all that hangs off it.
async fn whole_look<K: Kernel>(kernel: &K, desired: &State) -> Built<()> {
    let look = Look { netns: [(inner()?, LookAt::default()), (sandbox()?, LookAt::default())].into() };
    let observed = kernel.observe(look).await.map_err(|error| chain(&error))?;
    for netns in [inner()?, sandbox()?] {
        for (name, link) in &desired.netns[&netns].links {
            let observed = observed.netns.get(&netns).and_then(|observed| observed.links.get(name));
            if observed != Some(link) {
                return Err(format!("{netns}/{name}\n  wanted {link:?}\n  seen   {observed:?}"));
            }
        }
    }
    Ok(())
}
