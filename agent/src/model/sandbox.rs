//! Sandboxes: network namespaces that have endpoints.

use std::{net::IpAddr, path::PathBuf};

use super::{Name, SandboxId, Timestamp};

/// A sandbox of this node, as the local store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Its identifier.
    pub id: SandboxId,
    /// Its name, unique on this node; for one that we made also the name of its namespace.
    pub name: Name,
    /// The path of its network namespace.
    pub netns: PathBuf,
    /// Given to us by pid or path: we never remove it.
    pub adopted: bool,
    /// The process it was adopted from, with that process's start time in clock ticks since boot, which tells a reused
    /// pid (proc(5), field 22 of /proc/PID/stat).
    pub process: Option<(u32, u64)>,
    /// Inode of the namespace when it was adopted, which tells a replaced one.
    pub netns_inode: u64,
    /// The hostname of processes in it.
    pub hostname: String,
    /// It is being made, with its attachments: all or none. One that is left so by a crash is taken back.
    pub unfinished: bool,
    /// When it was made.
    pub created: Timestamp,
    /// The domain of its hostname; may be empty.
    pub domain: String,
    /// What was chosen of its resolver.
    pub dns: DnsChoice,
    /// Further lines of its /etc/hosts.
    pub hosts: Vec<ExtraHost>,
    /// The sandbox whose namespace it shares: it has no endpoints of its own then.
    pub shares: Option<Name>,
    /// It was removed, but stays, with its endpoints, until those that share its namespace are gone too.
    pub left: bool,
}

/// What was chosen of a sandbox's resolver; what is empty is as on the host (resolv.conf(5)).
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
    /// What it stands for.
    pub address: HostAddress,
}

impl ExtraHost {
    /// Most of them in a sandbox.
    pub const MAX: usize = 256;
}

/// What a line of /etc/hosts stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostAddress {
    /// This address.
    Ip(IpAddr),
    /// Where the sandbox reaches its host ("host-gateway").
    Gateway,
}
