//! What is asked of others: of whom, from where, how often, and what a bad server costs.

use std::{
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use ovnet_integration::{
    dns::{self, Kind, NOERROR, NXDOMAIN, RESOLVER, SERVFAIL},
    lab::{From, Lab, OUTSIDE_V4},
    probe::in_netns,
};

use super::{AT_ONCE, LIMIT, ask, remove, says, wide};

/// An address on the underlay that nobody has.
const NOBODY: &str = "10.77.0.250";
const RECORD: &str = "--host-record=www.example.test,192.0.2.80,2001:db8::80";

fn count(said: &str, name: &str) -> usize {
    said.lines().filter(|line| line.contains("query[") && line.contains(name)).count()
}

pub(crate) fn forwarded(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let server = lab.outside.name_server(&[RECORD])?;
    wide(lab, 81, "wide")?;
    host.create_sandbox("client", &["wide"])?;
    says(host, "client", ("www.example.test", Kind::A), &["192.0.2.80"])?;
    says(host, "client", ("www.example.test", Kind::Aaaa), &["2001:db8::80"])?;
    let netns = host.netns_of(From::Sandbox("client"));
    let over_tcp = dns::ask_tcp(&netns, RESOLVER, ("www.example.test", Kind::A), LIMIT)?;
    ensure!(over_tcp.said() == ["192.0.2.80"], "{over_tcp:?}");
    let unknown = ask(host, "client", "nobody.example.test", Kind::A)?;
    ensure!(unknown.code == NXDOMAIN, "{unknown:?}");
    // It is kept: the server hears of a name once.
    let before = count(&server.said(), "www.example.test");
    for _question in 0..5 {
        let reply = says(host, "client", ("www.example.test", Kind::A), &["192.0.2.80"])?;
        ensure!(reply.took < AT_ONCE, "{reply:?}");
    }
    let asked = count(&server.said(), "www.example.test") - before;
    ensure!(asked == 0, "it was asked {asked} times for what was known:\n{}", server.said());
    // An internal network has no way out, and neither have its questions.
    host.ovctl_ok(&["network", "create", "-d", "bridge", "--internal", "closed"])?;
    host.create_sandbox("inner", &["closed"])?;
    let refused = ask(host, "inner", "www.example.test", Kind::A)?;
    ensure!(refused.code != NOERROR && refused.answers.is_empty(), "{refused:?}");
    remove(lab, &[(1, "client"), (1, "inner")], &["wide", "closed"])
}

pub(crate) fn own_servers(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    // A server that only the sandbox reaches: in an internal network.
    host.ovctl_ok(&[
        "network",
        "create",
        "-d",
        "bridge",
        "--internal",
        "--subnet",
        "10.83.0.0/24",
        "closed",
    ])?;
    host.create_sandbox("server", &["closed:ip=10.83.0.53"])?;
    wide(lab, 81, "wide")?;
    let program = host.sandbox_program("server", "dnsmasq").args(ovnet_integration::lab::dnsmasq_args(
        &["10.83.0.53"],
        &["--host-record=private.example.test,192.0.2.99"],
    ));
    let _server = ovnet_integration::lab::Service::start(program, "started")?;
    let networks = ["--network", "wide", "--network", "closed", "--dns", "10.83.0.53"];
    host.ovctl_ok(&[&["sandbox", "create"][..], &networks, &["client"]].concat())?;
    says(host, "client", ("private.example.test", Kind::A), &["192.0.2.99"])?;
    // The names of its networks still come first.
    says(host, "client", ("server", Kind::A), &["10.83.0.53"])?;
    remove(lab, &[(1, "client"), (1, "server")], &["wide", "closed"])
}

pub(crate) fn long(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let text = "x".repeat(250);
    let records: Vec<String> = (0..12).map(|n| format!("--txt-record=long.example.test,{n}{text}")).collect();
    let _server = lab.outside.name_server(&records.iter().map(String::as_str).collect::<Vec<_>>())?;
    wide(lab, 81, "wide")?;
    host.create_sandbox("client", &["wide"])?;
    let cut = ask(host, "client", "long.example.test", Kind::Txt)?;
    ensure!(cut.truncated && cut.code == NOERROR, "3 kB fit a datagram: {cut:?}");
    let whole = dns::ask_tcp(
        &host.netns_of(From::Sandbox("client")),
        RESOLVER,
        ("long.example.test", Kind::Txt),
        LIMIT,
    )?;
    ensure!(whole.answers.len() == 12 && !whole.truncated, "{} records", whole.answers.len());
    let dig =
        host.ns_exec_ok("client", &["dig", "+short", "+tries=1", "+time=3", "long.example.test", "TXT"])?;
    ensure!(dig.text().lines().filter(|line| line.contains(&text)).count() == 12, "{dig}");
    remove(lab, &[(1, "client")], &["wide"])
}

pub(crate) fn dead_beside_live(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let _server = lab.outside.name_server(&[RECORD])?;
    wide(lab, 81, "wide")?;
    let servers = ["--dns", NOBODY, "--dns", OUTSIDE_V4];
    host.ovctl_ok(&[&["sandbox", "create", "--network", "wide"][..], &servers, &["client"]].concat())?;
    for (number, kind) in [Kind::A, Kind::Aaaa].into_iter().enumerate() {
        let reply = ask(host, "client", "www.example.test", kind)?;
        ensure!(reply.code == NOERROR && reply.answers.len() == 1, "{reply:?}");
        ensure!(reply.took < Duration::from_secs(1), "the dead server costs {:?}", reply.took);
        let unknown = ask(host, "client", &format!("nobody{number}.example.test"), kind)?;
        ensure!(unknown.code == NXDOMAIN && unknown.took < Duration::from_secs(1), "{unknown:?}");
    }
    remove(lab, &[(1, "client")], &["wide"])
}

pub(crate) fn all_dead(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    wide(lab, 81, "wide")?;
    host.ovctl_ok(&["sandbox", "create", "--network", "wide", "--dns", NOBODY, "client"])?;
    let reply = ask(host, "client", "www.example.test", Kind::A)?;
    ensure!(reply.code == SERVFAIL && reply.took < Duration::from_secs(5), "{reply:?}");
    // Meanwhile names of ours are answered as ever.
    let netns = host.netns_of(From::Sandbox("client"));
    let slow = {
        let netns = netns.clone();
        thread::spawn(move || dns::ask(&netns, RESOLVER, ("other.example.test", Kind::A), LIMIT))
    };
    for _question in 0..10 {
        let own = says(host, "client", ("client", Kind::A), &[&host.address("wide", "client")?])?;
        ensure!(own.took < AT_ONCE, "{own:?}");
    }
    slow.join().map_err(|_panic| anyhow::anyhow!("panic"))??.context("no answer")?;
    remove(lab, &[(1, "client")], &["wide"])
}

/// A server that answers every question with one to another, and then rightly: 192.0.2.66 and 192.0.2.7.
fn liar(socket: &UdpSocket, until: Instant) -> Result<()> {
    let mut buffer = [0; 2048];
    while Instant::now() < until {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let question = &buffer[..length];
        let answer = |last: u8| -> Vec<u8> {
            // Up to the end of the question's name, type and class; without what EDNS adds.
            let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap_or(0) + 5;
            let mut answer = question[..end].to_vec();
            answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, last]);
            answer
        };
        let mut other_id = answer(66);
        other_id[0] ^= 0xff;
        let mut other_name = answer(66);
        other_name[13] ^= 1;
        for bytes in [other_id, other_name, vec![0; 3], vec![0xff; 600], answer(7)] {
            socket.send_to(&bytes, from).context("answer")?;
        }
    }
    Ok(())
}

pub(crate) fn spoofed(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    wide(lab, 81, "wide")?;
    host.create_sandbox("client", &["wide"])?;
    let socket = in_netns(&lab.outside.netns(), || UdpSocket::bind((OUTSIDE_V4, 53)).context("bind"))?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let until = Instant::now() + Duration::from_secs(3);
    thread::scope(|scope| {
        let server = scope.spawn(|| liar(&socket, until));
        for number in 0..5 {
            says(host, "client", (&format!("name{number}.example.test"), Kind::A), &["192.0.2.7"])?;
        }
        server.join().map_err(|_panic| anyhow::anyhow!("panic"))?
    })?;
    remove(lab, &[(1, "client")], &["wide"])
}
