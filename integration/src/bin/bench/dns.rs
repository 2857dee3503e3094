//! The resolver against dnsmasq in the same sandbox: questions per second with some of them under way, and how long one takes.
//!
//! Names of endpoints stand against dnsmasq's own records, and what both heard of the same server outside against each
//! other. dnsmasq is asked at its own port; ours through the rules that lead port 53 to it, as every process does.

use std::{
    env,
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use ovnet_integration::{
    dns::{self, Kind, RESOLVER},
    lab::{Host, Lab, OUTSIDE_V4, Service},
};
use serde::{Deserialize, Serialize};

use crate::{
    figure::{Bar, Figure, median, range},
    load::pin,
};

/// Where dnsmasq answers in the sandbox.
const DNSMASQ: &str = "127.0.0.153:53";
/// The name that a server outside has, and that is forwarded once.
const OUTSIDE: &str = "www.example.test";
/// A name of dnsmasq's own, like ours: one address.
const OWN: &str = "target";
/// Questions under way at a time, for the rate.
const WINDOW: u16 = 32;
/// How long the rate is measured in one slice.
const SPAN: Duration = Duration::from_millis(150);
/// Questions one after the other in one slice, for the times.
const TRIPS: usize = 1000;
/// Slices, of which the best counts: a neighbour on the machine makes slices worse, never better.
const SLICES: usize = 6;
/// After this long an answer is lost.
const LOST: Duration = Duration::from_millis(500);

/// The figures of one run of the client.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Answers per second with [`WINDOW`] questions under way.
    rate: f64,
    /// Median time of one question alone in microseconds.
    p50_us: f64,
    /// The time that one in a hundred exceeds.
    p99_us: f64,
}

/// Ask `server` for `name` and print the figures.
pub(crate) fn load(server: SocketAddr, name: &str) -> Result<()> {
    pin()?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("bind")?;
    socket.connect(server).context("connect")?;
    socket.set_read_timeout(Some(LOST)).context("set a time limit")?;
    let query = dns::query((name, Kind::A))?;
    // What is forwarded is asked for once before, so that it is known.
    trip(&socket, &query, 0)?;
    let mut best = Sample { rate: 0.0, p50_us: f64::MAX, p99_us: f64::MAX };
    for _slice in 0..SLICES {
        let (p50, p99) = times(&socket, &query)?;
        best.rate = best.rate.max(rate(&socket, &query)?);
        best.p50_us = best.p50_us.min(p50);
        best.p99_us = best.p99_us.min(p99);
    }
    let mut out = io::stdout();
    serde_json::to_writer(&mut out, &best).context("print")?;
    writeln!(out).context("print")
}

fn ask(socket: &UdpSocket, query: &[u8], id: u16) -> Result<()> {
    let mut query = query.to_vec();
    query[..2].copy_from_slice(&id.to_be_bytes());
    socket.send(&query).context("ask").map(drop)
}

/// The id of the next answer, which must have exactly one record and no error.
fn heard(socket: &UdpSocket) -> Result<u16> {
    let mut answer = [0; 1500];
    let length = socket.recv(&mut answer).context("no answer")?;
    ensure!(length > 12 && answer[3] & 0xf == 0 && answer[7] == 1, "a bad answer: {:?}", &answer[..length]);
    Ok(u16::from_be_bytes([answer[0], answer[1]]))
}

fn trip(socket: &UdpSocket, query: &[u8], id: u16) -> Result<Duration> {
    let start = Instant::now();
    ask(socket, query, id)?;
    ensure!(heard(socket)? == id, "the answer to another question");
    Ok(start.elapsed())
}

/// Median and 99th percentile of the times of single questions, in microseconds.
fn times(socket: &UdpSocket, query: &[u8]) -> Result<(f64, f64)> {
    let trips = (0..u16::MAX).take(TRIPS).map(|id| trip(socket, query, id));
    let mut all = trips.collect::<Result<Vec<Duration>>>()?;
    all.sort_unstable();
    let us = |part: usize| all[(TRIPS - 1) * part / 100].as_secs_f64() * 1e6;
    Ok((us(50), us(99)))
}

