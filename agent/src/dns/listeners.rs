//! The sockets of all sandboxes: which are to be open is looked at again and again, and when something has changed.
//!
//! A socket keeps its namespace alive. So none stays open when a sandbox is gone, or its process, or when its namespace was
//! replaced by another one of the same name.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, RwLock},
    time::Duration,
};

use tokio::{
    net::{TcpListener, UdpSocket},
    sync::{broadcast, mpsc},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{Ask, DnsError, Parts, Settings, Shared, copy, outside::needs_resolver, server::Resolver};
use crate::{
    dns::upstream::Forwarder,
    intent::{Changed, Source, Touched},
    kernel::{Machine, Sockets},
    model::{Name, Sandbox, SandboxId, chain},
    plan::state::Netns,
    reconcile::world::Revisions,
};

/// Time between two looks: a process that has ended must not keep its namespace for three seconds.
const EVERY: Duration = Duration::from_secs(1);
/// The same until this node's own store has been read after a start: nobody is answered before.
const SOON: Duration = Duration::from_millis(10);
/// How long after a change others are waited for.
const QUIET: Duration = Duration::from_millis(50);
/// How long a sandbox's sockets stay closed after the verb that removes it said so, if it is still there.
const CLOSED: Duration = Duration::from_secs(60);
/// Looks between two tidyings of what was heard.
const TIDY: u32 = 60;
/// Ports that a sandbox's resolver is to have: in the range where nobody expects one (RFC 6335), and always the same, so that
/// after a restart of the agent the rules that are there lead to it at once.
const PORTS: std::ops::RangeInclusive<u16> = 49_152..=60_999;

/// The task that keeps the sockets.
pub struct Listeners {
    shared: Arc<Shared>,
    sockets: Arc<dyn Sockets>,
    settings: Settings,
    asked: mpsc::Receiver<Ask>,
    open: BTreeMap<SandboxId, Open>,
    /// Sandboxes that are being removed, and since when.
    closed: BTreeMap<SandboxId, Instant>,
    /// Sandboxes whose sockets could not be opened, so that it is logged once.
    failed: BTreeSet<SandboxId>,
    last: Option<Last>,
}

/// What the last look found that sandboxes need.
struct Last {
    /// What it followed from: the stores, and how often resolv.conf has changed.
    from: (Revisions, u64),
    wanted: Arc<[Wanted]>,
}

/// A resolver that answers.
struct Open {
    /// Inode of its namespace.
    inode: u64,
    port: u16,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// A sandbox that is to have a resolver, as far as looking at it goes.
#[derive(Clone)]
struct Wanted {
    sandbox: Sandbox,
    netns: Netns,
    path: PathBuf,
}

impl Listeners {
    pub(super) fn new(parts: Parts, asked: mpsc::Receiver<Ask>) -> Self {
        let Parts { world, is_down, host, machine, sockets, settings } = parts;
        let forwarder = Forwarder::new(Arc::clone(&sockets));
        let shared = Shared {
            world,
            is_down,
            host,
            defaults: settings.defaults.clone(),
            forwarder,
            machine,
            before: RwLock::new(copy::read(&settings.copy)),
        };
        Self {
            shared: Arc::new(shared),
            sockets,
            settings,
            asked,
            open: BTreeMap::new(),
            closed: BTreeMap::new(),
            failed: BTreeSet::new(),
            last: None,
        }
    }

    /// Keep the sockets, and the copy of the names, until stopped.
    pub async fn run(self, stop: CancellationToken) {
        let copied = copy::keep(Arc::clone(&self.shared), self.settings.copy.clone(), stop.clone());
        tokio::join!(self.keep_sockets(stop), copied);
    }

    async fn keep_sockets(mut self, stop: CancellationToken) {
        let mut changes = self.shared.world.changes();
        let (mut due, mut looks) = (Instant::now(), 0);
        loop {
            // Each arm takes one thing whole; what is done about it is not cut short.
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ask) = self.asked.recv() => self.answer(ask).await,
                changed = changes.recv() => {
                    if concerns_sockets(changed) {
                        due = due.min(Instant::now() + QUIET);
                    }
                }
                () = tokio::time::sleep_until(due) => {
                    if self.shared.world.read(|intent| intent.revision(Source::Local).is_none()) {
                        due = Instant::now() + SOON;
                        continue;
                    }
                    self.look().await;
                    if looks == 0 {
                        tracing::info!(resolvers = self.open.len(), "the sandboxes' resolvers answer");
                    }
                    looks += 1;
                    if looks % TIDY == 0 {
                        self.shared.forwarder.tidy();
                    }
                    due = Instant::now() + EVERY;
                }
            }
        }
        for open in self.open.values() {
            open.stop.cancel();
        }
    }

    async fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Ensure(name, reply) => {
                let done = self.ensure(&name).await;
                // Whoever asked may have given up.
                reply.send(done).ok();
            }
            Ask::Close(id, reply) => {
                self.closed.insert(id, Instant::now());
                self.close(id).await;
                reply.send(()).ok();
            }
        }
    }

    async fn ensure(&mut self, name: &Name) -> Result<Option<(SandboxId, u16)>, DnsError> {
        let Some(wanted) = self.wanted(Some(name)).pop() else { return Ok(None) };
        let id = wanted.sandbox.id;
        self.closed.remove(&id);
        let inode = inode_of(&*self.shared.machine, &wanted).ok_or_else(|| DnsError::Gone(name.clone()))?;
        self.keep(&wanted, inode).await?;
        Ok(self.open.get(&id).map(|open| (id, open.port)))
    }

    /// The sandboxes that are to have a resolver: this one, or all.
    fn wanted(&self, name: Option<&Name>) -> Vec<Wanted> {
        let shared = &self.shared;
        let (host, _) = shared.host.read();
        let sandboxes: Vec<Sandbox> = shared.world.read(|intent| {
            let one = name.and_then(|name| intent.sandboxes().get(name));
            let all = intent.sandboxes().values().filter(|_| name.is_none());
            let needs = |sandbox: &&Sandbox| {
                needs_resolver(intent, shared.world.me, sandbox, &shared.defaults, &host)
            };
            one.into_iter().chain(all).filter(needs).cloned().collect()
        });
        sandboxes.into_iter().map(|sandbox| self.placed(sandbox)).collect()
    }

    /// All sandboxes that are to have a resolver; only looked for when something has changed.
    fn all_wanted(&mut self) -> Arc<[Wanted]> {
        let from = (self.shared.world.known(), self.shared.host.read().1);
        if let Some(last) = self.last.as_ref().filter(|last| last.from == from) {
            return Arc::clone(&last.wanted);
        }
        let wanted: Arc<[Wanted]> = self.wanted(None).into();
        self.last = Some(Last { from, wanted: Arc::clone(&wanted) });
        wanted
    }

    fn placed(&self, sandbox: Sandbox) -> Wanted {
        if sandbox.adopted {
            let path = sandbox.netns.clone();
            return Wanted { netns: Netns::Path(path.clone()), path, sandbox };
        }
        let path = self.settings.netns_dir.join(sandbox.name.as_str());
        Wanted { netns: Netns::Named(sandbox.name.clone()), path, sandbox }
    }

    /// Open what is to be open, close everything else.
    async fn look(&mut self) {
        let now = Instant::now();
        self.closed.retain(|_, since| now.saturating_duration_since(*since) < CLOSED);
        let wanted = self.all_wanted();
        // A file of nsfs for each, and of /proc for some; with very many of them that takes a while.
        let (of, machine) = (Arc::clone(&wanted), Arc::clone(&self.shared.machine));
        let look = move || of.iter().map(|it| inode_of(&*machine, it)).collect::<Vec<_>>();
        let Ok(inodes) = tokio::task::spawn_blocking(look).await else { return };
        let seen = || inodes.iter().copied().zip(wanted.iter());
        let stays: BTreeSet<SandboxId> =
            seen().filter(|(inode, _)| inode.is_some()).map(|(_, it)| it.sandbox.id).collect();
        self.failed.retain(|id| stays.contains(id));
        let gone: Vec<SandboxId> = self.open.keys().filter(|id| !stays.contains(id)).copied().collect();
        for id in gone {
            self.close(id).await;
        }
        for (inode, wanted) in seen() {
            let id = wanted.sandbox.id;
            let Some(inode) = inode.filter(|_| !self.closed.contains_key(&id)) else { continue };
            match self.keep(wanted, inode).await {
                Ok(()) => {
                    self.failed.remove(&id);
                }
                // The same again each second would only be noise.
                Err(error) if self.failed.insert(id) => {
                    tracing::warn!(
                        sandbox = %wanted.sandbox.name, error = chain(&error),
                        "cannot start a resolver: retrying"
                    );
                }
                Err(_known) => {}
            }
        }
    }

    /// See to it that the resolver of a sandbox answers in the namespace with this inode.
    async fn keep(&mut self, wanted: &Wanted, inode: u64) -> Result<(), DnsError> {
        let id = wanted.sandbox.id;
        if self.open.get(&id).is_some_and(|open| open.inode == inode && !open.task.is_finished()) {
            return Ok(());
        }
        self.close(id).await;
        let (sockets, netns) = (Arc::clone(&self.sockets), wanted.netns.clone());
        let port = port_of(id);
        let open = move || sockets.resolver_in(&netns, port);
        let opened = tokio::task::spawn_blocking(open).await?;
        let (udp, tcp) = opened?;
        if inode_of(&*self.shared.machine, wanted) != Some(inode) {
            return Err(DnsError::Replaced);
        }
        let udp = UdpSocket::from_std(udp)?;
        let tcp = TcpListener::from_std(tcp)?;
        let port = udp.local_addr()?.port();
        let resolver = Arc::new(Resolver::new(
            Arc::clone(&self.shared),
            wanted.sandbox.name.clone(),
            id,
            wanted.netns.clone(),
        ));
        let stop = CancellationToken::new();
        let task = tokio::spawn(resolver.serve(udp, tcp, stop.clone()));
        self.open.insert(id, Open { inode, port, stop, task });
        self.shared.world.set_resolver(id, Some(port));
        Ok(())
    }

    /// Close a sandbox's sockets, and wait until they are closed.
    async fn close(&mut self, id: SandboxId) {
        if let Some(open) = self.open.remove(&id) {
            open.stop.cancel();
            if let Err(error) = open.task.await {
                tracing::error!(%error, "a resolver task failed");
            }
            self.shared.world.set_resolver(id, None);
        }
    }
}

