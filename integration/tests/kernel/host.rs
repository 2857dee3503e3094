//! What only the real kernel can show of namespaces, the host and programs.

use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    path::Path,
    process::{Command, Stdio},
};

use ovagent::{
    kernel::{Hint, Kernel, KernelError, LinuxKernel},
    plan::{
        op::{LinkOp, LinkRow, NetnsOp, Op, RowOp, SettingOp},
        ruleset::Table,
        state::{LinkKind, Look, LookAt, Netns},
    },
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::objects::{NETNS_DIR, Outcome, apply, mark, name, named, new, sh, told};

pub(super) async fn ip_netns() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    sh("ip netns add ovk-theirs")?;
    apply(&kernel, vec![Op::Netns(named("ovk-ours"), NetnsOp::Add(mark("netns")))]).await?;
    let theirs = sh("ip netns list")?;
    sh(
        "ip netns exec ovk-ours ping -c 1 -W 1 127.0.0.1 || ip netns exec ovk-ours ip -br link show up lo | grep lo",
    )?;
    let ours = kernel.named_netns().await.map_err(|error| error.to_string())?;
    let refused = kernel.apply(vec![Op::Netns(named("ovk-theirs"), NetnsOp::Remove)]).await;
    apply(&kernel, vec![Op::Netns(named("ovk-ours"), NetnsOp::Remove)]).await?;
    let after = sh("ip netns list")?;
    sh("ip netns del ovk-theirs")?;
    told(theirs.contains("ovk-ours") && !after.contains("ovk-ours"), || format!("{theirs}\n{after}"))?;
    let expected = [(name("ovk-ours"), Some(mark("netns"))), (name("ovk-theirs"), None)];
    told(ours == expected, || format!("{ours:?}"))?;
    told(refused.is_err() && after.contains("ovk-theirs"), || "a foreign namespace was removed".into())
}

pub(super) async fn stale_file() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    fs::write("/run/netns/ovk-stale", "").map_err(|error| error.to_string())?;
    let seen = kernel.named_netns().await.map_err(|error| error.to_string())?;
    let names = kernel.netns_names().await.map_err(|error| error.to_string())?;
    apply(&kernel, vec![Op::Netns(named("ovk-stale"), NetnsOp::Add(mark("netns")))]).await?;
    let now = kernel.named_netns().await.map_err(|error| error.to_string())?;
    apply(&kernel, vec![Op::Netns(named("ovk-stale"), NetnsOp::Remove)]).await?;
    told(seen.is_empty() && names.is_empty() && now.len() == 1, || format!("{seen:?} {names:?} {now:?}"))
}

/// People make links in the directory of names, to a process's namespace for instance.
pub(super) async fn links_among_names() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    apply(&kernel, vec![Op::Netns(named("ovk-real"), NetnsOp::Add(mark("netns")))]).await?;
    sh(
        "ln -s ovk-loop /run/netns/ovk-loop; ln -s ovk-real /run/netns/ovk-alias; ln -s /nowhere /run/netns/ovk-none",
    )?;
    let seen = kernel.named_netns().await.map_err(|error| error.to_string());
    let names = kernel.netns_names().await.map_err(|error| error.to_string());
    sh("rm /run/netns/ovk-loop /run/netns/ovk-alias /run/netns/ovk-none")?;
    apply(&kernel, vec![Op::Netns(named("ovk-real"), NetnsOp::Remove)]).await?;
    let (seen, names) = (seen?, names?);
    told(seen.len() == 1 && names.len() == 1, || format!("{seen:?} {names:?}"))
}

pub(super) async fn facts() -> Outcome {
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

pub(super) async fn inodes() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    let at = |path: &str| kernel.netns_inode(Path::new(path).to_owned());
    let (netns, path) = (named("ovk-ino"), "/run/netns/ovk-ino");
    let failed = |error: KernelError| error.to_string();
    let before = at(path).await.map_err(failed)?;
    apply(&kernel, vec![Op::Netns(netns.clone(), NetnsOp::Add(mark("netns")))]).await?;
    let during = at(path).await.map_err(failed)?;
    let expected = sh(&format!("stat -Lc %i {path}"))?.trim().parse().ok();
    apply(&kernel, vec![Op::Netns(netns, NetnsOp::Remove)]).await?;
    let after = at(path).await.map_err(failed)?;
    let process = at("/proc/999999999/ns/net").await.map_err(failed)?;
    let file = at("/etc/passwd").await.map_err(failed)?;
    told((before, after, process, file) == (None, None, None, None), || "a namespace that is none".into())?;
    told(during.is_some() && during == expected, || format!("{during:?} {expected:?}"))
}

