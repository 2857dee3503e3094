//! Answering one sandbox, on the sockets in its namespace.
//!
//! What we know is answered on the spot; what others must be asked for, in a task of its own, of which there are not too many.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hickory_proto::op::ResponseCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    cache::Scope,
    exchange::Route,
    message::{Request, Transport},
    outside::{From, Way, servers, way},
    upstream::Upstreams,
    zone::{self, Verdict, Viewer},
};
use crate::{
    model::{Name, SandboxId},
    plan::state::Netns,
};

/// Longest question, in bytes: no sane one comes near it.
const LONGEST: usize = 2048;
/// Questions of a sandbox that wait for others' answers.
const MOST_WAITING: usize = 64;
/// Connections of a sandbox by TCP.
const MOST_CONNECTIONS: usize = 32;
/// How long a connection may say nothing, or take for a message.
const IDLE: Duration = Duration::from_secs(10);
/// Questions that are answered before others have their turn.
const BURST: usize = 32;
/// Pause after a socket has failed for want of something.
const WANT: Duration = Duration::from_millis(100);

/// One sandbox's resolver.
pub(super) struct Resolver {
    shared: Arc<Shared>,
    sandbox: Name,
    id: SandboxId,
    netns: Netns,
    /// Which of several endpoints of a name comes first next.
    turn: AtomicUsize,
    waiting: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

/// What is done about a packet.
enum Reaction {
    /// Nothing.
    None,
    /// This is the answer.
    Say(Vec<u8>),
    /// Others are asked.
    Ask(Box<Request>, Upstreams),
}

impl Resolver {
    pub(super) fn new(shared: Arc<Shared>, sandbox: Name, id: SandboxId, netns: Netns) -> Self {
        Self {
            shared,
            sandbox,
            id,
            netns,
            turn: AtomicUsize::new(0),
            waiting: Arc::new(Semaphore::new(MOST_WAITING)),
            connections: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
        }
    }

    /// Answer until stopped: when this returns the sockets are closed, and nothing is under way any more.
    pub(super) async fn serve(self: Arc<Self>, udp: UdpSocket, tcp: TcpListener, stop: CancellationToken) {
        let by_udp = Arc::clone(&self).serve_udp(Arc::new(udp), stop.clone());
        tokio::join!(by_udp, self.serve_tcp(tcp, stop));
    }

    async fn serve_udp(self: Arc<Self>, socket: Arc<UdpSocket>, stop: CancellationToken) {
        let mut asking = JoinSet::new();
        loop {
            tokio::select! {
                // Those under way hold the socket.
                () = stop.cancelled() => return asking.shutdown().await,
                // Only says that there is something, and takes nothing.
                ready = socket.readable() => if ready.is_err() {
                    tokio::time::sleep(WANT).await;
                    continue;
                },
                // A task that has ended holds nothing any more.
                Some(_ended) = asking.join_next() => continue,
            }
            for _ in 0..BURST {
                // On the stack only while it is needed: a resolver that is idle holds no buffer.
                let mut buffer = [0; LONGEST];
                match socket.try_recv_from(&mut buffer) {
                    Ok((length, client)) => {
                        let packet = buffer.get(..length).unwrap_or_default();
                        self.take(packet, &socket, client, &mut asking);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // An answer of ours that did not arrive, for one.
                    Err(_) => {}
                }
            }
            tokio::task::yield_now().await;
        }
    }

    fn take(
        self: &Arc<Self>,
        packet: &[u8],
        socket: &Arc<UdpSocket>,
        client: SocketAddr,
        asking: &mut JoinSet<()>,
    ) {
        let (request, upstreams) = match self.react(packet, Transport::Udp) {
            Reaction::None => return,
            Reaction::Say(answer) => return say(socket, client, &answer),
            Reaction::Ask(request, upstreams) => (request, upstreams),
        };
        let Ok(permit) = Arc::clone(&self.waiting).try_acquire_owned() else {
            return say(socket, client, &request.coded(ResponseCode::ServFail));
        };
        let (resolver, socket) = (Arc::clone(self), Arc::clone(socket));
        asking.spawn(async move {
            let _permit = permit;
            let answer = resolver.shared.forwarder.forward(&request, &upstreams, Transport::Udp).await;
            say(&socket, client, &answer);
        });
    }

    async fn serve_tcp(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let mut open = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return open.shutdown().await,
                // A connection that was not taken waits in the queue.
                accepted = listener.accept() => accepted,
                Some(_ended) = open.join_next() => continue,
            };
            match accepted {
                Ok((stream, _)) => {
                    // One too many is closed at once.
                    if let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() {
                        open.spawn(Arc::clone(&self).talk(stream, permit));
                    }
                }
                Err(error) => {
                    tracing::debug!(sandbox = %self.sandbox, %error, "cannot accept a connection");
                    tokio::time::sleep(WANT).await;
                }
            }
        }
    }

