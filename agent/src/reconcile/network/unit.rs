//! A look at one network, or at one changed piece of it: where its objects may be, their desired state, and
//! the steps.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::Programmed;
use crate::{
    drivers::{self, Element, Env, HostLinks, Shared},
    kernel::Kernel,
    model::{Driver, IfName, NetworkId, Scope},
    plan::{
        ownership::{Mark, Unit},
        plan,
        state::{Look, LookAt, Netns, NetnsState, State},
    },
    reconcile::{
        Failures, Peers, ReconcileError, Reconciler,
        connections::gone_addresses,
        dirty::Row,
        doubt::without_removals,
        units::{Done, Plan},
    },
};

/// Namespaces of sandboxes in which networks may have links without a second end: leftovers of those can be
/// found only there.
pub(in crate::reconcile) type Leftovers = BTreeMap<NetworkId, BTreeSet<Netns>>;

impl<K: Kernel, P: Peers> Reconciler<K, P> {
    pub(in crate::reconcile) async fn look_at_network(
        &mut self,
        id: NetworkId,
    ) -> Result<Plan, ReconcileError> {
        if self.is_strange(id) {
            return Ok(Plan { ops: Vec::new(), originals: BTreeMap::new(), done: Done::Network(None) });
        }
        self.ensure_leg(id).await?;
        self.take_sight().await?;
        // Where nothing is known of what there is, its links are found by their marks.
        if !self.is_sighted() && drivers::is_local(self.driver(id)) && !self.programmed.contains_key(&id) {
            self.refresh_links().await?;
        }
        match self.plan_network(id).await {
            Err(Stop::ByLinks(_)) => {
                self.forget_sight();
                self.refresh_links().await?;
                self.plan_network(id).await.map_err(|stop| match stop {
                    Stop::ByLinks(error) | Stop::Other(error) => error,
                })
            }
            Err(Stop::Other(error)) => Err(error),
            Ok(plan) => Ok(plan),
        }
    }

    /// Whether a network without records was never here, judging by marks and by what was programmed.
    fn is_strange(&self, id: NetworkId) -> bool {
        let unit = Unit::Network(id);
        let is_marked = |mark: &Option<Mark>| mark.as_ref().is_some_and(|mark| mark.unit == unit);
        let known =
            self.driver(id).is_some() || self.legs.contains_key(&id) || self.leftovers.contains_key(&id);
        let tried = self.waiting.contains(&id) || self.retries.waits(unit);
        let marked =
            || self.links.of_unit(unit).next().is_some() || self.marks.values().any(|(_, it)| is_marked(it));
        self.searched && !known && !tried && !marked()
    }

    /// Plan against the kernel, with the host's links as they are known: those that matter are looked at with the rest.
    async fn plan_network(&mut self, id: NetworkId) -> Result<Plan, Stop> {
        let driver = self.driver(id);
        let env = self.env(id, None).await?;
        let (shared, pieces) =
            self.world.read(|intent| (drivers::shared(intent, &env, id), super::pieces(intent, &env, id)));
        let shared = match shared {
            Ok(shared) => shared,
            Err(error) => {
                self.waiting.insert(id);
                self.programmed.remove(&id);
                return Err(Stop::ByLinks(error.into()));
            }
        };
        self.waiting.remove(&id);
        let in_doubt = self.world.in_doubt(id);
        if in_doubt && shared.is_none() {
            return Ok(Plan::held());
        }
        let desired = shared.as_ref().map(|shared| shared.desired(pieces.values())).unwrap_or_default();
        let mut look = drivers::look(id, driver, &desired);
        for netns in self.leftovers.get(&id).into_iter().flatten() {
            look.netns.entry(netns.clone()).or_default().links = None;
        }
        let built_upon = self.built_upon(id);
        if drivers::is_local(driver) {
            let host = look.netns.entry(Netns::Host).or_default().links.get_or_insert_default();
            host.extend(self.host_links_of(id, &desired));
            host.extend(&built_upon);
        }
        let observed = self.observe_from_here(look).await?;
        let links = observed.netns.get(&Netns::Host).map(HostLinks::of).unwrap_or_default();
        let unit = Unit::Network(id);
        if built_upon.iter().any(|name| links.foreign(*name, unit) != self.links.foreign(*name, unit)) {
            return Err(Stop::ByLinks(ReconcileError::LinksChange));
        }
        let mut ops = plan(unit, &desired, &observed);
        if in_doubt {
            ops = without_removals(ops, &observed);
        }
        if let Some(shared) = &shared {
            self.note_leftovers(id, shared, &desired);
        }
        Ok(Plan {
            ops,
            originals: BTreeMap::new(),
            done: Done::Network(shared.map(|shared| (shared, pieces))),
        })
    }

