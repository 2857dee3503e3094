//! What is around the agent on a host: the network below it, other firewalls, who else manages links.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ovnet_integration::vm::{Cluster, OUTSIDE};

use crate::fixture::{self, Fixture, SOON, on_all};

/// What VXLAN costs over IPv4.
const VXLAN: u32 = 50;

/// networkd has eth0 and every link of any name to manage, and yet not ours.
pub(crate) fn networkd(fixture: &Fixture) -> Result<()> {
    let cluster = fixture.ready()?;
    let host = cluster.host(1)?;
    host.run("printf '[Match]\\nName=*\\n\\n[Network]\\nDHCP=ipv4\\n' >/etc/systemd/network/95-all.network; networkctl reload")?;
    fixture::network(cluster)?;
    let links = host.run("networkctl --no-legend --no-pager list")?;
    let ours: Vec<&str> = links.lines().filter(|line| line.contains(" ov")).collect();
    ensure!(!ours.is_empty() && ours.iter().all(|line| line.contains("unmanaged")), "networkd: {links}");
    let before = host.run("ip -br link; ip -br address; ip route")?;
    host.run("systemctl restart systemd-networkd; networkctl reload")?;
    host.wait(
        "eth0 to be configured",
        SOON,
        "networkctl --no-legend list eth0 | grep -E 'routable +configur'",
    )?;
    let after = host.run("ip -br link; ip -br address; ip route")?;
    ensure!(before == after, "networkd changed something:\n{before}\n{after}");
    fixture::everyone_reaches_everyone(cluster)?;
    host.run("rm /etc/systemd/network/95-all.network; networkctl reload")?;
    fixture::no_network(cluster)
}

/// A firewall as people write it: what is not let in or through is dropped.
const FIREWALL: &str = "
apt-get -qq --no-install-recommends install iptables >/dev/null 2>&1
iptables -A INPUT -i lo -j ACCEPT
iptables -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
iptables -A INPUT -p icmp -j ACCEPT
iptables -A INPUT -p tcp -m multiport --dports 22,2379,2380 -j ACCEPT
iptables -A INPUT -p udp -m multiport --dports 4789,7946 -j ACCEPT
iptables -t nat -A POSTROUTING -s 198.51.100.0/24 -j MASQUERADE
iptables -P INPUT DROP
iptables -P FORWARD DROP";

pub(crate) fn iptables(fixture: &Fixture) -> Result<()> {
    let cluster = fixture.ready()?;
    on_all(cluster, |host| host.run(FIREWALL).map(drop))?;
    let theirs = "{ iptables -S; iptables -t nat -S; } | grep -v -- '--comment ovnet'";
    let ours = "iptables -S FORWARD | grep -c -- '--comment ovnet' || true";
    let host = cluster.host(1)?;
    let before = host.run(theirs)?;
    fixture::network(cluster)?;
    ensure!(
        host.run(ours)? == "2",
        "FORWARD has not the two rules of ours: {}",
        host.run("iptables -S FORWARD")?
    );
    // What is forwarded passes by those alone.
    let out = format!("ip netns exec web1 ping -c 1 -W 5 {OUTSIDE}");
    host.run(&out)?;
    fixture::all_alive(cluster)?;
    // A reload of theirs by Debian's own means leaves ours, and ours leaves theirs.
    host.run("iptables-save >/run/rules && iptables-restore </run/rules && rm /run/rules")?;
    ensure!(host.run(theirs)? == before, "the rules of others changed");
    ensure!(host.run("ovctl diff")?.is_empty(), "host1 is not as it should be");
    // One without ours takes them away, and they come back.
    host.run("iptables-save | grep -v -- '--comment ovnet' | iptables-restore")?;
    host.wait("our rules to be back", SOON, &format!("iptables -S FORWARD; test $({ours}) = 2"))?;
    host.run(&out)?;
    fixture::everyone_reaches_everyone(cluster)?;
    fixture::no_network(cluster)?;
    ensure!(host.run(theirs)? == before, "the rules of others changed");
    host.wait("our rules to be gone", SOON, &format!("iptables -S FORWARD; test $({ours}) = 0"))?;
    on_all(cluster, |host| {
        host.run("iptables -P INPUT ACCEPT; iptables -P FORWARD ACCEPT; iptables -F; iptables -t nat -F")
            .map(drop)
    })
}

/// The underlay of all machines has this MTU, and the agents were started on it.
fn with_mtu(cluster: &Cluster, mtu: u32) -> Result<()> {
    cluster.set_mtu(mtu)?;
    on_all(cluster, |host| host.run("systemctl restart ovagent").map(drop))?;
    fixture::all_alive(cluster)
}

pub(crate) fn mtu(fixture: &Fixture) -> Result<()> {
    let cluster = fixture.ready()?;
    for mtu in [9000, 1400] {
        with_mtu(cluster, mtu)?;
        fixture::network(cluster)?;
        let inside = mtu - VXLAN;
        let seen = cluster.host(1)?.run("ip -n web1 -o link show eth0")?;
        ensure!(seen.contains(&format!(" mtu {inside} ")), "underlay {mtu}: {seen}");
        // The largest packet, whole, without fragments: IPv4 and ICMP headers have 28 bytes.
        let largest = format!("ip netns exec web1 ping -M do -c 3 -W 5 -s {} 10.200.0.12", inside - 28);
        cluster.host(1)?.run(&largest).with_context(|| format!("underlay {mtu}"))?;
        fixture::no_network(cluster)?;
    }
    with_mtu(cluster, 1500)
}

/// 20 ms of delay and 5 % of loss on the way out of each host.
pub(crate) fn bad_link(fixture: &Fixture) -> Result<()> {
    let cluster = fixture.ready()?;
    on_all(cluster, |host| host.run("tc qdisc add dev eth0 root netem delay 20ms loss 5%").map(drop))?;
    let result = on_bad_link(cluster);
    on_all(cluster, |host| host.run("tc qdisc del dev eth0 root").map(drop))?;
    fixture::all_alive(cluster)?;
    result
}

fn on_bad_link(cluster: &Cluster) -> Result<()> {
    let (host, other) = (cluster.host(1)?, cluster.host(2)?);
    // Joining: an agent that was away is alive for all again.
    other.run("systemctl restart ovagent")?;
    fixture::all_alive(cluster)?;
    // Attaching.
    let start = Instant::now();
    fixture::network(cluster)?;
    eprintln!("  a network with three sandboxes took {:.1} s", start.elapsed().as_secs_f32());
    // Nobody is taken for dead for 30 s, which is many rounds of gossip.
    let script = "for i in $(seq 30); do ovctl node ls; sleep 1; done";
    let seen = host.run(script)?;
    ensure!(!seen.contains("down"), "a node was taken for dead: {seen}");
    // Who is dead is found dead.
    let gone = cluster.host(3)?;
    gone.power_off();
    let start = Instant::now();
    let down = "ovctl node ls; ovctl node ls | grep host3 | grep -w down";
    host.wait("host3 to be down", SOON, down)?;
    other.wait("host3 to be down", SOON, down)?;
    let took = start.elapsed();
    eprintln!("  the dead host was down after {:.1} s", took.as_secs_f32());
    ensure!(took < Duration::from_secs(45), "it took {took:?}");
    gone.power_on()?;
    gone.wait_up()?;
    gone.run("tc qdisc add dev eth0 root netem delay 20ms loss 5%")?;
    fixture::all_alive(cluster)?;
    fixture::everyone_reaches_everyone(cluster)?;
    fixture::no_network(cluster)
}
