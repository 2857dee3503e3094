//! Agents and stores come and go; traffic stays. What is wrong is mended, what is foreign is left alone, and `cleanup`
//! leaves nothing.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use ovnet_integration::{
    binaries::Binaries,
    frame::{self, Test},
    lab::{From, Host, Lab, OUTSIDE_V4},
    ping::Pings,
    wait::{Poll, wait_for, wait_until},
};

fn main() -> Result<()> {
    let two = || Lab::builder().hosts(2);
    frame::run([
        Test::new("traffic runs on while agents are killed and started", two(), killed),
        Test::new("traffic runs on while agents are stopped and started", two(), stopped),
        Test::new(
            "a stop ends what clients have open, with a word, and waits for none of them",
            two(),
            attended,
        ),
        Test::new("traffic and agents outlive a store that is away", two(), store_away),
        Test::new("a change while an agent is down is caught up", two(), caught_up),
        Test::new("what was removed or bent by hand is mended", two(), mended),
        Test::new("foreign devices, routes and tables survive", two(), foreign),
        Test::new("cleanup leaves the kernel as it was before the first start", two().agents(false), cleanup),
        Test::new("cleanup reaches nothing but the agent's own places", Lab::builder().hosts(1), led_astray),
        Test::new("removing the last network leaves none of its objects", two(), last_network),
    ])
}

/// `a` on h1 and `b` on h2, and their addresses.
fn pair(lab: &Lab) -> Result<(String, String)> {
    lab.create_network(&["--subnet", "10.9.0.0/24", "net"])?;
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    h1.create_sandbox("a", &["net"])?;
    h2.create_sandbox("b", &["net"])?;
    Ok((h1.address("net", "a")?, h2.address("net", "b")?))
}

/// Pings in both directions, from a host to a remote endpoint, and to the outside.
fn traffic(lab: &Lab, a: &str, b: &str) -> Result<Pings> {
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    Pings::answered(vec![
        ("a to b", h1.ping_background(From::Sandbox("a"), b)?),
        ("b to a", h2.ping_background(From::Sandbox("b"), a)?),
        ("h1 to b", h1.ping_background(From::Host, b)?),
        ("a to outside", h1.ping_background(From::Sandbox("a"), OUTSIDE_V4)?),
    ])
}

fn killed(lab: &Lab) -> Result<()> {
    let (a, b) = pair(lab)?;
    let mut pings = traffic(lab, &a, &b)?;
    for _round in 0..3 {
        for host in &lab.hosts {
            host.restart_agent9()?;
            host.wait_in_sync()?;
            pings.go_on()?;
        }
    }
    pings.without_loss()
}

fn stopped(lab: &Lab) -> Result<()> {
    let (a, b) = pair(lab)?;
    let mut pings = traffic(lab, &a, &b)?;
    for host in &lab.hosts {
        host.stop_agent()?;
    }
    pings.go_on()?;
    lab.start_agents()?;
    lab.hosts.iter().try_for_each(Host::wait_in_sync)?;
    pings.go_on()?;
    pings.without_loss()
}

/// `ovctl events`, whose first event has come.
fn attend(host: &Host) -> Result<Child> {
    let mut command = host.program(Binaries::find()?.ovctl).args(["events"]).into_command();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut output = BufReader::new(child.stdout.take().context("its output")?);
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(output.read_line(&mut String::new()).map(|_length| output)));
    let mut number = 0;
    let output = wait_for("an event to be printed", Duration::from_secs(10), || {
        number += 1;
        let name = format!("seen-{}-{number}", child.id());
        host.ovctl_ok(&["network", "create", "-d", "overlay", &name])?;
        Ok(told.try_recv().map_or_else(|_none| Poll::Pending("nothing".into()), Poll::Ready))
    })?;
    child.stdout = Some(output?.into_inner());
    Ok(child)
}

