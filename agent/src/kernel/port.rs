//! Who holds a port: all that waits on this host, read once, and the names of processes for the errors that say so.

mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, BufRead},
    net::IpAddr,
};

use self::table::Socket;
use crate::model::Protocol;

/// Holds what no process of ours to see does: the kernel itself does, or another user's process without privilege.
const UNSEEN: &str = "a process or device that cannot be seen from here";

/// The sockets in the network namespace of ours that wait for clients, as they were at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listeners(BTreeMap<(Protocol, u16), Vec<Socket>>);

/// The sockets that have a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder(BTreeSet<String>);

/// All that waits for clients by these protocols. It takes the kernel milliseconds, and longer with very many connections:
/// for threads that may block.
///
/// # Errors
/// The kernel's tables cannot be read.
pub(super) fn listeners(protocols: &BTreeSet<Protocol>) -> io::Result<Listeners> {
    Listeners::read(protocols, table::open)
}

impl Listeners {
    /// From the tables that `open` opens by their names.
    pub(super) fn read<R: BufRead>(
        protocols: &BTreeSet<Protocol>,
        mut open: impl FnMut(&str) -> io::Result<R>,
    ) -> io::Result<Self> {
        let mut all: BTreeMap<_, Vec<Socket>> = BTreeMap::new();
        for protocol in protocols {
            for socket in table::sockets(*protocol, &mut open, |socket| socket.waits)? {
                all.entry((*protocol, socket.port)).or_default().push(socket);
            }
        }
        Ok(Self(all))
    }

    /// Of sockets that wait for clients: protocol, address, port, inode.
    pub(super) fn of(sockets: impl IntoIterator<Item = (Protocol, IpAddr, u16, String)>) -> Self {
        let mut all: BTreeMap<_, Vec<Socket>> = BTreeMap::new();
        for (protocol, address, port, inode) in sockets {
            let socket = Socket { addresses: vec![address], port, waits: true, inode };
            all.entry((protocol, port)).or_default().push(socket);
        }
        Self(all)
    }

    /// Who waits for clients at this port and address (none: every address, of both families), or at all addresses.
    pub fn at(&self, protocol: Protocol, address: Option<IpAddr>, port: u16) -> Option<Holder> {
        let sockets = self.0.get(&(protocol, port))?.iter();
        Holder::of(sockets.filter(|socket| socket.is_at(address)))
    }
}

impl Holder {
    fn of<'a>(sockets: impl Iterator<Item = &'a Socket>) -> Option<Self> {
        let inodes: BTreeSet<String> = sockets.map(|socket| socket.inode.clone()).collect();
        (!inodes.is_empty()).then_some(Self(inodes))
    }

    /// The inodes of the sockets.
    pub(super) fn inodes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// "dnsmasq (pid 77)". It looks at the files of all processes: for threads that may block.
    pub(super) fn name(&self) -> String {
        self.process().unwrap_or_else(|| UNSEEN.to_owned())
    }

    /// The process that has one of the sockets. A socket of the kernel is in no process.
    fn process(&self) -> Option<String> {
        let sockets: BTreeSet<String> = self.0.iter().map(|inode| format!("socket:[{inode}]")).collect();
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
}

/// "dnsmasq (pid 77)" for the process with a socket on this port in the network namespace of ours, a
/// listening one rather than another. `None` if no process can be seen.
pub(super) fn holder(protocol: Protocol, port: u16) -> Option<String> {
    let sockets = table::sockets(protocol, &mut table::open, |socket| socket.port == port).ok()?;
    let process = |waits: bool| {
        Holder::of(sockets.iter().filter(|socket| socket.waits == waits)).and_then(|it| it.process())
    };
    process(true).or_else(|| process(false))
}

/// The sentence for a port that is in use, with its holder and the flag that chooses a different one.
pub(super) fn held_by(holder: Option<&str>, protocol: Protocol, port: u16, flag: &str) -> String {
    let holder = holder.unwrap_or(UNSEEN);
    format!(
        "{} port {port} is in use by {holder}: stop it, or choose a different port with {flag}",
        protocol.as_str().to_uppercase()
    )
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    fn us() -> String {
        format!("(pid {})", std::process::id())
    }

    fn listener(protocol: Protocol, address: Option<IpAddr>, port: u16) -> Option<String> {
        listeners(&[protocol].into()).unwrap().at(protocol, address, port).map(|holder| holder.name())
    }

    #[test]
    fn the_holder_of_a_port_is_named() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let text = held_by(holder(Protocol::Udp, port).as_deref(), Protocol::Udp, port, "--gossip-port");
        assert!(text.starts_with(&format!("UDP port {port} is in use by ")), "{text}");
        assert!(text.contains(&us()), "{text}");
        drop(socket);
        assert_eq!(holder(Protocol::Udp, port), None);
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
            for (protocol, port) in [
                (Protocol::Tcp, tcp.local_addr().unwrap().port()),
                (Protocol::Udp, udp.local_addr().unwrap().port()),
            ] {
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
        assert_eq!(listener(Protocol::Tcp, None, port), None);
        assert!(holder(Protocol::Tcp, port).is_some());
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.connect(server.local_addr().unwrap()).unwrap();
        assert_eq!(listener(Protocol::Udp, None, udp.local_addr().unwrap().port()), None);
        assert_eq!(listener(Protocol::Sctp, None, port), None);
    }

    #[test]
    fn all_that_waits_is_read_once_however_much_is_asked() {
        const LISTENS: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
             0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n   \
             1: 0100007F:1F91 0100007F:0016 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n";
        let mut opened = Vec::new();
        let all = Listeners::read(&[Protocol::Tcp].into(), |name: &str| {
            opened.push(name.to_owned());
            Ok(if name == "tcp" { LISTENS.as_bytes() } else { &[] })
        });
        let all = all.unwrap();
        let held: Vec<u16> =
            (1..=u16::MAX).filter(|port| all.at(Protocol::Tcp, None, *port).is_some()).collect();
        assert_eq!((held, opened), (vec![0x1f90], vec!["tcp".to_owned(), "tcp6".to_owned()]));
        assert_eq!(all.at(Protocol::Udp, None, 0x1f90), None);
    }
}
