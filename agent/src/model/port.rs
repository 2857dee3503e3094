//! Published ports.

use std::{fmt, net::IpAddr, str::FromStr};

use super::Invalid;

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Stream.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
    /// Messages (RFC 9260).
    Sctp,
}

impl Protocol {
    /// Its name, as in /etc/protocols.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(Invalid::new("protocol", text, "expected tcp, udp or sctp")),
        }
    }
}

/// A port of an endpoint that is published at addresses of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishedPort {
    /// The protocol of both ports.
    pub protocol: Protocol,
    /// The host's address; `None` is every address of the host, in each family that the endpoint has.
    pub host: Option<IpAddr>,
    /// The host's port, 1 to 65535.
    pub host_port: u16,
    /// The endpoint's port, 1 to 65535.
    pub port: u16,
}

impl PublishedPort {
    /// Most published ports of an endpoint.
    pub const MAX: usize = 4096;

    /// Whether the two conflict on one host: the same port on a common address.
    pub fn collides(&self, other: &Self) -> bool {
        self.protocol == other.protocol
            && self.host_port == other.host_port
            && (self.host.is_none() || other.host.is_none() || self.host == other.host)
    }
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            Some(IpAddr::V6(v6)) => write!(f, "[{v6}]:")?,
            Some(IpAddr::V4(v4)) => write!(f, "{v4}:")?,
            None => {}
        }
        write!(f, "{}->{}/{}", self.host_port, self.port, self.protocol)
    }
}
