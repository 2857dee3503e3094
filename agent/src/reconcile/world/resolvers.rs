//! The ports of the sandboxes' resolvers: reported by the task that opens their sockets, programmed by the
//! reconcile loop.

use std::collections::{BTreeMap, btree_map::Entry};

use super::{World, lock};
use crate::{model::SandboxId, plan::ownership::Unit, reconcile::dirty::Depth};

/// Where a sandbox's resolver listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolver {
    /// The port that was said, on 127.0.0.11; None: it has none (any more).
    port: Option<u16>,
    /// The port that the sandbox's rules lead to, as last programmed.
    programmed: Option<u16>,
}

/// By sandbox; one that is not there is one of which nothing was said.
pub(super) type Resolvers = BTreeMap<SandboxId, Resolver>;

impl World {
    /// The port of 127.0.0.11 that a sandbox's resolver listens on, UDP and TCP, if it has one yet.
    pub fn resolver(&self, sandbox: SandboxId) -> Option<u16> {
        lock(&self.resolvers).get(&sandbox)?.port
    }

    /// Report where a sandbox's resolver listens, in its namespace; `None` if it is gone. The sandbox's rules
    /// follow; they stay as they are until the first report.
    pub fn set_resolver(&self, sandbox: SandboxId, port: Option<u16>) {
        let changed = match lock(&self.resolvers).entry(sandbox) {
            Entry::Vacant(vacant) => {
                vacant.insert(Resolver { port, programmed: None });
                true
            }
            Entry::Occupied(mut known) => std::mem::replace(&mut known.get_mut().port, port) != port,
        };
        if changed {
            self.look_again(Unit::Sandbox(sandbox), Depth::Full);
        }
    }

    /// Wait until port 53 of 127.0.0.11 in a sandbox is redirected to this port; `None` waits until it is not
    /// redirected. It waits for ever if the kernel refuses or a different port is reported, so put a limit on
    /// it.
    pub async fn resolver_programmed(&self, sandbox: SandboxId, port: Option<u16>) {
        let mut rounds = self.rounds.subscribe();
        let there = |_: &u64| {
            lock(&self.resolvers).get(&sandbox).map_or(port.is_none(), |resolver| resolver.programmed == port)
        };
        // The sender lives as long as self: this cannot fail.
        drop(rounds.wait_for(there).await);
    }

    /// Whether a sandbox's resolver was ever reported.
    pub(in crate::reconcile) fn said_of_resolver(&self, sandbox: SandboxId) -> bool {
        lock(&self.resolvers).contains_key(&sandbox)
    }

    /// The sandbox's rules lead to this port. Whoever waits hears of it with the outcome.
    pub(in crate::reconcile) fn resolver_leads_to(&self, sandbox: SandboxId, port: Option<u16>) {
        if let Some(resolver) = lock(&self.resolvers).get_mut(&sandbox) {
            resolver.programmed = port;
        }
    }
}
