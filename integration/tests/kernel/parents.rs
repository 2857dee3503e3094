//! Links on a link of the host, where only the real kernel can show what it does.

use ovagent::{
    kernel::{Kernel, LinuxKernel},
    model::{IfName, IpvlanFlag, IpvlanMode, MacvlanMode},
    plan::{
        op::{LinkOp, LinkRow, NetnsOp, NewLink, Op, RowOp},
        state::{LinkKind, Look, LookAt, Netns},
    },
};

use super::objects::{NETNS_DIR, Outcome, apply, mark, named, new, sh, told};

const PARENT: IfName = IfName::literal("ok-parent");

fn macvlan(mode: MacvlanMode) -> LinkKind {
    LinkKind::Macvlan(PARENT, mode)
}

fn add(netns: &Netns, link: &str, number: u8, kind: LinkKind) -> Op {
    Op::AddLink(NewLink { mtu: 1400, ..new(netns, link, number) }, kind)
}

async fn refusal(kernel: &LinuxKernel, op: Op) -> String {
    kernel.apply(vec![op]).await.err().map(|error| error.to_string()).unwrap_or_default()
}

/// A link of the host with a macvlan link in each of two sandboxes: they reach each other, and the outside.
pub(super) async fn reach() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    // The outside is a namespace at the other end of the parent.
    sh("ip netns add ovk-out; ip link add ok-parent type veth peer name eth0 netns ovk-out; ip link set ok-parent up
        ip -n ovk-out link set eth0 up; ip -n ovk-out addr add 10.67.0.1/24 dev eth0
        ip -n ovk-out addr add fd67::1/64 dev eth0 nodad")?;
    let outcome = talk(&kernel).await;
    apply(
        &kernel,
        vec![Op::Netns(named("ovk-m1"), NetnsOp::Remove), Op::Netns(named("ovk-m2"), NetnsOp::Remove)],
    )
    .await?;
    sh("ip netns del ovk-out; ip link del ok-parent 2>/dev/null || true")?;
    outcome
}

async fn talk(kernel: &LinuxKernel) -> Outcome {
    for (number, name) in [(2, "ovk-m1"), (3, "ovk-m2")] {
        let netns = named(name);
        let link = new(&netns, "eth0", number).at;
        let net = |text: String| text.parse().map_err(|error| format!("{text}: {error}"));
        let ops = vec![
            Op::Netns(netns.clone(), NetnsOp::Add(mark("netns"))),
            add(&netns, "eth0", number, macvlan(MacvlanMode::Bridge)),
            Op::Row(link.clone(), RowOp::Set, LinkRow::Address(net(format!("10.67.0.{number}/24"))?)),
            Op::Row(link.clone(), RowOp::Set, LinkRow::Address(net(format!("fd67::{number}/64"))?)),
            Op::Link(link, LinkOp::SetUp(true)),
        ];
        apply(kernel, ops).await?;
    }
    for to in ["10.67.0.1", "10.67.0.3", "fd67::1", "fd67::3"] {
        sh(&format!("ip netns exec ovk-m1 ping -c 1 -W 5 {to}"))?;
    }
    let show = sh("ip -n ovk-m1 -d link show eth0")?;
    told(show.contains("macvlan mode bridge") && show.contains("mtu 1400"), || show)?;
    // The parent is renamed: its link is seen on it by the new name.
    sh("ip link set ok-parent down; ip link set ok-parent name ok-other; ip link set ok-other up")?;
    let kind = kind(kernel, "ovk-m1").await;
    sh("ip link set ok-other down; ip link set ok-other name ok-parent; ip link set ok-parent up")?;
    told(kind? == LinkKind::Macvlan(IfName::literal("ok-other"), MacvlanMode::Bridge), || {
        "not renamed".into()
    })?;
    // At once again, under the same Ethernet address.
    for _round in 0..3 {
        let netns = named("ovk-m1");
        let link = add(&netns, "eth0", 2, macvlan(MacvlanMode::Bridge));
        let up = Op::Link(new(&netns, "eth0", 2).at, LinkOp::SetUp(true));
        apply(
            kernel,
            vec![
                Op::Netns(netns.clone(), NetnsOp::Remove),
                Op::Netns(netns, NetnsOp::Add(mark("netns"))),
                link,
                up,
            ],
        )
        .await?;
    }
    let twin = add(&named("ovk-m1"), "eth1", 2, macvlan(MacvlanMode::Bridge));
    apply(kernel, vec![twin]).await?;
    let text = refusal(kernel, Op::Link(new(&named("ovk-m1"), "eth1", 2).at, LinkOp::SetUp(true))).await;
    told(text.contains("ok-parent, or another link on it, has the same Ethernet address"), || text)
}

async fn kind(kernel: &LinuxKernel, netns: &str) -> Result<LinkKind, String> {
    let netns = named(netns);
    let look = Look { netns: [(netns.clone(), LookAt::default())].into() };
    let seen = kernel.observe(look).await.map_err(|error| error.to_string())?;
    let there = seen.netns.get(&netns).ok_or("no namespace")?;
    there.links.get(&IfName::literal("eth0")).map(|link| link.kind.clone()).ok_or("no link".into())
}

/// Parents that cannot be had, each told in words.
pub(super) async fn refusals() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    sh("ip link add ok-parent type veth peer name ok-peer; ip link add ok-br type bridge
        ip link add ok-port type veth peer name ok-port2; ip link set ok-port master ok-br
        ip link add ok-mv link ok-br type macvlan mode bridge; ip link property add dev ok-parent altname ok-alias")?;
    let netns = named("ovk-refuse");
    let outcome = refused(&kernel, &netns).await;
    apply(&kernel, vec![Op::Netns(netns, NetnsOp::Remove)]).await?;
    let left = sh("ip -br link")?;
    sh("ip link del ok-mv; ip link del ok-parent; ip link del ok-port; ip link del ok-br")?;
    outcome?;
    told(!left.contains("ovt"), || left)
}

