//! A look at one unit: its desired and observed state, the steps, and applying them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{Failures, Peers, ReconcileError, Reconciler, connections::gone_addresses, dirty::Row};
use crate::{
    drivers::{Element, Shared},
    host::HostInput,
    kernel::{ApplyError, Kernel},
    model::NetworkId,
    plan::{
        op::{Op, SettingOp},
        ownership::Unit,
        state::{Look, State},
    },
};

/// The steps for a unit, and its programmed state when they are done.
pub(super) struct Plan {
    pub(super) ops: Vec<Op>,
    /// The host's own settings as they were.
    pub(super) originals: BTreeMap<String, String>,
    pub(super) done: Done,
}

/// The programmed state of a unit when its steps are done.
pub(super) enum Done {
    /// The host.
    Host(HostInput),
    /// A network; `None` if it has nothing here.
    Network(Option<(Shared, BTreeMap<Row, Element>)>),
    /// A sandbox.
    Sandbox(SandboxDone),
    /// Unknown, because its records cannot be read.
    Held,
}

/// The programmed state of a sandbox.
pub(super) struct SandboxDone {
    /// It was still said to be here when it was looked at: it may have gone since.
    pub(super) was_here: bool,
    /// The port that the rules for its resolver redirect to, if there are rules.
    pub(super) port: Option<u16>,
}

impl Plan {
    /// A unit stays as it is.
    pub(super) const fn held() -> Self {
        Self { ops: Vec::new(), originals: BTreeMap::new(), done: Done::Held }
    }
}

impl<K: Kernel, P: Peers> Reconciler<K, P> {
    /// Plan a unit against the kernel.
    pub(super) async fn look(&mut self, unit: Unit) -> Result<Plan, ReconcileError> {
        match unit {
            Unit::Host => self.look_at_host().await,
            Unit::Sandbox(id) => self.look_at_sandbox(id).await,
            Unit::Network(id) => self.look_at_network(id).await,
        }
    }

    /// Apply a unit's steps and remember its programmed state.
    pub(super) async fn apply_plan(&mut self, unit: Unit, plan: Plan) -> Failures {
        if let Err(error) = self.keep_originals(&plan).await {
            return vec![(None, error)];
        }
        let gone = self.leaving(unit, &plan.done);
        let failures = self.apply(unit, plan.ops).await;
        if let Some((id, addresses)) = gone {
            self.addresses_went(id, &addresses);
        }
        let done = failures.is_empty();
        match (unit, plan.done) {
            (_, Done::Host(input)) => {
                self.host_leads(&input);
                self.host = done.then(|| Arc::new(input));
            }
            (Unit::Network(id), Done::Network(to)) => {
                self.world.set_mtu(id, to.as_ref().map(|(shared, _)| shared.mtu()));
                if done {
                    self.network_is_done(id, to).await;
                } else {
                    // What is in the kernel is not known: the next look is a full one.
                    self.programmed.remove(&id);
                }
            }
            (Unit::Sandbox(id), Done::Sandbox(to)) => {
                if done {
                    self.sandbox_is_done(id, to);
                }
            }
            // What is there stays what it was taken for; or it is not what a look at such a unit says.
            (
                Unit::Host | Unit::Network(_) | Unit::Sandbox(_),
                Done::Network(_) | Done::Sandbox(_) | Done::Held,
            ) => {}
        }
        failures
    }

    /// The addresses of endpoints here that this plan for a network removes.
    fn leaving(&self, unit: Unit, done: &Done) -> Option<(NetworkId, BTreeSet<IpAddr>)> {
        let (Unit::Network(id), Done::Network(to)) = (unit, done) else { return None };
        let programmed = self.programmed.get(&id)?;
        let now = to.iter().flat_map(|(_, pieces)| pieces.values());
        Some((id, gone_addresses(programmed.pieces.values(), now)))
    }

    pub(super) async fn apply(&mut self, unit: Unit, ops: Vec<Op>) -> Failures {
        if ops.is_empty() {
            return Vec::new();
        }
        tracing::debug!(%unit, steps = ops.len(), "apply");
        let mut leads = Vec::new();
        if let Unit::Network(id) = unit {
            self.make_way(id, &ops).await;
            let changes = ops.iter().filter(|op| {
                matches!(op, Op::Setting(_, SettingOp::SetTable(_) | SettingOp::ChangePorts(_)))
            });
            leads = changes.cloned().collect();
        }
        self.forget_marks(&ops);
        let outcome = self.kernel.apply(ops).await;
        self.network_leads(&leads);
        match outcome {
            Ok(()) => Vec::new(),
            Err(ApplyError { failures, .. }) => {
                failures.into_iter().map(|(op, error)| (Some(op), error.into())).collect()
            }
        }
    }

    pub(super) async fn observe(&self, look: Look) -> Result<State, ReconcileError> {
        Ok(self.kernel.observe(look).await?)
    }
}
