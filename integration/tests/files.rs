//! `/etc/hosts`, `/etc/resolv.conf` and the hostname, as `ovctl run` and `exec` and `ip netns exec` show them.

use std::time::Duration;

use anyhow::{Result, ensure};
use ovnet_integration::{
    dns::{self, Kind, RESOLVER},
    frame::{self, Test},
    lab::{From, Host, Lab},
    wait::{Poll, wait_for},
};

fn main() -> Result<()> {
    let one = Lab::builder().hosts(1).etcd(false);
    frame::run(Test::on_one(
        one,
        [
            ("run, exec and ip netns exec see the same files", same as fn(&Lab) -> Result<()>),
            ("hosts has the sandbox's own names and those that were added", hosts),
            ("a link is a name", link),
            ("resolv.conf is as it was chosen", resolver),
            ("the hostname is as it was chosen", hostname),
            ("a running process sees the names of a network that it joins", live),
            ("a loopback resolver of the host is replaced by what works", loopback),
            ("what others have in /etc/netns stays", foreign),
        ],
    ))
}

fn run(host: &Host, args: &[&str]) -> Result<()> {
    host.ovctl_ok(&[&["run", "-d"][..], args, &["--", "sleep", "infinity"]].concat()).map(|_done| ())
}

/// What a command says in a sandbox, by `ovctl exec`.
fn inside(host: &Host, sandbox: &str, command: &str) -> Result<String> {
    Ok(host.ovctl_ok(&["exec", sandbox, "--", "sh", "-c", command])?.text().to_string())
}

/// The names that a hosts file has for an address.
fn names(hosts: &str, address: &str) -> Vec<String> {
    let fields = hosts.lines().map(|line| line.split('#').next().unwrap_or_default().split_whitespace());
    let lines = fields.filter_map(|mut words| {
        (words.next()? == address).then(|| words.map(String::from).collect::<Vec<_>>())
    });
    lines.flatten().collect()
}

/// The values of a directive of resolv.conf.
fn values(conf: &str, directive: &str) -> Vec<String> {
    let lines = conf.lines().filter_map(|line| line.strip_prefix(directive)?.strip_prefix(' '));
    lines.flat_map(str::split_whitespace).map(String::from).collect()
}

/// Wait until a sandbox's resolv.conf is right: a change of the host's own is seen within a second or so.
fn wait_conf(host: &Host, sandbox: &str, is_right: impl Fn(&str) -> bool) -> Result<()> {
    wait_for(&format!("the resolv.conf of {sandbox}"), Duration::from_secs(5), || {
        let file = host.ns_exec_ok(sandbox, &["cat", "/etc/resolv.conf"])?.stdout;
        Ok(if is_right(&file) { Poll::Ready(()) } else { Poll::Pending(file) })
    })
}

fn remove(host: &Host, sandboxes: &[&str], networks: &[&str]) -> Result<()> {
    host.ovctl_ok(&[&["sandbox", "rm", "-f"][..], sandboxes].concat())?;
    for sandbox in sandboxes {
        ensure!(!host.path(&format!("/etc/netns/{sandbox}")).exists(), "/etc/netns/{sandbox} stays");
    }
    for network in networks {
        host.ovctl_ok(&["network", "rm", network])?;
    }
    Ok(())
}

fn same(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let outer =
        host.exec_ok(&["sh", "-c", "cat /etc/hosts /etc/resolv.conf /etc/hostname; hostname"])?.stdout;
    host.ovctl_ok(&["network", "create", "-d", "bridge", "--ipv6", "net"])?;
    run(
        host,
        &["--name", "web", "--network", "net", "--dns-search", "example.test", "--add-host", "db:192.0.2.7"],
    )?;
    let pid = host.exec_ok(&["ip", "netns", "pids", "web"])?.text().to_string();
    for file in ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname"] {
        let exec = inside(host, "web", &format!("cat {file}"))?;
        let run = host.exec_ok(&["cat", &format!("/proc/{pid}/root{file}")])?;
        let netns = host.ns_exec_ok("web", &["cat", file])?;
        ensure!(
            run.text() == exec && netns.text() == exec,
            "{file}:\nrun {run}\nexec {exec}\nip netns exec {netns}"
        );
    }
    let after =
        host.exec_ok(&["sh", "-c", "cat /etc/hosts /etc/resolv.conf /etc/hostname; hostname"])?.stdout;
    ensure!(outer == after, "the host's own files have changed:\n{outer}\n{after}");
    remove(host, &["web"], &["net"])
}

