//! The edge to the kernel: look at objects, apply steps, and the few facts of the host that plans depend on.
//!
//! The planner and the drivers know objects ([`crate::plan::state`]) and steps ([`crate::plan::op`]); netlink, nsfs,
//! procfs and nft stop here. [`LinuxKernel`] is the real one; [`MemoryKernel`] keeps the same [`contract`] in memory.

pub mod contract;
mod linux;
mod machine;
mod memory;
mod nft;
pub(crate) mod opening;
mod port;
mod processes;
mod sockets;
mod step;

pub use linux::LinuxKernel;
pub use machine::Machine;
pub use memory::MemoryKernel;
pub use port::{Holder, Listeners};
pub use sockets::Sockets;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    net::IpAddr,
    path::PathBuf,
};

use ipnet::IpNet;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    model::{IfName, Name, chain},
    plan::{
        Outdated,
        op::Op,
        ownership::Mark,
        state::{Look, Netns, State},
    },
};

/// A kernel: the real one, or an in-memory one on which the same contract checks run.
pub trait Kernel: Send + Sync + 'static {
    /// Everything that `look` names, complete, or an error. A namespace or link that does not exist is left out.
    ///
    /// # Errors
    /// A dump that was refused or interrupted (after retries); no privilege.
    fn observe(&self, look: Look) -> impl Future<Output = Result<State, KernelError>> + Send;

    /// Apply steps in order. All are tried, except those that depend on a namespace or link that could not be made; the
    /// error names every one that failed.
    ///
    /// # Errors
    /// At least one step failed.
    fn apply(&self, ops: Vec<Op>) -> impl Future<Output = Result<(), ApplyError>> + Send;

    /// Forget the connections tracked in a namespace that are outdated; how many there were. None in a namespace that is
    /// gone, or where connections are not tracked.
    ///
    /// # Errors
    /// They cannot be read or deleted.
    fn forget(
        &self,
        netns: Netns,
        outdated: Outdated,
    ) -> impl Future<Output = Result<usize, KernelError>> + Send;

    /// The addresses of the connections tracked in a namespace, as far as [`Outdated::addresses`] goes by them; none in a
    /// namespace that is gone, or where connections are not tracked.
    ///
    /// # Errors
    /// They cannot be read.
    fn connected(&self, netns: Netns) -> impl Future<Output = Result<BTreeSet<IpAddr>, KernelError>> + Send;

    /// What the host has: its links, addresses and routes, for the underlay and for overlap checks.
    ///
    /// # Errors
    /// As [`Kernel::observe`].
    fn facts(&self) -> impl Future<Output = Result<Facts, KernelError>> + Send;

    /// The MTU of the path from this host to `to`, in bytes: the route's own metric if it has one, else its link's MTU.
    ///
    /// # Errors
    /// No route.
    fn path_mtu(&self, to: IpAddr) -> impl Future<Output = Result<u32, KernelError>> + Send;

    /// The named namespaces in the netns directory with their marks (none: foreign). Each is entered: where the names are enough,
    /// or the mark of one that a look names, [`Kernel::netns_names`] and [`Kernel::observe`] cost far less.
    ///
    /// # Errors
    /// The directory cannot be read.
    fn named_netns(&self) -> impl Future<Output = Result<Vec<(Name, Option<Mark>)>, KernelError>> + Send;

    /// The named namespaces in the netns directory, each with its inode on nsfs. None is entered. The inode
    /// of a removed namespace may belong to a different one by now.
    ///
    /// # Errors
    /// The directory cannot be read.
    fn netns_names(&self) -> impl Future<Output = Result<BTreeMap<Name, u64>, KernelError>> + Send;

    /// The names of the host's links. Nothing else of them is looked at, which costs far less than [`Kernel::observe`] where there
    /// are many.
    ///
    /// # Errors
    /// They cannot be read.
    fn link_names(&self) -> impl Future<Output = Result<BTreeSet<IfName>, KernelError>> + Send;

    /// What overlay networks and firewalls are made of and this kernel has not, each as [`KernelError::Missing`].
    ///
    /// # Errors
    /// It cannot be tried.
    fn lacking(&self) -> impl Future<Output = Result<Vec<KernelError>, KernelError>> + Send;

    /// Send hints of what changed until `stop`. What a full queue has no place for is kept, each kind once.
    ///
    /// # Errors
    /// It cannot be watched (any more): the caller starts again and looks at everything.
    fn watch(
        &self,
        hints: mpsc::Sender<Hint>,
        stop: CancellationToken,
    ) -> impl Future<Output = Result<(), KernelError>> + Send;

    /// Identity of the namespace at `path`: its inode on nsfs. None: there is no namespace (any more).
    ///
    /// # Errors
    /// It cannot be told (no permission).
    fn netns_inode(&self, path: PathBuf) -> impl Future<Output = Result<Option<u64>, KernelError>> + Send;
}

/// Where something changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Links of the host.
    HostLinks,
    /// Named namespaces.
    NamedNetns,
    /// In the host, our nftables table or an iptables FORWARD chain.
    Ruleset,
    /// Notifications were lost: look at everything.
    Lost,
}

/// The host's own links and routes, those of ours included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Links.
    pub links: Vec<FactLink>,
    /// Unicast routes of the main table (destination, outgoing link), default routes left out.
    pub routes: Vec<(IpNet, IfName)>,
}

/// A link of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactLink {
    /// Its name.
    pub name: IfName,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Up and running.
    pub up: bool,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
}

/// The kernel refused, or could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A system call or netlink request.
    #[error("{operation} {target}")]
    Os {
        /// What was tried: "add vxlan", "dump neighbours".
        operation: &'static str,
        /// On what: a link, a namespace, a path.
        target: String,
        /// What the kernel said, its extended ack included.
        #[source]
        source: std::io::Error,
    },
    /// The kernel has no such driver or feature.
    #[error("the kernel has no {feature}: it needs {option}")]
    Missing {
        /// "vxlan devices".
        feature: &'static str,
        /// "CONFIG_VXLAN (modprobe vxlan)".
        option: &'static str,
    },
    /// We may not.
    #[error("no privilege to {operation}: {needs}")]
    Privilege {
        /// What was tried.
        operation: &'static str,
        /// "run as root or with CAP_NET_ADMIN and CAP_SYS_ADMIN".
        needs: &'static str,
    },
    /// A program that we call (nft).
    #[error("{program}: {message}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What it said, or why it did not start and which package has it.
        message: String,
    },
}

/// Steps that failed, each with its reason.
#[derive(Debug, thiserror::Error)]
#[error("{} of {total} steps failed, first: {}", failures.len(), first(failures))]
pub struct ApplyError {
    /// How many were to be applied.
    pub total: usize,
    /// Those that failed, in order; never empty.
    pub failures: Vec<(Op, KernelError)>,
}
fn first(failures: &[(Op, KernelError)]) -> String {
    failures.first().map_or_else(String::new, |(op, error)| format!("{op}: {}", chain(error)))
}
