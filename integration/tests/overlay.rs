//! The data plane across hosts: who reaches whom, with which source, and how large a packet may be.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use ovnet_integration::{
    frame::{self, Test},
    lab::{From, Host, Lab, OUTSIDE_V4, OUTSIDE_V6},
};

fn main() -> Result<()> {
    let two = || Lab::builder().hosts(2);
    frame::run([
        Test::new("two networks on one subnet are whole and isolated", Lab::builder(), isolated),
        Test::new("a host reaches local and remote endpoints and they reach it", two(), host_leg),
        Test::new("endpoints reach the outside with their host's address", two(), outside),
        Test::new("an internal network has neither host nor outside", two(), internal),
        Test::new("endpoints reach each other over ipv6 at once", two(), ipv6),
        Test::new("an ipv6 underlay leaves 70 bytes less", two().ipv6_underlay(true), ipv6_underlay),
        Test::new("packets of 1450 bytes pass and larger ones do not", two(), mtu),
        Test::new("the mtu follows the underlay's", two().mtu(9000), jumbo),
        Test::new("multicast crosses hosts only where it is asked for", two(), multicast),
        Test::new("networks with different subnets are isolated too", two(), apart),
        Test::new("a sandbox on two networks reaches both", two(), two_networks),
    ])
}

/// A sandbox on every host, with address `10.9.0.<first + host>`.
fn populate(lab: &Lab, network: &str, first: usize) -> Result<Vec<String>> {
    let mut addresses = Vec::new();
    for (number, host) in lab.hosts.iter().enumerate() {
        let address = format!("10.9.0.{}", first + number);
        host.create_sandbox(&host.own(network), &[&format!("{network}:ip={address}")])?;
        addresses.push(address);
    }
    Ok(addresses)
}

fn isolated(lab: &Lab) -> Result<()> {
    lab.create_network(&["--subnet", "10.9.0.0/24", "red"])?;
    lab.create_network(&["--subnet", "10.9.0.0/24", "blue"])?;
    let red = populate(lab, "red", 10)?;
    let blue = populate(lab, "blue", 20)?;
    for host in &lab.hosts {
        for (network, own, other) in [("red", &red, &blue), ("blue", &blue, &red)] {
            let mut prober = host.prober(From::Sandbox(&host.own(network)))?;
            for to in own {
                let answer = prober.probe(to.parse()?, Duration::from_secs(1))?;
                ensure!(answer.is_some(), "{network} on {} does not reach {to} of its network", host.name);
            }
            for to in other {
                let answer = prober.probe(to.parse()?, Duration::from_millis(200))?;
                ensure!(answer.is_none(), "{network} on {} reaches {to} of the other network", host.name);
            }
        }
    }
    Ok(())
}

fn pair(lab: &Lab, args: &[&str]) -> Result<()> {
    lab.create_network(args)?;
    let name = args.last().context("a name")?;
    lab.host(1)?.create_sandbox("a", &[name])?;
    lab.host(2)?.create_sandbox("b", &[name])
}

fn reaches(host: &Host, from: From<'_>, to: &str) -> Result<()> {
    let loss = host.ping(from, to, 3)?;
    ensure!(loss.none(), "{} ({from:?}) to {to}: {loss:?}", host.name);
    Ok(())
}

fn reaches_not(host: &Host, from: From<'_>, to: &str) -> Result<()> {
    let loss = host.ping(from, to, 2)?;
    ensure!(loss.all(), "{} ({from:?}) reaches {to}: {loss:?}", host.name);
    Ok(())
}

fn host_leg(lab: &Lab) -> Result<()> {
    pair(lab, &["--subnet", "10.9.0.0/24", "net"])?;
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    let (a, b) = (h1.address("net", "a")?, h2.address("net", "b")?);
    for host in [h1, h2] {
        for to in [&a, &b] {
            reaches(host, From::Host, to)?;
        }
    }
    for (host, sandbox) in [(h1, "a"), (h2, "b")] {
        reaches(host, From::Sandbox(sandbox), "10.9.0.1")?;
        reaches(host, From::Sandbox(sandbox), &host.address_v4())?;
    }
    let links = h1.ns_exec_ok("a", &["ip", "-o", "link"])?;
    ensure!(links.stdout.lines().count() == 2, "more than lo and eth0:\n{}", links.stdout);
    Ok(())
}

fn outside(lab: &Lab) -> Result<()> {
    pair(lab, &["--ipv6", "--subnet", "10.9.0.0/24", "--subnet", "fd09::/64", "net"])?;
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    for (host, sandbox) in [(h1, "a"), (h2, "b")] {
        let seen = lab.outside.sources(|| {
            reaches(host, From::Sandbox(sandbox), OUTSIDE_V4)?;
            reaches(host, From::Sandbox(sandbox), OUTSIDE_V6)
        })?;
        let wanted = BTreeSet::from([host.address_v4(), host.address_v6()]);
        ensure!(seen == wanted, "outside saw {seen:?}, not {wanted:?}");
    }
    Ok(())
}

fn internal(lab: &Lab) -> Result<()> {
    pair(lab, &["--internal", "--subnet", "10.9.0.0/24", "net"])?;
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    let (a, b) = (h1.address("net", "a")?, h2.address("net", "b")?);
    reaches(h1, From::Sandbox("a"), &b)?;
    for to in [OUTSIDE_V4, &h1.address_v4(), &h2.address_v4()] {
        reaches_not(h1, From::Sandbox("a"), to)?;
    }
    reaches_not(h1, From::Host, &a)?;
    reaches_not(h1, From::Host, &b)
}

