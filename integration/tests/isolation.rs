//! Who may not talk to whom, and that the rules for it live beside those of others.

use std::time::Duration;

use anyhow::{Result, ensure};
use ovnet_integration::{
    frame::{self, Test},
    lab::{From, Host, Lab, OUTSIDE_V4, OUTSIDE_V6},
    talk::{Over, answers, answers_not, at, wait_answer},
    wait::wait_until,
};

fn main() -> Result<()> {
    let one = || Lab::builder().hosts(1).etcd(false);
    frame::run(Test::on_one(
        one(),
        [
            ("without icc only links and published ports open a way", icc as fn(&Lab) -> Result<()>),
            ("different networks do not reach each other", different),
            ("an internal bridge has no way out or in", internal),
            ("a user's own chain survives our changes and restarts", own_chain),
            ("a forward policy of drop by iptables is no obstacle", forward_drop),
            ("a firewall's reload and our rules come back together", reload),
            ("another's table is left as it is", foreign),
        ],
    ))
}

fn create(host: &Host, number: u8, more: &[&str], name: &str) -> Result<()> {
    let (v4, v6) = (format!("10.{number}.0.0/24"), format!("fd{number}::/64"));
    let args = ["network", "create", "-d", "bridge", "--ipv6", "--subnet", &v4, "--subnet", &v6];
    host.ovctl_ok(&[&args[..], more, &[name]].concat()).map(|_done| ())
}

/// Both addresses of a sandbox on a network.
fn addresses(host: &Host, network: &str, sandbox: &str) -> Result<[String; 2]> {
    Ok([host.address(network, sandbox)?, host.address6(network, sandbox)?])
}

fn remove(host: &Host, sandboxes: &[&str], networks: &[&str]) -> Result<()> {
    host.ovctl_ok(&[&["sandbox", "rm", "-f"][..], sandboxes].concat())?;
    host.ovctl_ok(&[&["network", "rm"][..], networks].concat())?;
    host.wait_in_sync()
}

fn icc(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    create(host, 71, &["-o", "com.docker.network.bridge.enable_icc=false"], "net")?;
    host.ovctl_ok(&["sandbox", "create", "--network", "net", "-p", "8080:80", "web"])?;
    host.create_sandbox("db", &["net"])?;
    host.ovctl_ok(&["sandbox", "create", "--network", "net", "--link", "db:store", "app"])?;
    host.create_sandbox("stranger", &["net"])?;
    let _web = host.echo(From::Sandbox("web"), "web", &["tcp/80", "tcp/81", "udp/80"])?;
    let _db = host.echo(From::Sandbox("db"), "db", &["tcp/80", "udp/80"])?;
    let netns = |name| host.netns_of(From::Sandbox(name));
    for to in addresses(host, "net", "db")? {
        for over in [Over::Tcp, Over::Udp] {
            answers(&netns("app"), over, &at(&to, 80), "db")?;
            answers_not(&netns("stranger"), over, &at(&to, 80))?;
            answers_not(&netns("web"), over, &at(&to, 80))?;
        }
        ensure!(host.ping(From::Sandbox("stranger"), &to, 1)?.all(), "a ping comes through to {to}");
        ensure!(host.ping(From::Host, &to, 2)?.none(), "the host does not reach {to}");
    }
    // A published port opens itself, and nothing else.
    for to in addresses(host, "net", "web")? {
        answers(&netns("stranger"), Over::Tcp, &at(&to, 80), "web")?;
        answers_not(&netns("stranger"), Over::Tcp, &at(&to, 81))?;
        answers_not(&netns("stranger"), Over::Udp, &at(&to, 80))?;
    }
    for to in [OUTSIDE_V4, OUTSIDE_V6] {
        ensure!(host.ping(From::Sandbox("stranger"), to, 2)?.none(), "{to} is not reached");
    }
    // Not even by the link layer: who answers for all addresses of the subnet is the host.
    let to = host.address("net", "db")?;
    host.ns_exec_ok(
        "stranger",
        &["ip", "route", "replace", &format!("{to}/32"), "dev", "eth0", "scope", "link"],
    )?;
    answers_not(&netns("stranger"), Over::Tcp, &at(&to, 80))?;
    // A link ends with the one who linked.
    host.ovctl_ok(&["network", "disconnect", "net", "app"])?;
    host.ovctl_ok(&["network", "connect", "net", "app"])?;
    answers_not(&netns("app"), Over::Tcp, &at(&to, 80))?;
    remove(host, &["web", "db", "app", "stranger"], &["net"])
}