    async fn talk(self: Arc<Self>, mut stream: TcpStream, permit: OwnedSemaphorePermit) {
        let _permit = permit;
        // Whatever goes wrong, the client hears by the end of the connection.
        while let Ok(Ok(Some(packet))) = timeout(IDLE, read(&mut stream)).await {
            let answer = match self.react(&packet, Transport::Tcp) {
                Reaction::None => return,
                Reaction::Say(answer) => answer,
                Reaction::Ask(request, upstreams) => {
                    self.shared.forwarder.forward(&request, &upstreams, Transport::Tcp).await
                }
            };
            let Ok(length) = u16::try_from(answer.len()) else { return };
            let mut framed = length.to_be_bytes().to_vec();
            framed.extend_from_slice(&answer);
            if !matches!(timeout(IDLE, stream.write_all(&framed)).await, Ok(Ok(()))) {
                return;
            }
        }
    }

    fn react(&self, packet: &[u8], transport: Transport) -> Reaction {
        let request = match Request::parse(packet) {
            Ok(request) => request,
            Err(refusal) => return refusal.answer().map_or(Reaction::None, Reaction::Say),
        };
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let world = &self.shared.world;
        let coded = |code| Reaction::Say(request.coded(code));
        let host = self.shared.host.recent();
        let upstreams = self.shared.read(|intent, before| {
            let viewer =
                Viewer { me: world.me, sandbox: &self.sandbox, is_down: self.shared.is_down.as_ref() };
            let answer = |intent| zone::answer(intent, &viewer, &request.question, turn);
            let verdict = match (answer(intent), before) {
                (Verdict::Foreign, Some(before)) => answer(before),
                (verdict, _) => verdict,
            };
            if verdict != Verdict::Foreign {
                return Err(request.answered(verdict, transport).map_or(Reaction::None, Reaction::Say));
            }
            let record = intent.sandboxes().get(&self.sandbox).filter(|record| record.id == self.id);
            let Some(record) = record else { return Err(coded(ResponseCode::ServFail)) };
            let unsure = match way(intent, before, world.me, record, &request.question) {
                Way::Ask { unsure } => unsure,
                Way::NoName => return Err(coded(ResponseCode::NXDomain)),
                Way::Refuse => return Err(coded(ResponseCode::Refused)),
                Way::NotYet => return Err(coded(ResponseCode::ServFail)),
            };
            let scope = match (record.dns.servers.is_empty(), self.shared.defaults.servers.is_empty()) {
                (true, true) => Scope::Host(host.1),
                (..) => Scope::Sandbox(self.id),
            };
            let route = |from| match from {
                From::Host => Route::Host,
                From::Sandbox => Route::Inside(self.netns.clone()),
            };
            let link_index = |name: &str| self.shared.machine.link_index(name);
            let servers = servers(&record.dns, &self.shared.defaults, &host.0, &link_index);
            let servers = servers.into_iter().map(|(server, from)| (server, route(from))).collect();
            Ok(Upstreams { scope, servers, unsure })
        });
        match upstreams {
            Err(reaction) => reaction,
            Ok(upstreams) => match self.shared.forwarder.known(&request, &upstreams, transport) {
                Some(answer) => Reaction::Say(answer),
                None => Reaction::Ask(Box::new(request), upstreams),
            },
        }
    }
}

/// A client that does not take its answer asks again.
fn say(socket: &UdpSocket, client: SocketAddr, answer: &[u8]) {
    if let Err(error) = socket.try_send_to(answer, client) {
        tracing::debug!(%client, %error, "cannot send an answer");
    }
}

/// The next message of a connection; none: it is over.
async fn read(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    if stream.read(&mut length[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[1..]).await?;
    let length = usize::from(u16::from_be_bytes(length));
    if length > LONGEST {
        return Ok(None);
    }
    let mut packet = vec![0; length];
    stream.read_exact(&mut packet).await?;
    Ok(Some(packet))
}

#[cfg(test)]
mod tests;
