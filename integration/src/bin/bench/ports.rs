//! A thousand published ports on one network: what one more costs, and how long they are away after a flush.
//!
//! By hand the same is an `nft -f` of one element, and of the whole table as ours has it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use ovnet_integration::{
    api::Api,
    lab::{From, Host, Lab},
    meanwhile::{longest, waits},
    program::Program,
    talk::{Over, at, wait_answer},
};
use ovnet_proto::v1 as ov;

use crate::figure::{Bar, Figure, median, range};

/// Ports that are published before anything is measured.
const MANY: u16 = 1000;
/// The first of them.
const FIRST: u16 = 20_000;
/// Times that each thing is done.
const TIMES: u16 = 21;
/// How long a flush may be felt.
const BACK: Duration = Duration::from_secs(10);
/// The name of the table by hand.
const TABLE: &str = "base";

/// Both figures and what they are compared with, on the first host; by hand on the second.
pub(crate) fn measure(lab: &Lab) -> Result<Vec<Figure>> {
    let (ours, by_hand) = (lab.host(1)?, lab.host(2)?);
    ours.ovctl_ok(&["network", "create", "-d", "bridge", "--subnet", "10.202.0.0/16", "many"])?;
    let range = format!("{FIRST}-{last}:{FIRST}-{last}", last = FIRST + MANY - 1);
    ours.ovctl_ok(&["sandbox", "create", "--network", "many", "-p", &range, "web"])?;
    let _echo = ours.echo(From::Sandbox("web"), "web", &[&format!("tcp/{}", FIRST + MANY - 1)])?;
    ours.create_sandbox("one-more", &[])?;
    let listed = ours.exec_ok(&["nft", "list", "table", "inet", "ovnet"])?.stdout;
    let table = listed.replacen("table inet ovnet", &format!("table inet {TABLE}"), 1);
    ensure!(
        table.matches(&format!(": {} ", "10.202.")).count() > 0 || table.contains("10.202."),
        "no ports in:\n{table}"
    );
    let mut figures = vec![
        add(ours)?,
        add_by_hand(by_hand, &table)?,
        restore(lab, ours)?,
        restore_by_hand(by_hand, &table)?,
    ];
    ours.ovctl_ok(&["sandbox", "rm", "-f", "web"])?;
    figures.extend(at_once(ours)?);
    ours.ovctl_ok(&["sandbox", "rm", "-f", "one-more"])?;
    ours.ovctl_ok(&["network", "rm", "many"])?;
    Ok(figures)
}

fn figure(name: &str, times: &[f64], bar: Bar) -> Figure {
    let note = format!("median of {}, {}", times.len(), range(times));
    Figure { name: name.into(), value: median(times), unit: "ms", bar, note }
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

/// A call that attaches `one-more`, with a port or without.
fn connect(api: &Api, ports: Vec<ov::PortRequest>) -> Result<f64> {
    let attachment = ov::Attachment { network: "many".into(), ports, ..ov::Attachment::default() };
    let request = ov::ConnectRequest { sandbox: "one-more".into(), attachment: Some(attachment) };
    let start = Instant::now();
    api.call(|mut agent| async move { agent.connect_sandbox(request).await })?;
    let took = milliseconds(start);
    api.disconnect("many", "one-more")?;
    Ok(took)
}

/// The attach with one more port, less the attach without.
fn add(host: &Host) -> Result<Figure> {
    let api = host.api()?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for number in 0..TIMES {
        without.push(connect(&api, Vec::new())?);
        let port = u32::from(FIRST + MANY + number);
        let request = ov::PortRequest { host_port: port, port: 80, ..ov::PortRequest::default() };
        with.push(connect(&api, vec![request])?);
    }
    let mut figure = figure("attach with one more port, beside 1,000", &with, Bar::AtMost(50.0));
    figure.note = format!("{}; {:.2} ms without a port", figure.note, median(&without));
    Ok(figure)
}

/// All of them published by one attach, and what a second client waits meanwhile.
fn at_once(host: &Host) -> Result<Vec<Figure>> {
    let api = host.api()?;
    let ports = || {
        let numbers = (FIRST..FIRST + MANY).map(u32::from);
        numbers.map(|port| ov::PortRequest { host_port: port, port, ..ov::PortRequest::default() }).collect()
    };
    let (mut times, mut worst, mut usual) = (Vec::new(), Vec::new(), Vec::new());
    for _time in 0..TIMES {
        let (_took, unhindered) = waits(host, || connect(&api, Vec::new()))?;
        usual.push(longest(&unhindered));
        let (took, hindered) = waits(host, || connect(&api, ports()))?;
        times.push(took);
        worst.push(longest(&hindered));
    }
    let wait = Figure {
        name: "longest wait of a second client meanwhile".into(),
        value: longest(&worst),
        unit: "ms",
        bar: Bar::AtMost(20.0),
        note: format!(
            "of {TIMES}, {}; beside an attach without a port {:.2} ms",
            range(&worst),
            longest(&usual)
        ),
    };
    Ok(vec![figure("1,000 ports published at once", &times, Bar::AtMost(300.0)), wait])
}

fn nft(host: &Host, text: &str) -> Result<f64> {
    let start = Instant::now();
    host_nft(host).input(text).ok()?;
    Ok(milliseconds(start))
}

fn host_nft(host: &Host) -> Program {
    host.program("nft").args(["-f", "-"])
}

/// An element in the map of ports by hand.
fn add_by_hand(host: &Host, table: &str) -> Result<Figure> {
    host_nft(host).input(table).ok()?;
    let mut times = Vec::new();
    for number in 0..TIMES {
        let port = FIRST + MANY + number;
        times.push(nft(
            host,
            &format!("add element inet {TABLE} ports4 {{ tcp . {port} : 10.202.0.9 . 80 }}\n"),
        )?);
    }
    host.exec_ok(&["nft", "delete", "table", "inet", TABLE])?;
    Ok(figure("the same by hand: nft -f of one element", &times, Bar::None))
}

/// From the end of `nft flush ruleset` until the last port answers.
fn restore(lab: &Lab, host: &Host) -> Result<Figure> {
    let to: SocketAddr = at(&host.address_v4(), FIRST + MANY - 1).parse().context("an address")?;
    let mut times = Vec::new();
    for _time in 0..TIMES / 4 {
        wait_answer(&lab.outside.netns(), Over::Tcp, to, "web", BACK)?;
        host.exec_ok(&["nft", "flush", "ruleset"])?;
        let start = Instant::now();
        wait_answer(&lab.outside.netns(), Over::Tcp, to, "web", BACK)?;
        times.push(milliseconds(start));
    }
    Ok(figure("1,000 ports back after a flush", &times, Bar::AtMost(3000.0)))
}

fn restore_by_hand(host: &Host, table: &str) -> Result<Figure> {
    let mut times = Vec::new();
    for _time in 0..TIMES {
        times.push(nft(host, table)?);
        host.exec_ok(&["nft", "flush", "ruleset"])?;
    }
    Ok(figure("the same by hand: nft -f of an equal table", &times, Bar::None))
}
