//! Beside others' firewalls: Debian's iptables (on nf_tables), with a FORWARD policy of DROP.

use std::{collections::BTreeSet, time::Instant};

use ovagent::{
    kernel::{Kernel, LinuxKernel},
    model::IfName,
    plan::{
        op::{Op, SettingOp},
        ruleset::{Family, LinkMatch},
        state::{Look, LookAt, Netns},
    },
};

use super::objects::{NETNS_DIR, Outcome, apply, sh, told};

type Links = BTreeSet<LinkMatch>;

fn is(name: &'static str) -> LinkMatch {
    LinkMatch::Is(IfName::literal(name))
}

fn start(name: &'static str) -> LinkMatch {
    LinkMatch::StartsWith(IfName::literal(name))
}

/// What is seen of each family: V4, V6.
async fn seen(kernel: &LinuxKernel) -> Result<[Option<Links>; 2], String> {
    let at = LookAt { links: Some(BTreeSet::new()), forward_accepts: true, ..LookAt::default() };
    let look = Look { netns: [(Netns::Host, at)].into() };
    let state = kernel.observe(look).await.map_err(|error| error.to_string())?;
    let host = state.netns.get(&Netns::Host).ok_or("no host")?;
    Ok([Family::V4, Family::V6].map(|family| host.forward_accepts.get(&family).cloned()))
}

async fn set(kernel: &LinuxKernel, family: Family, links: &Links) -> Outcome {
    apply(kernel, vec![Op::Setting(Netns::Host, SettingOp::SetForwardAccepts(family, links.clone()))]).await
}

/// The rules of a FORWARD chain, its policy first.
fn rules(command: &str) -> Result<Vec<String>, String> {
    Ok(sh(&format!("{command} -S FORWARD"))?.lines().map(str::to_owned).collect())
}

/// Afterwards there is no ruleset.
pub(super) async fn forward_accepts() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    let outcome = open_and_close(&kernel).await;
    sh("nft flush ruleset")?;
    outcome
}

async fn open_and_close(kernel: &LinuxKernel) -> Outcome {
    told(seen(kernel).await? == [None, None], || "there is no chain".into())?;
    let links: Links = [start("ovb-"), is("ovnet0")].into();
    // Where there is no chain nothing is to be opened, and none is made.
    set(kernel, Family::V6, &links).await?;
    told(sh("nft list ruleset")?.is_empty(), || "tables were made".into())?;

    sh("iptables -P FORWARD DROP; iptables -A FORWARD -p tcp -m multiport --dports 80,443 -j DROP
        iptables -N mine; iptables -A mine -j ACCEPT; ip6tables -P FORWARD ACCEPT")?;
    told(seen(kernel).await? == [Some(Links::new()), None], || {
        "a chain that drops, and one that does not".into()
    })?;
    set(kernel, Family::V4, &links).await?;
    told(seen(kernel).await? == [Some(links.clone()), None], || "not seen as set".into())?;
    let expected = [
        "-P FORWARD DROP",
        "-A FORWARD -p tcp -m multiport --dports 80,443 -j DROP",
        "-A FORWARD -i ovnet0 -m comment --comment ovnet -j ACCEPT",
        "-A FORWARD -i ovb-+ -m comment --comment ovnet -j ACCEPT",
        "-A FORWARD -o ovnet0 -m comment --comment ovnet -j ACCEPT",
        "-A FORWARD -o ovb-+ -m comment --comment ovnet -j ACCEPT",
    ];
    told(rules("iptables")? == expected, || format!("{:?}", rules("iptables")))?;

    // Again: nothing changes, not even a rule's number.
    let before = sh("nft -a list chain ip filter FORWARD")?;
    set(kernel, Family::V4, &links).await?;
    told(sh("nft -a list chain ip filter FORWARD")? == before, || "rules were made again".into())?;

    let fewer: Links = [is("ovnet0")].into();
    set(kernel, Family::V4, &fewer).await?;
    told(seen(kernel).await? == [Some(fewer), None], || "not seen as changed".into())?;
    set(kernel, Family::V4, &Links::new()).await?;
    told(rules("iptables")? == expected[..2], || format!("left: {:?}", rules("iptables")))?;

    // Rules of others without a policy are reason enough, and the family is kept apart.
    sh("ip6tables -A FORWARD -s fd00::/8 -j DROP")?;
    set(kernel, Family::V6, &links).await?;
    told(seen(kernel).await? == [Some(Links::new()), Some(links)], || "IPv6 is not seen as set".into())?;
    let wrong = [LinkMatch::StartsNotWith(IfName::literal("ovb-"))].into();
    let text = set(kernel, Family::V6, &wrong).await.err().unwrap_or_default();
    told(text.contains("cannot be accepted in FORWARD"), || text)?;
    let before = rules("ip6tables")?;
    set(kernel, Family::V6, &Links::new()).await?;
    told(before.len() == 6 && rules("ip6tables")?.len() == 2, || format!("{before:?}"))
}

/// Whatever happens to our rules makes a difference, and the next step mends it.
pub(super) async fn damage() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    let links: Links = [start("ovb-"), is("ovnet0")].into();
    let outcome = async {
        for damage in [
            "iptables -D FORWARD -o ovnet0 -m comment --comment ovnet -j ACCEPT",
            "iptables -A FORWARD -o ovnet0 -m comment --comment ovnet -j ACCEPT",
            "iptables -A FORWARD -i eth0 -m comment --comment ovnet -j ACCEPT",
            "iptables -A FORWARD -m comment --comment ovnet -j ACCEPT",
            "iptables -A FORWARD -i eth0 -o ovnet0 -m comment --comment ovnet -j ACCEPT",
            "iptables -I FORWARD -i ovnet0 -m comment --comment ovnet -j DROP",
            "iptables -I FORWARD ! -i ovnet0 -m comment --comment ovnet -j ACCEPT",
            "iptables -F FORWARD; iptables -A FORWARD -s 192.0.2.7 -j DROP",
            // Somebody's rule at the end has to go before ours.
            "iptables -A FORWARD -s 192.0.2.8 -j DROP",
        ] {
            sh("nft flush ruleset; iptables -P FORWARD DROP; iptables -A FORWARD -s 192.0.2.7 -j DROP")?;
            set(&kernel, Family::V4, &links).await?;
            let whole = rules("iptables")?;
            told(seen(&kernel).await?[0].as_ref() == Some(&links), || "not seen as set".into())?;
            sh(damage)?;
            let hurt = seen(&kernel).await?;
            told(hurt[0].as_ref().is_some_and(|seen| *seen != links), || format!("{damage}: {hurt:?}"))?;
            if damage.contains("-A") && !damage.contains("-F") {
                told(hurt[0].as_ref() != Some(&Links::new()), || format!("{damage}: seen as empty"))?;
            }
            set(&kernel, Family::V4, &links).await?;
            told(seen(&kernel).await?[0].as_ref() == Some(&links), || format!("{damage}: not mended"))?;
            let mut mended = rules("iptables")?;
            mended.retain(|rule| !rule.contains("192.0.2.8"));
            let (mut sorted, mut expected) = (mended.clone(), whole);
            sorted.sort();
            expected.sort();
            told(sorted == expected && mended[1].contains("192.0.2.7"), || format!("{damage}: {mended:?}"))?;
        }
        // What iptables saved and restored is as good.
        sh("iptables-save > /run/ovk-saved; nft flush ruleset; iptables-restore < /run/ovk-saved; rm /run/ovk-saved")?;
        told(seen(&kernel).await?[0].as_ref() == Some(&links), || "restored rules are not ours".into())
    }
    .await;
    sh("nft flush ruleset")?;
    outcome
}

