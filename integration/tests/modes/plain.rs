//! The modes without a network of their own (`none`, `host`, `container:`), and the pair.

use anyhow::{Context, Result, ensure};
use ovnet_integration::{
    lab::{From, Host, Lab},
    talk::{Over, answers, at},
};
use serde_json::Value;

use super::as_before;

pub(crate) fn none(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let before = host.kernel_state()?;
    host.ovctl_ok(&["sandbox", "create", "--network", "none", "box"])?;
    ensure!(host.links(From::Sandbox("box"))?.is_empty(), "more than lo");
    let answered = host.ping(From::Sandbox("box"), "127.0.0.1", 1)?;
    ensure!(answered.none(), "lo is down: {answered:?}");
    ensure!(host.ping(From::Sandbox("box"), &host.address_v4(), 1)?.all(), "it has a way out");
    host.ovctl_ok(&["sandbox", "rm", "-f", "box"])?;
    let links = ["run", "--rm", "--network", "none", "--", "sh", "-c", "ls /sys/class/net"];
    ensure!(host.ovctl_ok(&links)?.text() == "lo", "run: more than lo");
    as_before(host, &before)
}

pub(crate) fn host(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let run = |command: &str| host.ovctl_ok(&["run", "--rm", "--network", "host", "--", "sh", "-c", command]);
    let own = host.exec_ok(&["readlink", "/proc/self/ns/net"])?;
    ensure!(run("readlink /proc/self/ns/net")?.text() == own.text(), "it is another namespace");
    ensure!(run("ls /sys/class/net")?.text().contains("eth0"), "it does not see the host's links");
    ensure!(run("hostname")?.text() == host.name, "it has another hostname");
    ensure!(host.ovctl_ok(&["sandbox", "ls", "-q"])?.text().is_empty(), "there is a sandbox");
    let refused = host.ovctl(&["sandbox", "create", "--network", "host", "box"])?;
    ensure!(refused.code() == 1 || refused.code() == 2, "not refused: {refused}");
    ensure!(refused.stderr.contains("host"), "it does not say why: {refused}");
    Ok(())
}

fn run(host: &Host, name: &str, network: &str) -> Result<()> {
    host.ovctl_ok(&["run", "-d", "--name", name, "--network", network, "--", "sleep", "infinity"])
        .map(|_done| ())
}

pub(crate) fn container(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let before = host.kernel_state()?;
    host.ovctl_ok(&["network", "create", "-d", "bridge", "--ipv6", "shared"])?;
    run(host, "first", "shared")?;
    run(host, "second", "container:first")?;
    run(host, "third", "container:second")?;
    run(host, "peer", "shared")?;
    let inside = |name: &str, command: &str| -> Result<String> {
        Ok(host.ovctl_ok(&["exec", name, "--", "sh", "-c", command])?.text().to_string())
    };
    let (address, address6) = (host.address("shared", "first")?, host.address6("shared", "first")?);
    let netns = inside("first", "readlink /proc/self/ns/net")?;
    for name in ["second", "third"] {
        ensure!(inside(name, "readlink /proc/self/ns/net")? == netns, "{name} has another namespace");
        ensure!(inside(name, "ip -o address show eth0")?.contains(&address), "{name} has other addresses");
    }
    let _echo = host.echo(From::Sandbox("first"), "first", &["tcp/80"])?;
    for url in ["http://127.0.0.1/", "http://[::1]/"] {
        let said = inside("second", &format!("curl -s -m 3 '{url}'"))?;
        ensure!(said.starts_with("first "), "not over lo: {said}");
    }
    // The first one leaves; a restart of the agent in between changes nothing.
    host.ovctl_ok(&["sandbox", "rm", "-f", "first"])?;
    host.restart_agent9()?;
    ensure!(
        inside("second", "readlink /proc/self/ns/net")? == netns,
        "the second one has lost its namespace"
    );
    let peer = host.netns_of(From::Sandbox("peer"));
    answers(&peer, Over::Tcp, &at(&address, 80), "first")?;
    answers(&peer, Over::Tcp, &at(&address6, 80), "first")?;
    host.ovctl_ok(&["sandbox", "rm", "-f", "second"])?;
    answers(&peer, Over::Tcp, &at(&address, 80), "first")?;
    drop(_echo);
    host.ovctl_ok(&["sandbox", "rm", "-f", "third"])?;
    let left = host.api()?.network("shared")?.endpoints;
    ensure!(left.len() == 1, "the endpoint stays after the last one: {left:?}");
    host.ovctl_ok(&["sandbox", "rm", "-f", "peer"])?;
    host.ovctl_ok(&["network", "rm", "shared"])?;
    as_before(host, &before)
}