fn hosts(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    host.ovctl_ok(&[
        "network",
        "create",
        "-d",
        "bridge",
        "--ipv6",
        "--subnet",
        "10.91.0.0/24",
        "--subnet",
        "fd91::/64",
        "net",
    ])?;
    let added =
        ["--add-host", "db:192.0.2.7", "--add-host", "db6=2001:db8::7", "--add-host", "home:host-gateway"];
    run(
        host,
        &[
            &["--name", "web", "--network", "net", "--hostname", "front", "--domainname", "example.test"][..],
            &added,
        ]
        .concat(),
    )?;
    let file = inside(host, "web", "cat /etc/hosts")?;
    for own in [host.address("net", "web")?, host.address6("net", "web")?] {
        let own = names(&file, &own);
        ensure!(
            own.contains(&"front".into()) && own.contains(&"front.example.test".into()),
            "{own:?}\n{file}"
        );
    }
    for (address, name) in [
        ("127.0.0.1", "localhost"),
        ("::1", "localhost"),
        ("192.0.2.7", "db"),
        ("2001:db8::7", "db6"),
        ("10.91.0.1", "home"),
    ] {
        ensure!(names(&file, address).contains(&name.into()), "{address} is not {name}:\n{file}");
    }
    // The way to the host works.
    let _home = host.echo(From::Host, "home", &["tcp/8888"])?;
    let page = inside(host, "web", "curl -s -m 3 http://home:8888/")?;
    ensure!(page.starts_with("home "), "{page}");
    remove(host, &["web"], &["net"])
}

fn link(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    host.ovctl_ok(&["network", "create", "-d", "bridge", "net"])?;
    for (network, database, app) in [("net", "db", "app"), ("bridge", "db2", "app2")] {
        host.create_sandbox(database, &[network])?;
        run(host, &["--name", app, "--network", network, "--link", &format!("{database}:store")])?;
        let found = inside(host, app, "getent hosts store")?;
        ensure!(found.starts_with(&host.address(network, database)?), "on {network}: {found}");
    }
    remove(host, &["db", "app", "db2", "app2"], &["net"])
}

fn resolver(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    host.write("/etc/resolv.conf", "nameserver 198.51.100.2\nsearch host.test\noptions timeout:2\n")?;
    host.ovctl_ok(&["network", "create", "-d", "bridge", "net"])?;
    let choice =
        ["--dns", "192.0.2.53", "--dns-search", "a.test", "--dns-search", "b.test", "--dns-opt", "ndots:3"];
    let conf = |sandbox: &str| host.ns_exec_ok(sandbox, &["cat", "/etc/resolv.conf"]).map(|done| done.stdout);
    // On the network `bridge`: what was chosen, or what the host has.
    host.ovctl_ok(&[&["sandbox", "create", "--network", "bridge"][..], &choice, &["a"]].concat())?;
    let file = conf("a")?;
    ensure!(values(&file, "nameserver") == ["192.0.2.53"], "{file}");
    ensure!(values(&file, "search") == ["a.test", "b.test"], "{file}");
    ensure!(values(&file, "options").contains(&"ndots:3".into()), "{file}");
    host.create_sandbox("b", &["bridge"])?;
    wait_conf(host, "b", |file| {
        values(file, "nameserver") == ["198.51.100.2"] && values(file, "search") == ["host.test"]
    })?;
    // On others the agent answers; search and options are the same.
    host.ovctl_ok(&[&["sandbox", "create", "--network", "net"][..], &choice, &["c"]].concat())?;
    let file = conf("c")?;
    ensure!(values(&file, "nameserver") == ["127.0.0.11"], "{file}");
    ensure!(values(&file, "search") == ["a.test", "b.test"], "{file}");
    ensure!(values(&file, "options").contains(&"ndots:3".into()), "{file}");
    host.ovctl_ok(&["sandbox", "create", "--network", "net", "--dns-search", ".", "d"])?;
    let file = conf("d")?;
    ensure!(values(&file, "search").iter().all(|domain| domain == "."), "{file}");
    remove(host, &["a", "b", "c", "d"], &["net"])?;
    host.write("/etc/resolv.conf", "nameserver 198.51.100.2\n")
}

