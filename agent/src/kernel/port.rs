//! Who holds a port that we need, for the error that says so.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// States of a socket that takes what comes from anybody (net/tcp_states.h): a listening one of TCP, one of UDP that is not
/// connected; SCTP has the same number as TCP, in decimal.
const TCP_LISTENS: &str = "0A";
const UDP_OPEN: &str = "07";
const SCTP_LISTENS: &str = "10";

/// "dnsmasq (pid 77)" for the process with a socket on this port in the network namespace of ours, one that waits for clients
/// rather than another; `protocol`: "tcp" or "udp". None: no process that can be seen.
pub(crate) fn holder(protocol: &str, port: u16) -> Option<String> {
    let sockets = sockets(protocol);
    let on_port =
        |waits: bool| sockets.iter().filter(move |socket| socket.port == port && socket.waits == waits);
    process(on_port(true)).or_else(|| process(on_port(false)))
}

/// The holder of a socket in the network namespace of ours that waits for clients at this port and address (none: every
/// address, of both families), or is open at all addresses; `protocol`: "tcp", "udp" or "sctp". None: there is none.
pub(crate) fn listener(protocol: &str, address: Option<IpAddr>, port: u16) -> Option<String> {
    let sockets = sockets(protocol);
    let collides = |socket: &&Socket| socket.waits && socket.port == port && socket.is_at(address);
    let colliding: Vec<&Socket> = sockets.iter().filter(collides).collect();
    let unseen = (!colliding.is_empty()).then(|| UNSEEN.to_owned());
    process(colliding.into_iter()).or(unseen)
}

/// Holds what no process of ours to see does: the kernel itself does, or another user's process without privilege.
const UNSEEN: &str = "a process or device that cannot be seen from here";

/// A socket of the namespace.
#[derive(Debug, PartialEq, Eq)]
struct Socket {
    addresses: Vec<IpAddr>,
    port: u16,
    waits: bool,
    inode: String,
}

impl Socket {
    /// Whether it has this address, by itself or among all.
    fn is_at(&self, address: Option<IpAddr>) -> bool {
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

/// The sockets of a protocol, of both families.
fn sockets(protocol: &str) -> Vec<Socket> {
    let read = |table: &str| fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
    if protocol == "sctp" {
        return read("sctp/eps").lines().skip(1).filter_map(endpoint).collect();
    }
    let waiting = if protocol == "tcp" { TCP_LISTENS } else { UDP_OPEN };
    let tables = [read(protocol), read(&format!("{protocol}6"))];
    tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(|line| socket(line, waiting)).collect()
}

/// A line of /proc/net/udp or tcp (proc(5)). A connection that nobody owns any more (TIME_WAIT) has no inode.
fn socket(line: &str, waiting: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = fields.get(1)?.rsplit_once(':')?;
    let inode = fields.get(9).filter(|inode| **inode != "0")?;
    Some(Socket {
        addresses: vec![self::address(address)?],
        port: u16::from_str_radix(port, 16).ok()?,
        waits: fields.get(3) == Some(&waiting),
        inode: (*inode).to_owned(),
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

/// The process that has one of these sockets. A socket of the kernel is in no process.
fn process<'a>(sockets: impl Iterator<Item = &'a Socket>) -> Option<String> {
    let sockets: BTreeSet<String> = sockets.map(|socket| format!("socket:[{}]", socket.inode)).collect();
    if sockets.is_empty() {
        return None;
    }
    let processes = fs::read_dir("/proc").ok()?;
    let mut pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        let mut targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        targets.any(|target| target.to_str().is_some_and(|target| sockets.contains(target)))
    })?;
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("{} (pid {pid})", command.trim()))
}

/// The sentence for a port that is in use: who has it, and the flag that chooses another.
pub(crate) fn in_use(protocol: &str, port: u16, flag: &str) -> String {
    let waiting = listener(protocol, None, port).filter(|holder| holder != UNSEEN);
    held_by(waiting.or_else(|| holder(protocol, port)).as_deref(), protocol, port, flag)
}

/// [`in_use`], by this holder.
pub(crate) fn held_by(holder: Option<&str>, protocol: &str, port: u16, flag: &str) -> String {
    let holder = holder.unwrap_or(UNSEEN);
    format!(
        "{} port {port} is in use by {holder}: stop it, or choose another port with {flag}",
        protocol.to_uppercase()
    )
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    fn us() -> String {
        format!("(pid {})", std::process::id())
    }

    #[test]
    fn the_holder_of_a_port_is_named() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let text = in_use("udp", port, "--gossip-port");
        assert!(text.starts_with(&format!("UDP port {port} is in use by ")), "{text}");
        assert!(text.contains(&us()), "{text}");
        drop(socket);
        assert_eq!(holder("udp", port), None);
    }

    #[test]
    fn a_listener_is_found_at_the_addresses_that_it_has() {
        let found = |protocol, address: &str, port| {
            let address = (!address.is_empty()).then(|| address.parse().unwrap());
            listener(protocol, address, port).is_some_and(|text| text.contains(&us()))
        };
        for (bound, at, elsewhere) in [
            ("127.0.0.1", vec!["", "127.0.0.1", "::ffff:127.0.0.1"], vec!["127.0.0.2", "::1"]),
            ("0.0.0.0", vec!["", "127.0.0.1", "192.0.2.1"], vec!["::1"]),
            ("::1", vec!["", "::1"], vec!["127.0.0.1", "2001:db8::1"]),
            ("::", vec!["", "::1", "2001:db8::1", "192.0.2.1"], vec![]),
        ] {
            let address: IpAddr = bound.parse().unwrap();
            let (tcp, udp) =
                (TcpListener::bind((address, 0)).unwrap(), UdpSocket::bind((address, 0)).unwrap());
            for (protocol, port) in
                [("tcp", tcp.local_addr().unwrap().port()), ("udp", udp.local_addr().unwrap().port())]
            {
                for address in &at {
                    assert!(found(protocol, address, port), "{protocol} {bound} is not found at {address:?}");
                }
                for address in &elsewhere {
                    assert!(!found(protocol, address, port), "{protocol} {bound} is found at {address:?}");
                }
            }
        }
    }

    #[test]
    fn a_client_is_no_listener() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        let port = client.local_addr().unwrap().port();
        assert_eq!(listener("tcp", None, port), None);
        assert!(holder("tcp", port).is_some());
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.connect(server.local_addr().unwrap()).unwrap();
        assert_eq!(listener("udp", None, udp.local_addr().unwrap().port()), None);
        assert_eq!(listener("sctp", None, port), None);
    }

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
}
