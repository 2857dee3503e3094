//! Looking at one unit: its wanted state, what is there, the steps, and applying them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Failures, Peers, Reconciler,
    dirty::Row,
    network::{self, Base, Piece, Programmed},
};
use crate::{
    kernel::{ApplyError, Kernel, KernelError},
    model::{NetworkId, Sandbox},
    plan::{
        HostInput, HostNetwork, HostSide, host,
        op::Op,
        outer_name,
        ownership::{Mark, Unit},
        plan,
        state::{Look, LookAt, Netns, NetnsState, State},
    },
};

/// The steps for a unit, and what it will have been brought to when they are done.
pub(super) struct Plan {
    pub(super) ops: Vec<Op>,
    programmed: Option<(Base, BTreeMap<Row, Piece>)>,
    /// The host's own settings as they were.
    pub(super) originals: BTreeMap<String, String>,
}

impl<K: Kernel, P: Peers> Reconciler<K, P> {
    /// Plan a unit against the kernel.
    pub(super) async fn look(&mut self, unit: Unit) -> Result<Plan, String> {
        match unit {
            Unit::Host => self.look_at_host().await,
            Unit::Sandbox(id) => {
                let sandbox =
                    self.world.read(|intent| intent.sandboxes().values().find(|it| it.id == id).cloned());
                self.look_at_sandbox(unit, sandbox).await
            }
            Unit::Network(id) => self.look_at_network(id).await,
        }
    }

    async fn look_at_host(&mut self) -> Result<Plan, String> {
        let features = self.known_features().await?;
        let here: Vec<NetworkId> = self.world.read(|intent| {
            let here = intent.networks().filter(|(_, view)| super::is_here(view, self.world.me));
            here.map(|(id, _)| *id).collect()
        });
        for id in here {
            self.ensure_leg(id).await?;
        }
        let input = self.world.read(|intent| {
            let here = intent.networks().filter(|(_, view)| super::is_here(view, self.world.me));
            let legged = here.filter_map(|(_, view)| view.network()).filter(|network| !network.internal);
            let networks = legged.filter_map(|network| {
                Some(HostNetwork {
                    id: network.id,
                    link: outer_name(network.id),
                    side: HostSide::Leg(*self.legs.get(&network.id)?),
                    subnets: network.subnets.iter().map(|subnet| subnet.prefix).collect(),
                    internal: false,
                    masquerade: true,
                    icc: true,
                    allowed: Vec::new(),
                })
            });
            HostInput {
                networks: networks.collect(),
                ports: Vec::new(),
                ip_forward: true,
                ipv6: features.ipv6,
            }
        });
        let wanted = host(&input);
        let sysctls = wanted.netns.values().flat_map(|state| state.sysctls.keys().cloned()).collect();
        let at = LookAt { links: Some(BTreeSet::new()), sysctls, table: true, openings: true };
        let seen = self.observe(Look { netns: [(Netns::Host, at)].into() }).await?;
        let originals = seen.netns.get(&Netns::Host).map(|state| state.sysctls.clone()).unwrap_or_default();
        Ok(Plan { ops: plan(Unit::Host, &wanted, &seen), programmed: None, originals })
    }

    async fn look_at_sandbox(&mut self, unit: Unit, sandbox: Option<Sandbox>) -> Result<Plan, String> {
        let features = self.known_features().await?;
        let mut wanted = State::default();
        let mut look = Look::default();
        let at = |sysctls| LookAt { links: Some(BTreeSet::new()), sysctls, ..LookAt::default() };
        if let Some(sandbox) = sandbox.filter(|sandbox| !sandbox.adopted) {
            let mut state = NetnsState { mark: Some(Mark::new(unit, "netns")), ..NetnsState::default() };
            if features.ipv6 {
                state.sysctls.insert("net/ipv6/conf/default/accept_dad".into(), "0".into());
            }
            let netns = Netns::Named(sandbox.name);
            look.netns.insert(netns.clone(), at(state.sysctls.keys().cloned().collect()));
            wanted.netns.insert(netns, state);
        }
        let named = self.kernel.named_netns().await.map_err(|error| chain(&error))?;
        let ours = named.into_iter().filter(|(_, mark)| mark.as_ref().is_some_and(|mark| mark.unit == unit));
        for (name, _) in ours {
            look.netns.entry(Netns::Named(name)).or_insert_with(|| at(BTreeSet::new()));
        }
        let seen = self.observe(look).await?;
        Ok(Plan { ops: plan(unit, &wanted, &seen), programmed: None, originals: BTreeMap::new() })
    }