/// In a child of this process that finds no programs.
pub(super) async fn missing_nft() -> Outcome {
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
    // With no table there is nothing that nft would be needed for.
    let kernel = LinuxKernel::new(NETNS_DIR);
    let look = Look { netns: [(Netns::Host, LookAt { table: true, ..LookAt::default() })].into() };
    kernel.observe(look).await.map_err(|error| error.to_string())?;
    match kernel.apply(vec![Op::Setting(Netns::Host, SettingOp::SetTable(Table::default()))]).await {
        Err(error) => Err(error.to_string()),
        Ok(()) => Err("nft was found".into()),
    }
}

pub(super) async fn hints() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    let (send, mut hints) = mpsc::channel(16);
    let stop = CancellationToken::new();
    let watching = tokio::spawn(watch(send, stop.clone()));
    let wait = std::time::Duration::from_secs(20);
    let mut seen = Vec::new();
    // The watch may start after the first change: changes go on until one is seen.
    let mut round = 0;
    while !(seen.contains(&Hint::HostLinks) && seen.contains(&Hint::NamedNetns)) {
        round += 1;
        apply(&kernel, vec![Op::Netns(named("ovk-hint"), NetnsOp::Add(mark("netns")))]).await?;
        apply(&kernel, vec![Op::AddLink(new(&Netns::Host, "ovh-hint", 1), LinkKind::Bridge)]).await?;
        let hint = tokio::time::timeout(wait, hints.recv()).await;
        seen.extend(hint.map_err(|_late| format!("no hint in {wait:?}, round {round}"))?);
        apply(
            &kernel,
            vec![
                Op::Netns(named("ovk-hint"), NetnsOp::Remove),
                Op::Link(new(&Netns::Host, "ovh-hint", 1).at, LinkOp::Remove),
            ],
        )
        .await?;
    }
    stop.cancel();
    watching.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

async fn watch(hints: mpsc::Sender<Hint>, stop: CancellationToken) -> Result<(), KernelError> {
    LinuxKernel::new(NETNS_DIR).watch(hints, stop).await
}

/// What happens to our table and to FORWARD chains is hinted at; what others do elsewhere is not.
pub(super) async fn rule_hints() -> Outcome {
    let (send, mut hints) = mpsc::channel(16);
    let stop = CancellationToken::new();
    let watching = tokio::spawn(watch(send, stop.clone()));
    let outcome = hinted(&mut hints).await;
    sh("nft flush ruleset")?;
    stop.cancel();
    watching.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    outcome
}

async fn hinted(hints: &mut mpsc::Receiver<Hint>) -> Outcome {
    // The watch may start after the first change: changes go on until one is seen.
    while hints.try_recv().is_err() {
        sh("nft add table inet ovnet; nft delete table inet ovnet")?;
        tokio::task::yield_now().await;
    }
    let kernel = LinuxKernel::new(NETNS_DIR);
    apply(&kernel, vec![Op::Setting(Netns::Host, SettingOp::SetTable(Table::default()))]).await?;
    sh("iptables -P FORWARD DROP; ip6tables -P FORWARD DROP; iptables -N others; nft add table ip theirs")?;
    let quiet = "nft add chain ip theirs FORWARD; nft add chain ip filter mine
        nft add rule ip filter mine drop; iptables -A others -j ACCEPT; iptables -A INPUT -j ACCEPT
        nft add table bridge ovnet; nft add table inet ovnet2
        nft add set ip filter s '{ type ipv4_addr; }'; nft add element ip filter s '{ 10.0.0.1 }'";
    for change in [
        "nft add chain inet ovnet stranger",
        "nft flush ruleset; nft add table inet ovnet; iptables -P FORWARD DROP",
        "iptables -A FORWARD -j ACCEPT",
        "iptables -F FORWARD",
        "iptables -P FORWARD ACCEPT",
        "ip6tables -A FORWARD -j DROP",
        "nft delete table inet ovnet",
    ] {
        settled(hints).await?;
        sh(change)?;
        while next(hints, change).await? != Hint::Ruleset {}
    }
    sh("nft add table ip theirs; iptables -N others")?;
    settled(hints).await?;
    sh(quiet)?;
    let seen = settled(hints).await?;
    told(!seen.contains(&Hint::Ruleset), || format!("hints of others' rules: {seen:?}"))
}

