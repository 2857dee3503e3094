//! The reconcile loop: takes what changed, compares desired and observed state, and applies the plan.
//!
//! Level-triggered: an event only says which unit to look at again. [`world`] is what the tasks share, `feed`
//! takes in what the stores say; `network`, `sandbox` and `host` look at one unit, `units` applies its plan,
//! `presence` follows the kernel's hints, `routine` and `check` do the looks of the timer.

mod check;
mod connections;
pub mod dirty;
mod doubt;
mod error;
mod evidence;
pub mod feed;
mod forwarding;
mod gate;
mod hints;
mod host;
mod host_facts;
mod inventory;
mod legs;
mod network;
mod presence;
mod resync;
mod retry;
mod routine;
mod sandbox;
mod sight;
#[cfg(test)]
mod tests;
mod units;
pub mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use self::{
    check::Checked,
    dirty::Depth,
    hints::{Due, Hints},
    network::{Leftovers, Programmed},
    retry::Retries,
    routine::Routine,
    sandbox::Tables,
    sight::Sight,
    world::{Outcome, Revisions, World},
};
use crate::{
    drivers::{HostLinks, USUAL_MTU},
    host::HostInput,
    kernel::{Hint, Kernel},
    model::{Leg, Name, NetworkId, NodeId, SandboxId, chain},
    plan::{
        Features,
        op::Op,
        ownership::{Mark, Unit},
    },
    store::Store,
};

pub(crate) use self::evidence::is_most;
pub use self::{
    connections::forget,
    error::ReconcileError,
    evidence::Evidence,
    inventory::{inventory, marked_units},
};

fn far_off() -> Instant {
    Instant::now() + Duration::from_secs(86_400)
}

/// The loop's interface to gossip: which nodes are down, and what was programmed here.
pub trait Peers: Send + Sync + 'static {
    /// Whether gossip has this node down, or never met it, after enough time to meet the others.
    fn is_down(&self, node: NodeId) -> bool;
    /// This host has programmed a network up to a revision of the store.
    fn applied(&self, network: NetworkId, revision: i64);
    /// This host has nothing of a network any more.
    fn left(&self, network: NetworkId);
}

/// The settings of the loop.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node's VTEP.
    pub vtep: IpAddr,
    /// UDP port of VXLAN.
    pub vxlan_port: u16,
    /// UDP port of gossip.
    pub gossip_port: u16,
    /// TCP ports of the cluster's store that sandboxes must not reach on nodes.
    pub store_ports: BTreeSet<u16>,
    /// Time between full looks at everything.
    pub full_look: Duration,
    /// Set the host's forwarding where a network needs it.
    pub ip_forward: bool,
}

/// A request to the loop.
#[derive(Debug)]
pub enum Request {
    /// The steps that are pending now, by unit; an error if the unit could not be looked at.
    Diff(oneshot::Sender<Differences>),
}

/// The steps that are left, by unit. Err: why it could not be looked at.
pub type Differences = Vec<(Unit, Result<Vec<Op>, ReconcileError>)>;