fn ipv6(lab: &Lab) -> Result<()> {
    lab.create_network(&["--ipv6", "--subnet", "10.9.0.0/24", "--subnet", "fd09::/64", "net"])?;
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    h1.create_sandbox("a", &["net"])?;
    h2.create_sandbox("b", &[])?;
    let mut prober = h2.prober(From::Sandbox("b"))?;
    h2.ovctl_ok(&["network", "connect", "net", "b"])?;
    let a = h1.address6("net", "a")?;
    // Duplicate address detection would take a second in which nothing leaves.
    let answer = prober.probe(a.parse()?, Duration::from_millis(300))?;
    ensure!(answer.is_some(), "the first packet over IPv6 is lost");
    reaches(h1, From::Sandbox("a"), &h2.address6("net", "b")?)?;
    reaches(h1, From::Host, &h2.address6("net", "b")?)?;
    reaches(h1, From::Sandbox("a"), &h2.address("net", "b")?)
}

fn limit(lab: &Lab, mtu: u32) -> Result<()> {
    pair(lab, &["--ipv6", "--subnet", "10.9.0.0/24", "--subnet", "fd09::/64", "net"])?;
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    let link = h1.ns_exec_ok("a", &["ip", "link", "show", "eth0"])?;
    ensure!(link.stdout.contains(&format!("mtu {mtu} ")), "{}", link.stdout);
    for to in [h2.address("net", "b")?, h2.address6("net", "b")?] {
        ensure!(h1.ping_df(From::Sandbox("a"), &to, mtu)?, "{mtu} bytes do not pass to {to}");
        ensure!(!h1.ping_df(From::Sandbox("a"), &to, mtu + 1)?, "{} bytes pass to {to}", mtu + 1);
    }
    Ok(())
}

fn mtu(lab: &Lab) -> Result<()> {
    limit(lab, 1450)
}

fn jumbo(lab: &Lab) -> Result<()> {
    limit(lab, 8950)
}

fn ipv6_underlay(lab: &Lab) -> Result<()> {
    limit(lab, 1430)?;
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    reaches(h1, From::Host, &h2.address("net", "b")?)
}

fn multicast(lab: &Lab) -> Result<()> {
    lab.create_network(&["--ipv6", "--subnet", "10.9.0.0/24", "--subnet", "fd09::/64", "quiet"])?;
    let many = ["-o", "multicast=true", "--ipv6", "--subnet", "10.8.0.0/24", "--subnet", "fd08::/64", "many"];
    lab.create_network(&many)?;
    for network in ["quiet", "many"] {
        lab.host(1)?.create_sandbox(&format!("{network}-a"), &[network])?;
        lab.host(2)?.create_sandbox(&format!("{network}-b"), &[network])?;
    }
    for (network, crosses) in [("quiet", false), ("many", true)] {
        let remote = lab.host(2)?.address6(network, &format!("{network}-b"))?;
        let own = lab.host(1)?.address6(network, &format!("{network}-a"))?;
        // All nodes on the link answer. From a global address: link-local ones are in no neighbour table.
        let ping = ["ping", "-n", "-6", "-I", &own, "-i", "0.2", "-W", "1", "-c", "3", "ff02::1%eth0"];
        let answers = lab.host(1)?.ns_exec(&format!("{network}-a"), &ping)?.to_string();
        ensure!(
            answers.contains(&remote) == crosses,
            "{network}: {remote} is{} to answer:\n{answers}",
            if crosses { "" } else { " not" }
        );
    }
    Ok(())
}

fn apart(lab: &Lab) -> Result<()> {
    lab.create_network(&["--subnet", "10.9.0.0/24", "one"])?;
    lab.create_network(&["--subnet", "10.8.0.0/24", "two"])?;
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    h1.create_sandbox("a1", &["one"])?;
    h1.create_sandbox("a2", &["two"])?;
    h2.create_sandbox("b2", &["two"])?;
    // Both have a way through the host; it must not lead from one to the other.
    reaches_not(h1, From::Sandbox("a1"), &h1.address("two", "a2")?)?;
    reaches_not(h1, From::Sandbox("a1"), &h2.address("two", "b2")?)?;
    reaches_not(h2, From::Sandbox("b2"), &h1.address("one", "a1")?)?;
    reaches(h1, From::Sandbox("a2"), &h2.address("two", "b2")?)
}

fn two_networks(lab: &Lab) -> Result<()> {
    lab.create_network(&["--subnet", "10.9.0.0/24", "one"])?;
    lab.create_network(&["--subnet", "10.8.0.0/24", "two"])?;
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    h1.create_sandbox("both", &["one", "two"])?;
    h2.create_sandbox("b1", &["one"])?;
    h2.create_sandbox("b2", &["two"])?;
    reaches(h1, From::Sandbox("both"), &h2.address("one", "b1")?)?;
    reaches(h1, From::Sandbox("both"), &h2.address("two", "b2")?)?;
    reaches(h1, From::Sandbox("both"), OUTSIDE_V4)?;
    h1.ovctl_ok(&["network", "disconnect", "one", "both"])?;
    reaches(h1, From::Sandbox("both"), &h2.address("two", "b2")?)?;
    reaches_not(h1, From::Sandbox("both"), &h2.address("one", "b1")?)
}