pub(crate) fn container_bounds(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    host.ovctl_ok(&["network", "create", "-d", "bridge", "net"])?;
    host.create_sandbox("first", &["net"])?;
    host.create_sandbox("second", &["container:first"])?;
    let cases: [(&[&str], &[&str]); 4] = [
        (&["network", "connect", "bridge", "second"], &["second", "first"]),
        (&["sandbox", "create", "--network", "container:nobody", "box"], &["nobody"]),
        (&["sandbox", "create", "--network", "container:box", "box"], &["box"]),
        (&["sandbox", "create", "--network", "container:first", "--network", "net", "box"], &["container"]),
    ];
    for (args, words) in cases {
        let done = host.ovctl(args)?;
        ensure!(done.code() == 1 || done.code() == 2, "not refused: {done}");
        for word in words {
            ensure!(done.stderr.contains(word), "it does not say {word:?}: {done}");
        }
    }
    host.ovctl_ok(&["sandbox", "rm", "-f", "first"])?;
    let again = host.ovctl(&["sandbox", "create", "--network", "container:first", "box"])?;
    ensure!(again.code() == 1, "one that was removed can be joined: {again}");
    host.ovctl_ok(&["sandbox", "rm", "-f", "second"])?;
    host.ovctl_ok(&["network", "rm", "net"]).map(|_done| ())
}

pub(crate) fn p2p(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let before = host.kernel_state()?;
    let subnets = ["--subnet", "10.55.0.0/31", "--subnet", "fd55::/127"];
    host.ovctl_ok(&[&["network", "create", "-d", "p2p", "--ipv6"][..], &subnets, &["wire"]].concat())?;
    host.create_sandbox("left", &["wire"])?;
    host.create_sandbox("right", &["wire"])?;
    for (from, to) in [("left", "right"), ("right", "left")] {
        for to in [host.address("wire", to)?, host.address6("wire", to)?] {
            ensure!(host.ping(From::Sandbox(from), &to, 2)?.none(), "{from} does not reach {to}");
        }
    }
    // One pair, an end in each; no bridge, no gateway, no way out.
    let (a, b) = (link(host, "left")?, link(host, "right")?);
    ensure!(number(&a, "link_index")? == number(&b, "ifindex")?, "not one pair: {a} {b}");
    ensure!(number(&b, "link_index")? == number(&a, "ifindex")?, "not one pair: {a} {b}");
    let routes = host.ip_json(From::Sandbox("left"), &["route", "show", "default"])?;
    ensure!(routes.is_empty(), "it has a default route: {routes:?}");
    ensure!(host.ping(From::Host, &host.address("wire", "left")?, 1)?.all(), "the host reaches it");
    let third = host.ovctl(&["sandbox", "create", "--network", "wire", "third"])?;
    ensure!(third.code() == 1 && third.stderr.contains("wire"), "a third one is not refused: {third}");
    // The other end waits for its next partner.
    host.ovctl_ok(&["sandbox", "rm", "-f", "right"])?;
    host.create_sandbox("other", &["wire"])?;
    let to = host.address("wire", "other")?;
    ensure!(host.ping(From::Sandbox("left"), &to, 2)?.none(), "the next one is not reached");
    host.ovctl_ok(&["sandbox", "rm", "-f", "left", "other"])?;
    host.ovctl_ok(&["network", "rm", "wire"])?;
    as_before(host, &before)
}

fn link(host: &Host, sandbox: &str) -> Result<Value> {
    let links = host.ip_json(From::Sandbox(sandbox), &["link", "show", "eth0"])?;
    links.into_iter().next().with_context(|| format!("no eth0 in {sandbox}"))
}

fn number(link: &Value, field: &str) -> Result<u64> {
    link.get(field).and_then(Value::as_u64).with_context(|| format!("no {field} in {link}"))
}
