//! What is asked of the machine that the agent runs on, and is no object of the network: its processes, who waits at its ports,
//! where namespaces are.

use std::{
    collections::BTreeSet,
    fmt, io,
    path::{Path, PathBuf},
};

use super::port::{self, Holder, Listeners};
use crate::model::Protocol;

/// A machine: the real one, or an in-memory one. Its functions may block.
pub trait Machine: fmt::Debug + Send + Sync + 'static {
    /// Start time of a process in clock ticks since boot (proc(5), field 22 of /proc/PID/stat); None: there is no such
    /// process, or it has ended and only its parent has not taken note of it yet.
    ///
    /// # Errors
    /// It cannot be told.
    fn start_time(&self, pid: u32) -> io::Result<Option<u64>>;

    /// Whether the process with this pid and start time is no more; another one with its pid does not count.
    ///
    /// # Errors
    /// It cannot be told.
    fn is_gone(&self, pid: u32, start: u64) -> io::Result<bool> {
        Ok(self.start_time(pid)? != Some(start))
    }

    /// Pids of the processes in the namespace at `path`, ours left out.
    fn in_netns(&self, path: &Path) -> Vec<u32>;

    /// Where the network namespace of a process is.
    fn netns_of(&self, pid: u32) -> PathBuf;

    /// Where the network namespace of this process is, which is the host's.
    fn own_netns(&self) -> PathBuf;

    /// The inode, on nsfs, of the namespace at this path. None: there is none, or it cannot be seen. [`super::Kernel::netns_inode`]
    /// tells the two apart.
    fn inode_at(&self, path: &Path) -> Option<u64>;

    /// All that waits for clients by these protocols in the host's network namespace. It takes the kernel milliseconds, and longer
    /// with very many connections.
    ///
    /// # Errors
    /// The kernel's tables cannot be read.
    fn listeners(&self, protocols: &BTreeSet<Protocol>) -> io::Result<Listeners>;

    /// "dnsmasq (pid 77)" for who has these sockets. It looks at the files of all processes.
    fn name(&self, holder: &Holder) -> String;

    /// "dnsmasq (pid 77)" for the process with a socket on this port in the host's network namespace, a
    /// listening one rather than another. `None` if no process can be seen.
    fn holder(&self, protocol: Protocol, port: u16) -> Option<String>;

    /// The sentence for a port that is in use, with its holder and the flag that chooses a different one.
    fn in_use(&self, protocol: Protocol, port: u16, flag: &str) -> String {
        port::held_by(self.holder(protocol, port).as_deref(), protocol, port, flag)
    }

    /// The index of the host's link with this name.
    fn link_index(&self, name: &str) -> Option<u32>;

    /// The identifier of this boot: each boot of each machine has its own.
    ///
    /// # Errors
    /// It cannot be read.
    fn boot_id(&self) -> io::Result<String>;

    /// The release of the kernel; empty if it cannot be read.
    fn release(&self) -> String;
}
