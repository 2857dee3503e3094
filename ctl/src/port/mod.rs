//! Ports to publish: `[IP:][HOST]:PORT[/PROTOCOL]` with ranges, as Docker's `-p` takes them. `show` prints published ones.

mod show;

use std::{fmt, net::IpAddr, str::FromStr};

use ovnet_proto::v1 as pb;

use crate::address::{parse_ip, parse_ip6};

pub(crate) use show::{Binding, bindings, listed};

/// Most ports that an endpoint publishes.
pub(crate) const MAX_PORTS: usize = 4096;

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Protocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl FromStr for Protocol {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(format!("{text:?} is not a protocol with ports: expected tcp, udp or sctp")),
        }
    }
}

/// `PORT` or `FIRST-LAST`, each from 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
}

impl Range {
    /// How many ports.
    fn len(self) -> usize {
        usize::from(self.last - self.first) + 1
    }

    fn ports(self) -> std::ops::RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return write!(f, "{}", self.first);
        }
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for Range {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("the range {text} ends before it begins: expected {last}-{first}"));
        }
        Ok(Self { first, last })
    }
}

fn number(text: &str) -> Result<u16, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{text:?} is not a port: expected a number from 1 to 65535"));
    }
    match text.parse() {
        Ok(0) => Err("port 0 does not exist: expected 1 to 65535, or no host port to get a free one".into()),
        Ok(port) => Ok(port),
        Err(_too_large) => Err(format!("the port {text} is out of range: expected 1 to 65535")),
    }
}

/// `TEXT[/PROTOCOL]`
fn protocol_of(text: &str) -> Result<(&str, Protocol), String> {
    match text.rsplit_once('/') {
        Some((ports, protocol)) => Ok((ports, protocol.parse()?)),
        None => Ok((text, Protocol::default())),
    }
}

/// `PORT[-PORT][/PROTOCOL]` of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exposed {
    ports: Range,
    protocol: Protocol,
}

impl FromStr for Exposed {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (ports, protocol) = protocol_of(text)?;
        Ok(Self { ports: ports.parse()?, protocol })
    }
}

impl Exposed {
    /// Each of its ports, to be published at a free port of the host.
    pub(crate) fn requests(self) -> impl Iterator<Item = pb::PortRequest> {
        self.ports.ports().map(move |port| pb::PortRequest {
            protocol: self.protocol.as_str().into(),
            port: port.into(),
            ..pb::PortRequest::default()
        })
    }
}

/// One `PORT[/PROTOCOL]` of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    port: u16,
    protocol: Protocol,
}

impl FromStr for Port {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (port, protocol) = protocol_of(text)?;
        Ok(Self { port: number(port)?, protocol })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol.as_str())
    }
}

/// What one `-p` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Publish {
    /// The host's address; None: the network's choice, which is every one.
    ip: Option<IpAddr>,
    /// The host's ports: as many as `ports`, or several to choose one from. None: free ones.
    host: Option<Range>,
    ports: Range,
    protocol: Protocol,
}

impl FromStr for Publish {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, protocol) = protocol_of(text)?;
        let (ip, host, ports) = parts(rest)?;
        if ports.is_empty() {
            return Err("the sandbox's port is missing: expected [IP:][HOST]:PORT[/PROTOCOL]".into());
        }
        let ports: Range = ports.parse()?;
        let host = Some(host).filter(|host| !host.is_empty()).map(str::parse::<Range>).transpose()?;
        if let Some(host) = host.filter(|host| ports.len() > 1 && host.len() != ports.len()) {
            return Err(format!(
                "{host} is {} of the host and {ports} is {} of the sandbox: expected as many, or one port of \
                 the sandbox",
                count(host.len()),
                count(ports.len())
            ));
        }
        Ok(Self { ip, host, ports, protocol })
    }
}

fn count(ports: usize) -> String {
    if ports == 1 { "1 port".into() } else { format!("{ports} ports") }
}

/// The host's address, and the texts of the host's and the sandbox's ports.
fn parts(text: &str) -> Result<(Option<IpAddr>, &str, &str), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (ip, ports) = rest.split_once(']').ok_or("the address has no closing ']'")?;
        let ip = parse_ip6(ip)?;
        let ports = ports.strip_prefix(':').and_then(|ports| ports.split_once(':'));
        let (host, port) =
            ports.ok_or_else(|| format!("expected [{ip}]:HOST:PORT, or [{ip}]::PORT for a free port"))?;
        return Ok((Some(IpAddr::V6(ip)), host, port));
    }
    match text.split(':').collect::<Vec<_>>()[..] {
        [port] => Ok((None, "", port)),
        [ip, _port] if parse_ip(ip).is_ok() => {
            Err(format!("expected {ip}:HOST:PORT, or {ip}::PORT for a free port"))
        }
        [host, port] => Ok((None, host, port)),
        [ip, host, port] => Ok((Some(parse_ip(ip)?.into()), host, port)),
        _ => Err("an IPv6 address must be in brackets: expected one such as [::1]:8080:80".into()),
    }
}

impl Publish {
    /// One request for each port of the sandbox.
    pub(crate) fn requests(&self) -> impl Iterator<Item = pb::PortRequest> {
        let choice = self.ports.len() == 1;
        self.ports.ports().enumerate().map(move |(at, port)| {
            let (first, last) = match self.host {
                None => (0, 0),
                Some(host) if choice && host.len() > 1 => (host.first.into(), host.last.into()),
                Some(host) => (u32::from(host.first) + u32::try_from(at).unwrap_or_default(), 0),
            };
            pb::PortRequest {
                protocol: self.protocol.as_str().into(),
                host_ip: self.ip.map(|ip| ip.to_string()).unwrap_or_default(),
                host_port: first,
                host_port_end: last,
                port: port.into(),
            }
        })
    }

    /// How many requests that is.
    pub(crate) fn len(&self) -> usize {
        self.ports.len()
    }
}

#[cfg(test)]
mod tests;
