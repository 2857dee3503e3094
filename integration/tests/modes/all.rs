//! All modes at once, and an agent that is killed: the next one finds everything as it would make it, and touches nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use ovnet_integration::{lab::Lab, wait::wait_until};

use super::as_before;

/// Networks, each with sandboxes and their options.
const NETWORKS: [(&str, &[&str]); 5] = [
    ("wire", &["-d", "p2p", "--ipv6", "--subnet", "10.55.0.0/31", "--subnet", "fd55::/127"]),
    ("open", &["-d", "bridge", "--ipv6", "--subnet", "10.56.0.0/24", "--subnet", "fd56::/64"]),
    (
        "closed",
        &["-d", "bridge", "--subnet", "10.57.0.0/24", "-o", "com.docker.network.bridge.enable_icc=false"],
    ),
    ("inner", &["-d", "bridge", "--internal", "--subnet", "10.58.0.0/24"]),
    (
        "lan",
        &[
            "-d",
            "macvlan",
            "-o",
            "parent=eth1",
            "--subnet",
            "203.0.113.0/24",
            "--ip-range",
            "203.0.113.64/27",
        ],
    ),
];
const SANDBOXES: [(&str, &[&str]); 9] = [
    ("left", &["--network", "wire"]),
    ("right", &["--network", "wire"]),
    ("web", &["--network", "open", "-p", "8080:80", "-p", "127.0.0.1:8081:81/udp"]),
    ("db", &["--network", "closed", "-p", "8082:80"]),
    (
        "app",
        &[
            "--network",
            "closed",
            "--link",
            "db:store",
            "--driver-opt",
            "com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1",
        ],
    ),
    ("safe", &["--network", "inner"]),
    ("far", &["--network", "lan"]),
    ("usual", &["--network", "bridge"]),
    ("alone", &["--network", "none"]),
];

pub(crate) fn untouched(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let before = host.kernel_state()?;
    for (name, options) in NETWORKS {
        host.ovctl_ok(&[&["network", "create"][..], options, &[name]].concat())?;
    }
    for (name, options) in SANDBOXES {
        host.ovctl_ok(&[&["sandbox", "create"][..], options, &[name]].concat())?;
    }
    host.ovctl_ok(&["network", "connect", "open", "far"])?;
    host.wait_in_sync()?;
    // The kernel's own link-local addresses of bridge ports take it a while.
    wait_until("the addresses to be settled", Duration::from_secs(10), || {
        Ok(host.exec_ok(&["ip", "-6", "address", "show", "tentative"])?.stdout.is_empty())
    })?;
    let names = SANDBOXES.map(|(name, _)| name);
    let (made, inside) = (host.kernel_state()?, names.map(|name| host.netns_state(name)));
    host.restart_agent9()?;
    host.wait_in_sync()?;
    let changes = made.changes(&host.kernel_state()?);
    ensure!(changes.is_empty(), "the next agent changed this:\n{changes}");
    for (name, made) in names.into_iter().zip(inside) {
        let changes = made?.changes(&host.netns_state(name)?);
        ensure!(changes.is_empty(), "the next agent changed this in {name}:\n{changes}");
    }
    host.ovctl_ok(&[&["sandbox", "rm", "-f"][..], &names].concat())?;
    for (name, _) in NETWORKS {
        host.ovctl_ok(&["network", "rm", name])?;
    }
    as_before(host, &before)
}
