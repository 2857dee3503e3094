//! Our tables as the kernel itself tells them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
};

use ovagent::{
    kernel::{ApplyError, Facts, Hint, Kernel, KernelError, LinuxKernel},
    model::{IfName, Name},
    plan::{
        Outdated,
        op::{NetnsOp, Op, SettingOp},
        ownership::Mark,
        ruleset::{Action, Chain, Hook, LinkMatch, Match, Rule, Table},
        state::{Look, LookAt, Netns, State},
    },
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::objects::{NETNS_DIR, Outcome, apply, mark, named, sh, told};

/// The checks of the contract that are about tables.
pub(super) const CHECKS: [&str; 3] =
    ["what_was_applied_is_what_is_seen", "objects_change_as_told", "ports_change_alone_or_not_at_all"];

/// The real kernel, by a room that is new for each call.
pub(super) struct Forgetful;

impl Kernel for Forgetful {
    async fn observe(&self, look: Look) -> Result<State, KernelError> {
        LinuxKernel::new(NETNS_DIR).observe(look).await
    }
    async fn apply(&self, ops: Vec<Op>) -> Result<(), ApplyError> {
        LinuxKernel::new(NETNS_DIR).apply(ops).await
    }
    async fn connected(&self, netns: Netns) -> Result<BTreeSet<IpAddr>, KernelError> {
        LinuxKernel::new(NETNS_DIR).connected(netns).await
    }

    async fn facts(&self) -> Result<Facts, KernelError> {
        LinuxKernel::new(NETNS_DIR).facts().await
    }
    async fn path_mtu(&self, to: IpAddr) -> Result<u32, KernelError> {
        LinuxKernel::new(NETNS_DIR).path_mtu(to).await
    }
    async fn named_netns(&self) -> Result<Vec<(Name, Option<Mark>)>, KernelError> {
        LinuxKernel::new(NETNS_DIR).named_netns().await
    }
    async fn netns_names(&self) -> Result<BTreeMap<Name, u64>, KernelError> {
        LinuxKernel::new(NETNS_DIR).netns_names().await
    }
    async fn link_names(&self) -> Result<BTreeSet<IfName>, KernelError> {
        LinuxKernel::new(NETNS_DIR).link_names().await
    }
    async fn forget(&self, netns: Netns, outdated: Outdated) -> Result<usize, KernelError> {
        LinuxKernel::new(NETNS_DIR).forget(netns, outdated).await
    }
    async fn lacking(&self) -> Result<Vec<KernelError>, KernelError> {
        LinuxKernel::new(NETNS_DIR).lacking().await
    }
    async fn watch(&self, hints: mpsc::Sender<Hint>, stop: CancellationToken) -> Result<(), KernelError> {
        LinuxKernel::new(NETNS_DIR).watch(hints, stop).await
    }
    async fn netns_inode(&self, path: PathBuf) -> Result<Option<u64>, KernelError> {
        LinuxKernel::new(NETNS_DIR).netns_inode(path).await
    }
}

pub(super) async fn read() -> Outcome {
    let netns = named("ovk-read");
    let matches = vec![Match::In(LinkMatch::Is("a".parse().expect("a name"))), Match::Established];
    let rules = vec![Rule { matches, action: Action::Drop }];
    let table = Table { chains: vec![Chain { hook: Hook::Forward, rules }], ..Table::default() };
    let ours = LinuxKernel::new(NETNS_DIR);
    apply(
        &ours,
        vec![
            Op::Netns(netns.clone(), NetnsOp::Add(mark("netns"))),
            Op::Setting(netns.clone(), SettingOp::SetTable(table.clone())),
        ],
    )
    .await?;
    let look = || Look { netns: [(netns.clone(), LookAt { table: true, ..LookAt::default() })].into() };
    let seen = async |kernel: &LinuxKernel| {
        let mut seen = kernel.observe(look()).await.map_err(|error| error.to_string())?;
        let table = seen.netns.remove(&netns).and_then(|state| state.table);
        Ok::<_, String>((table, kernel.tables_read()))
    };
    // After a start nothing is known but what the kernel says.
    let fresh = LinuxKernel::new(NETNS_DIR);
    let first = [seen(&ours).await?, seen(&fresh).await?];
    sh("ip netns exec ovk-read nft add rule inet ovnet forward counter drop")?;
    let damaged = [seen(&ours).await?, seen(&ours).await?, seen(&fresh).await?];
    sh("ip netns exec ovk-read nft add table ip other")?;
    let later = seen(&ours).await?;
    apply(&ours, vec![Op::Netns(netns.clone(), NetnsOp::Remove)]).await?;
    told(first.iter().all(|seen| *seen == (Some(table.clone()), 0)), || format!("{first:?}"))?;
    told(
        damaged.iter().chain([&later]).all(|(seen, reads)| *seen != Some(table.clone()) && *reads == 1),
        || format!("{damaged:?} {later:?}"),
    )
}