/// Answers per second: for each that comes, another question goes. One that is lost is an error.
fn rate(socket: &UdpSocket, query: &[u8]) -> Result<f64> {
    let start = Instant::now();
    (0..WINDOW).try_for_each(|id| ask(socket, query, id))?;
    let mut count: u32 = 0;
    while start.elapsed() < SPAN {
        let id = heard(socket)?;
        count += 1;
        ask(socket, query, id)?;
    }
    let rate = f64::from(count) / start.elapsed().as_secs_f64();
    (0..WINDOW).try_for_each(|_left| heard(socket).map(drop))?;
    Ok(rate)
}

fn run(host: &Host, server: &str, name: &str) -> Result<Sample> {
    let exe = env::current_exe().context("find this program")?;
    let program = host.sandbox_program("dns-client", &exe.to_string_lossy());
    let done = program.args(["ask", server, name]).limit(Duration::from_secs(60)).ok()?;
    serde_json::from_str(&done.stdout).with_context(|| format!("the client's figures: {}", done.stdout))
}

fn dnsmasq(host: &Host) -> Result<Service> {
    let (address, _port) = DNSMASQ.split_once(':').context("an address")?;
    let program = host.sandbox_program("dns-client", "dnsmasq").args([
        "--no-daemon",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
        "--pid-file=",
        "--cache-size=1000",
        &format!("--server={OUTSIDE_V4}"),
        &format!("--host-record={OWN},192.0.2.1"),
        &format!("--listen-address={address}"),
    ]);
    Service::start(program, "started")
}

/// `rounds` rounds of both names at both servers, on the first host.
pub(crate) fn compare(lab: &Lab, rounds: u32) -> Result<Vec<Figure>> {
    let host = lab.host(1)?;
    let _outside = lab.outside.name_server(&[&format!("--host-record={OUTSIDE},192.0.2.80")])?;
    host.ovctl_ok(&["network", "create", "-d", "bridge", "--subnet", "10.203.0.0/24", "names"])?;
    for name in ["dns-client", OWN] {
        host.create_sandbox(name, &["names"])?;
    }
    let _dnsmasq = dnsmasq(host)?;
    let mut figures = Vec::new();
    for (what, name) in [("names of endpoints", OWN), ("names outside, kept", OUTSIDE)] {
        let mut pairs = Vec::new();
        for round in 0..rounds {
            // Who is first changes, so that a machine that gets slower or faster favours none.
            pairs.push(if round % 2 == 0 {
                let ours = run(host, RESOLVER, name)?;
                (ours, run(host, DNSMASQ, name)?)
            } else {
                let theirs = run(host, DNSMASQ, name)?;
                (run(host, RESOLVER, name)?, theirs)
            });
        }
        figures.push(rates(what, &pairs));
        figures.push(tails(what, &pairs));
    }
    host.ovctl_ok(&["sandbox", "rm", "-f", "dns-client", OWN])?;
    host.ovctl_ok(&["network", "rm", "names"])?;
    Ok(figures)
}

fn middle(pairs: &[(Sample, Sample)], of: impl Fn(&Sample) -> f64) -> (f64, f64) {
    let side = |pick: &dyn Fn(&(Sample, Sample)) -> f64| median(&pairs.iter().map(pick).collect::<Vec<_>>());
    (side(&|pair| of(&pair.0)), side(&|pair| of(&pair.1)))
}

fn rates(what: &str, pairs: &[(Sample, Sample)]) -> Figure {
    let ratios: Vec<f64> = pairs.iter().map(|(ours, theirs)| ours.rate / theirs.rate).collect();
    let (ours, theirs) = middle(pairs, |sample| sample.rate / 1000.0);
    Figure {
        name: format!("DNS questions/s, {what}, against dnsmasq"),
        value: median(&ratios),
        unit: "x",
        bar: Bar::None,
        note: format!("{ours:.1}k/s against {theirs:.1}k/s; {} rounds, {}", ratios.len(), range(&ratios)),
    }
}

fn tails(what: &str, pairs: &[(Sample, Sample)]) -> Figure {
    let ratios: Vec<f64> = pairs.iter().map(|(ours, theirs)| ours.p99_us / theirs.p99_us).collect();
    let ((p50, their_p50), (p99, their_p99)) =
        (middle(pairs, |sample| sample.p50_us), middle(pairs, |sample| sample.p99_us));
    Figure {
        name: format!("p99 of a DNS question, {what}, against dnsmasq"),
        value: median(&ratios),
        unit: "x",
        bar: Bar::None,
        note: format!("p50 {p50:.0} us against {their_p50:.0} us, p99 {p99:.0} us against {their_p99:.0} us"),
    }
}
