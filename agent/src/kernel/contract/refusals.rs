//! Checks on what is refused, and on what is not ours.

use super::{
    Stranger, apply,
    build::{self, BRIDGE, Built, ETH, LEG, PORT, VXLAN, at, inner, mac, mark, net, network, sandbox},
    chain, cleared, expect, refused, steps, told,
};
use crate::{
    kernel::Kernel,
    model::IfName,
    plan::{
        op::{LinkOp, LinkRow, NetnsOp, NewLink, Op, RowOp, SettingOp},
        state::{LinkKind, Look, LookAt, Netns, Port, Route},
    },
};

/// A link of somebody else.
const FOREIGN: IfName = IfName::literal("ovk-foreign");

pub(super) async fn absent<K: Kernel>(kernel: &K) -> Built<()> {
    cleared(kernel, async {
        let desired = network()?;
        let removals = || -> Built<Vec<Op>> {
            let (tunnel, port, eth) = (at(&inner()?, VXLAN), at(&inner()?, PORT), at(&sandbox()?, ETH));
            let route = Route { via: None, source: None, mtu: None, metric: 5 };
            let ip = "10.77.9.9".parse().map_err(|error| format!("{error}"))?;
            Ok(vec![
                Op::Row(eth.clone(), RowOp::Remove, LinkRow::Address(net("10.99.0.1/24")?)),
                Op::Row(eth.clone(), RowOp::Remove, LinkRow::Address(net("fd99::1/64")?)),
                Op::Link(eth.clone(), LinkOp::RemoveRoute(net("10.98.0.0/24")?, route)),
                Op::Link(eth.clone(), LinkOp::RemoveRoute(net("fd98::/64")?, route)),
                Op::Row(eth, RowOp::Remove, LinkRow::Neighbour(ip, mac(99)?)),
                Op::Row(tunnel.clone(), RowOp::Remove, LinkRow::VxlanFdb(mac(99)?, ip)),
                Op::Row(tunnel, RowOp::Remove, LinkRow::Flood(ip)),
                Op::Row(port, RowOp::Remove, LinkRow::BridgeFdb(mac(99)?)),
                Op::Setting(inner()?, SettingOp::RemoveTable),
                Op::Link(at(&inner()?, IfName::literal("gone")), LinkOp::Remove),
            ])
        };
        // Without the namespaces …
        apply(kernel, removals()?).await?;
        apply(
            kernel,
            vec![Op::Netns(inner()?, NetnsOp::Remove), Op::Link(at(&Netns::Host, LEG), LinkOp::Remove)],
        )
        .await?;
        // … with them …
        apply(kernel, steps(&desired)).await?;
        apply(kernel, vec![Op::Setting(inner()?, SettingOp::RemoveTable)]).await?;
        apply(kernel, removals()?).await?;
        // … and on a link that is no port (any more).
        apply(
            kernel,
            vec![
                Op::Link(at(&inner()?, PORT), LinkOp::SetPort(None)),
                Op::Row(at(&inner()?, PORT), RowOp::Remove, LinkRow::BridgeFdb(mac(4)?)),
            ],
        )
        .await
    })
    .await
}

pub(super) async fn foreign_links<K: Kernel>(kernel: &K, stranger: &impl Stranger) -> Built<()> {
    let foreign = at(&Netns::Host, FOREIGN);
    stranger.add_link(&foreign)?;
    let outcome = cleared(kernel, async {
        let desired = network()?;
        apply(kernel, steps(&desired)).await?;
        let error = refused(kernel, vec![Op::Link(foreign.clone(), LinkOp::Remove)]).await?;
        if !told(&error).contains("mark") {
            return Err(format!("the error does not say why: {}", told(&error)));
        }
        expect(kernel, &desired).await
    })
    .await;
    let look = Look { netns: [(Netns::Host, LookAt::default())].into() };
    let observed = kernel.observe(look).await.map_err(|error| chain(&error))?;
    let observed = observed.netns.get(&Netns::Host).and_then(|host| host.links.get(&FOREIGN)).cloned();
    stranger.remove_link(&foreign)?;
    outcome?;
    match observed {
        Some(link) if link.mark.is_none() => Ok(()),
        _ => Err(format!("the foreign link is seen as {observed:?}")),
    }
}

