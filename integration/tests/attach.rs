//! What an attach promises: it works when it returns, it is all or nothing, and an address has one owner.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use ovnet_integration::{
    api,
    frame::{self, Test},
    lab::{From, Host, Lab},
    probe::Prober,
};
use tonic::Code;

/// Attaches in the test of reachability.
const ROUNDS: usize = 30;
/// Sandboxes per host that fight for addresses.
const RIVALS: usize = 8;

fn main() -> Result<()> {
    frame::run([
        Test::new(
            "a new endpoint is reached from every host when connect returns",
            Lab::builder(),
            at_return,
        ),
        Test::new("a host that does not confirm is named", Lab::builder(), unconfirmed),
        Test::new("a race for the last addresses has one owner for each", Lab::builder(), race),
        Test::new("a taken address is refused and a freed one is given", Lab::builder().hosts(2), taken),
        Test::new("a race for a network's name has one winner", Lab::builder(), names),
        Test::new("networks made at once have different vnis and subnets", Lab::builder(), vnis),
        Test::new("an address that moves to another host is reached there", Lab::builder(), moved),
    ])
}

fn at_return(lab: &Lab) -> Result<()> {
    lab.create_network(&["--subnet", "10.9.0.0/16", "net"])?;
    let mut probers: Vec<(String, Prober)> = Vec::new();
    let mut residents: Vec<IpAddr> = Vec::new();
    for host in &lab.hosts {
        host.create_sandbox(&host.own("resident"), &["net"])?;
        residents.push(host.address("net", &host.own("resident"))?.parse()?);
        probers
            .push((format!("resident on {}", host.name), host.prober(From::Sandbox(&host.own("resident")))?));
        probers.push((format!("{} itself", host.name), host.prober(From::Host)?));
    }
    let apis = lab.hosts.iter().map(Host::api).collect::<Result<Vec<_>>>()?;
    let mut lost = Vec::new();
    for round in 0..ROUNDS {
        let (host, api) = (&lab.hosts[round % lab.hosts.len()], &apis[round % lab.hosts.len()]);
        let name = format!("new{round}");
        host.create_sandbox(&name, &[])?;
        let mut own = host.prober(From::Sandbox(&name))?;
        let reply = api.connect("net", &name)?;
        let at = Instant::now();
        ensure!(reply.unconfirmed.is_empty(), "not confirmed by {:?}", reply.unconfirmed);
        let endpoint = reply.endpoint.context("no endpoint")?;
        let new: IpAddr = api::address(&endpoint, false).context("no address")?.parse()?;
        // Its own host first: what is not ready there would be by the time that the others have been asked.
        let first = round % lab.hosts.len() * 2;
        let (before, after) = probers.split_at_mut(first);
        for (from, prober) in after.iter_mut().chain(before) {
            if prober.probe(new, Duration::from_millis(500))?.is_none() {
                lost.push(format!(
                    "round {round}: {from} to {name} on {}, {:?} after return",
                    host.name,
                    at.elapsed()
                ));
            }
        }
        for to in &residents {
            if own.probe(*to, Duration::from_millis(500))?.is_none() {
                lost.push(format!(
                    "round {round}: {name} on {} to {to}, {:?} after return",
                    host.name,
                    at.elapsed()
                ));
            }
        }
        host.ovctl_ok(&["sandbox", "rm", "-f", &name])?;
    }
    ensure!(lost.is_empty(), "{} packets lost:\n{}", lost.len(), lost.join("\n"));
    Ok(())
}

fn unconfirmed(lab: &Lab) -> Result<()> {
    lab.create_network(&["--subnet", "10.9.0.0/24", "net"])?;
    for host in &lab.hosts {
        host.create_sandbox(&host.own("resident"), &["net"])?;
    }
    lab.host(1)?.create_sandbox("new", &[])?;
    lab.host(3)?.freeze_agent()?;
    let start = Instant::now();
    let done = lab.host(1)?.ovctl(&["network", "connect", "net", "new"])?;
    let took = start.elapsed();
    lab.host(3)?.thaw_agent()?;
    let done = done.ok()?;
    ensure!(
        done.stderr.contains("h3") && !done.stderr.contains("h2"),
        "who did not confirm? {}",
        done.stderr
    );
    ensure!(took < Duration::from_secs(3), "it took {took:?}");
    lab.host(3)?.wait_in_sync()?;
    let loss = lab.host(3)?.ping(From::Sandbox("resident-h3"), &lab.host(1)?.address("net", "new")?, 3)?;
    ensure!(loss.none(), "{loss:?}");
    Ok(())
}

/// What became of one rival: its host and address, or the refusal.
type Outcome = Result<(String, String), Box<tonic::Status>>;

