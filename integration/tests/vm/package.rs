//! The package: up, down, and away.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use ovnet_integration::{
    enter,
    vm::{Cluster, Package, Traffic},
};

use crate::fixture::{self, Fixture};

/// All that a package of ours, or what it did, could leave on a host: one line each.
const TRACES: &str = "
ip -br link | cut -d ' ' -f 1; ip -br address; ip route; ip -6 route | grep -v expires; ip netns
sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding net.ipv4.conf.all.rp_filter
command -v nft >/dev/null && nft list ruleset
find / -xdev -not -path '/proc/*' -not -path '*.deb' \\( -iname '*ovnet*' -o -iname '*ovagent*' -o -iname '*ovctl*' \\)
find /etc/netns /run/netns /run/ovnet -type f -printf '%p, %s bytes\\n' -o -printf '%p\\n' 2>/dev/null
getent group ovnet
systemctl list-unit-files --no-legend | grep '^ov'
grep -rl ovnet /etc --exclude='*-'
true";

/// What is to be seen of us on each host.
pub(crate) fn traces(cluster: &Cluster) -> Result<BTreeMap<String, Vec<String>>> {
    let machines = cluster.machines.iter();
    machines
        .map(|host| {
            let seen = host.run(&format!("set +e +o pipefail; {TRACES}"))?;
            Ok((host.name.clone(), seen.lines().map(|line| line.trim_end().to_owned()).collect()))
        })
        .collect()
}

pub(crate) fn up_and_down(fixture: &Fixture) -> Result<()> {
    let cluster = fixture.ready()?;
    fixture::network(cluster)?;
    let package = Package::find()?;
    let dir = enter::disk().context("a directory on a disk")?;
    let newer = package.again(&dir, "+1")?;
    let pings = [
        Traffic::start(cluster.host(1)?, "web1", "10.200.0.12")?,
        Traffic::start(cluster.host(2)?, "web2", "10.200.0.13")?,
        Traffic::start(cluster.host(3)?, "web3", ovnet_integration::vm::OUTSIDE)?,
    ];
    for version in [&newer, &package] {
        for host in &cluster.machines {
            host.copy(&version.path, "/root/other.deb")?;
            host.run("apt-get -qq --allow-downgrades install /root/other.deb >/dev/null")?;
            let installed = host.run("dpkg-query -W -f '${Version}' ovnet")?;
            ensure!(installed == version.version, "{installed} is installed");
            ensure!(host.run("systemctl is-active ovagent")? == "active", "the agent does not run");
            fixture::alive(host, cluster.machines.len())?;
        }
        pings.iter().try_for_each(|ping| ping.wait_answers(5))?;
    }
    for ping in pings {
        fixture::none_lost(ping.stop()?, "upgrade and downgrade")?;
    }
    fixture::no_network(cluster)
}

pub(crate) fn conffile(fixture: &Fixture) -> Result<()> {
    let cluster = fixture.ready()?;
    let host = cluster.host(1)?;
    let package = Package::find()?;
    let newer = package.again(&enter::disk().context("a directory on a disk")?, "+2")?;
    // The fixture wrote the file itself, before the package came.
    let written = host.run("echo '# mine' >>/etc/ovnet/agent.toml; cat /etc/ovnet/agent.toml")?;
    for version in [&newer, &package] {
        host.copy(&version.path, "/root/other.deb")?;
        // Without a terminal a question would end it.
        host.run("apt-get -qq --allow-downgrades install /root/other.deb >/dev/null </dev/null")?;
        ensure!(host.run("cat /etc/ovnet/agent.toml")? == written, "the settings were changed");
    }
    fixture::all_alive(cluster)
}

pub(crate) fn purged(fixture: &Fixture) -> Result<()> {
    let cluster = fixture.ready()?;
    fixture.not_ready();
    // What is there without the package, but with nftables and etcd, which stay: as far as the agent has not begun.
    fixture::network(cluster)?;
    for (number, host) in (1..).zip(&cluster.machines) {
        // Removing leaves traffic, and installing again finds it.
        if number == 1 {
            let traffic = Traffic::start(host, "web1", "10.200.0.12")?;
            host.run(
                "apt-get -qq remove ovnet >/dev/null && apt-get -qq install /root/ovnet.deb >/dev/null",
            )?;
            fixture::alive(host, cluster.machines.len())?;
            fixture::none_lost(traffic.stop()?, "remove and install")?;
        }
    }
    for host in &cluster.machines {
        host.run("apt-get -qq purge ovnet >/dev/null")?;
    }
    for (name, seen) in traces(cluster)? {
        let left: Vec<&String> = seen
            .iter()
            .filter(|line| ["ov", "web", "netns", "10.200."].iter().any(|word| line.contains(word)))
            .collect();
        ensure!(left.is_empty(), "purge leaves on {name}: {left:#?}");
        ensure!(
            seen.iter().any(|line| line == "net.ipv4.ip_forward = 0"),
            "{name} still forwards: {seen:#?}"
        );
    }
    let keys = cluster
        .host(1)?
        .run("for kind in nodes endpoints alive; do ETCDCTL_API=3 etcdctl get --prefix --keys-only /ovnet/v1/$kind/; done")?;
    ensure!(keys.is_empty(), "purge leaves in etcd: {keys}");
    // The network is the cluster's, and there is nobody any more to remove it.
    cluster.host(1)?.run("ETCDCTL_API=3 etcdctl del --prefix /ovnet/").map(drop)
}
