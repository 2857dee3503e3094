//! The contract of the kernel room on the real kernel, in namespaces of its own, and what only the real one can show.

use std::{collections::BTreeSet, fs, path::Path, process::Command, time::Instant};

use ipnet::IpNet;
use libtest_mimic::{Arguments, Failed, Trial};
use ovagent::{
    kernel::{
        Kernel, KernelError, LinuxKernel, Seen,
        contract::{self, Stranger},
        watch,
    },
    model::{Mac, Name, NetworkId, Vni},
    plan::{
        op::{LinkRef, NewLink, Op},
        ownership::{Mark, Unit},
        state::{LinkKind, Look, LookAt, Netns, Vxlan},
    },
};
use ovnet_integration::enter;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const NETNS_DIR: &str = "/run/netns";

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::from_args();
    enter::enter()?;
    let mut trials: Vec<Trial> = contract::CHECKS
        .into_iter()
        .map(|name| Trial::test(name, move || run(contract_check(name))))
        .collect();
    trials.extend([
        Trial::test("the_udp_socket_of_a_vxlan_device_stays_on_the_host", || run(udp_socket())),
        Trial::test("the_options_of_links_are_the_tuned_ones", || run(options())),
        Trial::test("ip_netns_sees_our_namespaces_and_we_see_its", || run(ip_netns())),
        Trial::test("a_file_left_without_a_namespace_is_replaced", || run(stale_file())),
        Trial::test("an_attempt_that_died_half_way_is_taken_up", || run(half_made())),
        Trial::test("a_bridge_keeps_its_mtu_whatever_its_ports_have", || run(bridge_mtu())),
        Trial::test("facts_and_path_mtu_are_the_hosts", || run(facts())),
        Trial::test("a_namespace_is_known_by_its_inode_until_it_goes", || run(inodes())),
        Trial::test("a_missing_nft_is_told_with_its_package", || run(missing_nft())),
        Trial::test("changes_of_links_and_namespaces_give_hints", || run(hints())),
        Trial::test("ten_thousand_rows_are_quick", || run(rates())),
    ]);
    // One after the other: they share the host's namespace.
    let one_by_one = Arguments { test_threads: Some(1), ..arguments };
    libtest_mimic::run(&one_by_one, trials).exit()
}

type Outcome = Result<(), String>;

fn run(test: impl Future<Output = Outcome>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(test)?;
    let left = sh("ip -br link; ls /run/netns")?;
    if left.contains("ov") { Err(format!("left behind: {left}").into()) } else { Ok(()) }
}

async fn contract_check(name: &'static str) -> Outcome {
    contract::check(name, &LinuxKernel::new(NETNS_DIR), &Iproute).await
}

/// Somebody with iproute2.
struct Iproute;

fn sh(command: &str) -> Result<String, String> {
    let output = Command::new("sh").args(["-ec", command]).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return String::from_utf8(output.stdout).map_err(|error| error.to_string());
    }
    Err(format!("{command}: {}", String::from_utf8_lossy(&output.stderr)))
}

impl Stranger for Iproute {
    fn add_link(&self, at: &LinkRef) -> Outcome {
        assert_eq!(at.netns, Netns::Host);
        sh(&format!("ip link add {} type bridge", at.name)).map(drop)
    }

    fn remove_link(&self, at: &LinkRef) -> Outcome {
        sh(&format!("ip link del {}", at.name)).map(drop)
    }

    fn add_route(&self, at: &LinkRef, to: IpNet, metric: u32) -> Outcome {
        sh(&format!("ip route add {to} dev {} metric {metric}", at.name)).map(drop)
    }

    fn has_route(&self, at: &LinkRef, to: IpNet, metric: u32) -> Result<bool, String> {
        let family = if to.addr().is_ipv4() { "-4" } else { "-6" };
        let routes = sh(&format!("ip {family} route show {to} dev {}", at.name))?;
        Ok(routes.contains(&format!("metric {metric}")))
    }
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn named(text: &str) -> Netns {
    Netns::Named(name(text))
}

fn mark(role: &str) -> Mark {
    Mark::new(Unit::Network(NetworkId::from_bytes([9; 32])), role)
}

fn new(netns: &Netns, link: &str, number: u8) -> NewLink {
    NewLink {
        at: LinkRef { netns: netns.clone(), name: link.parse().expect("a name") },
        mark: mark(link),
        mac: Mac::new([2, 0, 0, 0, 0, number]).expect("a MAC address"),
        mtu: 1450,
    }
}

fn vxlan(vni: u32, local: &str) -> LinkKind {
    let local = local.parse().expect("an address");
    LinkKind::Vxlan(Vxlan { vni: Vni::new(vni).expect("a VNI"), local, port: 14790 })
}

async fn apply(kernel: &LinuxKernel, ops: Vec<Op>) -> Outcome {
    kernel.apply(ops).await.map_err(|error| error.to_string())
}

fn told(holds: bool, text: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(text()) }
}

