//! Outdated connections that must be forgotten, and the addresses that may have connections from before the
//! start.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, Semaphore};

use crate::plan::{Outdated, state::Netns};

/// The outdated connections, and the known addresses of connections.
#[derive(Debug)]
pub(in crate::reconcile) struct Connections {
    state: Mutex<State>,
    pub(in crate::reconcile) wake: Notify,
    /// One reading at a time: a plan that adds an address waits for a reading that may concern it.
    pub(in crate::reconcile) turn: Semaphore,
}

#[derive(Debug, Default)]
struct State {
    /// To be forgotten, by namespace.
    pending: BTreeMap<Netns, Outdated>,
    /// Being forgotten now.
    running: BTreeMap<Netns, Outdated>,
    /// The addresses that connections had when the agent started, by namespace: what a former agent did not get to. None: not
    /// known yet.
    former: Option<BTreeMap<Netns, BTreeSet<IpAddr>>>,
}

impl Default for Connections {
    fn default() -> Self {
        Self { state: Mutex::default(), wake: Notify::new(), turn: Semaphore::new(1) }
    }
}

impl Connections {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This is outdated in a namespace.
    pub(in crate::reconcile) fn note(&self, netns: Netns, outdated: Outdated) {
        if !outdated.is_empty() {
            self.state().pending.entry(netns).or_default().merge(outdated);
            self.wake.notify_one();
        }
    }

    /// These addresses had connections when the agent started.
    pub(in crate::reconcile) fn set_former(&self, former: BTreeMap<Netns, BTreeSet<IpAddr>>) {
        self.state().former = Some(former);
    }

    /// All that is outdated; [`Self::done`] says when it is forgotten.
    pub(in crate::reconcile) fn take(&self) -> BTreeMap<Netns, Outdated> {
        let mut state = self.state();
        state.running = std::mem::take(&mut state.pending);
        state.running.clone()
    }

    /// What was taken is forgotten but for this, which is the older where more was noted since.
    pub(in crate::reconcile) fn done(&self, left: BTreeMap<Netns, Outdated>) {
        let mut state = self.state();
        state.running.clear();
        for (netns, mut outdated) in left {
            outdated.merge(state.pending.remove(&netns).unwrap_or_default());
            state.pending.insert(netns, outdated);
        }
    }

    /// Those of these addresses that may have connections from before in a namespace.
    pub(in crate::reconcile) fn suspect(
        &self,
        netns: &Netns,
        addresses: &BTreeSet<IpAddr>,
    ) -> BTreeSet<IpAddr> {
        let state = self.state();
        let noted = |all: &BTreeMap<Netns, Outdated>, address: &IpAddr| {
            all.get(netns).is_some_and(|outdated| outdated.addresses.contains(address))
        };
        let former = |address: &IpAddr| match &state.former {
            Some(former) => former.get(netns).is_some_and(|former| former.contains(address)),
            None => true,
        };
        let may = |address: &&IpAddr| {
            noted(&state.pending, address) || noted(&state.running, address) || former(address)
        };
        addresses.iter().filter(may).copied().collect()
    }

    /// These addresses have no connections from before in a namespace.
    pub(in crate::reconcile) fn cleared(&self, netns: &Netns, addresses: &BTreeSet<IpAddr>) {
        let mut state = self.state();
        if let Some(pending) = state.pending.get_mut(netns) {
            pending.addresses.retain(|address| !addresses.contains(address));
        }
        if let Some(former) = state.former.as_mut().and_then(|former| former.get_mut(netns)) {
            former.retain(|address| !addresses.contains(address));
        }
    }
}
