//! One question to one server: by UDP, by TCP if the answer was cut off, and without EDNS if it is not understood.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::wire::{Heard, Told, hear};
use crate::{
    kernel::{KernelError, Sockets},
    plan::state::Netns,
};

/// When a question that had no answer is sent again, after the first time.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_millis(2500)];
/// Most datagrams that are no answer, before the server is given up.
const MOST_JUNK: u32 = 100;
/// Longest that a connection may take to be made.
const CONNECT: Duration = Duration::from_millis(1500);
/// The record of EDNS at the end of our questions.
const EDNS: usize = 11;
/// Codes of servers that may not know EDNS: FORMERR and NOTIMP.
const NO_EDNS: [u8; 2] = [1, 4];
/// SERVFAIL.
const FAILED: u8 = 2;

/// From where a server is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// From the host.
    Host,
    /// From this namespace.
    Inside(Netns),
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server says so, with this code.
    Code(u8),
    /// The server was not reached, or says nothing.
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What one question to one server needs.
pub(super) struct Inquiry<'a> {
    pub(super) sockets: &'a Arc<dyn Sockets>,
    /// Who may connect from a namespace now.
    pub(super) connecting: &'a Semaphore,
    pub(super) server: SocketAddr,
    pub(super) route: Route,
    pub(super) deadline: Instant,
}

impl Inquiry<'_> {
    /// Ask. `message` has no id yet, and ends with EDNS.
    ///
    /// # Errors
    /// The server cannot tell, is not reached, or says nothing before the deadline.
    pub(super) async fn ask(&self, message: &[u8]) -> Result<Told, Failure> {
        let mut query = message.to_vec();
        match self.ask_by_both(&mut query).await {
            Err(Failure::Code(code)) if NO_EDNS.contains(&code) => {
                query.truncate(query.len().saturating_sub(EDNS));
                if let Some(additionals) = query.get_mut(10..12) {
                    additionals.fill(0);
                }
                self.ask_by_both(&mut query).await
            }
            heard => heard,
        }
    }

    async fn ask_by_both(&self, query: &mut [u8]) -> Result<Told, Failure> {
        if let Some(id) = query.get_mut(..2) {
            id.copy_from_slice(&rand::random::<[u8; 2]>());
        }
        match self.by_udp(query).await? {
            Heard::Answer(told) => Ok(told),
            Heard::Failure(code) => Err(Failure::Code(code)),
            Heard::Truncated => {
                let stream = timeout_at(self.deadline, self.connect()).await.map_err(late)??;
                timeout_at(self.deadline, by_tcp(stream, query)).await.map_err(late)?
            }
        }
    }

    async fn by_udp(&self, query: &[u8]) -> Result<Heard, Failure> {
        let socket = self.udp().await?;
        // From now on the kernel drops what others send.
        socket.connect(self.server).await?;
        let start = Instant::now();
        let mut buffer = vec![0; 4096];
        let (mut sent, mut junk) = (0, 0);
        socket.send(query).await?;
        loop {
            let again = AGAIN.get(sent).map(|after| start + *after).filter(|at| *at < self.deadline);
            match timeout_at(again.unwrap_or(self.deadline), socket.recv(&mut buffer)).await {
                Ok(length) => {
                    if let Some(heard) = buffer.get(..length?).and_then(|message| hear(message, query)) {
                        return Ok(heard);
                    }
                    junk += 1;
                    if junk >= MOST_JUNK {
                        return Err(io::Error::new(
                            io::ErrorKind::InvalidData,
                            "its answers do not match the question",
                        )
                        .into());
                    }
                }
                Err(_) if again.is_some() => {
                    sent += 1;
                    socket.send(query).await?;
                }
                Err(elapsed) => return Err(late(elapsed)),
            }
        }
    }

    async fn udp(&self) -> io::Result<UdpSocket> {
        let local = match self.server {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        match &self.route {
            Route::Host => UdpSocket::bind((local, 0)).await,
            Route::Inside(netns) => {
                let (sockets, netns) = (Arc::clone(self.sockets), netns.clone());
                let opened = tokio::task::spawn_blocking(move || sockets.udp_in(&netns, local));
                UdpSocket::from_std(opened.await?.map_err(told)?)
            }
        }
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let server = self.server;
        match &self.route {
            Route::Host => match tokio::time::timeout(CONNECT, TcpStream::connect(server)).await {
                Ok(stream) => stream,
                Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
            },
            Route::Inside(netns) => {
                let _turn = self.connecting.acquire().await.map_err(io::Error::other)?;
                let (sockets, netns) = (Arc::clone(self.sockets), netns.clone());
                let made = move || sockets.tcp_in(&netns, server, CONNECT);
                TcpStream::from_std(tokio::task::spawn_blocking(made).await?.map_err(told)?)
            }
        }
    }
}

async fn by_tcp(mut stream: TcpStream, query: &[u8]) -> Result<Told, Failure> {
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(query);
    stream.write_all(&framed).await?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).await?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).await?;
    match hear(&message, query) {
        Some(Heard::Answer(told)) => Ok(told),
        Some(Heard::Failure(code)) => Err(Failure::Code(code)),
        Some(Heard::Truncated) | None => Err(Failure::Code(FAILED)),
    }
}

fn late(_elapsed: tokio::time::error::Elapsed) -> Failure {
    Failure::Io(io::ErrorKind::TimedOut.into())
}

/// What the kernel's edge says, as an error of a socket.
fn told(error: KernelError) -> io::Error {
    io::Error::other(error)
}
