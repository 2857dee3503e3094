//! What the demo shows, step by step.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ovnet_integration::lab::{From, Lab, OUTSIDE_V4};

use crate::show::Show;

/// The subnet of both networks.
const SUBNET: &str = "10.9.0.0/24";
/// How long an answer may take, and how long to wait for one that must not come.
const WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(150));

/// A sandbox that the demo makes.
struct Box {
    host: usize,
    name: String,
    network: &'static str,
    address: String,
}

/// Show all of it on a lab of three hosts.
pub(crate) fn tell(lab: &Lab, show: &mut Show) -> Result<()> {
    show.ovctl(lab.host(2)?, &["node", "ls"])?;
    networks(lab, show)?;
    let boxes = sandboxes(lab, show)?;
    matrix(lab, show, &boxes)?;
    reach(lab, show, &boxes)?;
    kill(lab, show, &boxes)?;
    look(lab, show)?;
    tidy(lab, show, &boxes)
}

fn networks(lab: &Lab, show: &mut Show) -> Result<()> {
    show.title(&format!("Two networks, both on {SUBNET}, made on one host and known to all"))?;
    for name in ["red", "blue"] {
        show.ovctl(lab.host(1)?, &["network", "create", "-d", "overlay", "--subnet", SUBNET, name])?;
        for host in &lab.hosts {
            host.wait_network(name)?;
        }
    }
    show.ovctl(lab.host(3)?, &["network", "ls"])?;
    Ok(())
}

fn sandboxes(lab: &Lab, show: &mut Show) -> Result<Vec<Box>> {
    show.title("A sandbox on each host for each network")?;
    let mut boxes = Vec::new();
    for (network, first) in [("red", 10), ("blue", 20)] {
        for host in 1..=lab.hosts.len() {
            let (name, address) = (format!("{network}{host}"), format!("10.9.0.{}", first + host));
            let network_arg = format!("{network}:ip={address}");
            show.ovctl(lab.host(host)?, &["sandbox", "create", "--network", &network_arg, &name])?;
            boxes.push(Box { host, name, network, address });
        }
    }
    show.ovctl(lab.host(1)?, &["sandbox", "ls"])?;
    Ok(boxes)
}

fn matrix(lab: &Lab, show: &mut Show, boxes: &[Box]) -> Result<()> {
    show.title("Who reaches whom: every sandbox pings every address, once")?;
    let mut header = String::from("   from \\ to  ");
    for to in boxes {
        header.push_str(&format!("{:>7}", to.name));
    }
    show.line(&header)?;
    let (mut answered, mut isolated) = (0, 0);
    for from in boxes {
        let mut prober = lab.host(from.host)?.prober(From::Sandbox(&from.name))?;
        let mut row = format!("   {:<11}", from.name);
        for to in boxes {
            let same = from.network == to.network;
            let wait = if same { WAIT.0 } else { WAIT.1 };
            let reached = prober.probe(to.address.parse()?, wait)?.is_some();
            row.push_str("     ");
            row.push_str(&if same || reached { show.tick(reached == same) } else { show.blank() });
            ensure!(same || !reached, "{} reaches {} of the other network", from.name, to.name);
            ensure!(!same || reached, "{} does not reach {}", from.name, to.name);
            if same { answered += 1 } else { isolated += 1 }
        }
        show.line(&row)?;
    }
    show.check(
        true,
        &format!("{answered} of {answered} pairs of one network reach each other at the first packet"),
    )?;
    show.check(true, &format!("{isolated} of {isolated} pairs of different networks do not"))
}

fn reach(lab: &Lab, show: &mut Show, boxes: &[Box]) -> Result<()> {
    show.title("A host reaches a remote endpoint, and an endpoint the outside")?;
    let (one, host) = (lab.host(1)?, lab.host(3)?);
    show.ovctl(one, &["network", "create", "--subnet", "10.10.0.0/24", "green"])?;
    host.wait_network("green")?;
    show.ovctl(one, &["sandbox", "create", "--network", "green", "green1"])?;
    show.ovctl(host, &["sandbox", "create", "--network", "green", "green3"])?;
    let remote = host.address("green", "green3")?;
    let loss = one.ping(From::Host, &remote, 5)?;
    let text = format!("host h1 to {remote} on h3: {} of {} answered", loss.received, loss.sent);
    show.check(loss.none(), &text)?;
    let from = &boxes[0];
    let mut answered = None;
    let seen = lab.outside.sources(|| {
        answered = Some(lab.host(from.host)?.ping(From::Sandbox(&from.name), OUTSIDE_V4, 5)?);
        Ok(())
    })?;
    let loss = answered.unwrap_or_default();
    let text = format!(
        "sandbox {} to {OUTSIDE_V4} outside: {} of {} answered; seen there as {}",
        from.name,
        loss.received,
        loss.sent,
        seen.iter().cloned().collect::<Vec<_>>().join(", ")
    );
    show.check(loss.none() && seen.contains(&lab.host(from.host)?.address_v4()) && seen.len() == 1, &text)
}

fn kill(lab: &Lab, show: &mut Show, boxes: &[Box]) -> Result<()> {
    show.title("An agent is killed with -9 and started again, under a ping every 10 ms")?;
    let (from, to) = (&boxes[0], &boxes[1]);
    let host = lab.host(from.host)?;
    let mut ping = host.ping_background(From::Sandbox(&from.name), &to.address)?;
    ping.wait_answers(50)?;
    let pid = host.agent_pid().unwrap_or_default();
    show.line(&format!("   {} to {} is running; kill -9 {pid} on {}", from.name, to.name, host.name))?;
    host.kill9_agent();
    ping.wait_answers(100)?;
    let start = Instant::now();
    host.start_agent()?;
    host.wait_ready()?;
    show.line(&format!("   started again; it answers after {} ms", start.elapsed().as_millis()))?;
    host.wait_in_sync()?;
    ping.wait_answers(50)?;
    let loss = ping.stop()?;
    show.check(loss.none(), &format!("{} of {} packets lost", loss.lost(), loss.sent))?;
    let diff = show.ovctl(host, &["diff"])?;
    show.check(diff.stdout.is_empty(), "the kernel has what is desired: nothing to mend")
}

fn look(lab: &Lab, show: &mut Show) -> Result<()> {
    show.title("What a user sees")?;
    show.ovctl(lab.host(2)?, &["endpoint", "ls"])?;
    show.ovctl(lab.host(2)?, &["network", "inspect", "green"])?;
    show.ovctl(lab.host(1)?, &["exec", "red1", "--", "sh", "-c", "hostname; ip -br address show eth0"])?;
    Ok(())
}

fn tidy(lab: &Lab, show: &mut Show, boxes: &[Box]) -> Result<()> {
    show.title("And everything goes again")?;
    for sandbox in boxes {
        lab.host(sandbox.host)?.ovctl_ok(&["sandbox", "rm", "-f", &sandbox.name])?;
    }
    show.ovctl(lab.host(1)?, &["sandbox", "rm", "-f", "green1"])?;
    show.ovctl(lab.host(3)?, &["sandbox", "rm", "-f", "green3"])?;
    show.ovctl(lab.host(1)?, &["network", "rm", "red", "blue", "green"])?;
    for host in &lab.hosts {
        host.wait_in_sync()?;
        let names = host.netns_names()?;
        show.check(names.is_empty(), &format!("{} has no namespace left", host.name))?;
    }
    Ok(())
}
