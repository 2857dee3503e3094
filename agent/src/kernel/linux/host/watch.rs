//! Hints that links of the host, named namespaces or rules that we care about came, went or changed: where to look again, never
//! what is there.
//!
//! On sockets of its own: rtnetlink's multicast connection decodes what nobody reads, and queues it without a limit.

use std::{
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use nix::{
    libc,
    sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket},
};
use tokio::{net::UnixDatagram, sync::mpsc, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::kernel::{
    Hint, KernelError,
    linux::{netfilter::wire, refusal::Refusal},
};

/// How often the netns directory's time of change is looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// Most datagrams that are read in one go: so that a flood of hints does not block other work.
const DRAUGHT: usize = 256;
/// What is cut off of a notification of links is not read anyway; one of nftables may have a transaction's worth of messages.
const LINKS_INBOX: usize = 256;
const RULES_INBOX: usize = 64 * 1024;
/// Only RTNLGRP_LINK, as the mask of groups that bind takes.
const LINKS: u32 = 1 << (libc::RTNLGRP_LINK - 1);
/// NFNLGRP_NFTABLES (linux/netfilter/nfnetlink.h), in the same form.
const RULES: u32 = 1 << (7 - 1);

/// Send hints until `stop`.
///
/// # Errors
/// No socket, or its end.
pub(in crate::kernel::linux) async fn watch(
    netns_dir: PathBuf,
    hints: mpsc::Sender<Hint>,
    stop: CancellationToken,
) -> Result<(), KernelError> {
    let failed = |error: io::Error| Refusal::from(error).into_error("watch links and rules of", "the host");
    let links = open(SockProtocol::NetlinkRoute, LINKS).map_err(failed)?;
    let rules = match open(SockProtocol::NetlinkNetFilter, RULES) {
        // A kernel without netfilter has no rules.
        Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => None,
        rules => Some(rules.map_err(failed)?),
    };
    let mut inbox = vec![0; RULES_INBOX];
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut changed = changed(&netns_dir);
    let mut pending: Vec<Hint> = Vec::new();
    loop {
        let observed = tokio::select! {
            // Cancel-safe: nothing is held.
            () = stop.cancelled() => return Ok(()),
            // Cancel-safe: a place that is not used goes back.
            place = hints.reserve(), if !pending.is_empty() => {
                let Ok(place) = place else { return Ok(()) };
                place.send(pending.remove(0));
                None
            }
            // Cancel-safe: readiness alone is awaited, the reading does not wait.
            ready = links.readable() => {
                let drained = ready.and_then(|()| drain(&links, &mut inbox[..LINKS_INBOX], &|_links| true));
                drained.map_err(failed)?.map(|drained| drained.hint(Hint::HostLinks, Hint::Lost))
            }
            // Cancel-safe, as above.
            ready = readable(rules.as_ref()) => {
                let drained = ready.and_then(|rules| drain(rules, &mut inbox, &wire::concerns_us));
                // Nothing but rules can have been lost.
                drained.map_err(failed)?.map(|drained| drained.hint(Hint::Ruleset, Hint::Ruleset))
            }
            // Cancel-safe: a tick that is lost comes again.
            _ = tick.tick() => {
                let now = self::changed(&netns_dir);
                let observed = (now != changed).then_some(Hint::NamedNetns);
                changed = now;
                observed
            }
        };
        pending.extend(observed.filter(|observed| !pending.contains(observed)));
    }
}

/// A netlink socket that hears of these groups. As a tokio datagram socket: what kind of socket it is does not matter to
/// receiving.
fn open(protocol: SockProtocol, groups: u32) -> io::Result<UnixDatagram> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    UnixDatagram::from_std(socket.into())
}

/// Wait until there is something to read; for ever, if there is no socket.
async fn readable(socket: Option<&UnixDatagram>) -> io::Result<&UnixDatagram> {
    match socket {
        Some(socket) => socket.readable().await.map(|()| socket),
        None => std::future::pending().await,
    }
}

/// What came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drained {
    /// Something that concerns us.
    Notice,
    /// More than there was room for.
    Overflow,
}

impl Drained {
    fn hint(self, notice: Hint, overflow: Hint) -> Hint {
        match self {
            Self::Notice => notice,
            Self::Overflow => overflow,
        }
    }
}

/// Read the waiting datagrams, up to a limit; `None` if none of them concerns us. What does not fit the inbox
/// does, by what came of it.
fn drain(
    socket: &UnixDatagram,
    inbox: &mut [u8],
    concerns: &dyn Fn(&[u8]) -> bool,
) -> io::Result<Option<Drained>> {
    let mut drained = None;
    for _datagram in 0..DRAUGHT {
        match socket.try_recv(inbox) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) if length == inbox.len() || concerns(&inbox[..length]) => {
                drained = drained.or(Some(Drained::Notice));
            }
            Ok(_elsewhere) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => drained = Some(Drained::Overflow),
            Err(error) => return Err(error),
        }
    }
    Ok(drained)
}

fn changed(dir: &Path) -> Option<SystemTime> {
    std::fs::metadata(dir).and_then(|metadata| metadata.modified()).ok()
}
