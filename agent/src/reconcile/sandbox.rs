//! A sandbox's own part: its namespace, if we made it, and the rules that lead to its resolver.
//!
//! A sandbox that shares a namespace has no part of its own. An adopted namespace has no mark of ours, so we
//! remember which rules we made there, and look for them as long as the sandbox has, or had, a resolver.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Peers, ReconcileError, Reconciler,
    units::{Done, Plan, SandboxDone},
};
use crate::{
    kernel::Kernel,
    model::{Name, Sandbox, SandboxId},
    plan::{
        ownership::{Mark, Unit},
        plan,
        state::{Look, LookAt, Netns, NetnsState, State},
    },
};

/// Sandboxes with rules of ours in a foreign namespace: its path and inode.
pub(super) type Tables = BTreeMap<SandboxId, (Netns, u64)>;

impl<K: Kernel, P: Peers> Reconciler<K, P> {
    pub(super) async fn look_at_sandbox(&mut self, id: SandboxId) -> Result<Plan, ReconcileError> {
        let unit = Unit::Sandbox(id);
        let features = self.known_features().await?;
        let sandbox = self.world.read(|intent| intent.sandboxes().values().find(|it| it.id == id).cloned());
        if sandbox.is_none() && self.world.sandboxes_in_doubt() {
            return Ok(Plan::held());
        }
        let was_here = sandbox.is_some();
        let (mut port, said) = (None, self.world.resolver(id));
        let (mut desired, mut look) = (State::default(), Look::default());
        for name in self.made_for(id, sandbox.as_ref()).await? {
            look.netns.entry(Netns::Named(name)).or_insert_with(nothing);
        }
        let own = sandbox.filter(|sandbox| sandbox.shares.is_none());
        if let Some(netns) = self.left_table(id).await? {
            look.netns.insert(netns, LookAt { resolver: true, ..nothing() });
        }
        if let Some(sandbox) = &own
            && let Some(netns) = self.present(sandbox).await?
        {
            port = said;
            let mut state = NetnsState { resolver: port, ..NetnsState::default() };
            if !sandbox.adopted {
                state.mark = Some(Mark::new(unit, "netns"));
                // Where this is on, a link hears redirects whatever its own setting says.
                state.sysctls.insert("net/ipv4/conf/all/accept_redirects".into(), "0".into());
                if features.ipv6 {
                    state.sysctls.insert("net/ipv6/conf/default/accept_dad".into(), "0".into());
                }
            }
            let at = look.netns.entry(netns.clone()).or_insert_with(nothing);
            at.sysctls = state.sysctls.keys().cloned().collect();
            at.resolver |= self.world.said_of_resolver(id);
            desired.netns.insert(netns, state);
        }
        let observed = self.observe(look).await?;
        // Before anything is put there: a step that fails may have been done anyway.
        if let Some(at) = own.filter(|_| port.is_some()).and_then(|sandbox| adopted(&sandbox)) {
            self.tables.insert(id, at);
        }
        Ok(Plan {
            ops: plan(unit, &desired, &observed),
            originals: BTreeMap::new(),
            done: Done::Sandbox(SandboxDone { was_here, port }),
        })
    }

    /// The names of the namespaces that were made for a sandbox. Those that are not remembered are found by
    /// their marks.
    async fn made_for(
        &mut self,
        id: SandboxId,
        sandbox: Option<&Sandbox>,
    ) -> Result<Vec<Name>, ReconcileError> {
        if let Some(sandbox) = sandbox {
            if !sandbox.adopted {
                self.made.insert(id, sandbox.name.clone());
            }
            return Ok(Vec::new());
        }
        if let Some(name) = self.made.get(&id) {
            return Ok(vec![name.clone()]);
        }
        let new = self.new_names().await?;
        self.learn_marks(&new).await?;
        let ours = |mark: &Option<Mark>| mark.as_ref().is_some_and(|mark| mark.unit == Unit::Sandbox(id));
        Ok(self.marks.iter().filter(|(_, (_, mark))| ours(mark)).map(|(name, _)| name.clone()).collect())
    }

    /// A foreign namespace that may have rules of ours, if it still exists.
    async fn left_table(&mut self, id: SandboxId) -> Result<Option<Netns>, ReconcileError> {
        let Some((netns, inode)) = self.tables.get(&id).cloned() else { return Ok(None) };
        let Netns::Path(path) = &netns else { return Ok(None) };
        let there = self.kernel.netns_inode(path.clone()).await?;
        if there != Some(inode) {
            self.tables.remove(&id);
            return Ok(None);
        }
        Ok(Some(netns))
    }

    /// Record that a sandbox is as desired.
    pub(super) fn sandbox_is_done(&mut self, id: SandboxId, SandboxDone { was_here, port }: SandboxDone) {
        if port.is_none() {
            self.tables.remove(&id);
        }
        if !was_here {
            self.made.remove(&id);
        }
        self.world.resolver_leads_to(id, port);
    }
}

/// Nothing but the namespace's mark.
fn nothing() -> LookAt {
    LookAt { links: Some(BTreeSet::new()), ..LookAt::default() }
}

fn adopted(sandbox: &Sandbox) -> Option<(Netns, u64)> {
    sandbox.adopted.then(|| (Netns::Path(sandbox.netns.clone()), sandbox.netns_inode))
}