/// The loop's own state; one task owns it.
pub struct Reconciler<K, P> {
    kernel: Arc<K>,
    peers: P,
    world: Arc<World>,
    local: Store,
    settings: Settings,
    /// What the host has; None: never seen yet, and nothing can be planned without.
    features: Option<Features>,
    underlay_mtu: u32,
    /// MTU of the way to the outside, in bytes.
    outside_mtu: u32,
    /// The host's links, as last seen.
    links: Arc<HostLinks>,
    sight: Sight,
    paths: BTreeMap<IpAddr, u32>,
    legs: BTreeMap<NetworkId, Leg>,
    programmed: BTreeMap<NetworkId, Arc<Programmed>>,
    /// Networks for which a link of the host is missing, or is not what it should be.
    waiting: BTreeSet<NetworkId>,
    leftovers: Leftovers,
    /// Whether the sandboxes were searched for leftovers of a former agent.
    searched: bool,
    tables: Tables,
    /// The sandboxes whose namespaces we made.
    made: BTreeMap<SandboxId, Name>,
    /// Local networks with programmed objects: other nodes are not notified of them.
    own: BTreeSet<NetworkId>,
    /// The last programmed state of the host's own part; `None` if it is not known.
    host: Option<Arc<HostInput>>,
    forwarding: forwarding::Forwarding,
    /// Whether the log already said that forwarding is off.
    told_forwarding: bool,
    hints: Hints,
    retries: Retries,
    routine: Routine,
    /// The routine look that runs beside the loop.
    checks: JoinSet<Checked>,
    /// The marks of the named namespaces, by their names, with their inodes.
    marks: BTreeMap<Name, (u64, Option<Mark>)>,
    /// The revisions of the last round that applied everything.
    at: Revisions,
    /// What was known at the last look at everything.
    resynced: Revisions,
}

/// A step that failed, or a look that could not be taken, and why.
type Failures = Vec<(Option<Op>, ReconcileError)>;

impl<K: Kernel, P: Peers> Reconciler<K, P> {
    /// A loop that has not looked at anything yet.
    pub fn new(kernel: Arc<K>, peers: P, world: Arc<World>, local: Store, settings: Settings) -> Self {
        Self {
            kernel,
            peers,
            world,
            local,
            settings,
            features: None,
            underlay_mtu: USUAL_MTU,
            outside_mtu: USUAL_MTU,
            links: Arc::default(),
            sight: Sight::default(),
            paths: BTreeMap::new(),
            legs: BTreeMap::new(),
            programmed: BTreeMap::new(),
            waiting: BTreeSet::new(),
            leftovers: BTreeMap::new(),
            searched: false,
            tables: BTreeMap::new(),
            made: BTreeMap::new(),
            own: BTreeSet::new(),
            host: None,
            forwarding: forwarding::Forwarding::default(),
            told_forwarding: false,
            hints: Hints::default(),
            retries: Retries::default(),
            routine: Routine::default(),
            checks: JoinSet::new(),
            marks: BTreeMap::new(),
            at: Revisions::default(),
            resynced: Revisions::default(),
        }
    }

