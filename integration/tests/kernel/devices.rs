//! What only the real kernel can show of devices.

use std::{collections::BTreeSet, time::Instant};

use ovagent::{
    kernel::{Kernel, LinuxKernel},
    model::Mac,
    plan::{
        op::{LinkOp, LinkRow, NetnsOp, NewLink, Op, RowOp},
        state::{LinkKind, Look, LookAt, Netns, Port},
    },
};

use super::objects::{NETNS_DIR, Outcome, apply, mark, named, new, sh, told, vxlan};

pub(super) async fn udp_socket() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    let (netns, hex) = (named("ovk-udp"), ":39C6");
    apply(
        &kernel,
        vec![
            Op::Netns(netns.clone(), NetnsOp::Add(mark("netns"))),
            Op::AddLink(new(&netns, "vxlan0", 1), vxlan(7001, "127.0.0.1")),
            Op::Link(new(&netns, "vxlan0", 1).at, LinkOp::SetUp(true)),
        ],
    )
    .await?;
    let host = sh("cat /proc/net/udp")?;
    let inside = sh("ip netns exec ovk-udp cat /proc/net/udp")?;
    apply(&kernel, vec![Op::Netns(netns, NetnsOp::Remove)]).await?;
    told(host.contains(hex) && !inside.contains(hex), || format!("host:\n{host}\ninside:\n{inside}"))
}

pub(super) async fn options() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    let netns = named("ovk-opt");
    apply(
        &kernel,
        vec![
            Op::Netns(netns.clone(), NetnsOp::Add(mark("netns"))),
            Op::AddLink(new(&netns, "vx4", 1), vxlan(7002, "127.0.0.1")),
            Op::AddLink(new(&netns, "vx6", 2), vxlan(7003, "::1")),
            Op::AddLink(new(&netns, "br0", 3), LinkKind::Bridge),
        ],
    )
    .await?;
    let show = |link: &str| sh(&format!("ip netns exec ovk-opt ip -d link show {link}"));
    let (vx4, vx6, bridge) = (show("vx4")?, show("vx6")?, show("br0")?);
    let loopback = show("lo")?;
    apply(&kernel, vec![Op::Netns(netns, NetnsOp::Remove)]).await?;
    let has = |text: &str, words: &[&str]| words.iter().all(|word| text.contains(word));
    told(
        has(&vx4, &["nolearning", "proxy", "ttl 64", "local 127.0.0.1", "dstport 14790", "noudpcsum"]),
        || vx4,
    )?;
    told(has(&vx6, &["nolearning", "proxy", "ttl 64", "local ::1"]), || vx6.clone())?;
    told(!vx6.contains("udp6zerocsumtx") || vx6.contains("noudp6zerocsumtx"), || vx6)?;
    told(has(&bridge, &["forward_delay 0", "stp_state 0", "mcast_snooping 0", "mtu 1450"]), || bridge)?;
    told(has(&loopback, &["LOWER_UP", "alias ovnet:network:"]), || loopback)
}

/// What the death of an agent between two messages leaves: links under temporary names.
pub(super) async fn half_made() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    let netns = named("ovk-half");
    let (bridge, device) = (new(&netns, "br0", 1), new(&netns, "vxlan0", 2));
    let make = || {
        vec![
            Op::AddLink(bridge.clone(), LinkKind::Bridge),
            Op::AddLink(device.clone(), vxlan(7004, "127.0.0.1")),
            Op::AddVeth(new(&netns, "ep0", 3), new(&Netns::Host, "ovh-half", 4)),
        ]
    };
    apply(&kernel, vec![Op::Netns(netns.clone(), NetnsOp::Add(mark("netns")))]).await?;
    apply(&kernel, make()).await?;
    let rename =
        |link: &str, to: &str| sh(&format!("ip netns exec ovk-half ip link set {link} name {to} alias ''"));
    rename("br0", &temporary_name(&bridge))?;
    rename("vxlan0", &temporary_name(&device))?;
    // The peer has its name already.
    sh(&format!("ip link set ovh-half name {} alias ''", temporary_name(&new(&Netns::Host, "ovh-half", 4))))?;
    apply(&kernel, make()).await?;
    let links = sh("ip netns exec ovk-half ip -br link; ip -br link")?;
    apply(&kernel, vec![Op::Netns(netns, NetnsOp::Remove)]).await?;
    let made = ["br0", "vxlan0", "ep0@", "ovh-half@"];
    told(!links.contains("ovt") && made.iter().all(|name| links.contains(name)), || links)
}

