//! Single pings from a raw socket that is there already: the first packet leaves microseconds after it is asked for.
//!
//! A started ping(8) takes milliseconds to its first packet, in which a late data path could become ready unseen.

use std::{
    fs::File,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recv, sendto,
            setsockopt, socket, sockopt,
        },
        time::TimeVal,
    },
};

/// Identifier of our echo requests.
const IDENTIFIER: u16 = 0x6f76;

/// Sends pings from one network namespace.
#[derive(Debug)]
pub struct Prober {
    v4: OwnedFd,
    v6: OwnedFd,
    sequence: u16,
}

/// Run `work` in a thread that has entered the network namespace at `netns`.
///
/// # Errors
/// There is no such namespace, or it may not be entered; `work` failed or panicked.
pub fn in_netns<T: Send>(netns: &Path, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let file = File::open(netns).with_context(|| format!("open namespace {}", netns.display()))?;
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(&file, CloneFlags::CLONE_NEWNET).with_context(|| format!("enter {}", netns.display()))?;
            work()
        });
        thread.join().map_err(|_panic| anyhow!("the thread in {} panicked", netns.display()))?
    })
}

impl Prober {
    /// Open raw sockets in the namespace at `netns`.
    ///
    /// # Errors
    /// There is no such namespace; no privilege.
    pub fn new(netns: &Path) -> Result<Self> {
        let open = |family, protocol| {
            socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).context("open a raw socket")
        };
        in_netns(netns, || {
            let v4 = open(AddressFamily::Inet, SockProtocol::Icmp)?;
            let v6 = open(AddressFamily::Inet6, SockProtocol::IcmpV6)?;
            Ok(Self { v4, v6, sequence: 0 })
        })
    }

    /// Send one ping and wait for its answer: the round trip, or none within `limit`.
    ///
    /// # Errors
    /// The packet cannot be sent for a reason other than the missing way, which counts as lost.
    pub fn probe(&mut self, to: IpAddr, limit: Duration) -> Result<Option<Duration>> {
        self.sequence = self.sequence.wrapping_add(1);
        let (fd, request, reply) = match to {
            IpAddr::V4(_) => (&self.v4, 8, 0),
            IpAddr::V6(_) => (&self.v6, 128, 129),
        };
        let packet = echo(request, self.sequence, to.is_ipv4());
        let start = Instant::now();
        match sendto(
            fd.as_raw_fd(),
            &packet,
            &SockaddrStorage::from(SocketAddr::new(to, 0)),
            MsgFlags::empty(),
        ) {
            Ok(_sent) => {}
            Err(Errno::ENETUNREACH | Errno::EHOSTUNREACH) => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("send a ping to {to}")),
        }
        loop {
            let Some(left) = limit.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) else {
                return Ok(None);
            };
            if let Some(message) = receive(fd, left, to.is_ipv4())?
                && message.first() == Some(&reply)
                && message.get(4..8) == packet.get(4..8)
            {
                return Ok(Some(start.elapsed()));
            }
        }
    }
}

/// The next ICMP message, or none in `left`.
fn receive(fd: &OwnedFd, left: Duration, v4: bool) -> Result<Option<Vec<u8>>> {
    let left = left.max(Duration::from_micros(50));
    let micros = i64::from(left.subsec_micros());
    let timeout = TimeVal::new(i64::try_from(left.as_secs()).context("a time limit")?, micros);
    setsockopt(fd, sockopt::ReceiveTimeout, &timeout).context("set a time limit")?;
    let mut buffer = [0; 2048];
    let length = match recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
        Ok(length) => length,
        // A raw socket also hands on errors of earlier packets.
        Err(Errno::EAGAIN | Errno::EINTR | Errno::EHOSTUNREACH | Errno::ENETUNREACH) => return Ok(None),
        Err(error) => return Err(io::Error::from(error)).context("receive"),
    };
    // An IPv4 raw socket delivers the IP header too; its length is in the low four bits, in words.
    let skip = if v4 { usize::from(buffer[0] & 0x0f) * 4 } else { 0 };
    Ok(buffer.get(skip..length).map(<[u8]>::to_vec))
}

/// An echo request (RFC 792, RFC 4443). The kernel fills the checksum of the IPv6 one.
fn echo(kind: u8, sequence: u16, v4: bool) -> [u8; 40] {
    let mut packet = [0; 40];
    packet[0] = kind;
    packet[4..6].copy_from_slice(&IDENTIFIER.to_be_bytes());
    packet[6..8].copy_from_slice(&sequence.to_be_bytes());
    if v4 {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// The internet checksum (RFC 1071) of an even number of bytes.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_request_sums_up_to_nothing() {
        for sequence in [0, 1, 0xffff] {
            assert_eq!(checksum(&echo(8, sequence, true)), 0);
        }
    }
}