/// A packet from one namespace to another by way of the host.
pub(super) async fn packets() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    sh("for n in 1 2; do
            ip netns add ovk-fw$n; ip link add ovb-fw$n type veth peer name eth0 netns ovk-fw$n
            ip addr add 10.66.$n.1/24 dev ovb-fw$n; ip link set ovb-fw$n up
            ip -n ovk-fw$n addr add 10.66.$n.2/24 dev eth0; ip -n ovk-fw$n link set eth0 up
            ip -n ovk-fw$n route add default via 10.66.$n.1
        done; echo 1 > /proc/sys/net/ipv4/ip_forward; iptables -P FORWARD DROP")?;
    let ping = || sh("ip netns exec ovk-fw1 ping -c 1 -W 1 10.66.2.2");
    let outcome = async {
        told(ping().is_err(), || "it passes without an opening".into())?;
        set(&kernel, Family::V4, &[start("ovb-")].into()).await?;
        ping()?;
        set(&kernel, Family::V4, &Links::new()).await?;
        told(ping().is_err(), || "it passes after the opening has gone".into())
    }
    .await;
    sh("ip netns del ovk-fw1; ip netns del ovk-fw2; nft flush ruleset; echo 0 > /proc/sys/net/ipv4/ip_forward
        ip link del ovb-fw1 2>/dev/null || true; ip link del ovb-fw2 2>/dev/null || true")?;
    outcome
}

/// A look at the accept rules costs what they are, not what others have.
pub(super) async fn huge() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    let rules: String = (0..20_000_u32).fold(String::new(), |text, number| {
        let [_, _, a, b] = number.to_be_bytes();
        text + &format!("add rule ip filter others ip saddr 10.0.{a}.{b} drop\n")
    });
    std::fs::write("/run/ovk-huge", rules).map_err(|error| error.to_string())?;
    sh("iptables -P FORWARD DROP; iptables -N others; nft -f /run/ovk-huge; rm /run/ovk-huge")?;
    let links: Links = [start("ovb-")].into();
    let start = Instant::now();
    let outcome = set(&kernel, Family::V4, &links).await;
    let (setting, start) = (start.elapsed(), Instant::now());
    let looked = seen(&kernel).await;
    let looking = start.elapsed();
    let listing = Instant::now();
    sh("nft list ruleset > /dev/null; nft flush ruleset")?;
    let listing = listing.elapsed();
    outcome?;
    told(looked? == [Some(links), None], || "not seen as set".into())?;
    eprintln!("beside 20,000 rules: set in {setting:?}, seen in {looking:?}; nft lists them in {listing:?}");
    told(looking < listing, || format!("a look takes {looking:?}, nft {listing:?}"))
}