async fn udp_socket() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    let (netns, hex) = (named("ovk-udp"), ":39C6");
    apply(
        &kernel,
        vec![
            Op::AddNetns(netns.clone(), mark("netns")),
            Op::AddLink(new(&netns, "vxlan0", 1), vxlan(7001, "127.0.0.1")),
            Op::SetUp(new(&netns, "vxlan0", 1).at, true),
        ],
    )
    .await?;
    let host = sh("cat /proc/net/udp")?;
    let inside = sh("ip netns exec ovk-udp cat /proc/net/udp")?;
    apply(&kernel, vec![Op::RemoveNetns(netns)]).await?;
    told(host.contains(hex) && !inside.contains(hex), || format!("host:\n{host}\ninside:\n{inside}"))
}

async fn options() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    let netns = named("ovk-opt");
    apply(
        &kernel,
        vec![
            Op::AddNetns(netns.clone(), mark("netns")),
            Op::AddLink(new(&netns, "vx4", 1), vxlan(7002, "127.0.0.1")),
            Op::AddLink(new(&netns, "vx6", 2), vxlan(7003, "::1")),
            Op::AddLink(new(&netns, "br0", 3), LinkKind::Bridge),
        ],
    )
    .await?;
    let show = |link: &str| sh(&format!("ip netns exec ovk-opt ip -d link show {link}"));
    let (vx4, vx6, bridge) = (show("vx4")?, show("vx6")?, show("br0")?);
    let loopback = show("lo")?;
    apply(&kernel, vec![Op::RemoveNetns(netns)]).await?;
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

async fn ip_netns() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    sh("ip netns add ovk-theirs")?;
    apply(&kernel, vec![Op::AddNetns(named("ovk-ours"), mark("netns"))]).await?;
    let theirs = sh("ip netns list")?;
    sh(
        "ip netns exec ovk-ours ping -c 1 -W 1 127.0.0.1 || ip netns exec ovk-ours ip -br link show up lo | grep lo",
    )?;
    let ours = kernel.named_netns().await.map_err(|error| error.to_string())?;
    let refused = kernel.apply(vec![Op::RemoveNetns(named("ovk-theirs"))]).await;
    apply(&kernel, vec![Op::RemoveNetns(named("ovk-ours"))]).await?;
    let after = sh("ip netns list")?;
    sh("ip netns del ovk-theirs")?;
    told(theirs.contains("ovk-ours") && !after.contains("ovk-ours"), || format!("{theirs}\n{after}"))?;
    let expected = [(name("ovk-ours"), Some(mark("netns"))), (name("ovk-theirs"), None)];
    told(ours == expected, || format!("{ours:?}"))?;
    told(refused.is_err() && after.contains("ovk-theirs"), || "a foreign namespace was removed".into())
}

async fn stale_file() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    fs::write("/run/netns/ovk-stale", "").map_err(|error| error.to_string())?;
    let seen = kernel.named_netns().await.map_err(|error| error.to_string())?;
    apply(&kernel, vec![Op::AddNetns(named("ovk-stale"), mark("netns"))]).await?;
    let now = kernel.named_netns().await.map_err(|error| error.to_string())?;
    apply(&kernel, vec![Op::RemoveNetns(named("ovk-stale"))]).await?;
    told(seen.is_empty() && now.len() == 1, || format!("{seen:?} {now:?}"))
}

