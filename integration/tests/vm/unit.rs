//! The unit: what systemd knows of it, what it may do, what it logs.

use anyhow::{Context, Result, ensure};
use ovnet_integration::vm::{Machine, Traffic};

use crate::fixture::{self, Fixture, SOON};

/// `systemd-analyze security`: at most this exposure.
const EXPOSURE: f32 = 3.0;
/// CAP_NET_ADMIN (12), CAP_SYS_CHROOT (18), CAP_SYS_PTRACE (19), CAP_SYS_ADMIN (21).
const CAPABILITIES: u64 = 1 << 12 | 1 << 18 | 1 << 19 | 1 << 21;

pub(crate) fn ready_and_fenced(fixture: &Fixture) -> Result<()> {
    let cluster = fixture.ready()?;
    let host = cluster.host(1)?;
    // Type=notify: active means that readiness was told.
    let show =
        host.run("systemctl show ovagent -p Type -p ActiveState -p SubState -p NRestarts -p Result")?;
    for line in ["Type=notify", "ActiveState=active", "SubState=running", "NRestarts=0", "Result=success"] {
        ensure!(show.contains(line), "no {line}: {show}");
    }
    ensure!(host.run("systemctl is-enabled ovagent")? == "enabled", "not enabled");
    let analysis = host.run("systemd-analyze security ovagent.service | tail -n 1")?;
    let exposure: f32 = analysis
        .split_whitespace()
        .find_map(|word| word.parse().ok())
        .with_context(|| format!("no exposure: {analysis}"))?;
    eprintln!("  its exposure is {exposure}");
    ensure!(exposure <= EXPOSURE, "its exposure is {exposure}");
    let status =
        host.run("grep -E '^(Cap(Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp):' /proc/$(pidof ovagent)/status")?;
    let wanted = format!("{CAPABILITIES:016x}");
    ensure!(status.matches(&wanted).count() == 3, "capabilities other than {wanted}: {status}");
    ensure!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    inside_the_fence(host)?;
    out_of_the_fence(host)?;
    quiet(host)
}

/// What the agent makes from inside is the host's to see, and goes.
fn out_of_the_fence(host: &Machine) -> Result<()> {
    host.run(
        "ovctl network create -d overlay --subnet 10.200.0.0/24 net; ovctl sandbox create --network net web1",
    )?;
    let named = host.run("ip netns list")?;
    ensure!(named.contains("web1") && named.contains("ov-"), "names: {named}");
    for file in
        ["/run/ovnet/sandboxes/web1/hosts", "/run/ovnet/sandboxes/web1/resolv.conf", "/etc/netns/web1/hosts"]
    {
        host.run(&format!("test -s {file}"))?;
    }
    // ip netns exec mounts what is below /etc/netns over the host's.
    let resolver = host.run("ip netns exec web1 cat /etc/resolv.conf")?;
    ensure!(resolver.contains("127.0.0.11"), "no resolver of ours: {resolver}");
    let (address, names) =
        (host.run("ovctl exec web1 -- getent ahostsv4 web1")?, host.run("ovctl exec web1 -- hostname")?);
    ensure!(address.contains("10.200.0.") && names == "web1", "{address}, {names}");
    host.run("ovctl sandbox rm web1; ovctl network rm net")?;
    host.wait(
        "all of it to be gone",
        SOON,
        "ip netns; ls /etc/netns /run/ovnet/sandboxes; test -z \"$(ip netns)$(ls /etc/netns /run/ovnet/sandboxes | grep web1)\"",
    )
}

/// What the agent's mount namespace shows.
fn inside_the_fence(host: &Machine) -> Result<()> {
    let inside = |script: &str| {
        host.try_run(&format!("nsenter --mount --target $(pidof ovagent) -- sh -c '{script}'"))
    };
    for path in ["/etc", "/etc/ovnet", "/usr", "/run", "/var/log", "/proc/sys/kernel", "/sys", "/home"] {
        let done = inside(&format!("test -w {path}"))?;
        ensure!(!done.status.success(), "the agent can write to {path}");
    }
    for path in ["/run/ovnet", "/var/lib/ovnet", "/etc/netns", "/proc/sys/net/ipv4/ip_forward"] {
        inside(&format!("test -w {path}"))?
            .ok()
            .with_context(|| format!("the agent cannot write to {path}"))?;
    }
    ensure!(!inside("ls /home/vagrant")?.status.success(), "the agent sees homes");
    Ok(())
}

