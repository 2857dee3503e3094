//! Checks that a unit in the kernel is as it was programmed, and that this is what the stores say. It runs
//! beside the loop, because a look at a network of many rows takes a while. The loop itself looks again at
//! what is not whole, and repairs it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Peers, ReconcileError, Reconciler,
    dirty::{Depth, Row},
    network::{self, Programmed},
    world::{Outcome, World},
};
use crate::{
    drivers::{self, Env},
    host::{HostInput, host},
    kernel::Kernel,
    model::{IfName, NetworkId, chain},
    plan::{
        ownership::Unit,
        plan,
        state::{Look, LookAt, Netns, State},
    },
};

/// Rows that are compared in one batch, while the intent is locked.
const ROWS: usize = 500;

/// The subject of a comparison with the kernel.
#[derive(Clone)]
pub(super) enum Subject {
    /// The host's own part.
    Host(Arc<HostInput>),
    /// A network.
    Network(NetworkId, Arc<Programmed>),
}

/// Comparisons that share one look.
pub(super) struct Check(Vec<Comparison>);

/// A comparison.
struct Comparison {
    subject: Subject,
    /// How often it was postponed.
    times: u8,
    network: Option<NetworkContext>,
}

/// Additional inputs of a network's comparison.
struct NetworkContext {
    world: Arc<World>,
    env: Env,
    /// The nodes that the MTU depends on.
    vteps: Vec<IpAddr>,
    /// Links of the host with the network's mark.
    marked: BTreeSet<IfName>,
    /// Namespaces in which it may have links without a second end.
    leftovers: BTreeSet<Netns>,
}

/// The result.
pub(super) struct Checked {
    /// Each subject, how often it was postponed, and whether it is whole; an error if it could not be looked
    /// at.
    compared: Vec<(Subject, u8, Result<bool, ReconcileError>)>,
    /// The new MTU of the paths.
    paths: BTreeMap<IpAddr, u32>,
    /// How long it took.
    took: Duration,
}

impl Subject {
    fn unit(&self) -> Unit {
        match self {
            Self::Host(_) => Unit::Host,
            Self::Network(id, _) => Unit::Network(*id),
        }
    }

    fn desired(&self) -> State {
        match self {
            Self::Host(input) => host(input),
            Self::Network(_, programmed) => programmed.desired(),
        }
    }

    /// Whether the kernel has exactly this for its unit.
    fn is(&self, desired: &State, observed: &State) -> bool {
        // Somebody else has come who forwards, and decides from now on.
        if let Self::Host(input) = self
            && let Some(host) = observed.netns.get(&Netns::Host)
            && !host.forwarders.is_disjoint(&input.closed)
        {
            return false;
        }
        plan(self.unit(), desired, observed).is_empty()
    }
}

impl Check {
    /// Make it.
    pub(super) async fn run<K: Kernel>(mut self, kernel: Arc<K>) -> Checked {
        let (start, mut paths) = (Instant::now(), BTreeMap::new());
        let vteps: BTreeSet<IpAddr> =
            self.0.iter().filter_map(|it| it.network.as_ref()).flat_map(|it| it.vteps.clone()).collect();
        for vtep in vteps {
            match kernel.path_mtu(vtep).await {
                Ok(mtu) => drop(paths.insert(vtep, mtu)),
                Err(error) => tracing::debug!(%vtep, error = chain(&error), "no path"),
            }
        }
        for around in self.0.iter_mut().filter_map(|it| it.network.as_mut()) {
            around.env.paths.extend(&paths);
        }
        let subjects: Vec<_> = self.0.iter().map(|it| (it.subject.clone(), it.times)).collect();
        let whole = self.whole(&*kernel).await;
        let compared =
            subjects.into_iter().zip(whole).map(|((subject, times), whole)| (subject, times, whole));
        Checked { compared: compared.collect(), paths, took: start.elapsed() }
    }

    /// Whether each of them is whole.
    async fn whole<K: Kernel>(self, kernel: &K) -> Vec<Result<bool, ReconcileError>> {
        let many = self.0.len();
        let said = move || {
            let desired = self.0.into_iter().map(|it| {
                let desired = it.is_as_said().then(|| it.subject.desired());
                let look = desired.as_ref().map(|desired| it.look(desired)).unwrap_or_default();
                (it.subject, desired, look)
            });
            desired.collect::<Vec<_>>()
        };
        let each = match beside(said).await {
            Ok(each) => each,
            Err(error) => return vec![Err(error); many],
        };
        let mut look = Look::default();
        for (_, _, one) in &each {
            look.add(one.clone());
        }
        if let Ok(observed) = kernel.observe(look).await {
            let is = move |(subject, desired, _): (Subject, Option<State>, Look)| {
                Ok(desired.is_some_and(|desired| subject.is(&desired, &observed)))
            };
            let compared = beside(move || each.into_iter().map(is).collect()).await;
            return compared.unwrap_or_else(|error| vec![Err(error); many]);
        }
        // What cannot be looked at may be one of many.
        let mut whole = Vec::with_capacity(many);
        for (subject, desired, look) in each {
            whole.push(match (kernel.observe(look).await, desired) {
                (Ok(observed), Some(desired)) => beside(move || subject.is(&desired, &observed)).await,
                (Ok(_), None) => Ok(false),
                (Err(error), _) => Err(error.into()),
            });
        }
        whole
    }
}

