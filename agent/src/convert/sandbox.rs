//! Sandboxes.

use std::path::PathBuf;

use ovnet_proto::v1;

use super::{
    each,
    limits::{self, MAX_PATH, MAX_TEXT},
    subnet::address,
};
use crate::model::{DnsChoice, ExtraHost, HostAddress, Invalid, Name, Sandbox, Timestamp};

/// What stands for the address at which a sandbox reaches its host.
pub const HOST_GATEWAY: &str = "host-gateway";

impl From<&Sandbox> for v1::Sandbox {
    fn from(sandbox: &Sandbox) -> Self {
        let (pid, pid_start) = sandbox.process.unwrap_or_default();
        Self {
            id: sandbox.id.to_string(),
            name: sandbox.name.to_string(),
            // Paths reach us as text, over the API: a lossy one is not seen here.
            netns: sandbox.netns.to_string_lossy().into_owned(),
            adopted: sandbox.adopted,
            pid,
            pid_start,
            hostname: sandbox.hostname.clone(),
            created_ms: sandbox.created.0,
            netns_inode: sandbox.netns_inode,
            unfinished: sandbox.unfinished,
            domain: sandbox.domain.clone(),
            dns_servers: sandbox.dns.servers.iter().map(ToString::to_string).collect(),
            dns_search: sandbox.dns.search.clone(),
            dns_options: sandbox.dns.options.clone(),
            hosts: sandbox.hosts.iter().map(Into::into).collect(),
            shares: sandbox.shares.as_ref().map(ToString::to_string).unwrap_or_default(),
            left: sandbox.left,
        }
    }
}

impl TryFrom<v1::Sandbox> for Sandbox {
    type Error = Invalid;

    fn try_from(wire: v1::Sandbox) -> Result<Self, Invalid> {
        limits::text("hostname", &wire.hostname, MAX_TEXT)?;
        limits::text("path of a network namespace", &wire.netns, MAX_PATH)?;
        if wire.netns.is_empty() || wire.netns.contains('\0') {
            let reason = "expected the path of a file";
            return Err(Invalid::new("path of a network namespace", wire.netns, reason));
        }
        Ok(Self {
            id: wire.id.parse()?,
            name: Name::parse("sandbox name", &wire.name)?,
            netns: PathBuf::from(wire.netns),
            adopted: wire.adopted,
            process: (wire.pid != 0).then_some((wire.pid, wire.pid_start)),
            netns_inode: wire.netns_inode,
            unfinished: wire.unfinished,
            hostname: wire.hostname,
            created: Timestamp(wire.created_ms),
            domain: one_text("domain", &wire.domain)?,
            dns: DnsChoice {
                servers: each("DNS server", &wire.dns_servers, DnsChoice::MAX, |text| {
                    address("DNS server", text)
                })?,
                search: each("search domain", &wire.dns_search, DnsChoice::MAX, |text| {
                    one_text("search domain", text)
                })?,
                options: each("DNS option", &wire.dns_options, DnsChoice::MAX, |text| {
                    one_text("DNS option", text)
                })?,
            },
            hosts: each("host", &wire.hosts, ExtraHost::MAX, |host| host.try_into())?,
            shares: match wire.shares.as_str() {
                "" => None,
                text => Some(Name::parse("sandbox name", text)?),
            },
            left: wire.left,
        })
    }
}

/// A text that goes on one line of a file, without white space; it may be empty.
fn one_text(what: &'static str, text: &str) -> Result<String, Invalid> {
    limits::text(what, text, MAX_TEXT)?;
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Invalid::new(what, text, "white space is not allowed"));
    }
    Ok(text.to_owned())
}

impl From<&ExtraHost> for v1::ExtraHost {
    fn from(host: &ExtraHost) -> Self {
        let address = match host.address {
            HostAddress::Ip(address) => address.to_string(),
            HostAddress::Gateway => HOST_GATEWAY.to_owned(),
        };
        Self { name: host.name.clone(), address }
    }
}

impl TryFrom<&v1::ExtraHost> for ExtraHost {
    type Error = Invalid;

    fn try_from(wire: &v1::ExtraHost) -> Result<Self, Invalid> {
        const WHAT: &str = "host";
        let quoted = || format!("{}:{}", wire.name, wire.address);
        let name = one_text(WHAT, &wire.name)?;
        if name.is_empty() {
            return Err(Invalid::new(WHAT, quoted(), "the name is missing: expected NAME:ADDRESS"));
        }
        let address = match wire.address.as_str() {
            HOST_GATEWAY => HostAddress::Gateway,
            text => HostAddress::Ip(text.parse().map_err(|_parse| {
                let reason = format!("expected an address or {HOST_GATEWAY} after the name");
                Invalid::new(WHAT, quoted(), reason)
            })?),
        };
        Ok(Self { name, address })
    }
}
