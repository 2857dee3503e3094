//! Bridges: the one that is there from the start, and those that a user makes.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use ovnet_integration::{
    lab::{From, Host, Lab, OUTSIDE_V4, OUTSIDE_V6},
    talk::{Over, answers, answers_not, at},
};
use serde_json::Value;

use super::as_before;

fn reaches(host: &Host, from: From<'_>, to: &str) -> Result<()> {
    let loss = host.ping(from, to, 2)?;
    ensure!(loss.none(), "{from:?} does not reach {to}: {loss:?}");
    Ok(())
}

fn gateways(host: &Host, network: &str) -> Result<Vec<String>> {
    let network = host.api()?.network(network)?.network.context("no network")?;
    Ok(network.subnets.into_iter().map(|subnet| subnet.gateway).collect())
}

pub(crate) fn default(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let listed = host.ovctl_ok(&["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"])?;
    ensure!(listed.stdout.lines().any(|line| line == "bridge bridge local"), "{listed}");
    let before = host.kernel_state()?;
    ensure!(!host.links(From::Host)?.contains(&"ovnet0".into()), "its link is there without an endpoint");
    // A process that names no network gets this one, as with Docker.
    host.ovctl_ok(&["run", "-d", "--name", "one", "--", "sleep", "infinity"])?;
    host.create_sandbox("two", &["bridge"])?;
    let (one, two) = (host.address("bridge", "one")?, host.address("bridge", "two")?);
    ensure!(one.starts_with("172.17."), "{one} is not of the first free pool");
    let gateway = gateways(host, "bridge")?.into_iter().next().context("no gateway")?;
    let bridge = host.exec_ok(&["ip", "-o", "address", "show", "ovnet0"])?.stdout;
    ensure!(bridge.contains(&format!("{gateway}/16")), "the gateway is not the bridge's address:\n{bridge}");
    for to in [&two, &gateway, &host.address_v4(), OUTSIDE_V4] {
        reaches(host, From::Sandbox("one"), to)?;
    }
    reaches(host, From::Host, &one)?;
    let refused = host.ovctl(&["network", "rm", "bridge"])?;
    ensure!(refused.code() == 1 && refused.stderr.contains("bridge"), "it can be removed: {refused}");
    host.ovctl_ok(&["sandbox", "rm", "-f", "one", "two"])?;
    as_before(host, &before)
}

pub(crate) fn user_defined(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let before = host.kernel_state()?;
    let args = [
        "network",
        "create",
        "-d",
        "bridge",
        "--ipv6",
        "--subnet",
        "10.31.0.0/24",
        "--subnet",
        "fd31::/64",
        "net",
    ];
    host.ovctl_ok(&args)?;
    host.create_sandbox("a", &["net"])?;
    host.create_sandbox("b", &["net"])?;
    let targets =
        [host.address("net", "b")?, host.address6("net", "b")?, host.address_v4(), host.address_v6()];
    for to in targets.iter().map(String::as_str).chain(["10.31.0.1", "fd31::1", OUTSIDE_V4, OUTSIDE_V6]) {
        reaches(host, From::Sandbox("a"), to)?;
    }
    for to in [host.address("net", "a")?, host.address6("net", "a")?] {
        reaches(host, From::Host, &to)?;
    }
    // What leaves has the host's address.
    let _outer = lab.outside.echo("outer", &["tcp/80", "udp/80"])?;
    let a = host.netns_of(From::Sandbox("a"));
    for over in [Over::Tcp, Over::Udp] {
        for (to, own) in [(OUTSIDE_V4, host.address_v4()), (OUTSIDE_V6, host.address_v6())] {
            let seen = answers(&a, over, &at(to, 80), "outer")?.to_string();
            ensure!(seen == own, "outside sees {seen}, not {own}");
        }
    }
    // Nothing comes in that was not asked for, even if somebody outside knows the way.
    let _inner = host.echo(From::Sandbox("a"), "inner", &["tcp/80"])?;
    for (to, via) in [("10.31.0.0/24", host.address_v4()), ("fd31::/64", host.address_v6())] {
        lab.switch_ok(&["ip", "route", "replace", to, "via", &via])?;
    }
    for to in [host.address("net", "a")?, host.address6("net", "a")?] {
        answers_not(&lab.outside.netns(), Over::Tcp, &at(&to, 80))?;
        answers(&host.netns(), Over::Tcp, &at(&to, 80), "inner")?;
    }
    host.ovctl_ok(&["sandbox", "rm", "-f", "a", "b"])?;
    host.ovctl_ok(&["network", "rm", "net"])?;
    as_before(host, &before)
}

pub(crate) fn named(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let before = host.kernel_state()?;
    host.ovctl_ok(&[
        "network",
        "create",
        "-d",
        "bridge",
        "-o",
        "com.docker.network.bridge.name=br-mine",
        "net",
    ])?;
    host.create_sandbox("a", &["net"])?;
    ensure!(host.links(From::Host)?.contains(&"br-mine".into()), "it has another name");
    let port = host.ip_json(From::Host, &["link", "show", "master", "br-mine"])?;
    let inner = host.ip_json(From::Sandbox("a"), &["link", "show", "eth0"])?;
    let field =
        |list: &[Value], name: &str| list.first().and_then(|link| link.get(name)).and_then(Value::as_u64);
    ensure!(
        field(&port, "ifindex") == field(&inner, "link_index"),
        "eth0's peer is not on the bridge: {port:?}"
    );
    host.ovctl_ok(&["sandbox", "rm", "-f", "a"])?;
    host.ovctl_ok(&["network", "rm", "net"])?;
    as_before(host, &before)
}