fn hostname(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    run(host, &["--name", "plain", "--network", "none"])?;
    ensure!(inside(host, "plain", "hostname")? == "plain", "without a choice it is the sandbox's name");
    run(
        host,
        &["--name", "named", "--network", "bridge", "--hostname", "front", "--domainname", "example.test"],
    )?;
    ensure!(inside(host, "named", "hostname")?.split('.').next() == Some("front"), "--hostname");
    ensure!(inside(host, "named", "hostname -f")? == "front.example.test", "--domainname");
    ensure!(inside(host, "named", "cat /etc/hostname")?.starts_with("front"), "/etc/hostname");
    let there =
        host.ovctl_ok(&["run", "--rm", "--network", "host", "--hostname", "other", "--", "hostname"])?;
    ensure!(there.text() == "other", "--network host --hostname: {there}");
    ensure!(host.exec_ok(&["hostname"])?.text() == host.name, "the host's own name has changed");
    remove(host, &["plain", "named"], &[])
}

fn live(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    host.ovctl_ok(&["network", "create", "-d", "bridge", "near"])?;
    run(host, &["--name", "web", "--network", "bridge"])?;
    let pid = host.exec_ok(&["ip", "netns", "pids", "web"])?.text().to_string();
    let sees =
        |file: &str| host.exec_ok(&["cat", &format!("/proc/{pid}/root/etc/{file}")]).map(|done| done.stdout);
    host.ovctl_ok(&["network", "connect", "near", "web"])?;
    let address = host.address("near", "web")?;
    ensure!(names(&sees("hosts")?, &address).contains(&"web".into()), "hosts:\n{}", sees("hosts")?);
    ensure!(values(&sees("resolv.conf")?, "nameserver") == ["127.0.0.11"], "{}", sees("resolv.conf")?);
    host.ovctl_ok(&["network", "disconnect", "near", "web"])?;
    ensure!(names(&sees("hosts")?, &address).is_empty(), "hosts:\n{}", sees("hosts")?);
    remove(host, &["web"], &["near"])
}

fn loopback(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let _local = host.name_server(&["127.0.0.53"], &["--host-record=www.example.test,192.0.2.80"])?;
    host.write("/etc/resolv.conf", "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch host.test\n")?;
    host.ovctl_ok(&["network", "create", "-d", "bridge", "net"])?;
    for (network, name) in [("bridge", "a"), ("net", "b")] {
        host.create_sandbox(name, &[network])?;
        // Nobody in a sandbox is at 127.0.0.53, so the agent asks for it.
        wait_conf(host, name, |file| values(file, "nameserver") == ["127.0.0.11"])?;
        wait_for("an answer through the host's own resolver", Duration::from_secs(5), || {
            let netns = host.netns_of(From::Sandbox(name));
            let reply = dns::ask(&netns, RESOLVER, ("www.example.test", Kind::A), Duration::from_secs(3))?;
            let there = reply.as_ref().is_some_and(|reply| reply.said() == ["192.0.2.80"]);
            Ok(if there { Poll::Ready(()) } else { Poll::Pending(format!("on {network}: {reply:?}")) })
        })?;
        let dig = host.ns_exec_ok(name, &["dig", "+short", "+tries=1", "+time=3", "www.example.test"])?;
        ensure!(dig.text() == "192.0.2.80", "{dig}");
    }
    remove(host, &["a", "b"], &["net"])?;
    host.write("/etc/resolv.conf", "nameserver 198.51.100.2\n")
}

fn foreign(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let script = "mkdir -p /etc/netns/theirs /etc/netns/web; echo theirs > /etc/netns/theirs/hosts
        echo theirs > /etc/netns/web/nsswitch.conf";
    host.exec_ok(&["sh", "-ec", script])?;
    host.create_sandbox("web", &["bridge"])?;
    ensure!(host.read("/etc/netns/web/hosts")?.contains("web"), "no file of ours");
    host.ovctl_ok(&["sandbox", "rm", "-f", "web"])?;
    ensure!(host.read("/etc/netns/theirs/hosts")? == "theirs\n", "a file of others has changed");
    ensure!(host.read("/etc/netns/web/nsswitch.conf")? == "theirs\n", "a file beside ours has gone");
    ensure!(!host.path("/etc/netns/web/hosts").exists(), "a file of ours stays");
    host.exec_ok(&["rm", "-r", "/etc/netns/theirs", "/etc/netns/web"]).map(|_done| ())
}