/// One who reads a stream, one who does not, and a call that cannot be answered.
fn attended(lab: &Lab) -> Result<()> {
    let (host, etcd) = (lab.host(1)?, lab.etcd()?);
    let (reader, mut frozen) = (attend(host)?, attend(host)?);
    kill(Pid::from_raw(i32::try_from(frozen.id())?), Signal::SIGSTOP).context("freeze a client")?;
    etcd.freeze()?;
    let verb = host.program(Binaries::find()?.ovctl).args(["network", "create", "-d", "overlay", "late"]);
    let mut verb = verb.into_command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut words = BufReader::new(verb.stderr.take().context("its words")?);
    let mut line = String::new();
    words.read_line(&mut line)?;
    ensure!(line.contains("waiting for the agent"), "{line}");
    let start = Instant::now();
    let stopped = host.stop_agent();
    let took = start.elapsed();
    etcd.thaw()?;
    frozen.kill().and_then(|()| frozen.wait())?;
    stopped?;
    words.read_to_string(&mut line)?;
    ensure!(verb.wait()?.code() == Some(3) && line.contains("the agent is stopping"), "the call: {line}");
    let reader = reader.wait_with_output()?;
    let said = String::from_utf8_lossy(&reader.stderr);
    ensure!(reader.status.code() == Some(3) && said.contains("the agent is stopping"), "the events: {said}");
    let log = std::fs::read_to_string(host.log()).context("read the log")?;
    ensure!(log.contains("stopped; what is in the kernel stays"), "it was cut short:\n{log}");
    ensure!(!log.contains("some tasks did not stop in time"), "it waited for somebody ({took:?}):\n{log}");
    ensure!(took < Duration::from_secs(3), "it took {took:?}");
    eprintln!("with clients and without its store the stop took {took:?}");
    Ok(())
}

fn store_away(lab: &Lab) -> Result<()> {
    let (a, b) = pair(lab)?;
    let mut pings = traffic(lab, &a, &b)?;
    let etcd = lab.etcd()?;
    etcd.kill()?;
    let refused = lab.host(1)?.ovctl(&["network", "create", "other"])?;
    ensure!(refused.code() == 1 && refused.stderr.contains("store"), "{refused}");
    ensure!(
        lab.host(1)?.ovctl_ok(&["network", "ls"])?.stdout.contains("net"),
        "the network vanishes from ls"
    );
    // An agent that starts now has only its own copy.
    lab.host(1)?.kill9_agent();
    lab.host(1)?.start_agent()?;
    pings.go_on()?;
    etcd.start_again()?;
    for host in &lab.hosts {
        host.wait_ready()?;
        host.wait_in_sync()?;
    }
    wait_until("attaching to work again", Duration::from_secs(20), || {
        let done = lab.host(1)?.ovctl(&["sandbox", "create", "--network", "net", "late"])?;
        Ok(done.status.success())
    })?;
    let late = lab.host(1)?.address("net", "late")?;
    ensure!(lab.host(2)?.ping(From::Sandbox("b"), &late, 3)?.none(), "the new endpoint is not reached");
    pings.go_on()?;
    pings.without_loss()
}

fn caught_up(lab: &Lab) -> Result<()> {
    let (_a, b) = pair(lab)?;
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    h1.create_sandbox("old", &["net"])?;
    let old = h1.address("net", "old")?;
    h2.kill9_agent();
    h1.ovctl_ok(&["sandbox", "rm", "-f", "old"])?;
    h1.create_sandbox("new", &["net:ip=10.9.0.77"])?;
    h2.start_agent()?;
    h2.wait_ready()?;
    h2.wait_in_sync()?;
    ensure!(
        h2.ping(From::Sandbox("b"), "10.9.0.77", 3)?.none(),
        "an endpoint that came meanwhile is not reached"
    );
    ensure!(h1.ping(From::Sandbox("new"), &b, 3)?.none(), "it does not reach the others");
    let netns = network_netns(h2)?;
    let rows = h2.ns_exec_ok(&netns, &["ip", "neigh"])?.stdout;
    ensure!(
        !rows.lines().any(|row| row.split_whitespace().next() == Some(&old)),
        "a stale row stays:\n{rows}"
    );
    Ok(())
}

/// The namespace of the host's only network.
fn network_netns(host: &Host) -> Result<String> {
    host.netns_names()?.into_iter().find(|name| name.starts_with("ov-")).context("no namespace of a network")
}

fn mended(lab: &Lab) -> Result<()> {
    let (a, b) = pair(lab)?;
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    let netns = network_netns(h1)?;
    let damage: [&[&str]; 7] = [
        &["sh", "-c", "ip neigh show dev vxlan0 | while read to rest; do ip neigh del $to dev vxlan0; done"],
        &[
            "sh",
            "-c",
            "bridge fdb show dev vxlan0 | grep dst | while read mac rest; do bridge fdb del $mac dev vxlan0; done",
        ],
        &[
            "sh",
            "-c",
            "bridge fdb replace $(cat /sys/class/net/br0/address) dev $(ls /sys/class/net | grep ^ep | head -1) master static",
        ],
        &["ip", "link", "set", "br0", "down"],
        &["ip", "link", "del", "vxlan0"],
        &["nft", "flush", "ruleset"],
        &["ip", "link", "set", "vxlan0", "mtu", "1400"],
    ];
    for command in damage {
        h1.ns_exec(&netns, command)?;
        h1.restart_agent9()?;
        h1.wait_in_sync()?;
        for (host, from, to) in [(h1, "a", &b), (h2, "b", &a)] {
            let loss = host.ping(From::Sandbox(from), to, 3)?;
            ensure!(loss.none(), "after {command:?}: {from} to {to}: {loss:?}");
        }
        ensure!(
            h1.ping(From::Sandbox("a"), OUTSIDE_V4, 2)?.none(),
            "after {command:?}: no way to the outside"
        );
    }
    Ok(())
}

