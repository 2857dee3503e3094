//! The overlay against the baseline: interleaved rounds of the same load, and the medians of their ratios.

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use ovnet_integration::{
    lab::{Host, Lab},
    program,
};

use crate::{
    baseline,
    figure::{Bar, Figure, median, range},
    load::{PORT, Sample},
};

/// Ratios of single runs spread by a few per cent on a quiet machine; "not below" means not below by more than this.
const NOISE: f64 = 0.03;

/// A server in a sandbox; it goes when it is dropped.
struct Server(Child);

impl Server {
    fn start(host: &Host, sandbox: &str, address: &str) -> Result<Self> {
        let exe = env::current_exe().context("find this program")?;
        let program = host.sandbox_program(sandbox, &exe.to_string_lossy());
        let mut command = program.args(["serve", &format!("{address}:{PORT}")]).into_command();
        let mut child = command.stdout(Stdio::piped()).spawn().context("start a server")?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("the server's output")?;
        BufReader::new(stdout).read_line(&mut line).context("wait for the server")?;
        ensure!(line.trim() == "ready", "the server at {address} is not ready: {line}");
        Ok(Self(child))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        program::end(&mut self.0);
    }
}

fn load(host: &Host, sandbox: &str, address: &str) -> Result<Sample> {
    let exe = env::current_exe().context("find this program")?;
    let program = host.sandbox_program(sandbox, &exe.to_string_lossy());
    let done = program.args(["load", &format!("{address}:{PORT}")]).limit(Duration::from_secs(60)).ok()?;
    serde_json::from_str(&done.stdout).with_context(|| format!("the client's figures: {}", done.stdout))
}

/// What stands against the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Against {
    /// The network `bench` of the agents.
    Overlay,
    /// The baseline once more.
    Itself,
}

/// Run `rounds` rounds over both and compare.
pub(crate) fn compare(lab: &Lab, against: Against, rounds: u32) -> Result<Vec<Figure>> {
    baseline::build(lab)?;
    let (from, to) = (lab.host(1)?, lab.host(2)?);
    let base = baseline::address(2);
    let (client, server) = match against {
        Against::Overlay => (from.own("resident"), to.own("resident")),
        Against::Itself => (baseline::SANDBOX.into(), baseline::SANDBOX.into()),
    };
    let mut servers = vec![Server::start(to, baseline::SANDBOX, &base)?];
    let over = match against {
        Against::Overlay => to.address("bench", &server)?,
        Against::Itself => base.clone(),
    };
    if against == Against::Overlay {
        servers.push(Server::start(to, &server, &over)?);
    }
    let overlay = || load(from, &client, &over);
    let by_hand = || load(from, baseline::SANDBOX, &base);
    let mut pairs = Vec::new();
    for round in 0..rounds {
        // Who is first changes, so that a machine that gets slower or faster favours none.
        pairs.push(if round % 2 == 0 {
            let overlay = overlay()?;
            (overlay, by_hand()?)
        } else {
            let by_hand = by_hand()?;
            (overlay()?, by_hand)
        });
    }
    Ok(vec![
        ratio(
            "round trip p50",
            &pairs,
            |sample| 1.0 / sample.round_trip_us,
            |sample| format!("{:.1} us", sample.round_trip_us),
        ),
        ratio(
            "64-byte UDP packets/s",
            &pairs,
            |sample| sample.packets_per_s,
            |sample| format!("{:.0}k/s", sample.packets_per_s / 1000.0),
        ),
        ratio(
            "TCP stream",
            &pairs,
            |sample| sample.stream_gbit_s,
            |sample| format!("{:.2} Gbit/s", sample.stream_gbit_s),
        ),
    ])
}

/// The median of the rounds' ratios of a speed: above 1 the overlay is the faster one.
fn ratio(
    name: &str,
    pairs: &[(Sample, Sample)],
    speed: impl Fn(&Sample) -> f64,
    show: impl Fn(&Sample) -> String,
) -> Figure {
    let ratios: Vec<f64> = pairs.iter().map(|(overlay, base)| speed(overlay) / speed(base)).collect();
    let middle = |samples: Vec<&Sample>| {
        let mut sorted = samples;
        sorted.sort_by(|a, b| speed(a).total_cmp(&speed(b)));
        sorted.get(sorted.len() / 2).map_or_else(String::new, |sample| show(sample))
    };
    let overlay = middle(pairs.iter().map(|pair| &pair.0).collect());
    let base = middle(pairs.iter().map(|pair| &pair.1).collect());
    Figure {
        name: format!("{name}, overlay against baseline"),
        value: median(&ratios),
        unit: "x",
        bar: Bar::AtLeast(1.0 - NOISE),
        note: format!("{overlay} against {base}; {} rounds, {}", ratios.len(), range(&ratios)),
    }
}
