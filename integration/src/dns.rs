//! Asking a name server from any namespace, without a program to start: as little of RFC 1035 as the tests need.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::probe::in_netns;

/// Where the agent answers in a sandbox.
pub const RESOLVER: &str = "127.0.0.11:53";
/// The response codes that the tests know.
pub const NOERROR: u8 = 0;
/// A server that could not find out.
pub const SERVFAIL: u8 = 2;
/// No such name.
pub const NXDOMAIN: u8 = 3;

/// A type of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// IPv4 address.
    A = 1,
    /// Name of an address.
    Ptr = 12,
    /// Text.
    Txt = 16,
    /// IPv6 address.
    Aaaa = 28,
    /// Host and port of a service (RFC 2782).
    Srv = 33,
}

impl Kind {
    const ALL: [Self; 5] = [Self::A, Self::Ptr, Self::Txt, Self::Aaaa, Self::Srv];
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The response code.
    pub code: u8,
    /// The answer was cut: to be asked for over TCP.
    pub truncated: bool,
    /// What records of the answer say, as dig(1) prints them, in order, with their time to live in seconds.
    pub answers: Vec<(String, u32)>,
    /// From the question to the answer.
    pub took: Duration,
}

impl Reply {
    /// What the records say, without the times to live.
    pub fn said(&self) -> Vec<&str> {
        self.answers.iter().map(|(text, _ttl)| text.as_str()).collect()
    }
}

/// Ask over UDP; none if nothing comes within `limit`, or a refusal.
///
/// # Errors
/// The namespace cannot be entered; the answer cannot be read.
pub fn ask(netns: &Path, server: &str, question: (&str, Kind), limit: Duration) -> Result<Option<Reply>> {
    let query = query(question)?;
    let start = Instant::now();
    match exchange(netns, server, &query, limit)? {
        Some(answer) => parse(&query, &answer, start.elapsed()).map(Some),
        None => Ok(None),
    }
}

/// Ask over TCP.
///
/// # Errors
/// As [`ask`]; there is no connection.
pub fn ask_tcp(netns: &Path, server: &str, question: (&str, Kind), limit: Duration) -> Result<Reply> {
    let query = query(question)?;
    let to: SocketAddr = server.parse().context("a server's address")?;
    let start = Instant::now();
    let answer = in_netns(netns, || {
        let mut stream = TcpStream::connect_timeout(&to, limit).context("connect")?;
        stream.set_read_timeout(Some(limit)).context("set a limit")?;
        let mut message = u16::try_from(query.len()).context("a length")?.to_be_bytes().to_vec();
        message.extend_from_slice(&query);
        stream.write_all(&message).context("ask")?;
        let mut length = [0; 2];
        stream.read_exact(&mut length).context("read the length")?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).context("read the answer")?;
        Ok(answer)
    })?;
    parse(&query, &answer, start.elapsed())
}

/// Send any bytes to a server, and wait for what comes back, if anything does.
///
/// # Errors
/// The namespace cannot be entered.
pub fn exchange(netns: &Path, server: &str, bytes: &[u8], limit: Duration) -> Result<Option<Vec<u8>>> {
    let to: SocketAddr = server.parse().context("a server's address")?;
    in_netns(netns, || {
        let any: IpAddr =
            if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).context("open a socket")?;
        socket.connect(to).context("connect")?;
        socket.set_read_timeout(Some(limit)).context("set a limit")?;
        let mut buffer = vec![0; 65_536];
        match socket.send(bytes).and_then(|_sent| socket.recv(&mut buffer)) {
            Ok(length) => Ok(Some(buffer[..length].to_vec())),
            Err(error) if gone(&error) => Ok(None),
            Err(error) => Err(error).context("receive"),
        }
    })
}

/// Nothing came, or was told that nothing will.
fn gone(error: &io::Error) -> bool {
    [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut, io::ErrorKind::ConnectionRefused]
        .contains(&error.kind())
}

/// The bytes of a question.
///
/// # Errors
/// A label that is too long.
pub fn query((name, kind): (&str, Kind)) -> Result<Vec<u8>> {
    let mut bytes = rand::random::<u16>().to_be_bytes().to_vec();
    // Recursion is desired; one question.
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.').filter(|label| !label.is_empty()) {
        ensure!(label.len() < 64, "{label:?} is too long for a label");
        bytes.push(u8::try_from(label.len()).context("a length")?);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend((kind as u16).to_be_bytes());
    bytes.extend([0, 1]);
    Ok(bytes)
}