    async fn look_at_network(&mut self, id: NetworkId) -> Result<Plan, String> {
        self.ensure_leg(id).await?;
        let env = self.env(id, None).await?;
        let (base, pieces) =
            self.world.read(|intent| (network::base(intent, &env, id), network::pieces(intent, &env, id)));
        let wanted = base.as_ref().map(|base| network::wanted(base, pieces.values())).unwrap_or_default();
        let seen = self.observe(network::look(id, &wanted)).await?;
        let ops = plan(Unit::Network(id), &wanted, &seen);
        Ok(Plan { ops, programmed: base.map(|base| (base, pieces)), originals: BTreeMap::new() })
    }

    /// Apply a unit's steps and remember what it was brought to.
    pub(super) async fn bring_about(&mut self, unit: Unit, plan: Plan) -> Failures {
        if let Err(error) = self.keep_originals(&plan).await {
            return vec![(None, error)];
        }
        let failures = self.apply(unit, plan.ops).await;
        if let Unit::Network(id) = unit {
            self.world.set_mtu(id, plan.programmed.as_ref().map(|(base, _)| base.mtu));
            match plan.programmed.filter(|_| failures.is_empty()) {
                Some((base, pieces)) => {
                    self.programmed.insert(id, Programmed { base, pieces });
                }
                None => {
                    self.programmed.remove(&id);
                    if failures.is_empty() {
                        self.release_leg(id).await;
                    }
                }
            }
        }
        failures
    }

    /// Plan changed rows against what was programmed for them.
    pub(super) async fn network_rows(&mut self, id: NetworkId, rows: BTreeSet<Row>) -> Failures {
        if !self.programmed.contains_key(&id) {
            let here = self
                .world
                .read(|intent| intent.network(id).is_some_and(|view| super::is_here(view, self.world.me)));
            return if here { self.full(Unit::Network(id)).await } else { Vec::new() };
        }
        let rows = self.world.read(|intent| network::spell_out(intent, id, rows));
        let env = match self.env(id, Some(&rows)).await {
            Ok(env) => env,
            Err(error) => return vec![(None, error)],
        };
        let (base, new) = self.world.read(|intent| {
            let new = rows.iter().map(|row| (*row, network::piece(intent, &env, id, *row)));
            (network::base(intent, &env, id), new.collect::<Vec<_>>())
        });
        let Some(programmed) =
            self.programmed.get_mut(&id).filter(|programmed| Some(&programmed.base) == base.as_ref())
        else {
            return self.full(Unit::Network(id)).await;
        };
        let before =
            network::wanted(&programmed.base, rows.iter().filter_map(|row| programmed.pieces.get(row)));
        let after = network::wanted(&programmed.base, new.iter().filter_map(|(_, piece)| piece.as_ref()));
        let ops = plan(Unit::Network(id), &after, &before);
        for (row, piece) in new {
            match piece {
                Some(piece) => programmed.pieces.insert(row, piece),
                None => programmed.pieces.remove(&row),
            };
        }
        let failures = self.apply(Unit::Network(id), ops).await;
        if !failures.is_empty() {
            // What is in the kernel is no longer known: the next look is a full one.
            self.programmed.remove(&id);
        }
        failures
    }

    async fn apply(&self, unit: Unit, ops: Vec<Op>) -> Failures {
        if ops.is_empty() {
            return Vec::new();
        }
        tracing::debug!(?unit, steps = ops.len(), "apply");
        match self.kernel.apply(ops).await {
            Ok(()) => Vec::new(),
            Err(ApplyError { failures, .. }) => {
                failures.into_iter().map(|(op, error)| (Some(op), chain(&error))).collect()
            }
        }
    }

    pub(super) async fn observe(&self, look: Look) -> Result<State, String> {
        self.kernel.observe(look).await.map_err(|error| chain(&error))
    }

    /// Every unit whose mark is on something in the kernel.
    pub(super) async fn marked_units(&self) -> Result<BTreeSet<Unit>, String> {
        marked_units(&*self.kernel).await.map_err(|error| chain(&error))
    }
}

/// Every unit whose mark is on a namespace, or on a link of the host.
///
/// # Errors
/// The kernel could not be looked at.
pub async fn marked_units<K: Kernel>(kernel: &K) -> Result<BTreeSet<Unit>, KernelError> {
    let mut units: BTreeSet<Unit> =
        kernel.named_netns().await?.into_iter().filter_map(|(_, mark)| Some(mark?.unit)).collect();
    let at = LookAt { links: None, ..LookAt::default() };
    let seen = kernel.observe(Look { netns: [(Netns::Host, at)].into() }).await?;
    let links = seen.netns.values().flat_map(|state| state.links.values());
    units.extend(links.filter_map(|link| Some(link.mark.as_ref()?.unit)));
    Ok(units)
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
