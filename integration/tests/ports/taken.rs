//! Who has a port that somebody else asks for.

use std::thread;

use anyhow::{Context, Result, ensure};
use ovnet_integration::{
    lab::{From, Lab},
    talk::{Over, answers, at},
};

use super::{bridge, publish, refused, remove};

pub(crate) fn by_endpoint(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    bridge(host, 51, "net")?;
    bridge(host, 52, "other")?;
    publish(host, "first", "net", &["8080:80"])?.ok()?;
    let before = host.kernel_state()?;
    refused(&publish(host, "second", "other", &["8080:80"])?, &["8080", "first", "net"])?;
    refused(
        &publish(host, "second", "other", &["8090:80", "127.0.0.1:8080:80"])?,
        &["8080", "first", "net"],
    )?;
    refused(&publish(host, "second", "net", &["8090:80", "8090:81"])?, &["8090"])?;
    let left = before.changes(&host.kernel_state()?);
    ensure!(left.is_empty(), "a refusal leaves:\n{left}");
    // Another protocol is another port, and another address of the host another place.
    publish(host, "udp", "other", &["8080:80/udp"])?.ok()?;
    publish(host, "here", "other", &[&format!("{}:8091:80", host.address_v4())])?.ok()?;
    publish(host, "there", "other", &["203.0.113.1:8091:80"])?.ok()?;
    // What is given up can be had.
    host.ovctl_ok(&["sandbox", "rm", "-f", "first"])?;
    publish(host, "second", "other", &["8080:80"])?.ok()?;
    let _echo = host.echo(From::Sandbox("second"), "second", &["tcp/80"])?;
    answers(&lab.outside.netns(), Over::Tcp, &at(&host.address_v4(), 8080), "second")?;
    remove(host, &["second", "udp", "here", "there"], &["net", "other"])
}

pub(crate) fn by_process(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    bridge(host, 51, "net")?;
    let holder = host.echo(From::Host, "holder", &["tcp/8092", "udp/8093"])?;
    let pid = holder.pid().to_string();
    refused(&publish(host, "web", "net", &["8092:80"])?, &["8092", "echo", &pid])?;
    refused(&publish(host, "web", "net", &["8093:80/udp"])?, &["8093", "echo", &pid])?;
    publish(host, "web", "net", &["8093:80/tcp", "8092:80/udp"])?.ok()?;
    // Of a range the free one is taken.
    publish(host, "range", "net", &["8092-8094:80"])?.ok()?;
    let chosen = host.endpoint("net", "range")?.ports.first().context("no port")?.host_port;
    ensure!(chosen == 8094, "{chosen} is chosen, with 8092 and 8093 taken");
    drop(holder);
    remove(host, &["web", "range"], &["net"])
}

pub(crate) fn race(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    bridge(host, 51, "net")?;
    let names = ["a", "b", "c", "d"];
    let outcomes = thread::scope(|scope| {
        let ask = |name: &'static str| scope.spawn(move || publish(host, name, "net", &["8095:80"]));
        let all = names.map(ask);
        all.into_iter()
            .map(|thread| thread.join().map_err(|_panic| anyhow::anyhow!("panic"))?)
            .collect::<Result<Vec<_>>>()
    })?;
    let won = outcomes.iter().filter(|done| done.status.success()).count();
    ensure!(won == 1, "{won} of {} have the port", names.len());
    for done in outcomes.iter().filter(|done| !done.status.success()) {
        refused(done, &["8095"])?;
    }
    let listed = host.ovctl_ok(&["sandbox", "ls", "-q"])?;
    ensure!(listed.text().lines().count() == 1, "one that was refused stays: {listed}");
    remove(host, &[listed.text()], &["net"])
}

pub(crate) fn nowhere(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let create = |args: &[&str]| host.ovctl_ok(&[&["network", "create", "-d"][..], args].concat());
    create(&["bridge", "--internal", "closed"])?;
    create(&["p2p", "wire"])?;
    create(&["macvlan", "-o", "parent=eth1", "lan"])?;
    for network in ["closed", "wire", "lan"] {
        refused(&publish(host, "web", network, &["8080:80"])?, &[network, "no ports"])?;
    }
    bridge(host, 51, "net")?;
    let elsewhere = publish(host, "web", "net", &["192.0.2.99:8080:80"])?;
    refused(&elsewhere, &["192.0.2.99"])?;
    host.ovctl_ok(&["network", "rm", "closed", "wire", "lan", "net"]).map(|_done| ())
}