    /// The links of the host that are a network's, desired, programmed or marked so.
    fn host_links_of(&self, id: NetworkId, desired: &State) -> BTreeSet<IfName> {
        let before = self.programmed.get(&id).map(|programmed| programmed.desired()).unwrap_or_default();
        let of = |state: &State| -> Vec<IfName> {
            state.netns.get(&Netns::Host).into_iter().flat_map(|host| host.links.keys().copied()).collect()
        };
        self.links.of_unit(Unit::Network(id)).chain(of(desired)).chain(of(&before)).collect()
    }

    /// The links of the host that a network's shared part depends on, whoever made them.
    fn built_upon(&self, id: NetworkId) -> Vec<IfName> {
        self.world.read(|intent| {
            let network = intent.network(id).and_then(|view| view.network());
            network.map(drivers::built_upon).unwrap_or_default()
        })
    }

    /// A network's driver settings: from its record, or as it was programmed; `None` if neither is known any
    /// more.
    pub(in crate::reconcile) fn driver(&self, id: NetworkId) -> Option<Driver> {
        let known = self.world.read(|intent| Some(intent.network(id)?.network()?.driver()));
        known.or_else(|| Some(self.programmed.get(&id)?.shared.driver()))
    }

    /// Note the places of links without a second end before they are made.
    fn note_leftovers(&mut self, id: NetworkId, shared: &Shared, desired: &State) {
        if shared.driver().profile().lone_links {
            let sandboxes = desired.netns.keys().filter(|netns| **netns != Netns::Host);
            self.leftovers.entry(id).or_default().extend(sandboxes.cloned());
        }
    }

    /// Record the new programmed state of a network.
    pub(in crate::reconcile) async fn network_is_done(
        &mut self,
        id: NetworkId,
        done: Option<(Shared, BTreeMap<Row, Element>)>,
    ) {
        self.leftovers.remove(&id);
        let Some((shared, pieces)) = done else {
            self.programmed.remove(&id);
            self.release_leg(id).await;
            return;
        };
        if shared.driver().profile().lone_links {
            let desired = shared.desired(pieces.values());
            self.note_leftovers(id, &shared, &desired);
        }
        if shared.driver().scope() == Scope::Local {
            self.own.insert(id);
        }
        self.programmed.insert(id, Programmed { shared, pieces }.into());
    }