fn foreign(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    // Names that look like ours, without our mark.
    let make: [&[&str]; 7] = [
        &["ip", "link", "add", "ovh-foreign", "type", "bridge"],
        &["ip", "link", "set", "ovh-foreign", "up"],
        &["ip", "address", "add", "192.0.2.1/24", "dev", "ovh-foreign"],
        &["ip", "route", "add", "203.0.113.0/24", "via", "192.0.2.9"],
        &["ip", "netns", "add", "ov-0123456789"],
        &[
            "ip",
            "link",
            "add",
            "vxlan77",
            "type",
            "vxlan",
            "id",
            "77",
            "dstport",
            "4790",
            "local",
            "10.77.0.1",
        ],
        &["nft", "add table inet mine; add chain inet mine c { type filter hook forward priority 0; }"],
    ];
    for command in make {
        host.exec_ok(command)?;
    }
    let before = host.kernel_state()?;
    host.restart_agent9()?;
    host.wait_in_sync()?;
    let changes = before.changes(&host.kernel_state()?);
    ensure!(changes.is_empty(), "a restart changes the host:\n{changes}");
    pair(lab)?;
    host.ovctl_ok(&["sandbox", "rm", "-f", "a"])?;
    host.stop_agent()?;
    cleanup_agent(host)?;
    let left = host.kernel_state()?;
    let lost: Vec<String> =
        before.changes(&left).lines().filter(|line| line.contains(": - ")).map(String::from).collect();
    ensure!(
        !lost.iter().any(|line| ["foreign", "203.0.113", "0123456789", "vxlan77", "mine"]
            .iter()
            .any(|w| line.contains(w))),
        "foreign objects are gone:\n{}",
        lost.join("\n")
    );
    Ok(())
}

fn cleanup_agent(host: &Host) -> Result<()> {
    let state_dir = host.state_dir().to_str().context("a path in UTF-8")?;
    host.agent_program()?.args(["cleanup", "--state-dir", state_dir]).ok()?;
    Ok(())
}

fn cleanup(lab: &Lab) -> Result<()> {
    let before = lab.hosts.iter().map(Host::kernel_state).collect::<Result<Vec<_>>>()?;
    lab.start_agents()?;
    pair(lab)?;
    lab.create_network(&["--ipv6", "-o", "multicast=true", "second"])?;
    lab.host(1)?.create_sandbox("c", &["second", "net"])?;
    for (host, before) in lab.hosts.iter().zip(before) {
        // Half of them by kill -9: cleanup must not depend on a clean end.
        if host.name == "h1" {
            host.kill9_agent()
        } else {
            host.stop_agent()?
        }
        cleanup_agent(host)?;
        let changes = before.changes(&host.kernel_state()?);
        ensure!(changes.is_empty(), "cleanup on {} leaves a difference:\n{changes}", host.name);
        cleanup_agent(host).context("a second cleanup")?;
    }
    Ok(())
}

/// Who can write into a directory of the agent's puts a link in the way of what it removes there as root.
fn led_astray(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    lab.create_network(&["net"])?;
    host.create_sandbox("a", &["net"])?;
    host.exec_ok(&["mv", "/etc/netns/a", "/run/precious"])?;
    host.exec_ok(&["ln", "-s", "/run/precious", "/etc/netns/a"])?;
    host.stop_agent()?;
    cleanup_agent(host)?;
    let left = host.exec_ok(&["ls", "/run/precious"])?.stdout;
    ensure!(["hosts", "resolv.conf"].iter().all(|file| left.contains(file)), "files are gone: {left}");
    ensure!(host.netns_names()?.is_empty(), "namespaces are left: {:?}", host.netns_names()?);
    ensure!(!host.path("/run/state").exists(), "the state directory is left");
    Ok(())
}

fn last_network(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let before = (host.netns_names()?, host.exec_ok(&["ip", "-o", "link"])?.stdout.lines().count());
    pair(lab)?;
    for (host, sandbox) in [(host, "a"), (lab.host(2)?, "b")] {
        host.ovctl_ok(&["sandbox", "rm", "-f", sandbox])?;
    }
    wait_until("the network's objects to go with its last endpoint", Duration::from_secs(5), || {
        Ok((host.netns_names()?, host.exec_ok(&["ip", "-o", "link"])?.stdout.lines().count()) == before)
    })?;
    host.ovctl_ok(&["network", "rm", "net"])?;
    host.wait_in_sync()
}
