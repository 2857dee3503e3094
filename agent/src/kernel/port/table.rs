//! The kernel's tables of sockets (/proc/net, proc(5)): one line each, most of which are irrelevant
//! connections.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::model::Protocol;

/// States of a socket that takes what comes from anybody (net/tcp_states.h): a listening one of TCP, one of UDP that is not
/// connected; SCTP has the same number as TCP, in decimal.
const TCP_LISTENS: &str = "0A";
const UDP_OPEN: &str = "07";
const SCTP_LISTENS: &str = "10";

/// A socket of the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) port: u16,
    /// For clients, whoever they are.
    pub(super) waits: bool,
    pub(super) inode: String,
}

impl Socket {
    /// Whether it has this address, by itself or among all.
    pub(super) fn is_at(&self, address: Option<IpAddr>) -> bool {
        let meets = |own: &IpAddr| match (own, address) {
            (_, None) => true,
            // One that is open at :: takes IPv4, too, unless it was told not to, which cannot be seen.
            (IpAddr::V6(own), Some(_)) if own.is_unspecified() => true,
            (IpAddr::V4(own), Some(IpAddr::V4(_))) if own.is_unspecified() => true,
            (own, Some(address)) => own.to_canonical() == address.to_canonical(),
        };
        self.addresses.iter().any(meets)
    }
}

/// The table of this name: "tcp", "udp6".
///
/// # Errors
/// It cannot be opened; a kernel without the protocol has none.
pub(super) fn open(name: &str) -> io::Result<BufReader<File>> {
    File::open(format!("/proc/net/{name}")).map(BufReader::new)
}

/// Every socket of a protocol in both families that `keep` says yes to. A table that the kernel does not have is empty.
///
/// # Errors
/// A table cannot be read.
pub(super) fn sockets<R: BufRead>(
    protocol: Protocol,
    open: &mut impl FnMut(&str) -> io::Result<R>,
    keep: impl Fn(&Socket) -> bool,
) -> io::Result<Vec<Socket>> {
    let names: &[&str] = match protocol {
        Protocol::Tcp => &["tcp", "tcp6"],
        Protocol::Udp => &["udp", "udp6"],
        Protocol::Sctp => &["sctp/eps"],
    };
    let parse = |line: &str| match protocol {
        Protocol::Tcp => socket(line, TCP_LISTENS),
        Protocol::Udp => socket(line, UDP_OPEN),
        Protocol::Sctp => endpoint(line),
    };
    let (mut found, mut line) = (Vec::new(), String::new());
    for name in names {
        let mut table = match open(name) {
            Ok(table) => table,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        // The heading is no socket.
        table.read_line(&mut line)?;
        line.clear();
        while table.read_line(&mut line)? > 0 {
            found.extend(parse(&line).filter(&keep));
            line.clear();
        }
    }
    Ok(found)
}

/// A line of /proc/net/udp or tcp (proc(5)). A connection that nobody owns any more (TIME_WAIT) has no inode.
fn socket(line: &str, waiting: &str) -> Option<Socket> {
    let mut fields = line.split_whitespace();
    let (address, port) = fields.nth(1)?.rsplit_once(':')?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5).filter(|inode| *inode != "0")?;
    Some(Socket {
        addresses: vec![self::address(address)?],
        port: u16::from_str_radix(port, 16).ok()?,
        waits: state == waiting,
        inode: inode.to_owned(),
    })
}

/// A line of /proc/net/sctp/eps: addresses after the inode.
fn endpoint(line: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    Some(Socket {
        addresses: fields.get(8..)?.iter().filter_map(|address| address.parse().ok()).collect(),
        port: fields.get(5)?.parse().ok()?,
        waits: fields.get(3) == Some(&SCTP_LISTENS),
        inode: (*fields.get(7)?).to_owned(),
    })
}

/// An address in words of 32 bits, each in the machine's order.
fn address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let octets: [u8; 16] = words.concat().try_into().ok()?;
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This kernel may lack SCTP: the line is from one that has it.
    #[test]
    fn an_endpoint_of_sctp_is_read() {
        let line = " ffff8881 ffff8882 2   10  29   5000     0 45678 0.0.0.0 2001:db8::1";
        let socket = endpoint(line).unwrap();
        assert_eq!((socket.port, socket.waits, socket.inode.as_str()), (5000, true, "45678"));
        assert!(socket.is_at(Some("192.0.2.1".parse().unwrap())));
        assert!(!socket.is_at(Some("2001:db8::2".parse().unwrap())));
        assert_eq!(endpoint("nonsense"), None);
    }

    #[test]
    fn a_table_that_cannot_be_read_is_no_empty_one() {
        let refused = |_: &str| Err::<&[u8], _>(io::Error::from(io::ErrorKind::PermissionDenied));
        let error = sockets(Protocol::Tcp, &mut { refused }, |_| true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let absent = |_: &str| Err::<&[u8], _>(io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(sockets(Protocol::Sctp, &mut { absent }, |_| true).unwrap(), []);
    }
}
