//! Is a unit in the kernel as it was programmed, and is that what the stores say? Asked beside the loop, which goes on meanwhile: a
//! network of many rows takes a while to look at. What is not whole is looked at again, and mended, by the loop itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

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

/// Rows that are compared in one go: the intent is held as long.
const ROWS: usize = 500;

/// What is compared with the kernel.
#[derive(Clone)]
pub(super) enum Subject {
    /// The host's own part.
    Host(Arc<HostInput>),
    /// A network.
    Network(NetworkId, Arc<Programmed>),
}

/// A comparison to be made.
pub(super) struct Check {
    subject: Subject,
    /// How often it was put off.
    times: u8,
    network: Option<NetworkContext>,
}

/// What a network's comparison needs besides.
struct NetworkContext {
    world: Arc<World>,
    env: Env,
    /// The nodes that the MTU depends on.
    vteps: Vec<IpAddr>,
    /// Links of the host with the network's mark.
    marked: BTreeSet<IfName>,
    /// Namespaces in which it may have links without another end.
    leftovers: BTreeSet<Netns>,
}

/// What came of it.
pub(super) struct Checked {
    subject: Subject,
    times: u8,
    /// The MTU of the paths, anew.
    paths: BTreeMap<IpAddr, u32>,
    /// It is whole. Err: it could not be looked at.
    whole: Result<bool, ReconcileError>,
}

impl Subject {
    fn unit(&self) -> Unit {
        match self {
            Self::Host(_) => Unit::Host,
            Self::Network(id, _) => Unit::Network(*id),
        }
    }

    fn wanted(&self) -> State {
        match self {
            Self::Host(input) => host(input),
            Self::Network(_, programmed) => programmed.wanted(),
        }
    }
}

impl Check {
    /// Make it.
    pub(super) async fn run<K: Kernel>(mut self, kernel: Arc<K>) -> Checked {
        let mut paths = BTreeMap::new();
        if let Some(around) = &mut self.network {
            for vtep in &around.vteps {
                match kernel.path_mtu(*vtep).await {
                    Ok(mtu) => drop(paths.insert(*vtep, mtu)),
                    Err(error) => tracing::debug!(%vtep, error = chain(&error), "no path"),
                }
            }
            around.env.paths.extend(&paths);
        }
        let (subject, times) = (self.subject.clone(), self.times);
        Checked { whole: self.whole(&*kernel).await, subject, times, paths }
    }

    async fn whole<K: Kernel>(self, kernel: &K) -> Result<bool, ReconcileError> {
        let (unit, subject) = (self.subject.unit(), self.subject.clone());
        let said = move || {
            let same = self.is_as_said();
            let wanted = self.subject.wanted();
            let look = self.look(&wanted);
            same.then_some((wanted, look))
        };
        let Some((wanted, look)) = beside(said).await? else { return Ok(false) };
        let closed = match &subject {
            Subject::Host(input) => input.closed.clone(),
            Subject::Network(..) => BTreeSet::new(),
        };
        let seen = kernel.observe(look).await?;
        // Somebody else has come who forwards, and decides from now on.
        let theirs = seen.netns.get(&Netns::Host).map(|host| &host.forwarders);
        if theirs.is_some_and(|theirs| !theirs.is_disjoint(&closed)) {
            return Ok(false);
        }
        beside(move || plan(unit, &wanted, &seen).is_empty()).await
    }

    /// Whether what was programmed is what the stores say.
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

    fn look(&self, wanted: &State) -> Look {
        let (Subject::Network(id, programmed), Some(around)) = (&self.subject, &self.network) else {
            return host_look(wanted);
        };
        let mut look = drivers::look(*id, Some(programmed.shared.driver()), wanted);
        let links = wanted.netns.get(&Netns::Host).map(|host| host.links.keys().copied());
        let host = look.netns.entry(Netns::Host).or_default().links.get_or_insert_default();
        host.extend(links.into_iter().flatten().chain(around.marked.iter().copied()));
        for netns in &around.leftovers {
            look.netns.entry(netns.clone()).or_default().links = None;
        }
        look
    }
}

/// Where the host's own part is.
pub(super) fn host_look(wanted: &State) -> Look {
    let sysctls = wanted.netns.values().flat_map(|state| state.sysctls.keys().cloned()).collect();
    let at =
        LookAt { links: Some(BTreeSet::new()), sysctls, table: true, openings: true, ..LookAt::default() };
    Look { netns: [(Netns::Host, at)].into() }
}

/// Do work that takes a while on a thread of its own.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ReconcileError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string().into())
}

impl<K: Kernel, P: Peers> Reconciler<K, P> {
    /// The look at a unit that nothing but time asks for: beside the loop, where that is possible.
    pub(super) async fn routine_look(&mut self) {
        // What somebody waits for goes first.
        self.round().await;
        let Some((unit, times)) = self.routine.take(tokio::time::Instant::now()) else { return };
        let subject = match unit {
            Unit::Host => self.host_subject().await,
            Unit::Network(id) => {
                self.programmed.get(&id).map(|known| Subject::Network(id, Arc::clone(known)))
            }
            Unit::Sandbox(_) => None,
        };
        let network = match &subject {
            Some(Subject::Network(id, _)) => match self.surroundings_of(*id).await {
                Ok(around) => Some(around),
                // The full look says it.
                Err(_error) => return self.look_now(unit).await,
            },
            Some(Subject::Host(_)) | None => None,
        };
        match subject {
            Some(subject) => {
                let check = Check { subject, times, network };
                self.checks.spawn(check.run(Arc::clone(&self.kernel)));
            }
            None => self.look_now(unit).await,
        }
    }

    async fn look_now(&mut self, unit: Unit) {
        let at = self.world.known();
        let failures = self.full(unit).await;
        self.finish(unit, Outcome { at, failures });
    }

    /// The host's part, if it is what it should be as far as anybody knows.
    async fn host_subject(&mut self) -> Option<Subject> {
        let input = self.host_input().await.ok()?;
        self.host.as_ref().filter(|host| ***host == input).map(|host| Subject::Host(Arc::clone(host)))
    }

    async fn surroundings_of(&mut self, id: NetworkId) -> Result<NetworkContext, ReconcileError> {
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

    /// A comparison is done.
    pub(super) async fn checked(&mut self, checked: Checked) {
        let Checked { subject, times, paths, whole } = checked;
        self.paths.extend(paths);
        let unit = subject.unit();
        let unchanged = match &subject {
            Subject::Host(input) => self.host.as_ref().is_some_and(|now| Arc::ptr_eq(now, input)),
            Subject::Network(id, known) => self.programmed.get(id).is_some_and(|now| Arc::ptr_eq(now, known)),
        };
        match whole {
            // As it was brought to by the last round, all of which is done.
            Ok(true) if unchanged => self.finish(unit, Outcome { at: self.at, failures: Vec::new() }),
            // Of what was compared, something was another by then: that says nothing.
            Ok(_) | Err(_) if !unchanged && self.routine.put_off((unit, times)) => {}
            Ok(_) | Err(_) => self.world.look_again(unit, Depth::Full),
        }
    }
}