fn race(lab: &Lab) -> Result<()> {
    // 14 addresses: the gateway's, one for each host that has an endpoint, the rest for 24 rivals.
    lab.create_network(&["--subnet", "10.9.0.0/28", "small"])?;
    for host in &lab.hosts {
        for rival in 0..RIVALS {
            host.create_sandbox(&host.own(&format!("rival{rival}")), &[])?;
        }
    }
    let outcomes = thread::scope(|scope| -> Result<Vec<Outcome>> {
        let rivals = lab.hosts.iter().flat_map(|host| (0..RIVALS).map(move |rival| (host, rival)));
        let threads: Vec<_> = rivals.map(|(host, rival)| scope.spawn(move || fight(host, rival))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_panic| anyhow!("a rival panicked"))?)
            .collect()
    })?;
    let won: Vec<&(String, String)> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
    let owners: BTreeSet<&String> = won.iter().map(|(_host, address)| address).collect();
    let hosts: BTreeSet<&String> = won.iter().map(|(host, _address)| host).collect();
    ensure!(owners.len() == won.len(), "an address with two owners: {won:?}");
    ensure!(won.len() + hosts.len() == 13, "not every address was given: {outcomes:?}");
    for refusal in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        ensure!(refusal.code() == Code::ResourceExhausted, "{refusal:?}");
        ensure!(
            refusal.message().contains("10.9.0.0/28"),
            "it does not name the range: {}",
            refusal.message()
        );
    }
    let usage = lab.host(2)?.api()?.network("small")?.usage;
    ensure!(usage.iter().any(|usage| usage.prefix == "10.9.0.0/28" && usage.free == "0"), "{usage:?}");
    Ok(())
}

fn fight(host: &Host, rival: usize) -> Result<Outcome> {
    Ok(match host.api()?.connect("small", &host.own(&format!("rival{rival}"))) {
        Ok(reply) => {
            let endpoint = reply.endpoint.context("no endpoint")?;
            Ok((host.name.clone(), api::address(&endpoint, false).context("no address")?))
        }
        Err(status) => Err(status),
    })
}

fn taken(lab: &Lab) -> Result<()> {
    lab.create_network(&["--subnet", "10.9.0.0/24", "net"])?;
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    h1.create_sandbox("a", &["net:ip=10.9.0.50"])?;
    h2.create_sandbox("b", &[])?;
    let connect = ["network", "connect", "--ip", "10.9.0.50", "net", "b"];
    let refused = h2.ovctl(&connect)?;
    ensure!(refused.code() == 1 && refused.stderr.contains("10.9.0.50"), "{refused}");
    ensure!(!h2.ns_exec("b", &["ip", "link"])?.stdout.contains("eth0"), "half an attach stays");
    ensure!(h2.api()?.network("net")?.endpoints.len() == 1, "half an attach stays in the store");
    h1.ovctl_ok(&["network", "disconnect", "net", "a"])?;
    h2.ovctl_ok(&connect)?;
    ensure!(h2.address("net", "b")? == "10.9.0.50", "another address");
    Ok(())
}

fn names(lab: &Lab) -> Result<()> {
    let create = ["network", "create", "--subnet", "10.9.0.0/24", "same"];
    let outcomes = together(lab, |host| host.ovctl(&create))?;
    let won = outcomes.iter().filter(|done| done.status.success()).count();
    ensure!(won == 1, "{won} networks of one name: {outcomes:?}");
    for lost in outcomes.iter().filter(|done| !done.status.success()) {
        ensure!(lost.code() == 1 && lost.stderr.contains("same"), "{lost}");
    }
    Ok(())
}

fn vnis(lab: &Lab) -> Result<()> {
    together(lab, |host| {
        for number in 0..5 {
            host.ovctl_ok(&["network", "create", &format!("{}-{number}", host.name)])?;
        }
        Ok(())
    })?;
    let api = lab.host(1)?.api()?;
    let mut vnis = BTreeSet::new();
    let mut subnets = BTreeSet::new();
    for host in &lab.hosts {
        for number in 0..5 {
            let name = format!("{}-{number}", host.name);
            lab.host(1)?.wait_network(&name)?;
            let network = api.network(&name)?.network.context("no network")?;
            ensure!(vnis.insert(network.vni), "VNI {} is given twice", network.vni);
            let subnet = network.subnets.first().context("no subnet")?.prefix.clone();
            ensure!(subnets.insert(subnet.clone()), "automatic subnet {subnet} is given twice");
        }
    }
    Ok(())
}

/// Do the same on every host at once.
fn together<T: Send>(lab: &Lab, work: impl Fn(&Host) -> Result<T> + Sync) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = lab.hosts.iter().map(|host| scope.spawn(move || work(host))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_panic| anyhow!("a thread panicked"))?)
            .collect()
    })
}

fn moved(lab: &Lab) -> Result<()> {
    lab.create_network(&["--subnet", "10.9.0.0/24", "net"])?;
    for host in &lab.hosts {
        host.create_sandbox(&host.own("resident"), &["net"])?;
    }
    let to: IpAddr = "10.9.0.50".parse()?;
    for round in 0..6 {
        let host = lab.host(round % 3 + 1)?;
        host.create_sandbox("mover", &["net:ip=10.9.0.50"])?;
        for from in &lab.hosts {
            let answer =
                from.prober(From::Sandbox(&from.own("resident")))?.probe(to, Duration::from_millis(500))?;
            ensure!(answer.is_some(), "round {round}: {} does not reach it on {}", from.name, host.name);
        }
        host.ovctl_ok(&["sandbox", "rm", "-f", "mover"])?;
    }
    Ok(())
}
