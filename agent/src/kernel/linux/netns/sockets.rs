//! Sockets in a namespace, for the tasks that answer in it: a short-lived thread opens them there, and any
//! thread can use them.
//!
//! A socket keeps its namespace (and its VNI) alive: the caller closes it before the namespace is removed.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket,
        sockopt::{IpFreebind, ReuseAddr},
    },
};

use super::namespace;
use crate::{
    kernel::{
        KernelError, Sockets,
        linux::{LinuxKernel, refusal::Refusal},
    },
    plan::state::Netns,
};

/// Where a sandbox's resolver answers, as in Docker's containers.
const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// How often another port is tried when the one that UDP got is taken by TCP.
const ATTEMPTS: usize = 64;
/// Clients that may wait for their connection to be taken.
const BACKLOG: i32 = 128;

impl Sockets for LinuxKernel {
    fn resolver_in(&self, netns: &Netns, desired: u16) -> Result<(UdpSocket, TcpListener), KernelError> {
        inside(&self.netns_dir, netns, "open the resolver's sockets in", || {
            let mut refused = Refusal::from(Errno::EADDRINUSE);
            for attempt in 0..ATTEMPTS {
                let udp = match bound(SockType::Datagram, if attempt == 0 { desired } else { 0 }) {
                    Err(refusal) if attempt == 0 && refusal.errno == Errno::EADDRINUSE => continue,
                    udp => UdpSocket::from(udp?),
                };
                let port = udp.local_addr()?.port();
                match bound(SockType::Stream, port) {
                    Ok(tcp) => {
                        listen(&tcp, Backlog::new(BACKLOG)?)?;
                        return Ok((udp, TcpListener::from(tcp)));
                    }
                    Err(refusal) if refusal.errno == Errno::EADDRINUSE => refused = refusal,
                    Err(refusal) => return Err(refusal),
                }
            }
            Err(Refusal { text: Some("no port is free for both UDP and TCP".into()), ..refused })
        })
    }

    fn udp_in(&self, netns: &Netns, local: IpAddr) -> Result<UdpSocket, KernelError> {
        inside(&self.netns_dir, netns, "open a UDP socket in", || {
            let socket = UdpSocket::bind((local, 0))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
    }

    fn tcp_in(&self, netns: &Netns, remote: SocketAddr, timeout: Duration) -> Result<TcpStream, KernelError> {
        let outcome = inside(&self.netns_dir, netns, "connect by TCP from", || {
            // What the connection meets is told as it is, its kind included (timed out, refused …).
            Ok(TcpStream::connect_timeout(&remote, timeout).and_then(|stream| {
                stream.set_nonblocking(true)?;
                Ok(stream)
            }))
        })?;
        outcome.map_err(|source| KernelError::Os {
            operation: "connect by TCP to",
            target: format!("{remote} from {netns}"),
            source,
        })
    }
}

fn inside<T: Send>(
    dir: &Path,
    netns: &Netns,
    operation: &'static str,
    work: impl FnOnce() -> Result<T, Refusal> + Send,
) -> Result<T, KernelError> {
    let open = || match namespace::path(dir, netns) {
        None => work(),
        Some(path) => {
            let file = namespace::open_file(&path)?
                .ok_or_else(|| Refusal::new(Errno::ENOENT, "there is no such network namespace"))?;
            namespace::inside(&file, work)?
        }
    };
    open().map_err(|refusal| refusal.into_error(operation, netns.to_string()))
}

/// A non-blocking socket on the resolver's address.
fn bound(kind: SockType, port: u16) -> Result<OwnedFd, Refusal> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet, kind, flags, None)?;
    if kind == SockType::Stream {
        // Connections that ended a moment ago keep nobody from listening again.
        setsockopt(&socket, ReuseAddr, &true)?;
    }
    // While `lo` is down, 127.0.0.11 is nobody's.
    setsockopt(&socket, IpFreebind, &true)?;
    bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(RESOLVER, port)))?;
    Ok(socket)
}