    /// Plan changed rows against their programmed state.
    pub(in crate::reconcile) async fn network_rows(
        &mut self,
        id: NetworkId,
        rows: BTreeSet<Row>,
    ) -> Failures {
        if !self.programmed.contains_key(&id) {
            let here = self
                .world
                .read(|intent| intent.network(id).is_some_and(|view| drivers::is_here(view, self.world.me)));
            // After a failure something may be in the kernel, although nothing counts as programmed.
            let unknown = self.retries.waits(Unit::Network(id));
            return if here || unknown { self.full(Unit::Network(id)).await } else { Vec::new() };
        }
        let rows = self.world.read(|intent| super::spell_out(intent, id, rows));
        let env = match self.env(id, Some(&rows)).await {
            Ok(env) => env,
            Err(error) => return vec![(None, error)],
        };
        let (shared, new) = self.world.read(|intent| {
            let new = rows.iter().map(|row| (*row, super::piece(intent, &env, id, *row)));
            (drivers::shared(intent, &env, id), new.collect::<Vec<_>>())
        });
        // The full look reports why a shared part cannot be made.
        let (Ok(Some(shared)), Some(programmed)) = (shared, self.programmed.get_mut(&id)) else {
            return self.full(Unit::Network(id)).await;
        };
        if !(shared.driver().profile().rows_alone && shared.follows_from(&programmed.shared)) {
            return self.full(Unit::Network(id)).await;
        }
        let before = programmed.shared.desired(rows.iter().filter_map(|row| programmed.pieces.get(row)));
        let after = shared.desired(new.iter().filter_map(|(_, piece)| piece.as_ref()));
        let ops = plan(Unit::Network(id), &after, &before);
        let gone = gone_addresses(
            new.iter().filter_map(|(row, _)| programmed.pieces.get(row)),
            new.iter().filter_map(|(_, piece)| piece.as_ref()),
        );
        // Somebody may be comparing it as it is.
        let programmed = Arc::make_mut(programmed);
        for (row, piece) in new {
            match piece {
                Some(piece) => programmed.pieces.insert(row, piece),
                None => programmed.pieces.remove(&row),
            };
        }
        if programmed.shared != shared {
            programmed.shared = shared.clone();
        }
        self.note_leftovers(id, &shared, &after);
        let failures = self.apply(Unit::Network(id), ops).await;
        self.addresses_went(id, &gone);
        if !failures.is_empty() {
            // What is in the kernel is no longer known: the next look is a full one.
            self.programmed.remove(&id);
        }
        failures
    }

    /// Learn all links of the host, without their addresses, routes and rows.
    pub(in crate::reconcile) async fn refresh_links(&mut self) -> Result<NetnsState, ReconcileError> {
        let at = LookAt { links: None, bare: true, ..LookAt::default() };
        let mut observed = self.observe(Look { netns: [(Netns::Host, at)].into() }).await?;
        let host = observed.netns.remove(&Netns::Host).unwrap_or_default();
        self.links = HostLinks::of(&host).into();
        Ok(host)
    }

    /// Refresh the links that local networks need.
    pub(in crate::reconcile) async fn refresh_foundations(&mut self) -> Result<(), ReconcileError> {
        let names: BTreeSet<IfName> = self.world.read(|intent| {
            let concerned = self.programmed.keys().chain(&self.waiting);
            let networks = concerned.filter_map(|id| intent.network(*id)?.network());
            networks.flat_map(drivers::built_upon).collect()
        });
        if names.is_empty() {
            return Ok(());
        }
        let at = LookAt { links: Some(names.clone()), bare: true, ..LookAt::default() };
        let observed = self.observe(Look { netns: [(Netns::Host, at)].into() }).await?;
        let links = observed.netns.get(&Netns::Host).map(HostLinks::of).unwrap_or_default();
        Arc::make_mut(&mut self.links).learn(&names, &links);
        Ok(())
    }

    /// The local networks whose shared part has changed or become available, because links of the host came,
    /// went or changed.
    pub(in crate::reconcile) fn overtaken(&self, env: &Env) -> BTreeSet<NetworkId> {
        self.world.read(|intent| {
            let local = |shared: &Shared| shared.driver().scope() == Scope::Local;
            let programmed = self.programmed.iter().filter(|(_, programmed)| local(&programmed.shared));
            let changed = programmed.filter(|(id, programmed)| match drivers::shared(intent, env, **id) {
                Ok(shared) => shared.as_ref() != Some(&programmed.shared),
                Err(_gone) => true,
            });
            let back = self.waiting.iter().filter(|id| drivers::shared(intent, env, **id).is_ok());
            changed.map(|(id, _)| *id).chain(back.copied()).collect()
        })
    }
}

/// Why nothing was planned.
enum Stop {
    /// Because of the known links of the host.
    ByLinks(ReconcileError),
    Other(ReconcileError),
}

impl From<ReconcileError> for Stop {
    fn from(error: ReconcileError) -> Self {
        Self::Other(error)
    }
}
