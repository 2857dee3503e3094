//! Checks with many rows and many rounds.

use std::net::Ipv4Addr;

use super::{
    apply,
    build::{self, BRIDGE, Built, VXLAN, at, inner, mac, mark},
    cleared, expect, steps,
};
use crate::{
    kernel::Kernel,
    plan::{
        op::{LinkRow, NetnsOp, Op, RowOp},
        state::{Link, LinkKind, NetnsState, Port, State},
    },
};

/// Rows of each kind.
const MANY: u32 = 10_000;
/// Rounds of making and removing.
const ROUNDS: usize = 10;

fn state(rows: u32) -> Built<State> {
    let bridge = Link::new(LinkKind::Bridge, mark("br0"), mac(1)?, 1450);
    let vxlan = LinkKind::Vxlan(build::vxlan(780, Ipv4Addr::LOCALHOST.into())?);
    let mut tunnel = Link::new(vxlan, mark("vxlan0"), mac(2)?, 1450);
    tunnel.port =
        Some(Port { bridge: BRIDGE, learning: false, unicast_flood: true, isolated: false, hairpin: false });
    for number in 0..rows {
        let station = mac(0x1_0000 + number)?;
        tunnel.neighbours.insert(Ipv4Addr::from(0x0a4d_0000 + number).into(), station);
        tunnel.vxlan_fdb.insert(station, Ipv4Addr::from(0xc000_0200 + number % 200).into());
        tunnel.bridge_fdb.insert(station);
    }
    let links = [(BRIDGE, bridge), (VXLAN, tunnel)].into();
    let netns = NetnsState { mark: Some(mark("netns")), links, ..NetnsState::default() };
    Ok(State { netns: [(inner()?, netns)].into() })
}

pub(super) async fn ten_thousand<K: Kernel>(kernel: &K) -> Built<()> {
    cleared(kernel, async {
        let mut desired = state(MANY)?;
        apply(kernel, steps(&desired)).await?;
        expect(kernel, &desired).await?;
        let link = desired
            .netns
            .get_mut(&inner()?)
            .and_then(|netns| netns.links.get_mut(&VXLAN))
            .ok_or("no link")?;
        let here = at(&inner()?, VXLAN);
        let mut ops = Vec::new();
        let remove = |row| Op::Row(here.clone(), RowOp::Remove, row);
        ops.extend(link.neighbours.iter().map(|(ip, mac)| remove(LinkRow::Neighbour(*ip, *mac))));
        ops.extend(link.vxlan_fdb.iter().map(|(mac, vtep)| remove(LinkRow::VxlanFdb(*mac, *vtep))));
        ops.extend(link.bridge_fdb.iter().map(|mac| remove(LinkRow::BridgeFdb(*mac))));
        (link.neighbours, link.vxlan_fdb, link.bridge_fdb) = Default::default();
        apply(kernel, ops.clone()).await?;
        expect(kernel, &desired).await?;
        // Now each of them is refused by the kernel, and that is as good.
        apply(kernel, ops).await
    })
    .await
}

/// The same VNI in the same namespace's successor, at once.
pub(super) async fn vni<K: Kernel>(kernel: &K) -> Built<()> {
    cleared(kernel, async {
        let desired = state(10)?;
        for _round in 0..ROUNDS {
            apply(kernel, steps(&desired)).await?;
            expect(kernel, &desired).await?;
            apply(kernel, vec![Op::Netns(inner()?, NetnsOp::Remove)]).await?;
        }
        // In one go, too.
        let mut ops = steps(&desired);
        ops.push(Op::Netns(inner()?, NetnsOp::Remove));
        ops.extend(steps(&desired));
        apply(kernel, ops).await?;
        expect(kernel, &desired).await
    })
    .await
}
