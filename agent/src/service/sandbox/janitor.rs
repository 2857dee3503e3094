//! Sandboxes that were adopted from a process go when the process has gone: nobody is left to remove them. So do
//! endpoints of this node without a sandbox, which a lost answer of the store, or a crash, can leave.
//!
//! A sandbox adopted by path stays and shows as gone: somebody may put a namespace there again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::{Service, ServiceError};
use crate::{
    convert::Record,
    intent::{Intent, Source},
    kernel::{Kernel, Machine},
    model::{Endpoint, EndpointId, NodeId, Sandbox, SandboxId},
    reconcile::{is_most, world::Revisions},
    store::Key,
};

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(3);
/// Longest pause before a removal that failed is tried again.
const LONGEST: Duration = Duration::from_secs(60);

/// Removals that failed: when to try again, and the pause after the next failure.
#[derive(Debug, Default)]
struct Failed(BTreeMap<SandboxId, (Instant, Duration)>);

impl<K: Kernel> Service<K> {
    /// Remove the sandboxes whose process has gone, with their endpoints, until stopped.
    pub async fn tidy_sandboxes(&self, stop: CancellationToken) {
        // Unknown is not empty: nothing is judged before both stores have been read.
        tokio::select! {
            () = stop.cancelled() => return,
            () = self.world.reached(Revisions::default()) => {}
        }
        let (mut failed, mut strays) = (Failed::default(), BTreeSet::new());
        loop {
            // While another host has this one's id, it may have what seems to be left over here; and what is held stays.
            if self.notices.conflict().is_none() && self.world.held().is_none() {
                // A removal that is cut short goes on after the next start: the sandbox's record is the last to go.
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.remove_orphans(&mut failed) => {}
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    seen = self.remove_strays(&strays) => strays = seen,
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    async fn remove_orphans(&self, failed: &mut Failed) {
        let orphans = self.orphans().await;
        failed.keep(&orphans.iter().map(|sandbox| sandbox.id).collect());
        for sandbox in orphans {
            if !failed.is_due(sandbox.id, Instant::now()) {
                continue;
            }
            let why = if sandbox.left {
                "nobody shares its network namespace any more"
            } else if sandbox.unfinished {
                "it was never finished"
            } else {
                "its process has ended"
            };
            match self.remove_orphan(&sandbox).await {
                Ok(()) => {
                    tracing::info!(sandbox = %sandbox.name, "sandbox removed: {why}");
                }
                Err(error) => failed.note(&sandbox, &error, Instant::now()),
            }
        }
    }

    /// The sandboxes that nobody is left to remove.
    async fn orphans(&self) -> Vec<Sandbox> {
        let suspects: Vec<Sandbox> = self.world.read(|intent| {
            let all = intent.sandboxes().values();
            all.filter(|it| it.process.is_some() || it.unfinished || it.left).cloned().collect()
        });
        let lost = self.without_process(suspects.clone()).await;
        let mut orphans = Vec::new();
        for sandbox in suspects {
            // One that was removed may have stayed for others that are gone by now without having said so. What cannot be
            // told is no reason to remove anything.
            if self.is_orphan(&sandbox, &lost)
                || sandbox.left && self.sharers(&sandbox).await.is_ok_and(|sharers| sharers.is_empty())
            {
                orphans.push(sandbox);
            }
        }
        orphans
    }

    /// Whether nobody is left to remove a sandbox: the process it was adopted from is no more, or nobody makes it any
    /// more.
    fn is_orphan(&self, sandbox: &Sandbox, lost: &BTreeSet<SandboxId>) -> bool {
        lost.contains(&sandbox.id) || sandbox.unfinished && !self.making.has(sandbox.id)
    }

    /// Those of these sandboxes that have lost their process; a file of /proc for each.
    async fn without_process(&self, sandboxes: Vec<Sandbox>) -> BTreeSet<SandboxId> {
        let machine = Arc::clone(&self.machine);
        let is_lost = move |sandbox: &&Sandbox| has_lost_its_process(&*machine, sandbox);
        let lost = move || sandboxes.iter().filter(is_lost).map(|it| it.id).collect();
        // It fails only when the runtime is going down.
        tokio::task::spawn_blocking(lost).await.unwrap_or_default()
    }

    async fn remove_orphan(&self, sandbox: &Sandbox) -> Result<(), ServiceError> {
        let _turn = self.turns.take(&sandbox.name).await?;
        let lost = self.without_process(vec![sandbox.clone()]).await;
        // Another one may have its name by now.
        let same = |known: &Sandbox| known.id == sandbox.id && (known.left || self.is_orphan(known, &lost));
        if !self.world.read(|intent| intent.sandboxes().get(&sandbox.name).is_some_and(same)) {
            return Ok(());
        }
        // It may have been finished a moment ago, which is not known here yet.
        let record = match sandbox.unfinished {
            true => self.local.get(&Key::Sandbox(sandbox.name.clone())).await?.1,
            false => None,
        };
        let finished =
            record.is_some_and(|record| Sandbox::from_bytes(&record.value).is_ok_and(|it| !it.unfinished));
        if !finished || lost.contains(&sandbox.id) {
            self.remove_or_defer(sandbox).await?;
        }
        Ok(())
    }

    /// Remove this node's endpoints that had no sandbox at the last look either. Those that are left come back.
    async fn remove_strays(&self, before: &BTreeSet<EndpointId>) -> BTreeSet<EndpointId> {
        let strays = self.believable_strays();
        let mut left = BTreeSet::new();
        for endpoint in strays {
            let (id, name) = (endpoint.id, &endpoint.name);
            if before.contains(&id) {
                match self.remove_stray(&endpoint).await {
                    Ok(true) => {
                        tracing::info!(endpoint = %id.short(), %name, "endpoint removed: it has no sandbox");
                        continue;
                    }
                    Ok(false) => {}
                    // The store is away, which is told elsewhere, or somebody else is at it.
                    Err(error) => {
                        tracing::debug!(endpoint = %id.short(), %error, "cannot remove a stray endpoint")
                    }
                }
            }
            left.insert(id);
        }
        left
    }

    /// This node's endpoints without a sandbox; none if most of them are: their sandboxes' records are lost then, and not
    /// their sandboxes, unless a person said that these are.
    pub(in crate::service) fn believable_strays(&self) -> Vec<Endpoint> {
        let me = self.world.me;
        let (strays, all) = self.world.read(|intent| {
            let all: usize = intent.networks().map(|(_, view)| view.endpoints_on(me).count()).sum();
            (strays(intent, me), all)
        });
        if is_most(strays.len(), all) && !self.world.is_loss_accepted(Source::Local) {
            tracing::debug!(
                strays = strays.len(),
                all,
                "most endpoints of this host have no sandbox: removing none of them"
            );
            return Vec::new();
        }
        strays
    }

    /// Remove an endpoint, unless its sandbox has a record after all: one that cannot be read is not one that is gone.
    pub(in crate::service) async fn remove_stray(&self, endpoint: &Endpoint) -> Result<bool, ServiceError> {
        let Some(sandbox) = &endpoint.sandbox else { return Ok(false) };
        let _turn = self.turns.take(sandbox).await?;
        if self.local.get(&Key::Sandbox(sandbox.clone())).await?.1.is_some() {
            return Ok(false);
        }
        self.remove_endpoint(endpoint).await?;
        Ok(true)
    }
}

/// The endpoints of a node whose sandbox it does not have. Those that were made ahead of theirs wait for it.
pub(in crate::service) fn strays(intent: &Intent, me: NodeId) -> Vec<Endpoint> {
    let mine = intent.networks().flat_map(|(_, view)| view.endpoints_on(me));
    let has_lost = |endpoint: &&Endpoint| {
        endpoint.sandbox.as_ref().is_some_and(|sandbox| !intent.sandboxes().contains_key(sandbox))
    };
    mine.filter(has_lost).cloned().collect()
}

/// Whether a sandbox was adopted from a process that is no more. What cannot be told is no reason to remove anything.
fn has_lost_its_process(machine: &dyn Machine, sandbox: &Sandbox) -> bool {
    sandbox.process.is_some_and(|(pid, start)| machine.is_gone(pid, start).unwrap_or(false))
}

impl Failed {
    /// Forget those that are no orphans any more.
    fn keep(&mut self, orphans: &BTreeSet<SandboxId>) {
        self.0.retain(|id, _| orphans.contains(id));
    }

    fn is_due(&self, id: SandboxId, now: Instant) -> bool {
        self.0.get(&id).is_none_or(|(at, _)| *at <= now)
    }

    /// The first failure goes to the log; the same again and again would only be noise.
    fn note(&mut self, sandbox: &Sandbox, error: &ServiceError, now: Instant) {
        let known = self.0.get(&sandbox.id).map(|(_, pause)| *pause);
        if known.is_none() {
            tracing::warn!(
                sandbox = %sandbox.name, %error,
                "cannot remove an unused sandbox: retrying"
            );
        }
        let pause = known.unwrap_or(EVERY);
        self.0.insert(sandbox.id, (now + pause, (pause * 2).min(LONGEST)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        intent::{Fact, Source},
        kernel::MemoryKernel,
        model::{Name, Timestamp, testing},
        plan::state::Netns,
    };

    fn adopted(process: Option<(u32, u64)>) -> Sandbox {
        Sandbox {
            id: SandboxId::from_bytes(rand::random()),
            name: Name::parse("sandbox name", "adopted").unwrap(),
            netns: "/proc/1/ns/net".into(),
            adopted: true,
            process,
            netns_inode: 0,
            unfinished: false,
            hostname: "adopted".into(),
            created: Timestamp(0),
            domain: String::new(),
            dns: crate::model::DnsChoice::default(),
            hosts: Vec::new(),
            shares: None,
            left: false,
        }
    }

    #[test]
    fn a_sandbox_is_an_orphan_once_its_process_has_gone() {
        let machine = MemoryKernel::default();
        let start = machine.start_process(77, Netns::Path("/proc/77/ns/net".into()));
        let sandbox = adopted(Some((77, start)));
        assert!(!has_lost_its_process(&machine, &sandbox), "it lives");
        assert!(
            has_lost_its_process(&machine, &adopted(Some((77, start + 1)))),
            "the pid belongs to another one by now"
        );
        machine.end_process(77);
        assert!(has_lost_its_process(&machine, &sandbox), "it has gone");
    }

    #[test]
    fn a_sandbox_adopted_by_path_is_never_an_orphan() {
        assert!(!has_lost_its_process(&MemoryKernel::default(), &adopted(None)));
    }

    #[test]
    fn a_stray_is_an_endpoint_of_this_node_without_a_sandbox() {
        let (network, stray) = testing::network_with_endpoint();
        let kept = testing::endpoint(3, testing::ME);
        let foreign = testing::endpoint(4, testing::OTHER);
        let fact = |endpoint: &Endpoint| Fact::Endpoint(network.id, endpoint.id, Some(endpoint.clone()));
        // One that was made ahead of its sandbox waits for it.
        let ahead = Endpoint { sandbox: None, ..testing::endpoint(5, testing::ME) };
        let facts = vec![fact(&stray), fact(&kept), fact(&foreign), fact(&ahead)];
        let name = kept.sandbox.clone().unwrap();
        let sandbox = Sandbox { name: name.clone(), ..adopted(None) };
        let mut intent = Intent::default();
        intent.apply(Source::Global, 1, facts);
        intent.apply(Source::Local, 1, vec![Fact::Sandbox(name, Some(sandbox))]);
        assert_eq!(super::strays(&intent, testing::ME), [stray]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_removal_that_fails_is_tried_again_with_growing_pauses() {
        let (mut failed, sandbox) = (Failed::default(), adopted(Some((1, 1))));
        let away = ServiceError::StoreAway("away".into());
        let mut now = Instant::now();
        assert!(failed.is_due(sandbox.id, now));
        for pause in [3, 6, 12, 24, 48, 60, 60] {
            failed.note(&sandbox, &away, now);
            assert!(!failed.is_due(sandbox.id, now + Duration::from_secs(pause - 1)), "{pause}");
            now += Duration::from_secs(pause);
            assert!(failed.is_due(sandbox.id, now), "{pause}");
        }
        failed.keep(&BTreeSet::new());
        assert!(failed.0.is_empty());
    }
}
