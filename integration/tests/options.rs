//! What can be chosen of an endpoint: its interface's name, settings and addresses, and which one leads outside.

use anyhow::{Result, ensure};
use ovnet_integration::{
    frame::{self, Test},
    lab::{From, Host, Lab, OUTSIDE_V4, OUTSIDE_V6},
    talk::{Over, answers, at},
};
use serde_json::Value;

fn main() -> Result<()> {
    frame::run(Test::on_one(
        Lab::builder().hosts(2),
        [
            ("an interface has the name that was chosen", ifname as fn(&Lab) -> Result<()>),
            ("settings below /proc/sys are the interface's own", sysctls),
            ("an interface has the ethernet address that was chosen", mac),
            ("link-local addresses are reached on the link", link_local),
            ("the network of the highest priority leads outside", priority),
            ("an endpoint's choices stay over a restart", restart),
        ],
    ))
}

fn create(host: &Host, number: u8, more: &[&str], name: &str) -> Result<()> {
    let (v4, v6) = (format!("10.{number}.0.0/24"), format!("fd{number}::/64"));
    let args = ["network", "create", "-d", "bridge", "--ipv6", "--subnet", &v4, "--subnet", &v6];
    host.ovctl_ok(&[&args[..], more, &[name]].concat()).map(|_done| ())
}

fn remove(host: &Host, sandboxes: &[&str], networks: &[&str]) -> Result<()> {
    host.ovctl_ok(&[&["sandbox", "rm", "-f"][..], sandboxes].concat())?;
    host.ovctl_ok(&[&["network", "rm"][..], networks].concat())?;
    host.wait_in_sync()
}

fn setting(host: &Host, sandbox: &str, key: &str) -> Result<String> {
    Ok(host.ns_exec_ok(sandbox, &["sysctl", "-n", key])?.text().to_string())
}

fn ifname(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    create(host, 91, &[], "one")?;
    create(host, 92, &["-o", "com.docker.network.container_iface_prefix=lan"], "two")?;
    host.ovctl_ok(&[
        "sandbox",
        "create",
        "--network",
        "one",
        "-o",
        "com.docker.network.endpoint.ifname=wan7",
        "box",
    ])?;
    host.ovctl_ok(&["network", "connect", "two", "box"])?;
    let mut links = host.links(From::Sandbox("box"))?;
    links.sort();
    ensure!(links == ["lan0", "wan7"], "{links:?}");
    for to in ["10.91.0.1", "10.92.0.1", "fd91::1", "fd92::1"] {
        ensure!(host.ping(From::Sandbox("box"), to, 2)?.none(), "{to} is not reached");
    }
    let taken = host.ovctl(&[
        "network",
        "connect",
        "-o",
        "com.docker.network.endpoint.ifname=wan7",
        "bridge",
        "box",
    ])?;
    ensure!(taken.code() == 1 && taken.stderr.contains("wan7"), "one name twice: {taken}");
    remove(host, &["box"], &["one", "two"])
}

fn sysctls(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    create(host, 91, &[], "net")?;
    let chosen = "com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.IFNAME.accept_ra=2,\
                  net.ipv4.neigh.IFNAME.gc_stale_time=77";
    host.ovctl_ok(&["sandbox", "create", "--network", "net", "-o", chosen, "box"])?;
    for (key, value) in [
        ("net.ipv4.conf.eth0.log_martians", "1"),
        ("net.ipv6.conf.eth0.accept_ra", "2"),
        ("net.ipv4.neigh.eth0.gc_stale_time", "77"),
    ] {
        ensure!(setting(host, "box", key)? == value, "{key} is {}", setting(host, "box", key)?);
    }
    ensure!(
        setting(host, "box", "net.ipv4.conf.default.log_martians")? == "0",
        "it is not this interface's alone"
    );
    // Somebody changes one: it is mended.
    host.ns_exec_ok("box", &["sysctl", "-qw", "net.ipv4.conf.eth0.log_martians=0"])?;
    let diff = host.ovctl_ok(&["diff"])?;
    ensure!(diff.stdout.contains("log_martians"), "diff does not show it: {diff}");
    host.wait_in_sync()?;
    ensure!(setting(host, "box", "net.ipv4.conf.eth0.log_martians")? == "1", "it is not mended");
    remove(host, &["box"], &["net"])
}