/// Whether a change can open or close a socket; one that was missed can.
fn concerns_sockets(changed: Result<Changed, broadcast::error::RecvError>) -> bool {
    match changed.map(|changed| changed.touched) {
        Ok(Touched::Sandbox(_)) | Err(broadcast::error::RecvError::Lagged(_)) => true,
        // Attaches say so themselves, and a socket that is not needed any more may stay until the next look.
        Ok(
            Touched::Endpoint(..)
            | Touched::Network(_)
            | Touched::Member(..)
            | Touched::Node(_)
            | Touched::Alive(_)
            | Touched::Leg(_),
        )
        | Err(broadcast::error::RecvError::Closed) => false,
    }
}

/// The port that a sandbox's resolver is to have.
fn port_of(id: SandboxId) -> u16 {
    let [first, second, ..] = *id.as_bytes();
    let span = PORTS.end() - PORTS.start() + 1;
    PORTS.start() + u16::from_be_bytes([first, second]) % span
}

/// The inode of a sandbox's namespace; none: it is not there, or its process is not, or it is another one.
fn inode_of(machine: &dyn Machine, wanted: &Wanted) -> Option<u64> {
    let sandbox = &wanted.sandbox;
    if let Some((pid, start)) = sandbox.process
        && machine.is_gone(pid, start).unwrap_or(true)
    {
        return None;
    }
    let inode = machine.inode_at(&wanted.path)?;
    (!sandbox.adopted || inode == sandbox.netns_inode).then_some(inode)
}
