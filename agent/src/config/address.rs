//! Where others are, and where we are for them.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use super::IfName;

/// Which of our addresses is advertised to the other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advertise {
    /// This one.
    Address(IpAddr),
    /// The first one of this interface.
    Interface(IfName),
    /// The one that the default route leaves from.
    Auto,
}

impl FromStr for Advertise {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            let usable = !address.is_unspecified() && !address.is_multicast();
            return if usable {
                Ok(Self::Address(address))
            } else {
                Err("expected an address of this host that others can reach".into())
            };
        }
        if text.contains('.') && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return Err("it is not an IPv4 address: expected four numbers from 0 to 255".into());
        }
        text.parse().map(Self::Interface).map_err(|invalid: crate::model::Invalid| {
            format!("it is neither an address without a port nor an interface name: {}", invalid.reason)
        })
    }
}

/// A host by address or name, with a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// An address, or a name that is to be resolved.
    pub host: String,
    /// The port, not 0.
    pub port: u16,
}

impl HostPort {
    /// Reads `HOST`, `HOST:PORT`, `[V6]:PORT` or a bare IPv6 address.
    pub(super) fn parse(text: &str, default_port: u16) -> Result<Self, String> {
        let wrong = || "expected ADDRESS, NAME, ADDRESS:PORT or [IPV6]:PORT".to_owned();
        if text.parse::<Ipv6Addr>().is_ok() {
            return Ok(Self { host: text.into(), port: default_port });
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(wrong)?;
                host.parse::<Ipv6Addr>().map_err(|_malformed| wrong())?;
                let port =
                    if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(wrong)?) };
                (host, port)
            }
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            None => default_port,
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| format!("expected a port from 1 to 65535 after ':', not {port:?}"))?,
        };
        if host.contains(':') || is_host(host) { Ok(Self { host: host.into(), port }) } else { Err(wrong()) }
    }
}

/// An IPv4 address or a host name (RFC 1123 section 2.1).
fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let looks_numeric = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if looks_numeric {
        return text.parse::<std::net::Ipv4Addr>().is_ok();
    }
    text.len() <= 253 && text.split('.').all(label)
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