fn different(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    create(host, 71, &[], "one")?;
    create(host, 72, &[], "two")?;
    lab.create_network(&["-d", "overlay", "--subnet", "10.73.0.0/24", "wide"])?;
    host.create_sandbox("a", &["one"])?;
    host.create_sandbox("b", &["two"])?;
    host.create_sandbox("c", &["wide"])?;
    host.create_sandbox("d", &["bridge"])?;
    let mut echoes = Vec::new();
    for name in ["a", "b", "c", "d"] {
        echoes.push(host.echo(From::Sandbox(name), name, &["tcp/80", "udp/80"])?);
    }
    let mut targets: Vec<(&str, String)> =
        vec![("c", host.address("wide", "c")?), ("d", host.address("bridge", "d")?)];
    targets.extend(addresses(host, "one", "a")?.map(|to| ("a", to)));
    targets.extend(addresses(host, "two", "b")?.map(|to| ("b", to)));
    for (name, to) in &targets {
        answers(&host.netns(), Over::Tcp, &at(to, 80), name)?;
        for from in ["a", "b", "c", "d"].into_iter().filter(|from| from != name) {
            for over in [Over::Tcp, Over::Udp] {
                answers_not(&host.netns_of(From::Sandbox(from)), over, &at(to, 80))?;
            }
        }
    }
    remove(host, &["a", "b", "c", "d"], &["one", "two", "wide"])
}

fn internal(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    create(host, 71, &["--internal"], "closed")?;
    create(host, 72, &[], "open")?;
    host.create_sandbox("a", &["closed"])?;
    host.create_sandbox("b", &["closed"])?;
    host.create_sandbox("c", &["open"])?;
    let _a = host.echo(From::Sandbox("a"), "a", &["tcp/80"])?;
    for to in addresses(host, "closed", "a")? {
        answers(&host.netns_of(From::Sandbox("b")), Over::Tcp, &at(&to, 80), "a")?;
        answers_not(&host.netns_of(From::Sandbox("c")), Over::Tcp, &at(&to, 80))?;
    }
    for to in [OUTSIDE_V4, OUTSIDE_V6, &host.address("open", "c")?] {
        ensure!(host.ping(From::Sandbox("a"), to, 1)?.all(), "{to} is reached");
    }
    // Even if somebody adds the route that it does not get.
    host.ns_exec("a", &["ip", "route", "replace", "default", "via", "10.71.0.1"])?;
    ensure!(host.ping(From::Sandbox("a"), OUTSIDE_V4, 1)?.all(), "{OUTSIDE_V4} is reached by a route");
    for (to, via) in [("10.71.0.0/24", host.address_v4()), ("fd71::/64", host.address_v6())] {
        lab.switch_ok(&["ip", "route", "replace", to, "via", &via])?;
    }
    for to in addresses(host, "closed", "a")? {
        answers_not(&lab.outside.netns(), Over::Tcp, &at(&to, 80))?;
    }
    remove(host, &["a", "b", "c"], &["closed", "open"])
}

/// A chain of a user's, as docs/OPERATIONS.md has it: nobody but 198.51.100.99 may come in to the sandboxes.
const OWN: &str = "
table inet mine {
  chain forward {
    type filter hook forward priority -10; policy accept;
    ip saddr 198.51.100.2 ct status dnat tcp dport 80 counter drop
  }
}
";

fn own_chain(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    create(host, 71, &[], "net")?;
    host.ovctl_ok(&["sandbox", "create", "--network", "net", "-p", "8080:80", "-p", "8081:81", "web"])?;
    let _web = host.echo(From::Sandbox("web"), "web", &["tcp/80-81"])?;
    let (own, out) = (host.address_v4(), lab.outside.netns());
    answers(&out, Over::Tcp, &at(&own, 8080), "web")?;
    host.program("nft").args(["-f", "-"]).input(OWN).ok()?;
    let held = |when: &str| -> Result<()> {
        let listed = host.exec(&["nft", "list", "table", "inet", "mine"])?;
        ensure!(listed.stdout.contains("counter"), "the user's table is gone {when}: {listed}");
        answers_not(&out, Over::Tcp, &at(&own, 8080))?;
        answers(&out, Over::Tcp, &at(&own, 8081), "web").map(|_seen| ())
    };
    held("at once")?;
    host.create_sandbox("more", &["net"])?;
    create(host, 72, &[], "other")?;
    host.create_sandbox("again", &["other"])?;
    held("after changes of ours")?;
    host.restart_agent9()?;
    host.wait_in_sync()?;
    held("after a restart")?;
    remove(host, &["more", "again"], &["other"])?;
    held("after removals")?;
    host.exec_ok(&["nft", "delete", "table", "inet", "mine"])?;
    answers(&out, Over::Tcp, &at(&own, 8080), "web")?;
    remove(host, &["web"], &["net"])
}

