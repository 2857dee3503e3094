//! The real kernel: rtnetlink, named namespaces, /proc/sys and nft.
//!
//! rtnetlink builds the messages; they go through a blocking socket of ours (`rtnl::socket`), which sends thousands with one
//! ack, several times faster than a connection of its own does.
//!
//! Each call does its blocking work on one blocking thread, opens what it needs and closes it again: an open namespace
//! stays alive, and its VNI with it. There is no state here.

mod apply;
mod failure;
mod host;
mod link;
mod look;
mod machine;
mod netfilter;
mod netns;
mod refusal;
mod rtnl;
mod session;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    path::PathBuf,
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::{
    host::{facts, probe, watch},
    netfilter::{conntrack, listings::Listings},
    netns::{
        mounts::Mounts,
        named,
        namespace::{self, Namespace},
        procfs::Procfs,
    },
    refusal::Refusal,
};
use super::{ApplyError, Facts, Hint, Kernel, KernelError};
use crate::{
    model::{IfName, Name},
    plan::{
        Outdated,
        op::Op,
        ownership::Mark,
        state::{Look, Netns, State},
    },
};

/// The kernel that this process runs on; [`crate::plan::state::Netns::Host`] is the network namespace of the process.
#[derive(Clone, Debug)]
pub struct LinuxKernel {
    netns_dir: PathBuf,
    mounts: Mounts,
    listings: Listings,
    procfs: Procfs,
}

impl LinuxKernel {
    /// With named namespaces in this directory; it is made when the first one is.
    pub fn new(netns_dir: impl Into<PathBuf>) -> Self {
        Self {
            netns_dir: netns_dir.into(),
            mounts: Mounts::default(),
            listings: Listings::default(),
            procfs: Procfs::default(),
        }
    }

    /// Give names to network namespaces in the mount namespace of this file, which others see (`/proc/1/ns/mnt`), and not
    /// in the agent's own.
    #[must_use]
    pub fn naming_in(mut self, mount_namespace: Option<PathBuf>) -> Self {
        self.mounts = Mounts::of(mount_namespace);
        self
    }

    /// See whether names can be given at all, before there is one to give.
    ///
    /// # Errors
    /// The mount namespace for them is not there, or may not be entered.
    pub async fn check_naming(&self) -> Result<(), KernelError> {
        let Self { netns_dir, mounts, .. } = self.clone();
        let failed = move |refusal: Refusal| {
            refusal.into_error("give names to network namespaces in", netns_dir.display().to_string())
        };
        blocking("look at", move || mounts.run(|| Ok(())).map_err(failed)).await
    }

    /// How often nft has read a table of ours so far: what the kernel says of a table as it said it before is not read again.
    pub fn tables_read(&self) -> u64 {
        self.listings.reads()
    }

    /// Leave the netns directory as it was before the first namespace was made, if none is in it any more.
    ///
    /// # Errors
    /// It cannot be read, unmounted or removed.
    pub async fn tidy(&self) -> Result<(), KernelError> {
        let Self { netns_dir: dir, mounts, .. } = self.clone();
        let target = dir.display().to_string();
        let failed = |refusal: Refusal| refusal.into_error("tidy", target);
        blocking("tidy", move || mounts.run(|| named::tidy(&dir)).map_err(failed)).await
    }
}

/// Do blocking work; `operation` and `target` are for the error if its thread dies.
async fn blocking<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T, KernelError> + Send + 'static,
) -> Result<T, KernelError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(KernelError::Os { operation, target: "the kernel".into(), source: io::Error::other(error) })
    })
}

impl Kernel for LinuxKernel {
    async fn observe(&self, look: Look) -> Result<State, KernelError> {
        let Self { netns_dir: dir, listings, procfs, .. } = self.clone();
        blocking("look at", move || look::observe(&dir, &look, &listings, &procfs)).await
    }

    async fn apply(&self, ops: Vec<Op>) -> Result<(), ApplyError> {
        let Self { netns_dir: dir, mounts, listings, .. } = self.clone();
        let total = ops.len();
        let Some(first) = ops.first().cloned() else { return Ok(()) };
        let done = tokio::task::spawn_blocking(move || apply::apply(&dir, &mounts, &listings, ops)).await;
        done.unwrap_or_else(|error| {
            let source = io::Error::other(error);
            let error = KernelError::Os { operation: "apply steps to", target: "the kernel".into(), source };
            Err(ApplyError { total, failures: vec![(first, error)] })
        })
    }

    async fn forget(&self, netns: Netns, outdated: Outdated) -> Result<usize, KernelError> {
        let Self { netns_dir: dir, procfs, .. } = self.clone();
        blocking("forget connections in", move || {
            let failed = |refusal: Refusal| refusal.into_error("open network namespace", netns.to_string());
            match Namespace::open(&dir, &netns).map_err(failed)? {
                Some(namespace) => conntrack::forget(&namespace, &netns, &outdated, &procfs),
                None => Ok(0),
            }
        })
        .await
    }

    async fn connected(&self, netns: Netns) -> Result<BTreeSet<IpAddr>, KernelError> {
        let Self { netns_dir: dir, procfs, .. } = self.clone();
        blocking("look at connections in", move || {
            let failed = |refusal: Refusal| refusal.into_error("open network namespace", netns.to_string());
            match Namespace::open(&dir, &netns).map_err(failed)? {
                Some(namespace) => conntrack::addresses(&namespace, &netns, &procfs),
                None => Ok(BTreeSet::new()),
            }
        })
        .await
    }

    async fn facts(&self) -> Result<Facts, KernelError> {
        let failed = |refusal: Refusal| refusal.into_error("look at links and routes of", "the host");
        blocking("look at", move || facts::facts().map_err(failed)).await
    }

    async fn path_mtu(&self, to: IpAddr) -> Result<u32, KernelError> {
        let failed = move |refusal: Refusal| refusal.into_error("find the route to", to.to_string());
        blocking("look at", move || facts::path_mtu(to).map_err(failed)).await
    }

    async fn named_netns(&self) -> Result<Vec<(Name, Option<Mark>)>, KernelError> {
        let dir = self.netns_dir.clone();
        let target = dir.display().to_string();
        let failed = |refusal: Refusal| refusal.into_error("list network namespaces in", target);
        blocking("look at", move || named::list(&dir).map_err(failed)).await
    }

    async fn netns_names(&self) -> Result<BTreeMap<Name, u64>, KernelError> {
        let dir = self.netns_dir.clone();
        let target = dir.display().to_string();
        let failed = |refusal: Refusal| refusal.into_error("list network namespaces in", target);
        blocking("look at", move || named::names(&dir).map_err(failed)).await
    }

    async fn link_names(&self) -> Result<BTreeSet<IfName>, KernelError> {
        let failed = |refusal: Refusal| refusal.into_error("list links of", "the host");
        blocking("look at", move || facts::link_names().map_err(failed)).await
    }

    async fn lacking(&self) -> Result<Vec<KernelError>, KernelError> {
        let failed = |refusal: Refusal| refusal.into_error("look for the drivers of", "this kernel");
        blocking("look at", move || probe::lacking().map_err(failed)).await
    }

    async fn watch(&self, hints: mpsc::Sender<Hint>, stop: CancellationToken) -> Result<(), KernelError> {
        watch::watch(self.netns_dir.clone(), hints, stop).await
    }

    async fn netns_inode(&self, path: PathBuf) -> Result<Option<u64>, KernelError> {
        let target = path.display().to_string();
        let failed = |refusal: Refusal| refusal.into_error("look at network namespace", target);
        blocking("look at", move || namespace::inode(&path).map_err(failed)).await
    }
}