/// The next hint.
async fn next(hints: &mut mpsc::Receiver<Hint>, after: &str) -> Result<Hint, String> {
    let wait = std::time::Duration::from_secs(20);
    let hint = tokio::time::timeout(wait, hints.recv()).await;
    hint.map_err(|_late| format!("no hint of {after}"))?.ok_or("the watch has ended".into())
}

/// All hints of what was before: some changes of links say that it has been read.
async fn settled(hints: &mut mpsc::Receiver<Hint>) -> Result<Vec<Hint>, String> {
    let mut seen = Vec::new();
    for _round in 0..3 {
        sh("ip link add ok-mark type bridge; ip link del ok-mark")?;
        let start = seen.len();
        while !seen[start..].contains(&Hint::HostLinks) {
            seen.push(next(hints, "a link").await?);
        }
        while let Ok(hint) = hints.try_recv() {
            seen.push(hint);
        }
    }
    Ok(seen)
}

/// A container's namespace: ours is the veth in it, and nothing else.
pub(super) async fn adopted() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    // Writes a line once it is in its namespace, and ends with its input.
    let mut container = Command::new("unshare")
        .args(["--net", "sh", "-c", "ip link add eth7 type bridge; echo; read _end"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut line = [0; 1];
    let ready = container.stdout.take().map(|mut out| out.read_exact(&mut line));
    let path = format!("/proc/{}/ns/net", container.id());
    let outcome = in_container(&kernel, Path::new(&path)).await;
    drop(container.stdin.take());
    let ended = container.wait().map_err(|error| error.to_string())?;
    let gone = kernel.netns_inode(path.into()).await.map_err(|error| error.to_string())?;
    outcome?;
    told(matches!(ready, Some(Ok(()))) && gone.is_none(), || format!("{ready:?} {ended} {gone:?}"))
}

async fn in_container(kernel: &LinuxKernel, path: &Path) -> Outcome {
    let netns = Netns::Path(path.to_owned());
    let (eth, leg) = (new(&netns, "eth0", 1), new(&Netns::Host, "ovh-box", 2));
    apply(
        kernel,
        vec![
            Op::AddVeth(eth.clone(), leg.clone()),
            Op::Link(eth.at.clone(), LinkOp::SetUp(true)),
            Op::Row(eth.at.clone(), RowOp::Set, LinkRow::Address("10.9.9.9/24".parse().expect("an address"))),
            Op::Setting(netns.clone(), SettingOp::SetSysctl("net/ipv4/ip_forward".into(), "1".into())),
        ],
    )
    .await?;
    let at = LookAt { sysctls: ["net/ipv4/ip_forward".into()].into(), ..LookAt::default() };
    let look = Look { netns: [(netns.clone(), at)].into() };
    let seen = kernel.observe(look).await.map_err(|error| error.to_string())?;
    let forwarding = sh("cat /proc/sys/net/ipv4/ip_forward")?;
    let refused = kernel.apply(vec![Op::Netns(netns.clone(), NetnsOp::Remove)]).await;
    apply(kernel, vec![Op::Link(leg.at, LinkOp::Remove)]).await?;
    let seen = seen.netns.get(&netns).ok_or("the namespace was not seen")?;
    let marks: Vec<_> = seen.links.iter().map(|(name, link)| (name.as_str(), link.mark.is_some())).collect();
    told(marks == [("eth0", true), ("eth7", false)] && seen.mark.is_none(), || format!("{seen:?}"))?;
    told(seen.sysctls["net/ipv4/ip_forward"] == "1", || format!("{:?}", seen.sysctls))?;
    told(forwarding.trim() != "1" && refused.is_err(), || "it reached beyond the container".into())
}