/// What the death of an agent between two messages leaves: links under passing names.
async fn half_made() -> Outcome {
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
    apply(&kernel, vec![Op::AddNetns(netns.clone(), mark("netns"))]).await?;
    // Their passing names are found by letting the last message fail: the final name is too much for the kernel's
    // alias, which has at most 255 bytes.
    apply(&kernel, make()).await?;
    sh("ip netns exec ovk-half sh -ec 'for l in br0 vxlan0 ep0; do ip link set $l down; done'")?;
    let rename =
        |link: &str, to: &str| sh(&format!("ip netns exec ovk-half ip link set {link} name {to} alias ''"));
    rename("br0", &passing(&bridge))?;
    rename("vxlan0", &passing(&device))?;
    sh(&format!("ip link set ovh-half name {} alias ''", passing(&new(&Netns::Host, "ovh-half", 4))))?;
    // The peer has its name, the main end has not.
    apply(&kernel, vec![Op::RemoveLink(new(&netns, "ep0", 3).at)]).await?;
    sh(&format!("ip link add {} type veth peer name x", passing(&new(&Netns::Host, "ovh-half", 4))))?;
    apply(&kernel, make()).await?;
    let links = sh("ip netns exec ovk-half ip -br link; ip -br link")?;
    apply(&kernel, vec![Op::RemoveNetns(netns)]).await?;
    told(!links.contains("ovt") && links.contains("ovh-half"), || links)
}

/// The rule of passing names, once more.
fn passing(new: &NewLink) -> String {
    let text = format!("{} {} {}", new.at.netns, new.at.name, new.mark);
    let hash =
        text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("ovt{hash:08x}")
}

async fn bridge_mtu() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    let netns = named("ovk-mtu");
    for mtu in [1450, 1500, 1400, 9000] {
        let bridge = NewLink { mtu, ..new(&netns, "br0", 1) };
        let port =
            ovagent::plan::state::Port { bridge: bridge.at.name, learning: false, unicast_flood: true };
        apply(
            &kernel,
            vec![
                Op::AddNetns(netns.clone(), mark("netns")),
                Op::AddLink(bridge, LinkKind::Bridge),
                Op::AddLink(NewLink { mtu: 1300, ..new(&netns, "vx", 2) }, vxlan(7005, "127.0.0.1")),
                Op::SetPort(new(&netns, "vx", 2).at, Some(port)),
            ],
        )
        .await?;
        let seen = sh("ip netns exec ovk-mtu ip link show br0")?;
        apply(&kernel, vec![Op::RemoveNetns(netns.clone())]).await?;
        told(seen.contains(&format!("mtu {mtu} ")), || seen)?;
    }
    Ok(())
}

async fn facts() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    sh("ip link add ok-a type veth peer name ok-b; ip link set ok-a mtu 1432 up; ip link set ok-b up
        ip addr add 192.0.2.1/24 dev ok-a; ip addr add 2001:db8::1/64 dev ok-a nodad
        ip route add 198.51.100.0/24 via 192.0.2.9 mtu 1300; ip route add 203.0.113.0/24 via 192.0.2.9
        ip route add default via 192.0.2.9; ip route add unreachable 10.66.0.0/16")?;
    let facts = kernel.facts().await;
    let mut mtus = Vec::new();
    for to in ["192.0.2.7", "198.51.100.7", "203.0.113.7", "8.8.8.8", "2001:db8::7"] {
        mtus.push(kernel.path_mtu(to.parse().expect("an address")).await.map_err(|error| error.to_string())?);
    }
    let none = kernel.path_mtu("10.66.1.1".parse().expect("an address")).await;
    sh("ip route del unreachable 10.66.0.0/16; ip link del ok-a")?;
    told(mtus == [1432, 1300, 1432, 1432, 1432], || format!("{mtus:?}"))?;
    told(matches!(&none, Err(KernelError::Os { target, .. }) if target == "10.66.1.1"), || {
        format!("{none:?}")
    })?;
    let facts = facts.map_err(|error| error.to_string())?;
    let link = facts.links.iter().find(|link| link.name.as_str() == "ok-a").ok_or("no link")?;
    let addresses: BTreeSet<String> = link.addresses.iter().map(ToString::to_string).collect();
    told(
        link.up
            && link.mtu == 1432
            && addresses.contains("192.0.2.1/24")
            && addresses.contains("2001:db8::1/64"),
        || format!("{link:?}"),
    )?;
    let routes: Vec<String> = facts.routes.iter().map(|(to, link)| format!("{to} {link}")).collect();
    let expected = ["192.0.2.0/24 ok-a", "198.51.100.0/24 ok-a", "203.0.113.0/24 ok-a", "2001:db8::/64 ok-a"];
    told(expected.iter().all(|route| routes.contains(&(*route).into())), || format!("{routes:?}"))?;
    told(!routes.iter().any(|route| route.contains("/0 ") || route.contains("10.66")), || {
        format!("{routes:?}")
    })
}

