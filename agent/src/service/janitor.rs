//! Sandboxes that were adopted from a process go when the process has gone: nobody is left to remove them.
//!
//! One adopted by path stays and shows as gone: the path was given by somebody who may put a namespace there again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Service, ServiceError};
use crate::{
    kernel::{Kernel, processes},
    model::{Sandbox, SandboxId},
    reconcile::world::Revisions,
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
        let mut failed = Failed::default();
        loop {
            // A removal that is cut short goes on after the next start: the sandbox's record is the last to go.
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.remove_orphans(&mut failed) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    async fn remove_orphans(&self, failed: &mut Failed) {
        let orphans: Vec<Sandbox> = self
            .world
            .read(|intent| intent.sandboxes().values().filter(|it| is_orphan(it)).cloned().collect());
        failed.keep(&orphans.iter().map(|sandbox| sandbox.id).collect());
        for sandbox in orphans {
            if !failed.is_due(sandbox.id, Instant::now()) {
                continue;
            }
            let pid = sandbox.process.map(|(pid, _)| pid).unwrap_or_default();
            match self.dismantle(&sandbox).await {
                Ok(()) => {
                    tracing::info!(sandbox = %sandbox.name, pid, "sandbox removed: its process has gone")
                }
                Err(error) => failed.note(&sandbox, &error, Instant::now()),
            }
        }
    }
}

/// Whether a sandbox was adopted from a process that is no more. What cannot be told is no reason to remove anything.
fn is_orphan(sandbox: &Sandbox) -> bool {
    sandbox.process.is_some_and(|(pid, start)| processes::is_gone(pid, start).unwrap_or(false))
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
                "its process has gone, but the sandbox cannot be removed yet: it is tried again"
            );
        }
        let pause = known.unwrap_or(EVERY);
        self.0.insert(sandbox.id, (now + pause, (pause * 2).min(LONGEST)));
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::model::{Name, Timestamp};

    fn adopted(process: Option<(u32, u64)>) -> Sandbox {
        Sandbox {
            id: SandboxId::from_bytes(rand::random()),
            name: Name::parse("sandbox name", "adopted").unwrap(),
            netns: "/proc/1/ns/net".into(),
            adopted: true,
            process,
            netns_inode: 0,
            hostname: "adopted".into(),
            created: Timestamp(0),
        }
    }

    #[test]
    fn a_sandbox_is_an_orphan_once_its_process_has_gone() {
        // A process of our own that waits for its input to end.
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let start = processes::start_time(child.id()).unwrap().unwrap();
        let sandbox = adopted(Some((child.id(), start)));
        assert!(!is_orphan(&sandbox), "it lives");
        assert!(is_orphan(&adopted(Some((child.id(), start + 1)))), "the pid belongs to another one by now");
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(is_orphan(&sandbox), "it has gone");
    }

    #[test]
    fn a_sandbox_adopted_by_path_is_never_an_orphan() {
        assert!(!is_orphan(&adopted(None)));
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
