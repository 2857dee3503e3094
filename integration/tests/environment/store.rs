//! An etcd that answers late.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ovnet_integration::{
    lab::{From, Host, Lab},
    program::Done,
    slow::SlowLine,
    wait::{Poll, wait_for},
};

use crate::{log, logged};

/// Where the relay listens, on every address of the host.
const RELAY: u16 = 2390;
const STORE: &str = "10.77.0.254:2379";

/// The host's way to etcd leads over a line that can be slow. The agent speaks to the same address as ever.
fn slow_line(host: &Host) -> Result<SlowLine> {
    let listen = ([0, 0, 0, 0], RELAY).into();
    let server = "[fd77::254]:2379".parse().context("etcd's address")?;
    let line = SlowLine::new(&host.netns(), listen, server)?;
    let rules = format!(
        "add table ip slow; add chain ip slow output {{ type nat hook output priority -100; }}; \
         add rule ip slow output ip daddr 10.77.0.254 tcp dport 2379 redirect to :{RELAY}"
    );
    host.exec_ok(&["nft", &rules])?;
    Ok(line)
}

fn timed(host: &Host, verb: &[&str]) -> Result<(Done, Duration)> {
    let began = Instant::now();
    let done = host.ovctl(verb)?;
    let took = began.elapsed();
    eprintln!("  {} took {:.1} s: {}", verb.join(" "), took.as_secs_f64(), done.stderr.trim());
    Ok((done, took))
}

/// A change either happens or is refused with words that name the store and how long was waited; in bounded time.
fn done_or_told(host: &Host, verb: &[&str]) -> Result<bool> {
    let (done, took) = timed(host, verb)?;
    ensure!(took < Duration::from_secs(45), "{} took {took:?}", verb.join(" "));
    let told = done.code() == 1 && done.stderr.contains(STORE) && done.stderr.contains("waited ");
    ensure!(done.status.success() || told, "{done}");
    Ok(done.status.success())
}

pub(crate) fn slow(lab: &Lab) -> Result<()> {
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    let line = slow_line(h1)?;
    lab.start_agents()?;
    lab.create_network(&["--subnet", "10.9.0.0/24", "net"])?;
    h1.create_sandbox("a", &["net"])?;
    h2.create_sandbox("b", &["net"])?;
    let to = h2.address("net", "b")?;
    ensure!(!log(h1).contains("is slow"), "it is slow already");
    let traffic = h1.ping_background(From::Sandbox("a"), &to)?;

    line.delay(Duration::from_millis(300));
    for verb in [
        &["network", "create", "-d", "overlay", "n300"][..],
        &["sandbox", "create", "--network", "net", "s300"],
    ] {
        ensure!(timed(h1, verb)?.0.status.success(), "300 ms are too much");
    }
    ensure!(logged(h1, &["WARN", "store"]).is_empty(), "{}", log(h1));

    line.delay(Duration::from_secs(2));
    done_or_told(h1, &["network", "create", "-d", "overlay", "n2"])?;
    done_or_told(h1, &["sandbox", "create", "--network", "net", "s2"])?;
    let warned = logged(h1, &["WARN", STORE, "is slow"]);
    ensure!(warned.len() == 1, "{warned:#?}\n{}", log(h1));
    let version = h1.ovctl_ok(&["version"])?;
    ensure!(version.stdout.contains("slow"), "{version}");

    line.delay(Duration::ZERO);
    wait_for("the store to be quick", Duration::from_secs(30), || {
        let again = logged(h1, &["INFO", STORE, "quickly again"]);
        Ok(if again.len() == 1 { Poll::Ready(()) } else { Poll::Pending(format!("{again:?}")) })
    })?;

    line.delay(Duration::from_secs(10));
    let made = done_or_told(h1, &["network", "create", "-d", "overlay", "n10"])?;
    ensure!(!made, "an answer of 10 s is waited for");
    done_or_told(h1, &["sandbox", "create", "--network", "net", "s10"])?;
    // Longer than a lease: this host's has run out, and its endpoints stay where they are.
    let nodes = h2.ovctl_ok(&["node", "ls"])?;
    ensure!(nodes.stdout.lines().any(|line| line.contains("h1") && line.contains("alive")), "{nodes}");
    let lines = log(h1);
    let complaints: Vec<&str> =
        lines.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
    ensure!((2..=5).contains(&complaints.len()), "once for each spell, and no more: {complaints:#?}");
    eprintln!("  the log of it all:\n    {}", complaints.join("\n    "));

    line.delay(Duration::ZERO);
    wait_for("a change", Duration::from_secs(30), || {
        let done = h1.ovctl(&["sandbox", "create", "--network", "net", "after"])?;
        Ok(if done.status.success() { Poll::Ready(()) } else { Poll::Pending(done.to_string()) })
    })?;
    let lost = traffic.stop()?;
    ensure!(lost.none(), "traffic noticed: {lost:?}");
    for host in [h1, h2] {
        host.wait_nodes_alive(2)?;
        host.wait_in_sync()?;
    }
    wait_for("the end of it in the log", Duration::from_secs(30), || {
        let again = logged(h1, &["INFO", STORE, "quickly again"]);
        Ok(if again.len() == 2 { Poll::Ready(()) } else { Poll::Pending(format!("{again:?}")) })
    })
}
