//! Sandboxes.

use std::path::PathBuf;

use ovnet_proto::v1;

use super::{
    each,
    limits::{self, MAX_PATH, MAX_TEXT},
    resolver,
};
use crate::model::{DnsChoice, ExtraHost, HostAddress, Invalid, Name, Sandbox, Timestamp};

/// The placeholder for the address at which a sandbox reaches its host.
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
            domain: resolver::domain(&wire.domain)?,
            dns: dns_choice(&wire.dns_servers, &wire.dns_search, &wire.dns_options)?,
            hosts: extra_hosts(&wire.hosts)?,
            shares: match wire.shares.as_str() {
                "" => None,
                text => Some(Name::parse("sandbox name", text)?),
            },
            left: wire.left,
        })
    }
}

/// What is chosen of a sandbox's resolver.
///
/// # Errors
/// Too many of one kind, or one that cannot be.
pub fn dns_choice(servers: &[String], search: &[String], options: &[String]) -> Result<DnsChoice, Invalid> {
    Ok(DnsChoice {
        servers: each("DNS server", servers, DnsChoice::MAX, |text| resolver::dns_server(text))?,
        search: each("search domain", search, DnsChoice::MAX, |text| resolver::search_domain(text))?,
        options: each("DNS option", options, DnsChoice::MAX, |text| resolver::dns_option(text))?,
    })
}

/// Further lines of a sandbox's /etc/hosts.
///
/// # Errors
/// Too many, or one that is no line of that file.
pub fn extra_hosts(hosts: &[v1::ExtraHost]) -> Result<Vec<ExtraHost>, Invalid> {
    each("host", hosts, ExtraHost::MAX, |host| host.try_into())
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
        if wire.name.is_empty() {
            return Err(Invalid::new(WHAT, quoted(), "the name is missing: expected NAME:ADDRESS"));
        }
        resolver::host_name(WHAT, &wire.name, &quoted())?;
        let address = match wire.address.as_str() {
            HOST_GATEWAY => HostAddress::Gateway,
            text => HostAddress::Ip(text.parse().map_err(|_parse| {
                let reason = format!("expected an address or {HOST_GATEWAY} after the name");
                Invalid::new(WHAT, quoted(), reason)
            })?),
        };
        Ok(Self { name: wire.name.clone(), address })
    }
}