/// The name whose PTR record tells what an address is called.
///
/// # Errors
/// It is no address.
pub fn reverse(address: &str) -> Result<String> {
    Ok(match address.parse().with_context(|| format!("{address:?} is no address"))? {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let mut text = String::new();
            for byte in v6.octets().iter().rev() {
                text.push_str(&format!("{:x}.{:x}.", byte & 0xf, byte >> 4));
            }
            format!("{text}ip6.arpa")
        }
    })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).context("a length")?;
        let taken = self.bytes.get(self.at..end).context("the answer ends too early")?;
        self.at = end;
        Ok(taken)
    }

    fn short(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.take(2)?.try_into().context("two bytes")?))
    }

    fn name(&mut self) -> Result<String> {
        let mut name = String::new();
        let mut after = None;
        for _label in 0..128 {
            let length = usize::from(self.take(1)?[0]);
            if length >= 0xc0 {
                let low = usize::from(self.take(1)?[0]);
                after.get_or_insert(self.at);
                self.at = (length & 0x3f) << 8 | low;
            } else if length == 0 {
                self.at = after.unwrap_or(self.at);
                return Ok(name);
            } else {
                name.push_str(&String::from_utf8_lossy(self.take(length)?));
                name.push('.');
            }
        }
        bail!("a name without an end")
    }
}

fn parse(query: &[u8], answer: &[u8], took: Duration) -> Result<Reply> {
    ensure!(answer.len() >= 12 && answer[..2] == query[..2], "no answer to the question: {answer:?}");
    ensure!(answer[2] & 0x80 != 0, "no answer but a question: {answer:?}");
    let (code, truncated) = (answer[3] & 0xf, answer[2] & 2 != 0);
    let mut reader = Reader { bytes: answer, at: 4 };
    let (questions, records) = (reader.short()?, reader.short()?);
    reader.take(4)?;
    for _question in 0..questions {
        reader.name()?;
        reader.take(4)?;
    }
    let mut answers = Vec::new();
    for _record in 0..records {
        reader.name()?;
        let kind = reader.short()?;
        reader.take(2)?;
        let ttl = u32::from_be_bytes(reader.take(4)?.try_into().context("four bytes")?);
        let length = usize::from(reader.short()?);
        let end = reader.at + length;
        if let Some(kind) = Kind::ALL.into_iter().find(|known| *known as u16 == kind) {
            answers.push((data(&mut reader, kind, length)?, ttl));
        }
        reader.at = end;
    }
    Ok(Reply { code, truncated, answers, took })
}

fn data(reader: &mut Reader<'_>, kind: Kind, length: usize) -> Result<String> {
    Ok(match kind {
        Kind::A => Ipv4Addr::from(<[u8; 4]>::try_from(reader.take(4)?).context("an address")?).to_string(),
        Kind::Aaaa => {
            Ipv6Addr::from(<[u8; 16]>::try_from(reader.take(16)?).context("an address")?).to_string()
        }
        Kind::Ptr => reader.name()?,
        Kind::Txt => String::from_utf8_lossy(reader.take(length)?).into_owned(),
        Kind::Srv => {
            let (priority, weight, port) = (reader.short()?, reader.short()?, reader.short()?);
            format!("{priority} {weight} {port} {}", reader.name()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        let query = query(("web.net", Kind::A)).unwrap();
        let mut answer = query.clone();
        answer[2] |= 0x80;
        answer[7] = 1;
        // The name of the record points to the question's.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 2]);
        let reply = parse(&query, &answer, Duration::ZERO).unwrap();
        assert_eq!((reply.code, reply.answers), (NOERROR, vec![("10.0.0.2".to_string(), 60)]));
        assert!(parse(&query, &query, Duration::ZERO).is_err());
        assert!(parse(&query, &answer[..30], Duration::ZERO).is_err());
    }

    #[test]
    fn addresses_are_reversed() {
        assert_eq!(reverse("10.0.2.1").unwrap(), "1.2.0.10.in-addr.arpa");
        assert!(
            reverse("fd00::1").unwrap().starts_with("1.0.0.0.")
                && reverse("fd00::1").unwrap().ends_with(".0.0.d.f.ip6.arpa")
        );
    }
}