    /// Look and apply until stopped. Stopping touches nothing. A hint says that links or namespaces of the host changed.
    pub async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut hints: mpsc::Receiver<Hint>,
        stop: CancellationToken,
    ) {
        // Unknown is not empty: nothing is looked at before both stores have been read.
        tokio::select! {
            () = stop.cancelled() => return,
            () = self.world.reached(Revisions::default()) => {}
        }
        // From here on only this loop changes them, so what it hears of them is always older than what it knows.
        self.world.read(|intent| self.legs.clone_from(intent.legs()));
        // The past is looked at first: events that come before that only add to it.
        self.resync().await;
        self.round().await;
        self.world.looked_at_all();
        self.search_sandboxes().await;
        let period = self.settings.full_look;
        let mut full = tokio::time::interval_at(Instant::now() + period, period);
        full.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let hinted = self.hints.next();
            let routine = self.routine.next().filter(|_| self.checks.is_empty());
            tokio::select! {
                biased;
                // Nothing is in flight between rounds, so every arm can be dropped without loss: the token, the
                // channel, the notification and the timers all keep what they have to say.
                () = stop.cancelled() => return,
                Some(Request::Diff(reply)) = requests.recv() => {
                    let diff = self.diff().await;
                    // Whoever asked may have gone.
                    drop(reply.send(diff));
                }
                _ = full.tick() => {
                    self.plan_routine().await;
                    let now = self.world.known();
                    self.world.forget_outcomes(std::mem::replace(&mut self.resynced, now));
                    self.search_sandboxes().await;
                }
                // Before what may come all the time, and each but a moment's work: one unit, then the round.
                Some(Ok(checked)) = self.checks.join_next(), if !self.checks.is_empty() => {
                    self.checked(checked).await;
                }
                () = tokio::time::sleep_until(routine.unwrap_or_else(far_off)), if routine.is_some() => {
                    self.routine_look().await;
                }
                () = self.world.woken() => {}
                Some(hint) = hints.recv() => self.hints.note(hint, Instant::now()),
                () = tokio::time::sleep_until(hinted.unwrap_or_else(far_off)), if hinted.is_some() => {
                    self.follow_hints().await;
                }
                () = tokio::time::sleep_until(self.retries.next()) => {
                    for unit in self.retries.due(Instant::now()) {
                        self.world.look_again(unit, Depth::Full);
                    }
                }
            }
            self.round().await;
        }
    }

    async fn follow_hints(&mut self) {
        for due in self.hints.due(Instant::now()) {
            match due {
                Due::Patrol => self.presence().await,
                Due::Rules => self.world.look_again(Unit::Host, Depth::Full),
            }
        }
    }

    /// One pass over all dirty units.
    async fn round(&mut self) {
        let Some((dirty, at)) = self.world.take_dirty() else { return };
        self.at = at;
        if dirty.is_empty() {
            return;
        }
        let mut again = Vec::new();
        let mut units = dirty.into_units().into_iter().peekable();
        while let Some((unit, depth)) = units.next() {
            let failures = self.look_at(unit, depth).await;
            if failures.is_empty() || units.peek().is_none() {
                self.finish(unit, Outcome { at, failures });
            } else {
                again.push(unit);
            }
        }
        self.forget_sight();
        // What stood in their way, such as an interface that changes networks, may have gone with the others' steps.
        for unit in again {
            let failures = self.full(unit).await;
            self.finish(unit, Outcome { at, failures });
        }
    }

    /// Record the outcome of a look, and schedule a retry if it failed.
    fn finish(&mut self, unit: Unit, outcome: Outcome) {
        match outcome.failures.first() {
            None => {
                if self.retries.clear(unit) {
                    tracing::info!(%unit, "in sync again");
                }
                if let Unit::Network(id) = unit {
                    self.confirm(id, outcome.at);
                }
            }
            Some((op, error)) => {
                let error = chain(error);
                let (again, is_news) = self.retries.failed(unit, Instant::now(), &error);
                let step = op.as_ref().map(ToString::to_string).unwrap_or_default();
                let failed = outcome.failures.len();
                if is_news {
                    tracing::warn!(%unit, %step, %error, failed, retry_in = ?again, "cannot apply");
                } else {
                    tracing::debug!(%unit, %step, %error, failed, retry_in = ?again, "still cannot apply");
                }
            }
        }
        self.world.record(unit, outcome);
    }

    /// Tell the other nodes of a network which revision is programmed here. A local network has no other
    /// nodes.
    fn confirm(&mut self, id: NetworkId, at: Revisions) {
        let programmed = self.programmed.contains_key(&id);
        if self.own.contains(&id) {
            if !programmed {
                self.own.remove(&id);
            }
        } else if programmed {
            self.peers.applied(id, at.global);
        } else {
            self.peers.left(id);
        }
    }

    async fn look_at(&mut self, unit: Unit, depth: Depth) -> Failures {
        match (unit, depth) {
            (Unit::Network(id), Depth::Rows(rows)) => self.network_rows(id, rows).await,
            (Unit::Host, Depth::Rows(_)) => self.host_changed().await,
            (unit, _) => self.full(unit).await,
        }
    }

    async fn full(&mut self, unit: Unit) -> Failures {
        self.routine.looked_at(unit);
        match self.look(unit).await {
            Ok(plan) => {
                if unit == Unit::Host {
                    self.hints.host_looked_at(!plan.ops.is_empty(), Instant::now());
                }
                self.apply_plan(unit, plan).await
            }
            Err(error) => vec![(None, error)],
        }
    }
}
