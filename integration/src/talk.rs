//! Asking the lab's echo, from any namespace and without a program to start: who answers, and whom does it see.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    probe::in_netns,
    wait::{Poll, wait_for},
};

/// How long an answer may take.
pub const PATIENT: Duration = Duration::from_secs(3);
/// How long to wait for one that must not come.
pub const BRIEF: Duration = Duration::from_millis(250);

/// A protocol of the echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// A connection.
    Tcp,
    /// A datagram.
    Udp,
}

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The echo of this name answered, and saw this address.
    From {
        /// Its name.
        name: String,
        /// The client's address as the echo sees it.
        client: IpAddr,
    },
    /// Told that there is no such port, or no such way.
    Refused,
    /// Nothing came.
    Silence,
}

impl Answer {
    /// Whether the echo of this name answered.
    pub fn is_from(&self, wanted: &str) -> bool {
        matches!(self, Self::From { name, .. } if name == wanted)
    }
}

/// Ask whoever is at `to` from the namespace at `netns`, and wait up to `limit` for the answer.
///
/// # Errors
/// The namespace cannot be entered; what answers is no echo.
pub fn ask(netns: &Path, over: Over, to: SocketAddr, limit: Duration) -> Result<Answer> {
    in_netns(netns, || {
        let answer = match over {
            Over::Tcp => stream(to, limit),
            Over::Udp => datagram(to, limit),
        };
        match answer {
            Ok(text) => parse(&text).with_context(|| format!("{to} is no echo: it answers {text:?}")),
            Err(error) => without(&error).map_or_else(|| Err(error).with_context(|| format!("ask {to}")), Ok),
        }
    })
}

/// [`ask`] until `wanted` answers: for what comes back by itself.
///
/// # Errors
/// It does not within `limit`.
pub fn wait_answer(netns: &Path, over: Over, to: SocketAddr, wanted: &str, limit: Duration) -> Result<()> {
    wait_for(&format!("{wanted} to answer at {to}"), limit, || {
        let answer = ask(netns, over, to, BRIEF)?;
        Ok(if answer.is_from(wanted) { Poll::Ready(()) } else { Poll::Pending(format!("{answer:?}")) })
    })
}

/// The errors that are an answer, too.
fn without(error: &io::Error) -> Option<Answer> {
    const SILENCE: [io::ErrorKind; 2] = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut];
    const REFUSED: [io::ErrorKind; 6] = [
        io::ErrorKind::ConnectionRefused,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::HostUnreachable,
        io::ErrorKind::NetworkUnreachable,
        io::ErrorKind::AddrNotAvailable,
        io::ErrorKind::PermissionDenied,
    ];
    if SILENCE.contains(&error.kind()) {
        return Some(Answer::Silence);
    }
    REFUSED.contains(&error.kind()).then_some(Answer::Refused)
}

fn stream(to: SocketAddr, limit: Duration) -> io::Result<String> {
    let mut connection = TcpStream::connect_timeout(&to, limit)?;
    connection.set_read_timeout(Some(limit))?;
    connection.write_all(b"who\n")?;
    let mut text = String::new();
    connection.take(256).read_to_string(&mut text)?;
    Ok(text)
}

fn datagram(to: SocketAddr, limit: Duration) -> io::Result<String> {
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(limit))?;
    socket.send(b"who\n")?;
    let mut buffer = [0; 256];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn parse(text: &str) -> Result<Answer> {
    let mut words = text.split_whitespace();
    let (Some(name), Some(client)) = (words.next(), words.next()) else { bail!("not NAME ADDRESS PORT") };
    Ok(Answer::From { name: name.into(), client: client.parse().context("the client's address")? })
}

/// Who is seen when `wanted` answers the namespace at `netns`; anything else is an error.
///
/// # Errors
/// Nobody answers, or somebody else.
pub fn answers(netns: &Path, over: Over, to: &str, wanted: &str) -> Result<IpAddr> {
    match ask(netns, over, address(to)?, PATIENT)? {
        Answer::From { name, client } if name == wanted => Ok(client),
        other @ (Answer::From { .. } | Answer::Refused | Answer::Silence) => {
            bail!("{wanted} is to answer at {to} over {over:?}: {other:?}")
        }
    }
}

/// Nobody may answer the namespace at `netns`.
///
/// # Errors
/// Somebody does.
pub fn answers_not(netns: &Path, over: Over, to: &str) -> Result<()> {
    match ask(netns, over, address(to)?, BRIEF)? {
        Answer::Refused | Answer::Silence => Ok(()),
        Answer::From { name, client } => bail!("{name} answers at {to} over {over:?}, and sees {client}"),
    }
}

/// `10.0.0.2:80` or `[fd00::2]:80` of an address and a port.
pub fn at(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

fn address(text: &str) -> Result<SocketAddr> {
    text.parse().with_context(|| format!("{text:?} is no address with a port"))
}
