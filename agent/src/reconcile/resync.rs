//! A look at everything: at the start, on the timer, and for `diff`.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::{Differences, Peers, Reconciler, dirty::Depth, world::Outcome};
use crate::{drivers::is_here, kernel::Kernel, model::chain, plan::ownership::Unit};

impl<K: Kernel, P: Peers> Reconciler<K, P> {
    /// Mark every unit that the stores, the kernel or the past know of.
    pub(super) async fn resync(&mut self) {
        for unit in self.everything().await {
            self.world.look_again(unit, Depth::Full);
        }
        self.want_sight();
    }

    /// Schedule a look at every unit within the period.
    pub(super) async fn plan_routine(&mut self) {
        let units = self.everything().await;
        self.routine.add(units, Instant::now(), self.settings.full_look);
    }

    /// Refresh the facts of the host, and list every unit that the stores, the kernel or the past know of.
    async fn everything(&mut self) -> BTreeSet<Unit> {
        if let Err(error) = self.refresh_host().await {
            tracing::warn!(error = chain(&error), "cannot look at the host");
        }
        self.let_others_first().await;
        let mut units: BTreeSet<Unit> = [Unit::Host].into();
        units.extend(self.tables.keys().map(|id| Unit::Sandbox(*id)));
        units.extend(self.leftovers.keys().map(|id| Unit::Network(*id)));
        units.extend(self.programmed.keys().chain(self.legs.keys()).map(|id| Unit::Network(*id)));
        match self.marked_units().await {
            Ok(marked) => units.extend(marked),
            Err(error) => tracing::warn!(error = chain(&error), "cannot list our objects in the kernel"),
        }
        self.world.read(|intent| {
            let here = intent.networks().filter(|(_, view)| is_here(view, self.world.me));
            units.extend(here.map(|(id, _)| Unit::Network(*id)));
            units.extend(intent.sandboxes().values().map(|sandbox| Unit::Sandbox(sandbox.id)));
        });
        units
    }

    /// Do urgent work, which somebody may wait for, in the middle of routine work; not before everything has
    /// been looked at once.
    pub(super) async fn let_others_first(&mut self) {
        if self.searched {
            self.round().await;
        }
    }

    /// The pending steps of every unit, without applying them.
    pub(super) async fn diff(&mut self) -> Differences {
        self.resync().await;
        let Some((dirty, at)) = self.world.take_dirty() else {
            self.forget_sight();
            return Vec::new();
        };
        let mut found = Vec::new();
        for (unit, depth) in dirty.into_units() {
            let plan = self.look(unit).await;
            let steps = plan.as_ref().map(|plan| plan.ops.clone()).map_err(Clone::clone);
            match plan {
                // Nothing is to be done: that is all there is to it, and somebody may be waiting for this look.
                Ok(plan) if plan.ops.is_empty() => {
                    let failures = self.apply_plan(unit, plan).await;
                    self.finish(unit, Outcome { at, failures });
                }
                // What was taken off the list to be shown goes back on it to be done.
                Ok(_) | Err(_) => self.world.look_again(unit, depth),
            }
            found.push((unit, steps));
        }
        self.forget_sight();
        found
    }
}
