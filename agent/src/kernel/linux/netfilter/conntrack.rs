//! Connections that the kernel tracks in a namespace (linux/netfilter/nfnetlink_conntrack.h): all are read, those that are
//! outdated are deleted.
//!
//! Reading takes some 25 ms however few there are: the kernel goes through its whole table, which all
//! namespaces share. So no operation with a waiting caller does it, and a namespace without connections is
//! left out.

use std::{collections::BTreeSet, net::IpAddr};

use netlink_packet_core::NLM_F_DUMP;
use nix::errno::Errno;

use super::wire;
use crate::{
    kernel::{
        KernelError,
        linux::{
            netns::{namespace::Namespace, procfs::Procfs, sysctl},
            refusal::Refusal,
            rtnl::{
                attributes::{Attributes, address, put, u8_at},
                socket::Rtnl,
            },
        },
    },
    model::Protocol,
    plan::{Connection, Outdated, state::Netns},
};

/// NFNL_SUBSYS_CTNETLINK and its messages.
const SUBSYSTEM: u16 = 1;
const GET: u16 = SUBSYSTEM << 8 | 1;
const DELETE: u16 = SUBSYSTEM << 8 | 2;
/// Length of struct nfgenmsg.
const HEADER: usize = 4;
/// Attributes of a connection …
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
/// … of one of its tuples …
const ADDRESSES: u16 = 1;
const PROTOCOL: u16 = 2;
/// … of those: IPv4 source and destination, then IPv6's; number, source and destination port.
const SOURCES: [u16; 2] = [1, 3];
const DESTINATIONS: [u16; 2] = [2, 4];
const NUMBER: u16 = 1;
const PORTS: [u16; 2] = [2, 3];
/// Says that an attribute has others in it.
const NESTED: u16 = 0x8000;
/// How many connections there are in a namespace.
const COUNT: &str = "net/netfilter/nf_conntrack_count";
/// Most that are deleted after one reading; then there is another one, up to so many times.
const MOST: usize = 50_000;
const READINGS: usize = 20;

/// Delete what is outdated; how many there were. None where the kernel tracks none, or says nothing of them.
pub(in crate::kernel::linux) fn forget(
    namespace: &Namespace,
    netns: &Netns,
    outdated: &Outdated,
    procfs: &Procfs,
) -> Result<usize, KernelError> {
    if !has_any(namespace, netns, procfs)? {
        return Ok(0);
    }
    let mut forgotten = 0;
    for _reading in 0..READINGS {
        let found = match once(namespace, outdated) {
            Err(refusal) if wire::is_missing(&refusal) => 0,
            found => {
                found.map_err(|refusal| refusal.into_error("forget connections in", netns.to_string()))?
            }
        };
        forgotten += found;
        if found < MOST {
            break;
        }
    }
    Ok(forgotten)
}

/// The addresses of all connections. None where the kernel tracks none, or says nothing of them.
pub(in crate::kernel::linux) fn addresses(
    namespace: &Namespace,
    netns: &Netns,
    procfs: &Procfs,
) -> Result<BTreeSet<IpAddr>, KernelError> {
    let mut found = BTreeSet::new();
    if has_any(namespace, netns, procfs)? {
        let mut each = |body: &[u8]| found.extend(connection(body).iter().flat_map(Connection::addresses));
        match namespace.run(Rtnl::open_netfilter).and_then(|socket| dump(&mut socket?, &mut each)) {
            Err(refusal) if wire::is_missing(&refusal) => {}
            outcome => outcome.map_err(|it| it.into_error("look at connections in", netns.to_string()))?,
        }
    }
    Ok(found)
}

fn has_any(namespace: &Namespace, netns: &Netns, procfs: &Procfs) -> Result<bool, KernelError> {
    let count = sysctl::read_all(namespace, netns, &[COUNT].into(), procfs)?;
    Ok(count.get(COUNT).is_some_and(|count| count != "0"))
}

/// All connections, of all families.
fn dump(socket: &mut Rtnl, each: &mut dyn FnMut(&[u8])) -> Result<(), Refusal> {
    socket.ask(GET, NLM_F_DUMP, &[0; HEADER], each)
}

fn once(namespace: &Namespace, outdated: &Outdated) -> Result<usize, Refusal> {
    let mut socket = namespace.run(Rtnl::open_netfilter)??;
    let mut found = Vec::new();
    dump(&mut socket, &mut |body| {
        let is_outdated = |body: &[u8]| connection(body).is_some_and(|connection| outdated.has(&connection));
        if found.len() < MOST && is_outdated(body) {
            found.extend(deletion(body));
        }
    })?;
    for deletion in &found {
        match socket.command(DELETE, deletion) {
            // It ended meanwhile.
            Err(refusal) if refusal.errno == Errno::ENOENT => {}
            outcome => outcome?,
        }
    }
    Ok(found.len())
}

/// The connection in a message.
fn connection(body: &[u8]) -> Option<Connection> {
    let attributes = Attributes::after(body, HEADER);
    let (number, original) = tuple(attributes.find(ORIGINAL)?)?;
    let (_, reply) = tuple(attributes.find(REPLY)?)?;
    let protocol = match number {
        6 => Some(Protocol::Tcp),
        17 => Some(Protocol::Udp),
        132 => Some(Protocol::Sctp),
        _ => None,
    };
    Some(Connection { protocol, original, reply })
}

type Ends = [(IpAddr, u16); 2];

fn tuple(value: &[u8]) -> Option<(u8, Ends)> {
    let tuple = Attributes::nested(value);
    let addresses = Attributes::nested(tuple.find(ADDRESSES)?);
    let protocol = Attributes::nested(tuple.find(PROTOCOL)?);
    let end = |kinds: [u16; 2], port| {
        let found = kinds.into_iter().find_map(|kind| addresses.find(kind)).and_then(address)?;
        let port = protocol.find(port).and_then(|port| port.try_into().ok()).map_or(0, u16::from_be_bytes);
        Some((found, port))
    };
    let number = protocol.find(NUMBER).and_then(|number| u8_at(number, 0))?;
    Some((number, [end(SOURCES, PORTS[0])?, end(DESTINATIONS, PORTS[1])?]))
}

/// The message that deletes the connection in this one, and no other that has come in its place.
fn deletion(body: &[u8]) -> Option<Vec<u8>> {
    let attributes = Attributes::after(body, HEADER);
    let mut message = vec![u8_at(body, 0)?, 0, 0, 0];
    put(&mut message, ORIGINAL | NESTED, attributes.find(ORIGINAL)?);
    for kind in [ZONE, ID] {
        if let Some(value) = attributes.find(kind) {
            put(&mut message, kind, value);
        }
    }
    Some(message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _nothing = (connection(&bytes), deletion(&bytes));
        }
    }
}