/// What an iptables chain has, of either family.
fn rules(host: &Host) -> Result<String> {
    let both = "iptables -S FORWARD; ip6tables -S FORWARD";
    Ok(host.exec_ok(&["sh", "-ec", both])?.stdout)
}

fn forward_drop(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let policy = "for t in iptables ip6tables; do $t -P FORWARD DROP; $t -A FORWARD -p tcp --dport 7777 -j REJECT; done";
    host.exec_ok(&["sh", "-ec", policy])?;
    let before = rules(host)?;
    create(host, 71, &[], "net")?;
    lab.create_network(&[
        "-d",
        "overlay",
        "--ipv6",
        "--subnet",
        "10.73.0.0/24",
        "--subnet",
        "fd73::/64",
        "wide",
    ])?;
    host.ovctl_ok(&["sandbox", "create", "--network", "net", "-p", "8080:80", "-p", "7778:7777", "web"])?;
    host.ovctl_ok(&["sandbox", "create", "--network", "wide", "-p", "8090:80", "far"])?;
    let _web = host.echo(From::Sandbox("web"), "web", &["tcp/80", "tcp/7777"])?;
    let _far = host.echo(From::Sandbox("far"), "far", &["tcp/80"])?;
    let out = lab.outside.netns();
    for own in [host.address_v4(), host.address_v6()] {
        answers(&out, Over::Tcp, &at(&own, 8080), "web")?;
        answers(&out, Over::Tcp, &at(&own, 8090), "far")?;
        // A rule of the user's own goes first.
        answers_not(&out, Over::Tcp, &at(&own, 7778))?;
    }
    for name in ["web", "far"] {
        for to in [OUTSIDE_V4, OUTSIDE_V6] {
            ensure!(host.ping(From::Sandbox(name), to, 2)?.none(), "{to} is not reached from {name}");
        }
    }
    // It is a policy for everything else too: what is not ours does not pass.
    ensure!(rules(host)?.contains("-P FORWARD DROP"), "the policy is changed");
    remove(host, &["web", "far"], &["net", "wide"])?;
    wait_until("our rules to go from the chain of iptables", Duration::from_secs(5), || {
        Ok(rules(host)? == before)
    })?;
    let undo = "for t in iptables ip6tables; do $t -F FORWARD; $t -P FORWARD ACCEPT; done; nft flush ruleset";
    host.exec_ok(&["sh", "-ec", undo]).map(|_done| ())
}

fn reload(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    create(host, 71, &[], "net")?;
    host.ovctl_ok(&["sandbox", "create", "--network", "net", "-p", "8080:80", "web"])?;
    let _web = host.echo(From::Sandbox("web"), "web", &["tcp/80"])?;
    let to = at(&host.address_v4(), 8080).parse()?;
    // As firewalld does it: all is flushed and set anew in one transaction, with a drop of what it does not know.
    let firewall = "
flush ruleset
table ip filter {
  chain FORWARD { type filter hook forward priority 0; policy drop; }
}
";
    for _round in 0..3 {
        host.program("nft").args(["-f", "-"]).input(firewall).ok()?;
        wait_answer(&lab.outside.netns(), Over::Tcp, to, "web", Duration::from_secs(5))?;
        wait_until("the way outside", Duration::from_secs(5), || {
            Ok(host.ping(From::Sandbox("web"), OUTSIDE_V4, 1)?.none())
        })?;
    }
    host.exec_ok(&["nft", "flush", "ruleset"])?;
    remove(host, &["web"], &["net"])
}

fn foreign(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let theirs = "
table ip docker-like {
  chain DOCKER { tcp dport 5000 counter accept; }
  chain nat { type nat hook prerouting priority -100; tcp dport 5000 dnat to 192.0.2.5:80; }
}
table inet ufw-like { chain input { type filter hook input priority 5; ct state invalid drop; }; }
";
    host.program("nft").args(["-f", "-"]).input(theirs).ok()?;
    let list = || -> Result<String> {
        let both = "nft list table ip docker-like; nft list table inet ufw-like";
        Ok(host.exec_ok(&["sh", "-ec", both])?.stdout)
    };
    let before = list()?;
    create(host, 71, &["-o", "icc=false"], "net")?;
    host.ovctl_ok(&["sandbox", "create", "--network", "net", "-p", "8080:80", "web"])?;
    host.restart_agent9()?;
    remove(host, &["web"], &["net"])?;
    let after = list()?;
    ensure!(before == after, "another's rules have changed:\n{before}\n{after}");
    host.exec_ok(&["nft", "flush", "ruleset"]).map(|_done| ())
}
