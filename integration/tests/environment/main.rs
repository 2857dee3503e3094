//! A bad environment: what is wrong around a host is said in words that name it, once, on all the hosts concerned; traffic goes
//! on; and it is over when the cause is.

mod clock;
mod copied;
mod disk;
mod firewall;
mod names;
mod store;

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use ovnet_integration::{
    frame::{self, Test},
    lab::{Host, Lab},
    wait::{Poll, wait_for},
};

fn main() -> Result<()> {
    let bare = || Lab::builder().agents(false).agent_args(&["--lease-ttl", "5"]);
    frame::run([
        Test::new("a copied state directory takes no part while its original lives", bare(), copied::alive),
        Test::new("nobody hears of a copy on a host that was a node of its own", bare(), copied::known),
        Test::new("cleanup on a copy leaves the original's records alone", bare().hosts(2), copied::cleanup),
        Test::new("a host that comes back with another address is itself", bare().hosts(2), copied::moved),
        Test::new(
            "a closed VXLAN port is told by all hosts that it concerns",
            Lab::builder(),
            firewall::vxlan,
        ),
        Test::new(
            "a closed gossip port is told, and a dead agent is not taken for one",
            Lab::builder(),
            firewall::gossip,
        ),
        Test::new("two hosts of one name are both told, and told apart", Lab::builder(), names::shared),
        Test::new(
            "hosts with one machine-id have Ethernet addresses of their own",
            Lab::builder().hosts(2),
            names::machine_id,
        ),
        Test::new(
            "a clock that is off by an hour changes nothing",
            Lab::builder().hosts(2).agent_args(&["--lease-ttl", "5"]),
            clock::off,
        ),
        Test::new(
            "a full disk is named, and what failed works when there is room",
            bare().hosts(1).etcd(false),
            disk::full,
        ),
        Test::new(
            "an agent on a full disk says which file it cannot write",
            bare().hosts(1).etcd(false),
            disk::start,
        ),
        Test::new("a slow store is told once, and traffic does not notice", bare().hosts(2), store::slow),
    ])
}

/// The agent's log so far.
fn log(host: &Host) -> String {
    fs::read(host.log()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Lines of the agent's log that have all of these words.
fn logged(host: &Host, words: &[&str]) -> Vec<String> {
    let has_all = |line: &&str| words.iter().all(|word| line.contains(word));
    log(host).lines().filter(has_all).map(String::from).collect()
}

/// What the agent warns of now, of whichever node.
fn warnings(host: &Host) -> Result<Vec<String>> {
    Ok(host.api()?.nodes()?.into_iter().flat_map(|node| node.warnings).collect())
}

/// Wait until `node ls` has a warning with all of these words; it. Its way to people is checked as well.
fn wait_warning(host: &Host, words: &[&str], limit: Duration) -> Result<String> {
    let text = wait_for(&format!("a warning with {words:?} on {}", host.name), limit, || {
        let all = warnings(host)?;
        let found = all.iter().find(|text| words.iter().all(|word| text.contains(word))).cloned();
        Ok(found.map_or_else(|| Poll::Pending(format!("{all:?}")), Poll::Ready))
    })?;
    let listed = host.ovctl_ok(&["node", "ls"])?;
    ensure!(listed.stderr.contains(&format!("warning: {text}\n")), "node ls does not say {text:?}: {listed}");
    eprintln!("  {}: {text}", host.name);
    Ok(text)
}

/// Wait until nothing is warned of any more.
fn wait_quiet(host: &Host, limit: Duration) -> Result<()> {
    wait_for(&format!("the end of all warnings on {}", host.name), limit, || {
        let all = warnings(host)?;
        Ok(if all.is_empty() { Poll::Ready(()) } else { Poll::Pending(format!("{all:?}")) })
    })
}

/// The one line of the log with these words.
fn logged_once(host: &Host, words: &[&str]) -> Result<()> {
    let lines = logged(host, words);
    ensure!(lines.len() == 1, "the log of {} has {words:?} {} times: {lines:#?}", host.name, lines.len());
    Ok(())
}

/// Close a UDP port of a host to what comes from other hosts.
fn close_port(host: &Host, port: u16) -> Result<()> {
    let rules = format!(
        "add table inet closed; add chain inet closed input {{ type filter hook input priority -300; }}; \
         add rule inet closed input iifname eth0 udp dport {port} drop"
    );
    host.exec_ok(&["nft", &rules]).map(drop).with_context(|| format!("close port {port}"))
}

/// Open it again.
fn open_port(host: &Host) -> Result<()> {
    host.exec_ok(&["nft", "delete table inet closed"]).map(drop)
}