pub(super) async fn foreign_routes<K: Kernel>(kernel: &K, stranger: &impl Stranger) -> Built<()> {
    cleared(kernel, async {
        let desired = network()?;
        apply(kernel, steps(&desired)).await?;
        let leg = at(&Netns::Host, LEG);
        for to in [net("10.99.0.0/24")?, net("fd99::/64")?] {
            stranger.add_route(&leg, to, 55)?;
            let ours = Route { via: None, source: None, mtu: Some(1280), metric: 55 };
            let error = refused(kernel, vec![Op::Link(leg.clone(), LinkOp::SetRoute(to, ours))]).await?;
            if !told(&error).contains("not ours") || !told(&error).contains(&to.to_string()) {
                return Err(format!("the error does not name the foreign route: {}", told(&error)));
            }
            apply(kernel, vec![Op::Link(leg.clone(), LinkOp::RemoveRoute(to, ours))]).await?;
            if !stranger.has_route(&leg, to, 55)? {
                return Err(format!("the foreign route to {to} is gone"));
            }
        }
        // It is not among ours, and another metric is another route.
        expect(kernel, &desired).await?;
        let other = Route { via: None, source: None, mtu: None, metric: 56 };
        apply(kernel, vec![Op::Link(leg.clone(), LinkOp::SetRoute(net("10.99.0.0/24")?, other))]).await
    })
    .await
}

pub(super) async fn taken<K: Kernel>(kernel: &K, stranger: &impl Stranger) -> Built<()> {
    let foreign = at(&Netns::Host, FOREIGN);
    stranger.add_link(&foreign)?;
    let outcome = cleared(kernel, async {
        let desired = network()?;
        apply(kernel, steps(&desired)).await?;
        let new = |at, number| -> Built<NewLink> {
            Ok(NewLink { at, mark: mark("x"), mac: Some(mac(number)?), mtu: 1500 })
        };
        let vxlan = LinkKind::Vxlan(build::vxlan(778, std::net::Ipv4Addr::LOCALHOST.into())?);
        let free = at(&sandbox()?, IfName::literal("free"));
        let taken = vec![
            Op::Netns(inner()?, NetnsOp::Add(mark("x"))),
            Op::AddLink(new(foreign.clone(), 21)?, LinkKind::Bridge),
            Op::AddLink(new(at(&inner()?, VXLAN), 22)?, vxlan),
            Op::AddVeth(new(free.clone(), 23)?, new(foreign.clone(), 24)?),
            Op::AddVeth(new(at(&sandbox()?, ETH), 23)?, new(at(&inner()?, IfName::literal("free")), 24)?),
        ];
        for op in taken {
            // One at a time: what depends on a failed one is not tried.
            let error = refused(kernel, vec![op.clone()]).await;
            let error = error.map_err(|text| format!("{text}\n{op} is the one that should have failed"))?;
            if error.failures.first().map(|(op, _)| op) != Some(&op) || !told(&error).contains("already") {
                return Err(format!("the failures are: {}", told(&error)));
            }
        }
        // Neither damage nor half of a pair.
        expect(kernel, &desired).await?;
        let look = Look { netns: [(sandbox()?, LookAt::default()), (inner()?, LookAt::default())].into() };
        let observed = kernel.observe(look).await.map_err(|error| chain(&error))?;
        let mut names = observed.netns.values().flat_map(|netns| netns.links.keys());
        match names.find(|name| name.as_str() == "free" || name.as_str().starts_with("ovt")) {
            Some(name) => Err(format!("{name} was left behind")),
            None => Ok(()),
        }
    })
    .await;
    stranger.remove_link(&foreign)?;
    outcome
}

