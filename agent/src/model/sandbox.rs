//! Sandboxes: network namespaces that have endpoints.

use std::path::PathBuf;

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
}