/// The rule of temporary names, once more.
fn temporary_name(new: &NewLink) -> String {
    let text = format!("{} {} {}", new.at.netns, new.at.name, new.mark);
    let hash =
        text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("ovt{hash:08x}")
}

pub(super) async fn bridge_mtu() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    let netns = named("ovk-mtu");
    for mtu in [1450, 1500, 1400, 9000] {
        let bridge = NewLink { mtu, ..new(&netns, "br0", 1) };
        let port = Port {
            bridge: bridge.at.name,
            learning: false,
            unicast_flood: true,
            isolated: false,
            hairpin: false,
        };
        apply(
            &kernel,
            vec![
                Op::Netns(netns.clone(), NetnsOp::Add(mark("netns"))),
                Op::AddLink(bridge, LinkKind::Bridge),
                Op::AddLink(NewLink { mtu: 1300, ..new(&netns, "vx", 2) }, vxlan(7005, "127.0.0.1")),
                Op::Link(new(&netns, "vx", 2).at, LinkOp::SetPort(Some(port))),
            ],
        )
        .await?;
        let seen = sh("ip netns exec ovk-mtu ip link show br0")?;
        apply(&kernel, vec![Op::Netns(netns.clone(), NetnsOp::Remove)]).await?;
        told(seen.contains(&format!("mtu {mtu} ")), || seen)?;
    }
    Ok(())
}

pub(super) async fn rates() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    let netns = named("ovk-rate");
    let device = new(&netns, "vxlan0", 2);
    apply(
        &kernel,
        vec![
            Op::Netns(netns.clone(), NetnsOp::Add(mark("netns"))),
            Op::AddLink(device.clone(), vxlan(7006, "127.0.0.1")),
            Op::Link(device.at.clone(), LinkOp::SetUp(true)),
        ],
    )
    .await?;
    let rows: Vec<Op> = (0..10_000_u32)
        .flat_map(|number| {
            let [a, b, c, d] = number.to_be_bytes();
            let mac = Mac::new([2, 1, a, b, c, d]).expect("a MAC address");
            let ip = std::net::Ipv4Addr::from(0x0a00_0000 + number).into();
            [
                Op::Row(
                    device.at.clone(),
                    RowOp::Set,
                    LinkRow::VxlanFdb(mac, std::net::Ipv4Addr::new(192, 0, 2, 1).into()),
                ),
                Op::Row(device.at.clone(), RowOp::Set, LinkRow::Neighbour(ip, mac)),
            ]
        })
        .collect();
    let start = Instant::now();
    let added = apply(&kernel, rows.clone()).await;
    let (adding, start) = (start.elapsed(), Instant::now());
    let added = added.and(apply(&kernel, rows).await);
    let (again, start) = (start.elapsed(), Instant::now());
    let at = LookAt { links: Some([device.at.name].into()), ..LookAt::default() };
    let seen = kernel.observe(Look { netns: [(netns.clone(), at)].into() }).await;
    let looking = start.elapsed();
    let empty = Look {
        netns: [(netns.clone(), LookAt { links: Some(BTreeSet::new()), ..LookAt::default() })].into(),
    };
    let start = Instant::now();
    let nothing = kernel.observe(empty).await;
    let opening = start.elapsed();
    apply(&kernel, vec![Op::Netns(netns, NetnsOp::Remove)]).await?;
    eprintln!(
        "10,000 neighbours and rows: added in {adding:?}, again in {again:?}, seen in {looking:?}; an empty look takes {opening:?}"
    );
    added?;
    let (seen, _) = (seen.map_err(|error| error.to_string())?, nothing.map_err(|error| error.to_string())?);
    let rows: usize =
        seen.netns.values().flat_map(|netns| netns.links.values()).map(|link| link.vxlan_fdb.len()).sum();
    told(rows == 10_000, || format!("{rows} rows"))?;
    // Some 5 times of what an optimised build needs.
    told(looking.as_millis() < 1000 && adding.as_millis() < 2000, || format!("{adding:?} {looking:?}"))
}

/// With the link up and a carrier, neither tentative nor optimistic, right after the step.
pub(super) async fn no_delay() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    let netns = named("ovk-dad");
    let (a, b) = (new(&netns, "a", 1), new(&Netns::Host, "ovh-dad", 2));
    apply(
        &kernel,
        vec![
            Op::Netns(netns.clone(), NetnsOp::Add(mark("netns"))),
            Op::AddVeth(a.clone(), b.clone()),
            Op::Link(b.at, LinkOp::SetUp(true)),
            Op::Link(a.at.clone(), LinkOp::SetUp(true)),
            Op::Row(a.at, RowOp::Set, LinkRow::Address("fd01::1/64".parse().expect("an address"))),
        ],
    )
    .await?;
    let seen = sh("ip netns exec ovk-dad ip -6 addr show dev a scope global")?;
    apply(&kernel, vec![Op::Netns(netns, NetnsOp::Remove)]).await?;
    told(seen.contains("fd01::1/64") && !seen.contains("tentative"), || seen)
}

