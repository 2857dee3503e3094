//! Connections that go on when what they began with is gone.

use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use ovnet_integration::{
    forge::Packet,
    lab::{From, Host, Lab, OUTSIDE_V4},
    probe::in_netns,
    wait::{Poll, wait_for, wait_until},
};

use super::{count, counted};

/// Port of the client outside, of the host and of the sandboxes.
const CLIENT: u16 = 5555;
const PORT: &str = "9000:9001/udp";

/// Send one datagram from the client's port to the host's.
fn send(lab: &Lab, host: &Host) -> Result<()> {
    let to = format!("{}:9000", host.address_v4());
    in_netns(&lab.outside.netns(), || {
        let socket = UdpSocket::bind(("0.0.0.0", CLIENT)).context("the client's port")?;
        socket.send_to(b"hello", &to).map(drop).context("send")
    })
}

/// Send until the sandbox gets one; how long that took.
fn reached(lab: &Lab, host: &Host, sandbox: &str) -> Result<Duration> {
    let start = Instant::now();
    wait_for(&format!("a datagram to reach {sandbox}"), Duration::from_secs(5), || {
        send(lab, host)?;
        let got = counted(host, Some(sandbox))?;
        Ok(if got > 0 { Poll::Ready(start.elapsed()) } else { Poll::Pending("none".into()) })
    })
}

fn net(host: &Host) -> Result<()> {
    host.ovctl_ok(&["network", "create", "-d", "bridge", "--subnet", "10.71.0.0/24", "net"]).map(|_done| ())
}

fn with_port(host: &Host, name: &str, address: &str) -> Result<()> {
    let network = format!("net:ip={address}");
    host.ovctl_ok(&["sandbox", "create", "--network", &network, "-p", PORT, name])?;
    count(host, Some(name), "udp dport 9001")
}

pub(super) fn port(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    net(host)?;
    // The client was there before the port was.
    send(lab, host)?;
    with_port(host, "one", "10.71.0.10")?;
    let first = reached(lab, host, "one")?;
    host.ovctl_ok(&["sandbox", "rm", "-f", "one"])?;
    send(lab, host)?;
    with_port(host, "two", "10.71.0.20")?;
    let second = reached(lab, host, "two")?;
    ensure!(first.max(second) < Duration::from_secs(1), "{first:?} and {second:?}");
    host.ovctl_ok(&["sandbox", "rm", "-f", "two"])?;
    host.ovctl_ok(&["network", "rm", "net"])?;
    host.wait_in_sync()
}

/// With an agent that was killed, too, before it could do what follows a removal.
pub(super) fn address(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    net(host)?;
    for killed in [false, true] {
        with_port(host, "one", "10.71.0.10")?;
        reached(lab, host, "one")?;
        host.ovctl_ok(&["sandbox", "rm", "-f", "one"])?;
        if killed {
            host.restart_agent9()?;
        }
        host.ovctl_ok(&["sandbox", "create", "--network", "net:ip=10.71.0.10", "stranger"])?;
        // It is given some time: what follows an attach follows it at once, but not within it.
        wait_until("the client to be forgotten", Duration::from_secs(2), || {
            host.ns_exec("stranger", &["nft", "delete", "table", "inet", "lab"])?;
            count(host, Some("stranger"), "udp dport 9001")?;
            send(lab, host)?;
            send(lab, host)?;
            // It would come before this does.
            ensure!(host.ping(From::Host, "10.71.0.10", 1)?.none(), "no way to the sandbox");
            Ok(counted(host, Some("stranger"))? == 0)
        })?;
        host.ovctl_ok(&["sandbox", "rm", "-f", "stranger"])?;
    }
    host.ovctl_ok(&["network", "rm", "net"])?;
    host.wait_in_sync()
}

/// FIN, RST, SYN+ACK and FIN+ACK of no connection.
const FLAGS: [u8; 4] = [0x01, 0x04, 0x12, 0x11];

pub(super) fn astray(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    net(host)?;
    lab.create_network(&["-d", "overlay", "--subnet", "10.72.0.0/24", "wide"])?;
    let seen = "table inet lab { chain in { type filter hook prerouting priority -400; \
        ip saddr { 10.71.0.0/24, 10.72.0.0/24, 169.254.0.0/16 } counter; }; }";
    let router = |script: &str| lab.switch_ok(&["sh", "-ec", script]);
    router(&format!("echo '{seen}' | nft -f -"))?;
    for (name, network) in [("a", "net"), ("b", "wide")] {
        host.create_sandbox(name, &[network])?;
        let from = (host.address(network, name)?.parse()?, 4_000);
        for flags in FLAGS {
            let packet = Packet::tcp(from, (OUTSIDE_V4.parse()?, 80), flags)?;
            packet.send(&host.netns_of(From::Sandbox(name)), None, 0)?;
        }
        ensure!(host.ping(From::Sandbox(name), OUTSIDE_V4, 2)?.none(), "no way out of {network}");
    }
    let listed = router("nft list table inet lab; nft delete table inet lab")?;
    ensure!(listed.stdout.contains("packets 0 "), "left with a sandbox's own address:\n{listed}");
    host.ovctl_ok(&["sandbox", "rm", "-f", "a", "b"])?;
    host.ovctl_ok(&["network", "rm", "net", "wide"])?;
    host.wait_in_sync()
}
