//! What the resolver leaves to its sandbox: port 53, traffic that nobody follows, and a word when nobody listens.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use ovnet_integration::{
    dns::{self, Kind, RESOLVER},
    lab::{From, Lab},
    probe::in_netns,
};

use super::{AT_ONCE, LIMIT, remove, says, wide};

/// What the sandbox's own program answers.
const OWN: &[u8] = b"a program of the sandbox";

pub(crate) fn port(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    wide(lab, 81, "wide")?;
    host.create_sandbox("server", &["wide"])?;
    host.create_sandbox("client", &["wide"])?;
    let address = host.address("wide", "server")?;
    let (server, client) = (host.netns_of(From::Sandbox("server")), host.netns_of(From::Sandbox("client")));
    let (udp, tcp) = in_netns(&server, || {
        let any = "0.0.0.0:53";
        Ok((UdpSocket::bind(any).context("udp port 53")?, TcpListener::bind(any).context("tcp port 53")?))
    })?;
    udp.set_read_timeout(Some(LIMIT))?;
    thread::scope(|scope| {
        let serving = scope.spawn(move || -> Result<()> {
            let (_length, from) = udp.recv_from(&mut [0; 512]).context("nobody asks the program")?;
            udp.send_to(OWN, from)?;
            Ok(())
        });
        let asked = dns::exchange(&client, &format!("{address}:53"), b"?", LIMIT)?;
        serving.join().map_err(|_panic| anyhow!("the program panicked"))??;
        ensure!(asked.as_deref() == Some(OWN), "{asked:?}");
        anyhow::Ok(())
    })?;
    says(host, "server", ("server", Kind::A), &[&address])?;
    let reply = dns::ask_tcp(&server, RESOLVER, ("client", Kind::A), LIMIT)?;
    ensure!(reply.answers.len() == 1, "{reply:?}");
    drop(tcp);
    for netns in [&server, &client] {
        let followed = followed(netns)?;
        ensure!(followed == 0, "the kernel follows {followed} connections in {}", netns.display());
    }
    remove(lab, &[(1, "server"), (1, "client")], &["wide"])
}

/// Connections that the kernel follows in a namespace.
fn followed(netns: &Path) -> Result<u32> {
    in_netns(netns, || {
        let path = "/proc/sys/net/netfilter/nf_conntrack_count";
        fs::read_to_string(path).with_context(|| format!("read {path}"))?.trim().parse().context("a number")
    })
}

pub(crate) fn nobody(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    wide(lab, 81, "wide")?;
    host.create_sandbox("client", &["wide"])?;
    let netns = host.netns_of(From::Sandbox("client"));
    says(host, "client", ("client", Kind::A), &[&host.address("wide", "client")?])?;
    host.stop_agent()?;
    let start = Instant::now();
    let told = in_netns(&netns, || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(RESOLVER)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let udp = socket.send(&dns::query(("client", Kind::A))?).and_then(|_sent| socket.recv(&mut [0; 512]));
        let tcp = TcpStream::connect_timeout(&RESOLVER.parse::<SocketAddr>()?, Duration::from_secs(5));
        Ok([udp.map(drop), tcp.map(drop)])
    });
    let took = start.elapsed();
    host.start_agent()?;
    host.wait_ready()?;
    for answer in told? {
        let kind = answer.as_ref().map_err(io::Error::kind);
        ensure!(kind == Err(io::ErrorKind::ConnectionRefused), "{answer:?}");
    }
    ensure!(took < AT_ONCE, "it took {took:?}");
    remove(lab, &[(1, "client")], &["wide"])
}