async fn refused(kernel: &LinuxKernel, netns: &Netns) -> Outcome {
    apply(kernel, vec![Op::Netns(netns.clone(), NetnsOp::Add(mark("netns")))]).await?;
    let on = |parent: &'static str| LinkKind::Macvlan(IfName::literal(parent), MacvlanMode::Bridge);
    let ipvlan = LinkKind::Ipvlan(PARENT, IpvlanMode::L3, IpvlanFlag::Private);
    for (kind, words) in [
        (on("ok-gone"), "the host has no link named ok-gone"),
        (on("ok-alias"), "the host has no link named ok-alias"),
        (on("lo"), "lo is the loopback link"),
        (on("ok-mv"), "ok-mv is a macvlan link itself"),
        (on("ok-port"), "ok-port belongs to ok-br already"),
        // This kernel lacks both drivers.
        (ipvlan, "the kernel has no ipvlan links: it needs CONFIG_IPVLAN (modprobe ipvlan)"),
        (LinkKind::Vlan(PARENT, 10), "the kernel has no VLANs: it needs CONFIG_VLAN_8021Q (modprobe 8021q)"),
        (LinkKind::Vlan(IfName::literal("ok-gone"), 10), "the host has no link named ok-gone"),
    ] {
        let text = refusal(kernel, add(netns, "eth0", 5, kind)).await;
        told(text.contains(words), || format!("expected \"{words}\" in {text}"))?;
    }
    let large = Op::AddLink(NewLink { mtu: 9000, ..new(netns, "eth0", 5) }, on("ok-parent"));
    let text = refusal(kernel, large).await;
    told(text.contains("an MTU of 9000 is larger than the 1500 of its parent ok-parent"), || text)?;
    passthru(kernel, netns).await
}

async fn passthru(kernel: &LinuxKernel, netns: &Netns) -> Outcome {
    let eth = new(netns, "eth0", 5).at;
    apply(kernel, vec![add(netns, "eth0", 5, macvlan(MacvlanMode::Passthru))]).await?;
    let second = refusal(kernel, add(netns, "eth1", 6, macvlan(MacvlanMode::Bridge))).await;
    told(second.contains("ok-parent is used exclusively by a macvlan link in mode passthru"), || second)?;
    let seen = sh("ip -n ovk-refuse -d link show eth0")?;
    told(seen.contains("mode passthru"), || seen)?;
    apply(kernel, vec![Op::Link(eth, LinkOp::Remove), add(netns, "eth0", 5, macvlan(MacvlanMode::Private))])
        .await?;
    let second = refusal(kernel, add(netns, "eth1", 6, macvlan(MacvlanMode::Passthru))).await;
    told(second.contains("ok-parent has other macvlan links"), || second)
}

/// Frames do not pass between two isolated ports.
pub(super) async fn isolated() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    let outcome = isolate(&kernel).await;
    let gone = ["ovk-i0", "ovk-i1", "ovk-i2"].map(|name| Op::Netns(named(name), NetnsOp::Remove));
    apply(&kernel, gone.to_vec()).await?;
    outcome
}

async fn isolate(kernel: &LinuxKernel) -> Outcome {
    let middle = named("ovk-i0");
    let bridge = new(&middle, "br0", 9);
    let mut ops = vec![
        Op::Netns(middle.clone(), NetnsOp::Add(mark("netns"))),
        Op::AddLink(bridge.clone(), LinkKind::Bridge),
        Op::Link(bridge.at.clone(), LinkOp::SetUp(true)),
        Op::Row(bridge.at.clone(), RowOp::Set, LinkRow::Address("10.68.0.9/24".parse().expect("an address"))),
    ];
    let place = |isolated| ovagent::plan::state::Port {
        bridge: bridge.at.name,
        learning: true,
        unicast_flood: true,
        isolated,
        hairpin: false,
    };
    let ports = [new(&middle, "ep1", 11), new(&middle, "ep2", 12)];
    for (number, port) in (1..).zip(&ports) {
        let netns = named(&format!("ovk-i{number}"));
        let eth = new(&netns, "eth0", number);
        ops.extend([
            Op::Netns(netns, NetnsOp::Add(mark("netns"))),
            Op::AddVeth(port.clone(), eth.clone()),
            Op::Link(port.at.clone(), LinkOp::SetPort(Some(place(true)))),
            Op::Row(
                eth.at.clone(),
                RowOp::Set,
                LinkRow::Address(format!("10.68.0.{number}/24").parse().expect("an address")),
            ),
            Op::Link(port.at.clone(), LinkOp::SetUp(true)),
            Op::Link(eth.at, LinkOp::SetUp(true)),
        ]);
    }
    apply(kernel, ops).await?;
    let ping = |to: &str, wait: u8| sh(&format!("ip netns exec ovk-i1 ping -c 1 -W {wait} {to}"));
    ping("10.68.0.9", 5)?;
    told(ping("10.68.0.2", 1).is_err(), || "isolated ports reach each other".into())?;
    apply(kernel, ports.map(|port| Op::Link(port.at, LinkOp::SetPort(Some(place(false))))).to_vec()).await?;
    // The next attempt to resolve the address may come a second after the last one.
    ping("10.68.0.2", 5).map(drop)
}
