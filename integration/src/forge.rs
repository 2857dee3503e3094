//! Packets that no honest host sends: built by hand, and sent from a raw socket of any namespace.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6},
    os::fd::AsRawFd,
    path::Path,
};

use anyhow::{Context, Result, bail};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, socket,
};

use crate::probe::{checksum, in_netns};

/// Protocol numbers (IANA).
const UDP: u8 = 17;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;
const FRAGMENT: u8 = 44;

/// A packet without its IP header.
#[derive(Clone, Debug)]
pub struct Packet {
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    payload: Vec<u8>,
}

impl Packet {
    /// A datagram.
    ///
    /// # Errors
    /// The two addresses are of different families; it is too long.
    pub fn udp((from, from_port): (IpAddr, u16), (to, port): (IpAddr, u16), data: &[u8]) -> Result<Self> {
        let length = u16::try_from(8 + data.len()).context("a datagram's length")?;
        let header = [from_port, port, length, 0].map(u16::to_be_bytes).concat();
        Self { from, to, protocol: UDP, payload: [&header[..], data].concat() }.summed(6)
    }

    /// A segment of TCP without data, with these flags (RFC 9293, 3.1).
    ///
    /// # Errors
    /// The two addresses are of different families.
    pub fn tcp((from, from_port): (IpAddr, u16), (to, port): (IpAddr, u16), flags: u8) -> Result<Self> {
        let mut segment = [from_port, port].map(u16::to_be_bytes).concat();
        // Numbers, 5 words of header, the flags, a window; checksum and urgent pointer are 0.
        segment.extend([0, 0, 0, 7, 0, 0, 0, 9, 0x50, flags, 0x10, 0, 0, 0, 0, 0]);
        Self { from, to, protocol: TCP, payload: segment }.summed(16)
    }

    /// A router advertisement to all nodes for a default route, and for addresses of this /64 (RFC 4861, 4.2 and 4.6.2).
    ///
    /// # Errors
    /// The addresses are not of IPv6.
    pub fn advertisement(from: IpAddr, prefix: IpAddr) -> Result<Self> {
        let IpAddr::V6(prefix) = prefix else { bail!("{prefix} is no IPv6 prefix") };
        let to = "ff02::1".parse().context("all nodes")?;
        let mut payload = vec![134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        payload.extend([3, 4, 64, 0xc0, 0, 0, 7, 8, 0, 0, 7, 8, 0, 0, 0, 0]);
        payload.extend(prefix.octets());
        Self { from, to, protocol: ICMPV6, payload }.summed(2)
    }

    /// With the checksum in its place: over the pseudo header too (RFC 768, RFC 8200, 8.1).
    fn summed(mut self, at: usize) -> Result<Self> {
        let addresses = match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
            (IpAddr::V6(from), IpAddr::V6(to)) => [from.octets(), to.octets()].concat(),
            (from, to) => bail!("{from} and {to} are of different families"),
        };
        let length = u32::try_from(self.payload.len()).context("a length")?;
        let pad = vec![0; self.payload.len() % 2];
        let parts = [&addresses[..], &length.to_be_bytes(), &[0, 0, 0, self.protocol], &self.payload, &pad];
        let sum = match checksum(&parts.concat()) {
            0 => 0xffff,
            sum => sum,
        };
        self.payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        Ok(self)
    }

    /// With its IP header, whole, or in two fragments of which the first has `first` bytes: a multiple of 8.
    fn datagrams(&self, first: Option<usize>) -> Result<Vec<Vec<u8>>> {
        let Some(first) = first.filter(|first| *first < self.payload.len()) else {
            return Ok(vec![self.headed(&self.payload, None)?]);
        };
        let (head, tail) = self.payload.split_at(first);
        let place = u16::try_from(first / 8).context("a fragment's place")?;
        Ok(vec![self.headed(head, Some((0, true)))?, self.headed(tail, Some((place, false)))?])
    }

    fn headed(&self, piece: &[u8], fragment: Option<(u16, bool)>) -> Result<Vec<u8>> {
        let (place, more) = fragment.unwrap_or_default();
        match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let length = u16::try_from(20 + piece.len()).context("a length")?.to_be_bytes();
                let place = (place | if more { 0x2000 } else { 0 }).to_be_bytes();
                let mut packet = vec![0x45, 0, length[0], length[1], 0x6f, 0x76, place[0], place[1]];
                packet.extend([64, self.protocol, 0, 0]);
                packet.extend([from.octets(), to.octets()].concat());
                packet.extend(piece);
                Ok(packet)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let header = fragment.map(|(place, more)| {
                    let place = (place << 3 | u16::from(more)).to_be_bytes();
                    vec![self.protocol, 0, place[0], place[1], 0, 0, 0x6f, 0x76]
                });
                let next = if header.is_some() { FRAGMENT } else { self.protocol };
                let body = [&header.unwrap_or_default()[..], piece].concat();
                let length = u16::try_from(body.len()).context("a length")?.to_be_bytes();
                let mut packet = vec![0x60, 0, 0, 0, length[0], length[1], next, 255];
                packet.extend([from.octets(), to.octets()].concat());
                packet.extend(body);
                Ok(packet)
            }
            (from, to) => bail!("{from} and {to} are of different families"),
        }
    }

    /// Send it from the namespace at `netns`, whole, or with `first` bytes in a first fragment. `link`: the index of the link
    /// for a destination that every link has, else 0.
    ///
    /// # Errors
    /// No privilege, no route.
    pub fn send(&self, netns: &Path, first: Option<usize>, link: u32) -> Result<()> {
        let datagrams = self.datagrams(first)?;
        in_netns(netns, || {
            let family = if self.to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
            let fd = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)
                .context("open a raw socket")?;
            let to = match self.to {
                IpAddr::V4(to) => SocketAddr::from((to, 0)),
                IpAddr::V6(to) => SocketAddrV6::new(to, 0, 0, link).into(),
            };
            for datagram in &datagrams {
                sendto(fd.as_raw_fd(), datagram, &SockaddrStorage::from(to), MsgFlags::empty())
                    .with_context(|| format!("send to {to}"))?;
            }
            Ok(())
        })
    }
}

/// What a VXLAN packet carries: a datagram from `from` to `to` in a frame to this Ethernet address (RFC 7348).
///
/// # Errors
/// The address is none.
pub fn vxlan(vni: u32, mac: &str, (from, to): (Ipv4Addr, Ipv4Addr), port: u16) -> Result<Vec<u8>> {
    let octet = |text| u8::from_str_radix(text, 16);
    let mac: Vec<u8> = mac.split(':').map(octet).collect::<Result<_, _>>().context("an Ethernet address")?;
    let mut bytes = vec![8, 0, 0, 0];
    bytes.extend((vni << 8).to_be_bytes());
    bytes.extend(mac);
    bytes.extend([2, 0, 0, 0, 0, 0x66, 8, 0]);
    let inner = Packet::udp((from.into(), 4_000), (to.into(), port), b"forged")?;
    let mut packet = inner.headed(&inner.payload, None)?;
    let sum = checksum(&packet[..20]).to_be_bytes();
    packet[10..12].copy_from_slice(&sum);
    bytes.extend(packet);
    Ok(bytes)
}
