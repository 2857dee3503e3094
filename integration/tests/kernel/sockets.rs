//! Sockets that are opened in a namespace and used outside of it.

use std::{
    io::{ErrorKind, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    time::{Duration, Instant},
};

use ovagent::{
    kernel::{KernelError, LinuxKernel, Sockets},
    plan::{
        op::{NetnsOp, Op},
        state::Netns,
    },
};

use super::objects::{NETNS_DIR, Outcome, apply, mark, named, sh, told};

const WAIT: Duration = Duration::from_secs(10);

pub(super) async fn resolver() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    let netns = named("ovk-dns");
    apply(&kernel, vec![Op::Netns(netns.clone(), NetnsOp::Add(mark("netns")))]).await?;
    let outcome = exchange(&kernel, &netns);
    apply(&kernel, vec![Op::Netns(netns, NetnsOp::Remove)]).await?;
    outcome
}

fn exchange(kernel: &LinuxKernel, netns: &Netns) -> Outcome {
    let failed = |error: std::io::Error| error.to_string();
    let refused = |error: KernelError| error.to_string();
    let (udp, tcp) = kernel.resolver_in(netns, 50_053).map_err(refused)?;
    let at = udp.local_addr().map_err(failed)?;
    told(tcp.local_addr().map_err(failed)? == at && at.port() != 0, || format!("{udp:?} {tcp:?}"))?;
    told(at.ip() == Ipv4Addr::new(127, 0, 0, 11), || at.to_string())?;
    let empty = udp.recv_from(&mut [0]).map_err(|error| error.kind());
    told(empty == Err(ErrorKind::WouldBlock), || format!("it blocks: {empty:?}"))?;

    let client = kernel.udp_in(netns, Ipv4Addr::UNSPECIFIED.into()).map_err(refused)?;
    client.send_to(b"who", at).map_err(failed)?;
    let mut inbox = [0; 16];
    let (length, from) = received(&udp, &mut inbox)?;
    told(&inbox[..length] == b"who", || format!("{inbox:?} from {from}"))?;
    udp.send_to(b"me", from).map_err(failed)?;
    told(received(&client, &mut inbox)? == (2, at), || "the answer is from somewhere else".into())?;
    let six = kernel.udp_in(netns, Ipv6Addr::UNSPECIFIED.into()).map_err(refused)?;
    told(six.local_addr().is_ok_and(|local| local.is_ipv6()), || format!("{six:?}"))?;

    let mut stream = kernel.tcp_in(netns, at, WAIT).map_err(refused)?;
    stream.write_all(b"who").map_err(failed)?;
    tcp.accept().map_err(failed)?;
    // From outside there is nobody at that address and port.
    let outside = kernel.tcp_in(&Netns::Host, at, WAIT);
    told(kind(&outside) == Some(ErrorKind::ConnectionRefused), || format!("{outside:?}"))?;
    let other = kernel.resolver_in(netns, 50_053).map_err(refused)?;
    told(other.0.local_addr().is_ok_and(|other| other != at), || "two sockets on one port".into())
}

/// What comes next, waited for.
fn received(socket: &UdpSocket, inbox: &mut [u8]) -> Result<(usize, SocketAddr), String> {
    let failed = |error: std::io::Error| error.to_string();
    socket.set_nonblocking(false).map_err(failed)?;
    socket.set_read_timeout(Some(WAIT)).map_err(failed)?;
    socket.recv_from(inbox).map_err(failed)
}

fn kind<T>(outcome: &Result<T, KernelError>) -> Option<ErrorKind> {
    if let Err(KernelError::Os { source, .. }) = outcome { Some(source.kind()) } else { None }
}

/// A namespace whose `lo` is down, one that is not there, and servers that do not answer.
pub(super) async fn bad_places() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    sh("ip netns add ovk-down; ip -n ovk-down link add ok-mute type bridge; ip -n ovk-down link set ok-mute up
        ip -n ovk-down addr add 192.0.2.1/24 dev ok-mute")?;
    let down = kernel.resolver_in(&named("ovk-down"), 50_053).map(drop);
    let mute: SocketAddr = "192.0.2.2:53".parse().expect("an address");
    let start = Instant::now();
    let late = kernel.tcp_in(&named("ovk-down"), mute, Duration::from_millis(200));
    let waited = start.elapsed();
    sh("ip netns del ovk-down")?;
    down.map_err(|error| format!("lo is down: {error}"))?;
    told(kind(&late) == Some(ErrorKind::TimedOut) && waited < WAIT, || format!("{late:?} {waited:?}"))?;
    let text = late.err().map(|error| error.to_string()).unwrap_or_default();
    told(text == "connect by TCP to 192.0.2.2:53 from ovk-down", || text)?;
    let gone = named("ovk-gone");
    let any: IpAddr = Ipv4Addr::UNSPECIFIED.into();
    let refusals = [
        kind(&kernel.resolver_in(&gone, 50_053)),
        kind(&kernel.udp_in(&gone, any)),
        kind(&kernel.tcp_in(&gone, mute, WAIT)),
    ];
    told(refusals == [Some(ErrorKind::NotFound); 3], || format!("{refusals:?}"))?;
    // An address of somebody else is none to bind to, and the thread that was there is back.
    let foreign = kernel.udp_in(&Netns::Host, "192.0.2.77".parse().expect("an address"));
    told(kind(&foreign) == Some(ErrorKind::AddrNotAvailable), || format!("{foreign:?}"))?;
    TcpListener::bind("127.0.0.1:0").map(drop).map_err(|error| error.to_string())
}
