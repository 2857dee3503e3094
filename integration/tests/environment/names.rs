//! Names and identifiers that two hosts share.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use ovnet_integration::lab::{Host, Lab};

use crate::{logged_once, wait_quiet, wait_warning};

const NEWS: Duration = Duration::from_secs(20);

pub(crate) fn shared(lab: &Lab) -> Result<()> {
    let (h1, h2, h3) = (lab.host(1)?, lab.host(2)?, lab.host(3)?);
    h2.stop_agent()?;
    h2.start_agent_with(&["--node-name", "h1"])?;
    h2.wait_ready()?;
    for host in [h1, h2, h3] {
        wait_warning(
            host,
            &["more than one node is named h1", "10.77.0.1", "10.77.0.2", "--node-name"],
            NEWS,
        )?;
    }
    for host in [h1, h2] {
        logged_once(host, &["WARN", "more than one node is named h1", "this one"])?;
    }
    ensure!(!crate::log(h3).contains("more than one node is named"), "h3 is not concerned");
    // A name that is two nodes' is no name of one.
    let refused = h3.ovctl(&["node", "inspect", "h1"])?;
    let ids: Vec<String> =
        [h1, h2].iter().map(|host| host.read("/run/state/node-id")).collect::<Result<_>>()?;
    ensure!(refused.code() == 1 && refused.stderr.contains("2 nodes are named h1"), "{refused}");
    for id in &ids {
        let start = id.get(..12).context("an id")?;
        ensure!(refused.stderr.contains(start), "{start} is not named: {refused}");
        h3.ovctl_ok(&["node", "inspect", start])?;
    }
    // Both live on: endpoints of either are reached.
    lab.create_network(&["--subnet", "10.9.0.0/24", "net"])?;
    h1.create_sandbox("a", &["net"])?;
    h2.create_sandbox("b", &["net"])?;
    // Who does not confirm is named with his address.
    h2.freeze_agent()?;
    let made = h1.ovctl_ok(&["sandbox", "create", "--network", "net", "c"]);
    h2.thaw_agent()?;
    let made = made?;
    ensure!(made.stderr.contains("not confirmed by: h1 (10.77.0.2)"), "{made}");
    h2.stop_agent()?;
    h2.start_agent()?;
    for host in [h1, h2, h3] {
        wait_quiet(host, NEWS)?;
    }
    Ok(())
}

/// Ethernet addresses of ours in the namespaces and on the host.
fn macs(host: &Host) -> Result<BTreeSet<String>> {
    let script = "for n in $(ip netns list | cut -d' ' -f1); do ip -n $n -o link show; done; ip -o link show";
    let links = host.exec_ok(&["sh", "-c", script])?.stdout;
    let ours =
        links.lines().filter(|line| line.contains("alias ovnet:") || line.contains("\\    alias ovnet"));
    let mac = |line: &str| line.split_once("link/ether ")?.1.split(' ').next().map(String::from);
    Ok(ours.filter_map(mac).collect())
}

pub(crate) fn machine_id(lab: &Lab) -> Result<()> {
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    // The lab's hosts share all of /etc but a few files: they are clones as far as this goes.
    let id = |host: &Host| host.exec_ok(&["sh", "-c", "cat /etc/machine-id 2>/dev/null || echo none"]);
    ensure!(id(h1)?.stdout == id(h2)?.stdout, "they have machine-ids of their own");
    lab.create_network(&["--subnet", "10.9.0.0/24", "--ipv6", "--subnet", "fd09::/64", "net"])?;
    for host in [h1, h2] {
        host.create_sandbox(&host.own("a"), &["net"])?;
    }
    let (one, two) = (macs(h1)?, macs(h2)?);
    ensure!(one.len() >= 4 && two.len() >= 4, "br0, vxlan0, the endpoint and the leg: {one:?} {two:?}");
    // A host leg and its link-local pair are seen on their host alone.
    let seen_elsewhere = |mac: &&String| !mac.starts_with("02:42:a9:fe:");
    let both: Vec<&String> = one.intersection(&two).filter(seen_elsewhere).collect();
    ensure!(both.is_empty(), "both hosts have {both:?}: {one:?} {two:?}");
    Ok(())
}