pub(super) async fn dependents<K: Kernel>(kernel: &K) -> Built<()> {
    cleared(kernel, async {
        let new = |name: IfName, number| -> Built<NewLink> {
            Ok(NewLink {
                at: at(&inner()?, name),
                mark: mark(name.as_str()),
                mac: Some(mac(number)?),
                mtu: 1500,
            })
        };
        let vxlan = LinkKind::Vxlan(build::vxlan(779, std::net::Ipv4Addr::LOCALHOST.into())?);
        let impossible = LinkKind::Other("dummy".into());
        let port =
            Port { bridge: BRIDGE, learning: true, unicast_flood: true, isolated: false, hairpin: false };
        let ip = "10.77.0.5".parse().map_err(|error| format!("{error}"))?;
        let station = mac(6)?;
        let gone = IfName::literal("gone");
        let ops = vec![
            Op::Netns(inner()?, NetnsOp::Add(mark("netns"))),
            Op::AddLink(new(BRIDGE, 1)?, impossible.clone()),
            Op::Link(at(&inner()?, BRIDGE), LinkOp::SetUp(true)),
            Op::AddLink(new(VXLAN, 2)?, vxlan),
            Op::Link(at(&inner()?, VXLAN), LinkOp::SetPort(Some(port))),
            Op::Link(at(&inner()?, VXLAN), LinkOp::SetUp(true)),
            Op::Row(at(&inner()?, BRIDGE), RowOp::Set, LinkRow::Neighbour(ip, mac(5)?)),
            Op::Row(at(&inner()?, gone), RowOp::Set, LinkRow::Neighbour(ip, mac(5)?)),
            Op::Row(at(&inner()?, VXLAN), RowOp::Set, LinkRow::Neighbour(ip, station)),
        ];
        let error = refused(kernel, ops.clone()).await?;
        let failed: Vec<&Op> = error.failures.iter().map(|(op, _)| op).collect();
        if failed != [&ops[1], &ops[7]] || error.total != ops.len() {
            return Err(format!("{} steps, the failures are: {}", error.total, told(&error)));
        }
        let look = Look { netns: [(inner()?, LookAt::default())].into() };
        let observed = kernel.observe(look).await.map_err(|error| chain(&error))?;
        let vxlan = observed.netns.get(&inner()?).and_then(|netns| netns.links.get(&VXLAN));
        if vxlan.is_some_and(|link| link.up && link.neighbours == [(ip, station)].into()) {
            Ok(())
        } else {
            Err(format!("the steps that depended on nothing were not applied: {vxlan:?}"))
        }
    })
    .await
}

pub(super) async fn sysctls<K: Kernel>(kernel: &K) -> Built<()> {
    cleared(kernel, async {
        apply(kernel, vec![Op::Netns(inner()?, NetnsOp::Add(mark("netns")))]).await?;
        let (key, missing) = ("net/ipv4/ip_forward", "net/ovnet/no_such_key");
        let set =
            |key: &str| Ok::<_, String>(Op::Setting(inner()?, SettingOp::SetSysctl(key.into(), "1".into())));
        let linkless = "net/ipv4/conf/ovk-none/forwarding";
        let error = refused(kernel, vec![set(missing)?, set(linkless)?, set(key)?]).await?;
        let text = told(&error);
        if error.failures.len() != 2 || !text.contains(missing) || !text.contains(linkless) {
            return Err(format!("the failures are: {}", told(&error)));
        }
        let at = LookAt { sysctls: [key.into(), missing.into()].into(), ..LookAt::default() };
        let observed =
            kernel.observe(Look { netns: [(inner()?, at)].into() }).await.map_err(|error| chain(&error))?;
        let observed = observed.netns.get(&inner()?).map(|netns| netns.sysctls.clone());
        if observed == Some([(key.to_owned(), "1".to_owned())].into()) {
            Ok(())
        } else {
            Err(format!("{observed:?}"))
        }
    })
    .await
}