fn mac(lab: &Lab) -> Result<()> {
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    create(h1, 91, &[], "near")?;
    lab.create_network(&["-d", "overlay", "--subnet", "10.93.0.0/24", "wide"])?;
    h2.create_sandbox("far", &["wide"])?;
    for (network, address) in [("near", "02:42:ac:11:00:77"), ("wide", "02:42:ac:11:00:78")] {
        h1.ovctl_ok(&["sandbox", "create", "--network", network, "--mac-address", address, network])?;
        let link = h1.ip_json(From::Sandbox(network), &["link", "show", "eth0"])?;
        let has = link.first().and_then(|link| link.get("address")).and_then(Value::as_str);
        ensure!(has == Some(address), "{link:?}");
    }
    let to = h2.address("wide", "far")?;
    ensure!(h1.ping(From::Sandbox("wide"), &to, 2)?.none(), "{to} is not reached");
    h2.ovctl_ok(&["sandbox", "rm", "-f", "far"])?;
    remove(h1, &["near", "wide"], &["near", "wide"])
}

fn link_local(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    create(host, 91, &[], "net")?;
    let addresses = ["--link-local-ip", "169.254.7.7", "--link-local-ip", "fe80::7:7"];
    host.ovctl_ok(&[&["sandbox", "create", "--network", "net"][..], &addresses, &["box"]].concat())?;
    host.ovctl_ok(&["sandbox", "create", "--network", "net", "--link-local-ip", "169.254.7.8", "mate"])?;
    let shown = host.ns_exec_ok("box", &["ip", "-o", "address", "show", "eth0"])?.stdout;
    ensure!(shown.contains("169.254.7.7/16") && shown.contains("fe80::7:7/64"), "{shown}");
    for to in ["169.254.7.7", "fe80::7:7%eth0"] {
        ensure!(host.ping(From::Sandbox("mate"), to, 2)?.none(), "{to} is not reached");
    }
    ensure!(host.ping(From::Sandbox("box"), "10.91.0.1", 2)?.none(), "its own address is gone");
    remove(host, &["box", "mate"], &["net"])
}

/// The interface of the default route, in both families.
fn leads_by(host: &Host, sandbox: &str, interface: &str) -> Result<()> {
    for (family, to) in [("-4", OUTSIDE_V4), ("-6", OUTSIDE_V6)] {
        let route = host.ns_exec_ok(sandbox, &["ip", family, "route", "get", to])?;
        ensure!(route.stdout.contains(&format!("dev {interface} ")), "not by {interface}: {route}");
    }
    Ok(())
}

fn priority(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    for (number, name) in [(91, "one"), (92, "two"), (93, "three")] {
        create(host, number, &[], name)?;
    }
    host.create_sandbox("box", &["one", "two"])?;
    leads_by(host, "box", "eth0")?;
    // A later one with a priority takes over, and gives back.
    host.ovctl_ok(&["network", "connect", "--gw-priority", "10", "three", "box"])?;
    leads_by(host, "box", "eth2")?;
    let _outer = lab.outside.echo("outer", &["tcp/80"])?;
    answers(&host.netns_of(From::Sandbox("box")), Over::Tcp, &at(OUTSIDE_V4, 80), "outer")?;
    answers(&host.netns_of(From::Sandbox("box")), Over::Tcp, &at(OUTSIDE_V6, 80), "outer")?;
    let same = host.ovctl(&["network", "connect", "--gw-priority", "10", "bridge", "box"])?;
    ensure!(same.code() == 1 && same.stderr.contains("10"), "one priority twice: {same}");
    host.ovctl_ok(&["network", "disconnect", "three", "box"])?;
    leads_by(host, "box", "eth0")?;
    // A negative one comes last.
    host.ovctl_ok(&["network", "disconnect", "one", "box"])?;
    leads_by(host, "box", "eth1")?;
    host.ovctl_ok(&["network", "connect", "--gw-priority", "-1", "one", "box"])?;
    leads_by(host, "box", "eth1")?;
    host.ovctl_ok(&["network", "disconnect", "two", "box"])?;
    leads_by(host, "box", "eth0")?;
    remove(host, &["box"], &["one", "two", "three"])
}

fn restart(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    create(host, 91, &[], "net")?;
    let options = [
        "-o",
        "com.docker.network.endpoint.ifname=wan7",
        "-o",
        "com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1",
    ];
    let more = ["--mac-address", "02:42:ac:11:00:79", "--link-local-ip", "169.254.7.9", "--gw-priority", "5"];
    host.ovctl_ok(&[&["sandbox", "create", "--network", "net"][..], &options, &more, &["box"]].concat())?;
    let before = host.netns_state("box")?;
    host.restart_agent9()?;
    host.wait_in_sync()?;
    let changes = before.changes(&host.netns_state("box")?);
    ensure!(changes.is_empty(), "the restart has changed:\n{changes}");
    ensure!(setting(host, "box", "net.ipv4.conf.wan7.log_martians")? == "1", "the setting is lost");
    remove(host, &["box"], &["net"])
}
