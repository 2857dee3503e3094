//! Hints that links of the host or named namespaces came, went or changed: where to look again, never what is there.
//!
//! On a socket of its own: rtnetlink's multicast connection decodes what nobody reads, and queues it without a limit.

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

use super::refusal::Refusal;
use crate::kernel::KernelError;

/// How often the netns directory's time of change is looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// What is cut off of a notification is not read anyway.
const INBOX: usize = 256;
/// RTNLGRP_LINK alone, as the mask of groups that bind takes.
const GROUPS: u32 = 1 << (libc::RTNLGRP_LINK - 1);

/// Where something changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Links of the host.
    HostLinks,
    /// Named namespaces.
    NamedNetns,
    /// Rules of nftables in the host.
    Ruleset,
    /// Notifications were lost: look at everything.
    Lost,
}

/// Send hints until `stop`. A full queue swallows hints: who has not read the last one yet will look anyway.
///
/// # Errors
/// No socket, or its end: the caller starts again and looks at everything.
pub async fn watch(
    netns_dir: PathBuf,
    hints: mpsc::Sender<Seen>,
    stop: CancellationToken,
) -> Result<(), KernelError> {
    let failed = |refusal: Refusal| refusal.into_error("watch links of", "the host");
    let socket = open().map_err(failed)?;
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut changed = changed(&netns_dir);
    loop {
        let seen = tokio::select! {
            // Cancel-safe: nothing is held.
            () = stop.cancelled() => return Ok(()),
            // Cancel-safe: readiness alone is awaited, the reading does not wait.
            ready = socket.readable() => {
                let drained = ready.and_then(|()| drain(&socket));
                drained.map_err(|error| failed(error.into()))?
            }
            // Cancel-safe: a tick that is lost comes again.
            _ = tick.tick() => {
                let now = self::changed(&netns_dir);
                let seen = (now != changed).then_some(Seen::NamedNetns);
                changed = now;
                seen
            }
        };
        if let Some(seen) = seen
            && let Err(mpsc::error::TrySendError::Closed(_)) = hints.try_send(seen)
        {
            return Ok(());
        }
    }
}

/// A netlink socket that hears of links. As a tokio datagram socket: what kind of socket it is does not matter to
/// receiving.
fn open() -> Result<UnixDatagram, Refusal> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
    Ok(UnixDatagram::from_std(socket.into())?)
}

/// Read all that is there; None: nothing was.
fn drain(socket: &UnixDatagram) -> io::Result<Option<Seen>> {
    let mut inbox = [0; INBOX];
    let mut seen = None;
    loop {
        match socket.try_recv(&mut inbox) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_length) => seen = seen.or(Some(Seen::HostLinks)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(seen),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => seen = Some(Seen::Lost),
            Err(error) => return Err(error),
        }
    }
}

fn changed(dir: &Path) -> Option<SystemTime> {
    std::fs::metadata(dir).and_then(|metadata| metadata.modified()).ok()
}
