//! Local networks beside the overlay: on several hosts, and in one sandbox.

use anyhow::{Result, ensure};
use ovnet_integration::lab::{From, Lab, OUTSIDE_V4};

pub(crate) fn local(lab: &Lab) -> Result<()> {
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    // One name and one subnet on both hosts: they are two networks.
    for host in [h1, h2] {
        host.ovctl_ok(&["network", "create", "-d", "bridge", "--subnet", "10.41.0.0/24", "twin"])?;
        host.create_sandbox(&host.own("a"), &["twin:ip=10.41.0.10"])?;
        ensure!(host.api()?.network("twin")?.endpoints.len() == 1, "the other host's endpoint is seen");
        ensure!(host.ping(From::Host, "10.41.0.10", 2)?.none(), "the own one is not reached");
    }
    let id = |host: &ovnet_integration::lab::Host| host.ovctl_ok(&["network", "ls", "-q", "--no-trunc"]);
    let (ids1, ids2) = (id(h1)?.stdout, id(h2)?.stdout);
    ensure!(ids1.lines().all(|id| !ids2.contains(id)), "a local network is known to both:\n{ids1}{ids2}");
    let keys = lab.etcd()?.etcdctl(&["get", "--prefix", "--keys-only", "/ovnet/v1/network-names/"])?.ok()?;
    ensure!(!keys.stdout.contains("twin") && !keys.stdout.contains("bridge"), "in etcd: {keys}");
    // A name is of one network only, whatever the scope.
    let taken = h1.ovctl(&["network", "create", "-d", "overlay", "twin"])?;
    ensure!(taken.code() == 1 && taken.stderr.contains("twin"), "the name is given twice: {taken}");
    for host in [h1, h2] {
        host.ovctl_ok(&["sandbox", "rm", "-f", &host.own("a")])?;
        host.ovctl_ok(&["network", "rm", "twin"])?;
    }
    Ok(())
}

pub(crate) fn joins_bridge(lab: &Lab) -> Result<()> {
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    lab.create_network(&[
        "-d",
        "overlay",
        "--ipv6",
        "--subnet",
        "10.42.0.0/24",
        "--subnet",
        "fd42::/64",
        "wide",
    ])?;
    h1.ovctl_ok(&["network", "create", "-d", "bridge", "--ipv6", "near"])?;
    h1.create_sandbox("box", &["wide"])?;
    h1.create_sandbox("neighbour", &["near"])?;
    h2.create_sandbox("far", &["wide"])?;
    let far = h2.address("wide", "far")?;
    let mut running = h1.ping_background(From::Sandbox("box"), &far)?;
    running.wait_answers(10)?;
    for _round in 0..3 {
        h1.ovctl_ok(&["network", "connect", "near", "box"])?;
        for to in [h1.address("near", "neighbour")?, h1.address6("near", "neighbour")?] {
            ensure!(h1.ping(From::Sandbox("box"), &to, 2)?.none(), "{to} on the bridge is not reached");
        }
        ensure!(h1.ping(From::Sandbox("box"), OUTSIDE_V4, 1)?.none(), "the outside is not reached");
        h1.ovctl_ok(&["network", "disconnect", "near", "box"])?;
        let links = h1.links(From::Sandbox("box"))?;
        ensure!(links == ["eth0"], "a link stays: {links:?}");
    }
    running.wait_answers(10)?;
    let loss = running.stop()?;
    ensure!(loss.none(), "the overlay lost packets: {loss:?}");
    h1.ovctl_ok(&["sandbox", "rm", "-f", "box", "neighbour"])?;
    h2.ovctl_ok(&["sandbox", "rm", "-f", "far"])?;
    h1.ovctl_ok(&["network", "rm", "wide", "near"]).map(|_done| ())
}

pub(crate) fn joins_overlay(lab: &Lab) -> Result<()> {
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    lab.create_network(&[
        "-d",
        "overlay",
        "--ipv6",
        "--subnet",
        "10.43.0.0/24",
        "--subnet",
        "fd43::/64",
        "wide",
    ])?;
    h1.ovctl_ok(&["run", "-d", "--name", "web", "--network", "bridge", "--", "sleep", "infinity"])?;
    h2.create_sandbox("far", &["wide"])?;
    h1.ovctl_ok(&["network", "connect", "wide", "web"])?;
    for to in [h2.address("wide", "far")?, h2.address6("wide", "far")?] {
        ensure!(h1.ping(From::Sandbox("web"), &to, 2)?.none(), "{to} on the overlay is not reached");
    }
    ensure!(h2.ping(From::Sandbox("far"), &h1.address("wide", "web")?, 2)?.none(), "nor the other way");
    // The first one goes; the other carries all.
    h1.ovctl_ok(&["network", "disconnect", "bridge", "web"])?;
    ensure!(
        h1.ping(From::Sandbox("web"), OUTSIDE_V4, 2)?.none(),
        "the outside is not reached by the overlay"
    );
    h1.ovctl_ok(&["sandbox", "rm", "-f", "web"])?;
    h2.ovctl_ok(&["sandbox", "rm", "-f", "far"])?;
    h1.ovctl_ok(&["network", "rm", "wide"]).map(|_done| ())
}

pub(crate) fn etcd_away(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    lab.etcd()?.kill()?;
    let result = alone(host);
    lab.etcd()?.start_again()?;
    for host in &lab.hosts {
        host.wait_nodes_alive(lab.hosts.len())?;
    }
    result
}

fn alone(host: &ovnet_integration::lab::Host) -> Result<()> {
    host.ovctl_ok(&["network", "create", "-d", "bridge", "--ipv6", "net"])?;
    host.create_sandbox("a", &["net"])?;
    host.create_sandbox("b", &["net", "bridge"])?;
    for to in [host.address("net", "b")?, host.address6("net", "b")?] {
        ensure!(host.ping(From::Sandbox("a"), &to, 2)?.none(), "{to} is not reached");
    }
    host.ovctl_ok(&["network", "disconnect", "bridge", "b"])?;
    host.ovctl_ok(&["sandbox", "rm", "-f", "a", "b"])?;
    host.ovctl_ok(&["network", "rm", "net"]).map(|_done| ())
}