/// What an attach does in the kernel, many times.
pub(super) async fn pair_rate() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    let (net, sandbox) = (named("ovk-pn"), named("ovk-pb"));
    let (bridge, rounds) = (new(&net, "br0", 1), 50);
    apply(
        &kernel,
        vec![
            Op::Netns(net.clone(), NetnsOp::Add(mark("netns"))),
            Op::AddLink(bridge.clone(), LinkKind::Bridge),
        ],
    )
    .await?;
    let port = Port {
        bridge: bridge.at.name,
        learning: false,
        unicast_flood: false,
        isolated: false,
        hairpin: false,
    };
    let (mut adding, mut looking) = (Vec::new(), Vec::new());
    for _round in 0..rounds {
        let (a, b) = (new(&net, "ep", 3), new(&sandbox, "eth0", 4));
        let ops = vec![
            Op::Netns(sandbox.clone(), NetnsOp::Add(mark("box"))),
            Op::AddVeth(a.clone(), b.clone()),
            Op::Link(a.at.clone(), LinkOp::SetPort(Some(port))),
            Op::Link(a.at.clone(), LinkOp::SetUp(true)),
            Op::Link(b.at.clone(), LinkOp::SetUp(true)),
            Op::Row(b.at.clone(), RowOp::Set, LinkRow::Address("10.9.9.9/24".parse().expect("an address"))),
            Op::Row(a.at.clone(), RowOp::Set, LinkRow::BridgeFdb(b.mac.expect("a MAC address"))),
        ];
        let start = Instant::now();
        apply(&kernel, ops).await?;
        adding.push(start.elapsed());
        let at = |name| LookAt { links: Some([name].into()), ..LookAt::default() };
        let look = Look { netns: [(net.clone(), at(a.at.name)), (sandbox.clone(), at(b.at.name))].into() };
        let start = Instant::now();
        kernel.observe(look).await.map_err(|error| error.to_string())?;
        looking.push(start.elapsed());
        apply(&kernel, vec![Op::Netns(sandbox.clone(), NetnsOp::Remove)]).await?;
    }
    apply(&kernel, vec![Op::Netns(net, NetnsOp::Remove)]).await?;
    adding.sort();
    looking.sort();
    let (adding, looking) = (adding[rounds / 2], looking[rounds / 2]);
    eprintln!("medians: a sandbox with its endpoint {adding:?}, a look at both ends {looking:?}");
    told(adding.as_millis() < 100 && looking.as_millis() < 20, || format!("{adding:?} {looking:?}"))
}

/// Fifty endpoints go in the time of a few, and what is not ours stays.
pub(super) async fn many_removals() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    let netns = named("ovk-many");
    let pair = |number: u8| {
        (new(&netns, &format!("ep{number}"), number), new(&netns, &format!("pe{number}"), number))
    };
    let mut ops = vec![Op::Netns(netns.clone(), NetnsOp::Add(mark("netns")))];
    ops.extend((1..=50).map(pair).map(|(a, b)| Op::AddVeth(a, b)));
    apply(&kernel, ops).await?;
    sh("ip netns exec ovk-many ip link add theirs type veth peer name others")?;
    let start = Instant::now();
    let theirs = Op::Link(new(&netns, "theirs", 1).at, LinkOp::Remove);
    let mut ops: Vec<Op> = (1..=50)
        .map(pair)
        .flat_map(|(a, b)| [Op::Link(a.at, LinkOp::Remove), Op::Link(b.at, LinkOp::Remove)])
        .collect();
    ops.insert(7, theirs.clone());
    let outcome = kernel.apply(ops).await;
    let took = start.elapsed();
    let left = sh("ip netns exec ovk-many ip -br link")?;
    apply(&kernel, vec![Op::Netns(netns, NetnsOp::Remove)]).await?;
    eprintln!("50 pairs removed in {took:?}");
    told(!left.contains("ep") && !left.contains("pe") && left.contains("theirs"), || left)?;
    let failures = outcome.err().map(|error| error.failures).unwrap_or_default();
    told(failures.len() == 1 && failures[0].0 == theirs, || format!("{failures:?}"))
}
