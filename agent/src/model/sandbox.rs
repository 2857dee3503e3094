//! Sandboxes: network namespaces that have endpoints.

use std::{net::IpAddr, path::PathBuf};

use super::{Name, SandboxId, Timestamp};

/// A sandbox of this node, as the local store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Its identifier.
    pub id: SandboxId,
    /// Its name, unique on this node; if we made the sandbox, also the name of its namespace.
    pub name: Name,
    /// The path of its network namespace.
    pub netns: PathBuf,
    /// The namespace was adopted by pid or path: we never remove it.
    pub adopted: bool,
    /// The process it was adopted from, with that process's start time in clock ticks since boot, which shows
    /// when the pid was reused (proc(5), field 22 of /proc/PID/stat).
    pub process: Option<(u32, u64)>,
    /// Inode of the namespace when it was adopted, which shows when the namespace was replaced.
    pub netns_inode: u64,
    /// The hostname of processes in it.
    pub hostname: String,
    /// It is being made, with its attachments: all or none. If a crash leaves it unfinished, it is rolled
    /// back.
    pub unfinished: bool,
    /// Creation time.
    pub created: Timestamp,
    /// The domain of its hostname; may be empty.
    pub domain: String,
    /// The settings of its resolver.
    pub dns: DnsChoice,
    /// Further lines of its /etc/hosts.
    pub hosts: Vec<ExtraHost>,
    /// The sandbox whose namespace it shares; it then has no endpoints of its own.
    pub shares: Option<Name>,
    /// It was removed, but stays with its endpoints until the sandboxes that share its namespace are gone
    /// too.
    pub left: bool,
}

/// The settings of a sandbox's resolver; an empty one is taken from the host (resolv.conf(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsChoice {
    /// Name servers.
    pub servers: Vec<IpAddr>,
    /// Domains to search; "." alone: none.
    pub search: Vec<String>,
    /// Options, such as "ndots:2".
    pub options: Vec<String>,
}

impl DnsChoice {
    /// Most of each.
    pub const MAX: usize = 16;
}

/// A line of a sandbox's /etc/hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraHost {
    /// The name.
    pub name: String,
    /// Its address.
    pub address: HostAddress,
}

impl ExtraHost {
    /// Most lines in a sandbox.
    pub const MAX: usize = 256;
}

/// The address of a line of /etc/hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostAddress {
    /// This address.
    Ip(IpAddr),
    /// The address at which the sandbox reaches its host ("host-gateway").
    Gateway,
}
