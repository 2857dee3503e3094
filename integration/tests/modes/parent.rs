//! Links on a link of the host: macvlan, ipvlan, and VLANs below them.

use anyhow::{Result, ensure};
use ovnet_integration::{
    lab::{From, Host, LAN_ROUTER_V4, LAN_ROUTER_V6, Lab, OUTSIDE_V4, OUTSIDE_V6},
    talk::{Over, answers, at},
};

use super::as_before;

/// The arguments of a network on `eth1`, whose subnets are those of the second switch.
fn create(host: &Host, driver: &str, more: &[&str]) -> Result<()> {
    let subnets = ["--subnet", "203.0.113.0/24", "--gateway", LAN_ROUTER_V4, "--ip-range", "203.0.113.64/27"];
    let subnets6 = [
        "--ipv6",
        "--subnet",
        "2001:db8:71::/64",
        "--gateway",
        LAN_ROUTER_V6,
        "--ip-range",
        "2001:db8:71::4000/114",
    ];
    let command = [&["network", "create", "-d", driver][..], &subnets, &subnets6, more, &["lan"]].concat();
    host.ovctl_ok(&command).map(|_done| ())
}

pub(crate) fn macvlan(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let before = host.kernel_state()?;
    create(host, "macvlan", &["-o", "parent=eth1"])?;
    host.create_sandbox("a", &["lan"])?;
    host.create_sandbox("b", &["lan"])?;
    on_the_lan(lab, host)?;
    let link = host.ip_json(From::Sandbox("a"), &["link", "show", "eth0"])?;
    let kind = link.first().and_then(|link| link.pointer("/linkinfo/info_kind")?.as_str());
    ensure!(kind == Some("macvlan"), "{link:?}");
    // The parent belongs to nobody else meanwhile.
    let second = host.ovctl(&["network", "create", "-d", "macvlan", "-o", "parent=eth1", "again"])?;
    ensure!(
        second.code() == 1 && second.stderr.contains("lan") && second.stderr.contains("eth1"),
        "{second}"
    );
    host.ovctl_ok(&["sandbox", "rm", "-f", "a", "b"])?;
    host.ovctl_ok(&["network", "rm", "lan"])?;
    as_before(host, &before)
}

/// The outside reaches both sandboxes by their own addresses, and sees them.
fn on_the_lan(lab: &Lab, host: &Host) -> Result<()> {
    let _inner = host.echo(From::Sandbox("a"), "inner", &["tcp/80", "udp/80"])?;
    let _outer = lab.outside.echo("outer", &["tcp/81", "udp/81"])?;
    let (netns, out) = (host.netns_of(From::Sandbox("a")), lab.outside.netns());
    for (own, outside) in [(host.address("lan", "a")?, OUTSIDE_V4), (host.address6("lan", "a")?, OUTSIDE_V6)]
    {
        for over in [Over::Tcp, Over::Udp] {
            let seen = answers(&out, over, &at(&own, 80), "inner")?.to_string();
            ensure!(seen == outside, "inside sees {seen}, not {outside}");
            let seen = answers(&netns, over, &at(outside, 81), "outer")?.to_string();
            ensure!(seen == own, "outside sees {seen}, not {own}");
        }
    }
    for to in [host.address("lan", "b")?, host.address6("lan", "b")?] {
        ensure!(host.ping(From::Sandbox("a"), &to, 2)?.none(), "the other one is not reached by {to}");
    }
    Ok(())
}

pub(crate) fn macvlan_private(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    create(host, "macvlan", &["-o", "parent=eth1", "-o", "macvlan_mode=private"])?;
    host.create_sandbox("a", &["lan"])?;
    host.create_sandbox("b", &["lan"])?;
    ensure!(host.ping(From::Sandbox("a"), LAN_ROUTER_V4, 2)?.none(), "the router is not reached");
    ensure!(host.ping(From::Sandbox("a"), &host.address("lan", "b")?, 1)?.all(), "the other one is reached");
    host.ovctl_ok(&["sandbox", "rm", "-f", "a", "b"])?;
    host.ovctl_ok(&["network", "rm", "lan"]).map(|_done| ())
}

/// Whether this kernel makes a link of this kind.
fn kernel_has(host: &Host, kind: &[&str]) -> Result<bool> {
    let made =
        host.exec(&[&["ip", "link", "add", "link", "eth1", "name", "lab-try", "type"][..], kind].concat())?;
    if made.status.success() {
        host.exec_ok(&["ip", "link", "del", "lab-try"])?;
    }
    Ok(made.status.success())
}

pub(crate) fn ipvlan(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let before = host.kernel_state()?;
    if kernel_has(host, &["ipvlan"])? {
        create(host, "ipvlan", &["-o", "parent=eth1", "-o", "ipvlan_mode=l2"])?;
        host.create_sandbox("a", &["lan"])?;
        host.create_sandbox("b", &["lan"])?;
        on_the_lan(lab, host)?;
        host.ovctl_ok(&["sandbox", "rm", "-f", "a", "b"])?;
        host.ovctl_ok(&["network", "rm", "lan"])?;
    } else {
        refused(host, "ipvlan", "eth1", "CONFIG_IPVLAN")?;
    }
    as_before(host, &before)
}

pub(crate) fn vlan(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let before = host.kernel_state()?;
    if kernel_has(host, &["vlan", "id", "10"])? {
        create(host, "macvlan", &["-o", "parent=eth1.10"])?;
        host.create_sandbox("a", &["lan"])?;
        ensure!(host.links(From::Host)?.contains(&"eth1.10".into()), "the parent is not made");
        host.ovctl_ok(&["sandbox", "rm", "-f", "a"])?;
        host.ovctl_ok(&["network", "rm", "lan"])?;
    } else {
        refused(host, "macvlan", "eth1.10", "CONFIG_VLAN_8021Q")?;
    }
    as_before(host, &before)
}

/// The network, or the first sandbox in it, is refused with the kernel's option; nothing stays.
fn refused(host: &Host, driver: &str, parent: &str, option: &str) -> Result<()> {
    let network =
        host.ovctl(&["network", "create", "-d", driver, "-o", &format!("parent={parent}"), "lan"])?;
    let refused = if network.status.success() {
        let sandbox = host.ovctl(&["sandbox", "create", "--network", "lan", "a"])?;
        host.ovctl_ok(&["network", "rm", "lan"])?;
        sandbox
    } else {
        network
    };
    ensure!(refused.code() == 1 && refused.stderr.contains(option), "it does not name {option}: {refused}");
    let left = host.ovctl_ok(&["sandbox", "ls", "-q"])?;
    ensure!(left.text().is_empty(), "a sandbox stays: {left}");
    Ok(())
}
