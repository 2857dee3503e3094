//! A bad environment: what is wrong with a host is said in words that name it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ovnet_integration::{
    program::Done,
    vm::{Machine, Traffic},
};

use crate::fixture::{self, Fixture, SOON};

/// A way that works is tried again after half a minute, and one answer that is missing is no trouble yet.
const TOLD: Duration = Duration::from_secs(180);

/// What the agent has logged since this moment of [`now`].
fn log_since(host: &Machine, since: &str) -> Result<String> {
    host.run(&format!(
        "journalctl -q -u ovagent --since @{since} -o json --no-pager | python3 -c '
import json, sys
for line in sys.stdin:
    entry = json.loads(line)
    at = int(entry[\"__REALTIME_TIMESTAMP\"]) / 1e6 - {since}
    print(f\"{{at:7.2f}}\", entry[\"PRIORITY\"], entry[\"MESSAGE\"])'"
    ))
}

fn now(host: &Machine) -> Result<String> {
    host.run("date +%s")
}

/// Run what must fail.
fn refused(host: &Machine, script: &str) -> Result<Done> {
    let done = host.try_run(script)?;
    ensure!(!done.status.success(), "{script} succeeded: {done}");
    eprintln!("  {}, after {:?}", done.stderr.trim(), done.took);
    Ok(done)
}

pub(crate) fn no_module(fixture: &Fixture) -> Result<()> {
    let cluster = fixture.ready()?;
    let host = cluster.host(1)?;
    host.run("ovctl network create -d overlay net")?;
    host.run("echo 'install vxlan /bin/false' >/etc/modprobe.d/no-vxlan.conf; ! lsmod | grep -q ^vxlan || rmmod vxlan")?;
    let said = refused(host, "ovctl sandbox create --network net web")?.stderr;
    host.run("rm /etc/modprobe.d/no-vxlan.conf")?;
    ensure!(said.contains("vxlan") && said.contains("CONFIG_VXLAN"), "it says: {said}");
    // With the module there, the same works, without a restart.
    host.run("ovctl sandbox create --network net web && ovctl sandbox rm web && ovctl network rm net")
        .map(drop)
}

pub(crate) fn no_nf_tables(fixture: &Fixture) -> Result<()> {
    let cluster = fixture.ready()?;
    let host = cluster.host(1)?;
    let since = now(host)?;
    // No namespace has a table while there is no network, so the module can be unloaded.
    host.run(
        "systemctl stop ovagent; nft flush ruleset; echo 'install nf_tables /bin/false' >/etc/modprobe.d/no-nft.conf
         for i in 1 2 3; do rmmod $(lsmod | awk '/^(nft_|nf_tables)/ { print $1 }') 2>/dev/null || true; done
         ! grep -q ^nf_tables /proc/modules; systemctl start ovagent; ovctl network create -d overlay net",
    )?;
    let warned = host.run("ovctl node ls 2>&1")?;
    let refused = refused(host, "ovctl sandbox create --network net web")?;
    let left =
        host.run("ovctl sandbox ls -q; ovctl endpoint ls -q; ls /run/netns; ip -br link | grep ^ov || true")?;
    host.run("rm /etc/modprobe.d/no-nft.conf")?;
    eprintln!("  {}", log_since(host, &since)?);
    for words in [&warned, &refused.stderr] {
        ensure!(words.contains("nftables") && words.contains("CONFIG_NF_TABLES"), "it says: {words}");
    }
    ensure!(refused.took < SOON, "it was refused after {:?}", refused.took);
    ensure!(left.is_empty(), "what was refused leaves {left}");
    // With the module there, the same works, without a restart.
    host.run("ovctl sandbox create --network net web && test -z \"$(ovctl diff)\"")?;
    host.wait("the warning to go", TOLD, "! ovctl node ls 2>&1 | grep CONFIG_NF_TABLES")?;
    host.run("ovctl sandbox rm web && ovctl network rm net").map(drop)
}

pub(crate) fn full_disk(fixture: &Fixture) -> Result<()> {
    let cluster = fixture.ready()?;
    let host = cluster.host(1)?;
    // Root's reserve is none: mke2fs was told so.
    host.run("fallocate -l $(($(df --output=avail -BM / | tail -n 1 | tr -dc 0-9) - 32))M /fill; dd if=/dev/zero of=/fill2 bs=4k 2>/dev/null || true")?;
    let said = refused(host, "for i in $(seq 40); do ovctl sandbox create full$i; done");
    // A change fails, what is there goes on, and the agent too.
    let alive = host.try_run("ovctl version && ovctl network ls");
    host.run("rm -f /fill /fill2")?;
    let said = said?.stderr;
    alive?.ok()?;
    ensure!(said.contains("No space left"), "it says: {said}");
    // One that could not be taken back is removed by the agent itself as soon as there is room.
    host.wait(
        "the sandboxes to be gone",
        SOON,
        "for s in $(ovctl sandbox ls --format '{{.Name}}'); do ovctl sandbox rm $s || true; done; test -z \"$(ovctl sandbox ls --format '{{.Name}}')\"",
    )?;
    ensure!(host.run("ovctl diff")?.is_empty(), "something is left");
    fixture::all_alive(cluster)
}

pub(crate) fn clock(fixture: &Fixture) -> Result<()> {
    let cluster = fixture.ready()?;
    let host = cluster.host(2)?;
    for off in ["1 hour", "-2 hours"] {
        host.run(&format!("date -s '{off}' >/dev/null; systemctl restart ovagent"))?;
        fixture::all_alive(cluster).with_context(|| format!("its clock was set by {off}"))?;
    }
    fixture::network(cluster)?;
    fixture::no_network(cluster)?;
    host.run("date -s '1 hour' >/dev/null")?;
    fixture::all_alive(cluster)
}

pub(crate) fn slow_store(fixture: &Fixture) -> Result<()> {
    let cluster = fixture.ready()?;
    let host = cluster.host(1)?;
    fixture::network(cluster)?;
    let since = now(host)?;
    let between = Traffic::start(host, "web1", "10.200.0.12")?;
    // Every answer of every etcd comes 2 s late, and nothing else does.
    for member in &cluster.machines {
        member.run(
            "tc qdisc add dev eth0 root handle 1: prio bands 3
             tc qdisc add dev eth0 parent 1:3 netem delay 2s
             tc filter add dev eth0 parent 1: protocol ip u32 match ip sport 2379 0xffff flowid 1:3
             tc qdisc add dev lo root handle 1: prio bands 3
             tc qdisc add dev lo parent 1:3 netem delay 2s
             tc filter add dev lo parent 1: protocol ip u32 match ip sport 2379 0xffff flowid 1:3",
        )?;
    }
    let made = host.try_run("ovctl network create -d overlay slow");
    let version = host.try_run("ovctl version");
    between.wait_answers(25)?;
    let log = log_since(host, &since)?;
    for member in &cluster.machines {
        member.run("tc qdisc del dev eth0 root; tc qdisc del dev lo root")?;
    }
    eprintln!("  {log}");
    // It is done, or refused with the reason; nobody waits for ever, and the agent itself answers.
    let (made, version) = (made?, version?);
    eprintln!("  {made}, after {:?}", made.took);
    ensure!(made.status.success() || made.stderr.contains("store"), "it does not say why: {made}");
    ensure!(made.took < SOON, "it took {:?}", made.took);
    version.ok()?;
    host.wait("the store to answer", SOON, "ovctl network rm slow || ! ovctl network inspect slow")?;
    fixture::all_alive(cluster)?;
    fixture::none_lost(between.stop()?, "web1 to web2 meanwhile")?;
    ensure!(host.run("ovctl diff")?.is_empty(), "host1 is not as it should be");
    fixture::no_network(cluster)
}

pub(crate) fn namesake(fixture: &Fixture) -> Result<()> {
    let cluster = fixture.ready()?;
    let host = cluster.host(2)?;
    let since = now(host)?;
    host.run("echo 'node-name = \"host1\"' >>/etc/ovnet/agent.toml; systemctl restart ovagent")?;
    let what = "a warning about the name";
    let said = host.wait(
        what,
        SOON,
        &format!("journalctl -u ovagent --since @{since} -p warning -o cat | grep 'more than one node'"),
    );
    eprintln!("  {}", log_since(host, &since)?);
    host.run("sed -i '/node-name/d' /etc/ovnet/agent.toml; systemctl restart ovagent")?;
    fixture::all_alive(cluster)?;
    said
}

pub(crate) fn clone(fixture: &Fixture) -> Result<()> {
    let cluster = fixture.ready()?;
    let (original, host) = (cluster.host(1)?, cluster.host(2)?);
    let id = original.run("cat /var/lib/ovnet/node-id")?;
    let since = now(host)?;
    host.run(&format!(
        "cp /var/lib/ovnet/node-id /root/node-id; systemctl stop ovagent; echo {id} >/var/lib/ovnet/node-id; systemctl start ovagent"
    ))?;
    let what = "words about the clone";
    let said = host.wait(
        what,
        Duration::from_secs(30),
        &format!("journalctl -u ovagent --since @{since} -p err -o cat | grep 'has the node id'"),
    );
    // It takes no part, and the one that was there first is none the wiser.
    let refused = host.try_run("ovctl network create -d overlay copied");
    let known = original.run("ovctl node ls");
    eprintln!("  {}: {}", host.name, log_since(host, &since)?);
    host.run("systemctl stop ovagent; cp /root/node-id /var/lib/ovnet/node-id; systemctl start ovagent")?;
    fixture::all_alive(cluster)?;
    said?;
    let (refused, known) = (refused?, known?);
    ensure!(!refused.status.success() && refused.stderr.contains("/var/lib/ovnet/node-id"), "{refused}");
    ensure!(known.contains("host1"), "host1 has lost its record: {known}");
    Ok(())
}

/// Wait until a host says of host2 which port is closed.
fn told(host: &Machine, port: &str) -> Result<()> {
    let look = format!("ovctl node ls 2>&1; ovctl node ls 2>&1 | grep host2 | grep '{port}'");
    host.wait(&format!("words about {port}"), TOLD, &look)
}

pub(crate) fn firewalls(fixture: &Fixture) -> Result<()> {
    let cluster = fixture.ready()?;
    let (host, closed) = (cluster.host(1)?, cluster.host(2)?);
    let since = now(host)?;
    let table = |port: u16| {
        format!(
            "nft 'table inet closed {{ chain input {{ type filter hook input priority 0; udp dport {port} drop; }}; }}'"
        )
    };
    host.run("ovctl network create -d overlay --subnet 10.200.0.0/24 net")?;
    host.run("ovctl sandbox create --network net:ip=10.200.0.11 web1")?;
    closed.run("ovctl sandbox create --network net:ip=10.200.0.12 web2")?;
    let reached = "ip netns exec web1 ping -c 2 -W 5 10.200.0.12";
    host.run(reached)?;
    // Gossip: the host is told to be down. It lives for the store, so its endpoints stay in reach.
    closed.run(&table(7946))?;
    host.wait("host2 to be down", SOON, "ovctl node ls; ovctl node ls | grep host2 | grep -w down")?;
    told(host, "UDP port 7946")?;
    host.run(reached)?;
    closed.run("nft delete table inet closed")?;
    fixture::all_alive(cluster)?;
    // VXLAN: nothing comes back, and all hosts are alive.
    closed.run(&table(4789))?;
    let done = host.try_run(reached)?;
    ensure!(!done.status.success(), "the firewall lets VXLAN through: {done}");
    fixture::all_alive(cluster)?;
    told(host, "UDP port 4789")?;
    eprintln!("  {}", log_since(host, &since)?);
    closed.run("nft delete table inet closed")?;
    host.run(reached)?;
    closed.run("ovctl sandbox rm web2")?;
    host.run("ovctl sandbox rm web1; ovctl network rm net").map(drop)
}
