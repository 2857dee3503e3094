//! A state directory that was copied to another host, as with the image of a virtual machine.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ovnet_integration::{
    lab::{From, Host, Lab},
    wait::{Poll, wait_for},
};

use crate::{log, logged, logged_once};

/// A lease of 5 s, a third of it, and a moment.
const LEASE: Duration = Duration::from_secs(15);
/// Pings, twenty in a second, that take longer than a lease.
const LEASES: u32 = 140;

/// The whole state directory of a running agent, as a snapshot of its disk has it.
fn copy_state(from: &Host, to: &Host) -> Result<String> {
    to.exec_ok(&["mkdir", "-p", "/run/state"])?;
    for file in ["node-id", "store.redb"] {
        let path = format!("/run/state/{file}");
        std::fs::copy(from.path(&path), to.path(&path)).with_context(|| format!("copy {file}"))?;
    }
    Ok(to.read("/run/state/node-id")?.trim().to_owned())
}

/// All that the cluster's store has, but for the leases.
fn records(host: &Host) -> Result<String> {
    let all =
        host.ovctl_ok(&["store", "dump", "--format", "{{.Key}} {{.ModRevision}} {{json .Value}}"])?.stdout;
    Ok(all
        .lines()
        .filter(|line| line.starts_with("/ovnet/v1/") && !line.contains("/alive/"))
        .collect::<Vec<_>>()
        .join("\n"))
}

fn start(hosts: &[&Host]) -> Result<()> {
    hosts.iter().try_for_each(|host| host.start_agent())?;
    hosts.iter().try_for_each(|host| host.wait_ready())?;
    hosts.iter().try_for_each(|host| host.wait_nodes_alive(hosts.len()))
}

/// The network `net`, which all of these know.
fn network(hosts: &[&Host]) -> Result<()> {
    let first = hosts.first().context("a host")?;
    first.ovctl_ok(&["network", "create", "-d", "overlay", "--subnet", "10.9.0.0/24", "net"])?;
    hosts.iter().try_for_each(|host| host.wait_network("net"))
}

/// Wait until `ovctl node ls` is refused with all of these words.
fn wait_refused(host: &Host, words: &[&str]) -> Result<()> {
    wait_for(&format!("words on {}", host.name), Duration::from_secs(20), || {
        let done = host.ovctl(&["node", "ls"])?;
        let said = done.code() == 1 && words.iter().all(|word| done.stderr.contains(word));
        if said {
            eprintln!("  {}: {}", host.name, done.stderr.trim());
        }
        Ok(if said { Poll::Ready(()) } else { Poll::Pending(done.to_string()) })
    })
}

pub(crate) fn alive(lab: &Lab) -> Result<()> {
    let (h1, h2, h3) = (lab.host(1)?, lab.host(2)?, lab.host(3)?);
    start(&[h1, h2])?;
    network(&[h1, h2])?;
    h1.create_sandbox("a", &["net"])?;
    h2.create_sandbox("b", &["net"])?;
    let to = h1.address("net", "a")?;
    let before = records(h2)?;
    let id = copy_state(h1, h3)?;
    h3.start_agent()?;
    wait_refused(h3, &[&id, "host h1 at 10.77.0.1", "/run/state/node-id", "takes no part"])?;
    ensure!(h2.ping(From::Sandbox("b"), &to, LEASES)?.none(), "the original's endpoint is disturbed");
    logged_once(h3, &["ERROR", &id, "10.77.0.1", "/run/state/node-id"])?;
    for verb in
        [&["sandbox", "create", "--network", "net", "c"][..], &["network", "create", "other"], &["diff"]]
    {
        let done = h3.ovctl(verb)?;
        ensure!(done.code() == 1 && done.stderr.contains("takes no part"), "{done}");
    }
    let version = h3.ovctl_ok(&["version"])?;
    ensure!(version.stdout.contains(&id), "{version}");
    // No sandbox, no network of the original is made, and nothing of it changes.
    let netns = h3.exec_ok(&["sh", "-c", "ip netns list; nft list ruleset"])?.stdout;
    ensure!(netns.trim().is_empty(), "the copy makes {netns}");
    ensure!(records(h2)? == before, "the store has other records:\n{before}\n-- now\n{}", records(h2)?);
    for host in [h1, h2] {
        let nodes = host.ovctl_ok(&["node", "ls"])?;
        ensure!(nodes.stdout.contains("10.77.0.1") && !nodes.stdout.contains("10.77.0.3"), "{nodes}");
        ensure!(!nodes.stdout.contains("left") && !nodes.stdout.contains("down"), "{nodes}");
    }
    // A restart of the original, with its lease there, is no copy.
    h1.restart_agent9()?;
    ensure!(logged(h1, &["takes no part"]).is_empty(), "it takes itself for another: {}", log(h1));
    h1.wait_nodes_alive(2)?;
    wait_refused(h3, &["takes no part"])?;
    // When the original has gone, the other one is the node.
    h1.kill9_agent();
    wait_for("h3 to register", LEASE, || {
        let nodes = h2.ovctl_ok(&["node", "ls"])?.stdout;
        Ok(if nodes.contains("10.77.0.3") { Poll::Ready(()) } else { Poll::Pending(nodes) })
    })?;
    logged_once(h3, &["INFO", "no other host uses this node's id any more"])?;
    h3.wait_nodes_alive(2)?;
    // And now the original is the copy.
    h1.start_agent()?;
    wait_refused(h1, &[&id, "host h3 at 10.77.0.3", "takes no part"])?;
    h1.stop_agent()?;
    h3.wait_nodes_alive(2)
}