pub(crate) fn masquerade(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let option = "com.docker.network.bridge.enable_ip_masquerade=false";
    let subnets = ["--ipv6", "--subnet", "10.32.0.0/24", "--subnet", "fd32::/64"];
    host.ovctl_ok(&[&["network", "create", "-d", "bridge", "-o", option][..], &subnets, &["bare"]].concat())?;
    host.ovctl_ok(&["network", "create", "-d", "bridge", "--subnet", "10.33.0.0/24", "hidden"])?;
    host.create_sandbox("open", &["bare"])?;
    host.create_sandbox("shy", &["hidden"])?;
    for (to, via) in [("10.32.0.0/24", host.address_v4()), ("fd32::/64", host.address_v6())] {
        lab.switch_ok(&["ip", "route", "replace", to, "via", &via])?;
    }
    let seen = lab.outside.sources(|| {
        reaches(host, From::Sandbox("open"), OUTSIDE_V4)?;
        reaches(host, From::Sandbox("open"), OUTSIDE_V6)?;
        reaches(host, From::Sandbox("shy"), OUTSIDE_V4)
    })?;
    let wanted =
        BTreeSet::from([host.address("bare", "open")?, host.address6("bare", "open")?, host.address_v4()]);
    ensure!(seen == wanted, "outside saw {seen:?}, not {wanted:?}");
    host.ovctl_ok(&["sandbox", "rm", "-f", "open", "shy"])?;
    host.ovctl_ok(&["network", "rm", "bare", "hidden"]).map(|_done| ())
}

pub(crate) fn flags(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let bip = ["--bip", "192.168.77.1/24", "--bip", "fd77:1::1/64"];
    let range = ["--fixed-cidr", "192.168.77.128/26", "--fixed-cidr", "fd77:1::8000/113"];
    let rest = ["--mtu", "1400", "--default-gateway", "192.168.77.254"];
    host.start_agent_with(&[&bip[..], &range, &rest].concat())?;
    host.wait_ready()?;
    host.create_sandbox("a", &["bridge"])?;
    let (v4, v6) = (host.address("bridge", "a")?, host.address6("bridge", "a")?);
    let last: u8 = v4.rsplit('.').next().context("an address")?.parse()?;
    ensure!(v4.starts_with("192.168.77.") && (128..192).contains(&last), "{v4} is not of --fixed-cidr");
    ensure!(v6.starts_with("fd77:1::8"), "{v6} is not of --fixed-cidr");
    let bridge = host.exec_ok(&["ip", "-o", "address", "show", "ovnet0"])?.stdout;
    ensure!(bridge.contains("192.168.77.1/24") && bridge.contains("fd77:1::1/64"), "--bip:\n{bridge}");
    let link = host.ns_exec_ok("a", &["ip", "link", "show", "eth0"])?;
    ensure!(link.stdout.contains("mtu 1400 "), "--mtu: {link}");
    let route = host.ns_exec_ok("a", &["ip", "route", "show", "default"])?;
    ensure!(route.stdout.contains("via 192.168.77.254 "), "--default-gateway: {route}");
    let route = host.ns_exec_ok("a", &["ip", "-6", "route", "show", "default"])?;
    ensure!(route.stdout.contains("via fd77:1::1 "), "the other family's gateway: {route}");
    Ok(())
}

pub(crate) fn existing(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let script =
        "ip link add mybr0 address 02:00:00:00:00:66 type bridge; ip address add 10.66.0.1/24 dev mybr0
        ip link set mybr0 up";
    host.exec_ok(&["sh", "-ec", script])?;
    let look = || {
        host.exec_ok(&[
            "sh",
            "-ec",
            "ip -o -4 address show mybr0; ls /sys/class/net/mybr0/brif; \
        cat /sys/class/net/mybr0/address /sys/class/net/mybr0/ifalias /sys/class/net/mybr0/mtu",
        ])
    };
    let before = look()?.stdout;
    host.start_agent_with(&["-b", "mybr0"])?;
    host.wait_ready()?;
    host.create_sandbox("a", &["bridge"])?;
    host.create_sandbox("b", &["bridge"])?;
    let (a, b) = (host.address("bridge", "a")?, host.address("bridge", "b")?);
    ensure!(a.starts_with("10.66.0."), "{a} is not of the bridge's subnet");
    for to in [&b, "10.66.0.1", OUTSIDE_V4] {
        reaches(host, From::Sandbox("a"), to)?;
    }
    host.ovctl_ok(&["sandbox", "rm", "-f", "a", "b"])?;
    host.wait_in_sync()?;
    let after = look()?.stdout;
    ensure!(before == after, "a bridge that is not ours is changed:\n{before}\n{after}");
    Ok(())
}

pub(crate) fn no_forwarding(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    host.exec_ok(&["sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0"])?;
    host.start_agent_with(&["--ip-forward=false"])?;
    host.wait_ready()?;
    host.ovctl_ok(&["network", "create", "-d", "bridge", "--ipv6", "net"])?;
    host.create_sandbox("a", &["net"])?;
    host.create_sandbox("b", &["net"])?;
    reaches(host, From::Sandbox("a"), &host.address("net", "b")?)?;
    let settings = host.exec_ok(&["sysctl", "-n", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"])?;
    ensure!(settings.text() == "0\n0", "forwarding is set: {settings}");
    ensure!(host.ping(From::Sandbox("a"), OUTSIDE_V4, 1)?.all(), "it has a way out");
    let log = host.log_tail();
    ensure!(log.contains("forward"), "the log does not warn:\n{log}");
    Ok(())
}
