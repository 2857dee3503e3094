//! The task that owns the socket: waits, lets the core decide, sends what it says.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::UdpSocket,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{core::Core, handle::Ends, wire::MAX_PACKET};

/// Most datagrams that are taken in before anything else gets its turn.
const BATCH: usize = 64;
/// Pause after an error of the socket.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// Runs until `stop` is cancelled, then says goodbye.
pub(super) async fn run(socket: UdpSocket, mut core: Core, mut ends: Ends, stop: CancellationToken) {
    // One byte more than allowed shows that a datagram is too long.
    let mut buffer = [0; MAX_PACKET + 1];
    publish(&core, &ends);
    loop {
        let now = Instant::now();
        tokio::select! {
            // Nothing is lost when a branch is not taken: a datagram stays in the socket, a request in its channel,
            // a wake-up in its permit, and time passes anyhow.
            () = stop.cancelled() => break,
            received = socket.recv_from(&mut buffer) => {
                if !take(&mut core, received, &buffer) {
                    sleep(ERROR_PAUSE).await;
                }
                take_more(&socket, &mut core, &mut buffer);
            }
            Some(request) = ends.requests.recv() => core.confirm(request, Instant::now()),
            () = ends.shared.woken() => core.news(ends.shared.news(), Instant::now()),
            () = sleep_until(core.next(now)) => (),
        }
        core.tick(Instant::now());
        send(&socket, &mut core, &ends).await;
        publish(&core, &ends);
    }
    core.leave(Instant::now());
    send(&socket, &mut core, &ends).await;
    publish(&core, &ends);
}

/// Hands a datagram to the core; false after an error.
fn take(core: &mut Core, received: io::Result<(usize, SocketAddr)>, buffer: &[u8]) -> bool {
    match received {
        Ok((length, from)) => {
            core.datagram(buffer.get(..length).unwrap_or_default(), from, Instant::now());
            true
        }
        Err(error) => {
            tracing::debug!(%error, "the gossip socket cannot receive");
            false
        }
    }
}

/// Takes what else has arrived, up to a limit.
fn take_more(socket: &UdpSocket, core: &mut Core, buffer: &mut [u8]) {
    for _ in 0..BATCH {
        let received = socket.try_recv_from(buffer);
        if received.is_err() || !take(core, received, buffer) {
            return;
        }
    }
}

async fn send(socket: &UdpSocket, core: &mut Core, ends: &Ends) {
    let counters = &ends.shared.counters;
    for (to, datagram) in core.take_out() {
        match socket.send_to(&datagram, to).await {
            Ok(_) => counters.sent.more(),
            Err(error) => {
                counters.unsent.more();
                tracing::debug!(%to, %error, "a datagram cannot be sent");
            }
        }
    }
}

fn publish(core: &Core, ends: &Ends) {
    let changed = !std::sync::Arc::ptr_eq(core.members(), &ends.members.borrow());
    if changed {
        ends.members.send_replace(core.members().clone());
    }
}