impl Comparison {
    /// Whether the programmed state is what the stores say.
    fn is_as_said(&self) -> bool {
        let (Subject::Network(id, programmed), Some(around)) = (&self.subject, &self.network) else {
            return true;
        };
        let NetworkContext { world, env, .. } = around;
        let shared = world.read(|intent| drivers::shared(intent, env, *id));
        if !shared.is_ok_and(|shared| shared.as_ref() == Some(&programmed.shared)) {
            return false;
        }
        let rows: Vec<Row> = world.read(|intent| network::rows(intent, *id).collect());
        let mut pieces = 0;
        for some in rows.chunks(ROWS) {
            let same = world.read(|intent| {
                some.iter().all(|row| {
                    let piece = network::piece(intent, env, *id, *row);
                    pieces += usize::from(piece.is_some());
                    programmed.pieces.get(row) == piece.as_ref()
                })
            });
            if !same {
                return false;
            }
        }
        pieces == programmed.pieces.len()
    }

    fn look(&self, desired: &State) -> Look {
        let (Subject::Network(id, programmed), Some(around)) = (&self.subject, &self.network) else {
            return host_look(desired);
        };
        let mut look = drivers::look(*id, Some(programmed.shared.driver()), desired);
        let links = desired.netns.get(&Netns::Host).map(|host| host.links.keys().copied());
        let host = look.netns.entry(Netns::Host).or_default().links.get_or_insert_default();
        host.extend(links.into_iter().flatten().chain(around.marked.iter().copied()));
        for netns in &around.leftovers {
            look.netns.entry(netns.clone()).or_default().links = None;
        }
        look
    }
}

/// Where the host's own part is.
pub(super) fn host_look(desired: &State) -> Look {
    let sysctls = desired.netns.values().flat_map(|state| state.sysctls.keys().cloned()).collect();
    let at = LookAt {
        links: Some(BTreeSet::new()),
        sysctls,
        table: true,
        forward_accepts: true,
        ..LookAt::default()
    };
    Look { netns: [(Netns::Host, at)].into() }
}

/// Do long work on a separate thread.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ReconcileError> {
    Ok(tokio::task::spawn_blocking(work).await?)
}

impl<K: Kernel, P: Peers> Reconciler<K, P> {
    /// A routine look at a unit, beside the loop if possible.
    pub(super) async fn routine_look(&mut self) {
        // What somebody waits for goes first.
        self.round().await;
        let mut comparisons = Vec::new();
        for (unit, times) in self.routine.take(Instant::now()) {
            match self.comparison(unit, times).await {
                Some(comparison) => comparisons.push(comparison),
                None => self.look_now(unit).await,
            }
        }
        if !comparisons.is_empty() {
            self.checks.spawn(Check(comparisons).run(Arc::clone(&self.kernel)));
        }
    }

    /// The comparison for a unit, or `None` if only the full look can tell what is desired.
    async fn comparison(&mut self, unit: Unit, times: u8) -> Option<Comparison> {
        match unit {
            Unit::Host => {
                let subject = self.host_subject().await?;
                Some(Comparison { subject, times, network: None })
            }
            Unit::Network(id) => {
                let subject = Subject::Network(id, Arc::clone(self.programmed.get(&id)?));
                let network = Some(self.context_of(id).await.ok()?);
                Some(Comparison { subject, times, network })
            }
            Unit::Sandbox(_) => None,
        }
    }

    async fn look_now(&mut self, unit: Unit) {
        let (at, start) = (self.world.known(), Instant::now());
        let failures = self.full(unit).await;
        self.finish(unit, Outcome { at, failures });
        self.routine.took(start.elapsed(), Instant::now());
    }

    /// The host's part, if the programmed state is what the stores say.
    async fn host_subject(&mut self) -> Option<Subject> {
        let input = self.host_input().await.ok()?;
        self.host.as_ref().filter(|host| ***host == input).map(|host| Subject::Host(Arc::clone(host)))
    }

    async fn context_of(&mut self, id: NetworkId) -> Result<NetworkContext, ReconcileError> {
        let env = self.env_as_known(id, None).await?;
        let vteps = self.world.read(|intent| drivers::peer_vteps(intent, &env, id));
        Ok(NetworkContext {
            world: Arc::clone(&self.world),
            vteps,
            marked: self.links.of_unit(Unit::Network(id)).collect(),
            leftovers: self.leftovers.get(&id).cloned().unwrap_or_default(),
            env,
        })
    }

    /// Comparisons are done.
    pub(super) async fn checked(&mut self, checked: Checked) {
        let Checked { compared, paths, took } = checked;
        self.routine.took(took, Instant::now());
        self.paths.extend(paths);
        for (subject, times, whole) in compared {
            let unit = subject.unit();
            let unchanged = match &subject {
                Subject::Host(input) => self.host.as_ref().is_some_and(|now| Arc::ptr_eq(now, input)),
                Subject::Network(id, known) => {
                    self.programmed.get(id).is_some_and(|now| Arc::ptr_eq(now, known))
                }
            };
            match whole {
                // As it was brought to by the last round, all of which is done.
                Ok(true) if unchanged => self.finish(unit, Outcome { at: self.at, failures: Vec::new() }),
                // Of what was compared, something was another by then: that says nothing.
                Ok(_) | Err(_) if !unchanged && self.routine.put_off(unit, times) => {}
                Ok(_) | Err(_) => self.world.look_again(unit, Depth::Full),
            }
        }
    }
}
