//! A TCP proxy that a test can cut, silence, or point elsewhere.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Both ways.
    Pass,
    /// Requests arrive, answers do not.
    SwallowAnswers,
    /// Requests are accepted and go nowhere.
    SwallowRequests,
    /// No connection lives.
    Cut,
}

#[derive(Clone, Copy)]
struct State {
    mode: Mode,
    target: SocketAddr,
    /// A connection lives as long as this stays as it was.
    generation: u64,
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: watch::Sender<State>,
    /// Bytes of requests that were swallowed.
    pub(crate) swallowed: Arc<AtomicU64>,
    _stop: DropGuard,
}

impl Proxy {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, seen) = watch::channel(State { mode: Mode::Pass, target, generation: 0 });
        let (stop, swallowed) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        let (ended, count) = (stop.clone(), Arc::clone(&swallowed));
        tokio::spawn(async move {
            loop {
                let client = tokio::select! {
                    () = ended.cancelled() => return,
                    accepted = listener.accept() => accepted.unwrap().0,
                };
                tokio::spawn(connection(client, seen.clone(), ended.clone(), Arc::clone(&count)));
            }
        });
        Self { address, state, swallowed, _stop: stop.drop_guard() }
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.state.send_modify(|state| {
            state.mode = mode;
            state.generation += u64::from(mode == Mode::Cut);
        });
    }

    /// Points new connections elsewhere, and ends the old ones.
    pub(crate) fn redirect(&self, target: SocketAddr) {
        self.state.send_modify(|state| {
            state.target = target;
            state.generation += 1;
        });
    }
}

async fn connection(
    mut client: TcpStream,
    mut state: watch::Receiver<State>,
    stop: CancellationToken,
    swallowed: Arc<AtomicU64>,
) {
    let State { mode, target, generation } = *state.borrow();
    let seen = state.clone();
    if mode == Mode::Cut {
        return;
    }
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = async { drop(state.wait_for(|now| now.generation != generation).await) } => return,
            read = client.read(&mut up) => {
                let Ok(length @ 1..) = read else { return };
                if seen.borrow().mode == Mode::SwallowRequests {
                    swallowed.fetch_add(length as u64, Ordering::Relaxed);
                } else if server.write_all(&up[..length]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                if seen.borrow().mode != Mode::SwallowAnswers && client.write_all(&down[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