async fn inodes() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    let at = |path: &str| kernel.netns_inode(Path::new(path).to_owned());
    let (netns, path) = (named("ovk-ino"), "/run/netns/ovk-ino");
    let failed = |error: KernelError| error.to_string();
    let before = at(path).await.map_err(failed)?;
    apply(&kernel, vec![Op::AddNetns(netns.clone(), mark("netns"))]).await?;
    let during = at(path).await.map_err(failed)?;
    let expected = sh(&format!("stat -Lc %i {path}"))?.trim().parse().ok();
    apply(&kernel, vec![Op::RemoveNetns(netns)]).await?;
    let after = at(path).await.map_err(failed)?;
    let process = at("/proc/999999999/ns/net").await.map_err(failed)?;
    let file = at("/etc/passwd").await.map_err(failed)?;
    told((before, after, process, file) == (None, None, None, None), || "a namespace that is none".into())?;
    told(during.is_some() && during == expected, || format!("{during:?} {expected:?}"))
}

/// In a child of this process that finds no programs.
async fn missing_nft() -> Outcome {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    if std::env::var_os("OVK_NO_NFT").is_none() {
        let output = Command::new(program)
            .args(["--exact", "a_missing_nft_is_told_with_its_package"])
            .env("OVK_NO_NFT", path)
            .env("PATH", "/nonexistent")
            .output()
            .map_err(|error| error.to_string())?;
        // Its own clean-up check has no programs either: what counts is the line that it prints.
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        return told(text.contains("package nftables"), || text);
    }
    let look = Look { netns: [(Netns::Host, LookAt { table: true, ..LookAt::default() })].into() };
    match LinuxKernel::new(NETNS_DIR).observe(look).await {
        Err(error) => Err(error.to_string()),
        Ok(state) => Err(format!("nft was found: {state:?}")),
    }
}

async fn hints() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    let (send, mut hints) = mpsc::channel(16);
    let stop = CancellationToken::new();
    let watching = tokio::spawn(watch(NETNS_DIR.into(), send, stop.clone()));
    let wait = std::time::Duration::from_secs(20);
    let mut seen = Vec::new();
    // The watch may start after the first change: changes go on until one is seen.
    let mut round = 0;
    while !(seen.contains(&Seen::HostLinks) && seen.contains(&Seen::NamedNetns)) {
        round += 1;
        apply(&kernel, vec![Op::AddNetns(named("ovk-hint"), mark("netns"))]).await?;
        apply(&kernel, vec![Op::AddLink(new(&Netns::Host, "ovh-hint", 1), LinkKind::Bridge)]).await?;
        let hint = tokio::time::timeout(wait, hints.recv()).await;
        seen.extend(hint.map_err(|_late| format!("no hint in {wait:?}, round {round}"))?);
        apply(
            &kernel,
            vec![Op::RemoveNetns(named("ovk-hint")), Op::RemoveLink(new(&Netns::Host, "ovh-hint", 1).at)],
        )
        .await?;
    }
    stop.cancel();
    watching.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

async fn rates() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    let netns = named("ovk-rate");
    let device = new(&netns, "vxlan0", 2);
    apply(
        &kernel,
        vec![
            Op::AddNetns(netns.clone(), mark("netns")),
            Op::AddLink(device.clone(), vxlan(7006, "127.0.0.1")),
            Op::SetUp(device.at.clone(), true),
        ],
    )
    .await?;
    let rows: Vec<Op> = (0..10_000_u32)
        .flat_map(|number| {
            let [a, b, c, d] = number.to_be_bytes();
            let mac = Mac::new([2, 1, a, b, c, d]).expect("a MAC address");
            let ip = std::net::Ipv4Addr::from(0x0a00_0000 + number).into();
            [
                Op::SetTunnel(device.at.clone(), mac, std::net::Ipv4Addr::new(192, 0, 2, 1).into()),
                Op::SetNeighbour(device.at.clone(), ip, mac),
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
    apply(&kernel, vec![Op::RemoveNetns(netns)]).await?;
    eprintln!(
        "10,000 neighbours and rows: added in {adding:?}, again in {again:?}, seen in {looking:?}; an empty look takes {opening:?}"
    );
    added?;
    let (seen, _) = (seen.map_err(|error| error.to_string())?, nothing.map_err(|error| error.to_string())?);
    let rows: usize =
        seen.netns.values().flat_map(|netns| netns.links.values()).map(|link| link.tunnels.len()).sum();
    told(rows == 10_000, || format!("{rows} rows"))?;
    // Some 5 times of what an optimised build needs.
    told(looking.as_millis() < 1000 && adding.as_millis() < 2000, || format!("{adding:?} {looking:?}"))
}