pub(crate) fn known(lab: &Lab) -> Result<()> {
    let (h1, h2, h3) = (lab.host(1)?, lab.host(2)?, lab.host(3)?);
    start(&[h1, h2, h3])?;
    network(&[h1, h2])?;
    h1.create_sandbox("a", &["net"])?;
    h2.create_sandbox("b", &["net"])?;
    let to = h1.address("net", "a")?;
    // The others know this address, and look for its former node there.
    h3.kill9_agent();
    copy_state(h1, h3)?;
    h3.start_agent()?;
    wait_refused(h3, &["host h1 at 10.77.0.1", "takes no part"])?;
    wait_for("the former h3 to be down", Duration::from_secs(30), || {
        let state = h2.api()?.node_state("h3")?;
        Ok(if state.as_deref() == Some("down") {
            Poll::Ready(())
        } else {
            Poll::Pending(format!("{state:?}"))
        })
    })?;
    ensure!(h2.ping(From::Sandbox("b"), &to, 3 * LEASES)?.none(), "the original's endpoint is disturbed");
    let made = h2.ovctl_ok(&["sandbox", "create", "--network", "net", "c"])?;
    ensure!(made.stderr.is_empty(), "the original is not asked, or not heard: {made}");
    h3.stop_agent()?;
    ensure!(h2.ping(From::Sandbox("b"), &to, LEASES)?.none(), "the original's endpoint is disturbed");
    let state = h2.api()?.node_state("h1")?;
    ensure!(state.as_deref() == Some("alive"), "the copy's goodbye is taken for the original's: {state:?}");
    Ok(())
}

pub(crate) fn cleanup(lab: &Lab) -> Result<()> {
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    start(&[h1])?;
    network(&[h1])?;
    h1.create_sandbox("a", &["net"])?;
    let before = records(h1)?;
    copy_state(h1, h2)?;
    let args: Vec<&str> = h2.agent_args().iter().map(String::as_str).collect();
    let done = h2.agent_program()?.args(["cleanup"]).args(&args).ok()?;
    ensure!(done.stderr.contains("records in the cluster's store: host h1 at 10.77.0.1"), "{done}");
    ensure!(records(h1)? == before, "records of the original are gone");
    let left = h2.exec_ok(&["sh", "-c", "ls /run/state 2>/dev/null || true"])?.stdout;
    ensure!(left.trim().is_empty(), "files stay: {left}");
    // It is a host of its own now.
    start(&[h1, h2])
}

pub(crate) fn moved(lab: &Lab) -> Result<()> {
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    start(&[h1, h2])?;
    h2.exec_ok(&["ip", "address", "add", "10.77.0.22/24", "dev", "eth0"])?;
    // Its old lease is alive, with the old address in it.
    h2.kill9_agent();
    h2.start_agent_at("10.77.0.22")?;
    h2.wait_ready()?;
    wait_for("the new address", Duration::from_secs(10), || {
        let nodes = h1.ovctl_ok(&["node", "ls"])?.stdout;
        Ok(if nodes.contains("10.77.0.22") { Poll::Ready(()) } else { Poll::Pending(nodes) })
    })?;
    ensure!(logged(h2, &["takes no part"]).is_empty(), "it takes itself for another: {}", log(h2));
    h1.wait_nodes_alive(2)
}