/// Nothing at warning or above, from the unit or about it, since it was started; with its fields.
pub(crate) fn quiet(host: &Machine) -> Result<()> {
    let since = "--since \"$(systemctl show -P ExecMainStartTimestamp ovagent)\"";
    // An emulated etcd on a busy machine is slow indeed, and the agent says so.
    let loud = host.run(&format!(
        "journalctl -q -b -p warning {since} -u ovagent -o short-precise --no-pager | grep -v 'is slow, it takes' || true"
    ))?;
    ensure!(loud.is_empty(), "its journal has warnings: {loud}");
    let loud = host
        .run("journalctl -q -b -p warning _PID=1 -o cat --no-pager | grep -iE 'ovagent|ovnet|ov-' || true")?;
    ensure!(loud.is_empty(), "systemd's journal has warnings about it: {loud}");
    let fields = host.run("journalctl -q -b _SYSTEMD_UNIT=ovagent.service -o json --no-pager | tail -n 1")?;
    for field in ["\"TARGET\":\"ovagent", "\"SYSLOG_IDENTIFIER\":\"ovagent\"", "\"PRIORITY\""] {
        ensure!(fields.contains(field), "no {field} in the journal: {fields}");
    }
    Ok(())
}

pub(crate) fn used_from_all(fixture: &Fixture) -> Result<()> {
    let cluster = fixture.ready()?;
    fixture::network(cluster)?;
    for (number, host) in (1..).zip(&cluster.machines) {
        // From the host itself too, and out to the world.
        host.run(&format!("ping -c 1 -W 5 10.200.0.{}", 11 + number % 3))?;
        host.run(&format!("ip netns exec web{number} ping -c 1 -W 5 {}", ovnet_integration::vm::OUTSIDE))?;
        // The names of the namespaces are the host's to see, and theirs to enter.
        let named = host.run("ip netns list")?;
        ensure!(named.contains(&format!("web{number}")) && named.contains("ov-"), "names: {named}");
        ensure!(host.run("ovctl diff")?.is_empty(), "{} is not as it should be", host.name);
    }
    fixture::no_network(cluster)?;
    for host in &cluster.machines {
        host.wait("the network to be gone", SOON, "ip netns list; test -z \"$(ip netns list)\"")?;
        // The names are gone in the agent's own mount namespace too: one that stayed would keep the namespace alive.
        host.run("! grep -E 'nsfs.*(ov-|web)|(ov-|web).*nsfs' /proc/$(pidof ovagent)/mountinfo")?;
        quiet(host)?;
    }
    Ok(())
}

pub(crate) fn killed(fixture: &Fixture) -> Result<()> {
    let cluster = fixture.ready()?;
    fixture::network(cluster)?;
    let (host, other) = (cluster.host(1)?, cluster.host(2)?);
    let there = Traffic::start(other, "web2", "10.200.0.11")?;
    let back = Traffic::start(host, "web1", "10.200.0.12")?;
    let restarts = || -> Result<u32> { Ok(host.run("systemctl show -P NRestarts ovagent")?.parse()?) };
    let first = restarts()?;
    for kills in 1..=3 {
        let before = host.run("pidof ovagent")?;
        host.run("systemctl kill --kill-whom=main --signal=SIGKILL ovagent")?;
        let ready = format!(
            "systemctl is-active ovagent; pidof ovagent; test \"$(pidof ovagent)\" != {before}; out=$(ovctl diff); echo \"$out\"; test -z \"$out\""
        );
        host.wait("the agent to be ready again", SOON, &ready)?;
        ensure!(restarts()? == first + kills, "restarts");
    }
    there.wait_answers(10)?;
    for (traffic, what) in [(there, "web2 to web1"), (back, "web1 to web2")] {
        fixture::none_lost(traffic.stop()?, what)?;
    }
    // It still takes changes.
    host.run("ovctl sandbox create --network net again && ovctl sandbox rm again")?;
    fixture::all_alive(cluster)?;
    fixture::no_network(cluster)
}
