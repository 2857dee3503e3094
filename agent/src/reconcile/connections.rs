//! Connections that are to be forgotten since ports or addresses have changed: what, and when.
//!
//! Going through the kernel's connections takes long, so it is done behind the loop's back and for all that has come together.
//! An address that is given out again before that, or that had connections when the agent started, is seen to within its
//! attach: whatever was missed in between, by a kill for instance, leads nobody to a stranger.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{Peers, Reconciler, chain, network::Piece, world::World};
use crate::{
    kernel::{Kernel, KernelError},
    model::{Driver, NetworkId},
    plan::{HostInput, Outdated, host, netns_of, op::Op, ownership::Unit, state::Netns},
};

/// Shortest pause between two readings; one is as long as the last reading took. What comes meanwhile is read for together, and an
/// address that comes back before that within its attach.
const PAUSE: Duration = Duration::from_millis(20);
/// Pause after the kernel could not be read.
const AGAIN: Duration = Duration::from_secs(5);

/// What is to be forgotten, and what is known of the addresses that connections have.
#[derive(Debug)]
pub(super) struct Connections {
    state: Mutex<State>,
    wake: Notify,
    /// One reading at a time: who is about to put an address in place waits for one that may be about that address.
    turn: Semaphore,
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
    pub(super) fn note(&self, netns: Netns, outdated: Outdated) {
        if !outdated.is_empty() {
            self.state().pending.entry(netns).or_default().merge(outdated);
            self.wake.notify_one();
        }
    }

    /// These addresses had connections when the agent started.
    pub(super) fn set_former(&self, former: BTreeMap<Netns, BTreeSet<IpAddr>>) {
        self.state().former = Some(former);
    }

    /// All that is outdated; [`Self::done`] says when it is forgotten.
    pub(super) fn take(&self) -> BTreeMap<Netns, Outdated> {
        let mut state = self.state();
        state.running = std::mem::take(&mut state.pending);
        state.running.clone()
    }

    /// What was taken is forgotten but for this, which is the older where more was noted since.
    pub(super) fn done(&self, left: BTreeMap<Netns, Outdated>) {
        let mut state = self.state();
        state.running.clear();
        for (netns, mut outdated) in left {
            outdated.merge(state.pending.remove(&netns).unwrap_or_default());
            state.pending.insert(netns, outdated);
        }
    }

    /// Those of these addresses that may have connections from before in a namespace.
    fn suspect(&self, netns: &Netns, addresses: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
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
    fn cleared(&self, netns: &Netns, addresses: &BTreeSet<IpAddr>) {
        let mut state = self.state();
        if let Some(pending) = state.pending.get_mut(netns) {
            pending.addresses.retain(|address| !addresses.contains(address));
        }
        if let Some(former) = state.former.as_mut().and_then(|former| former.get_mut(netns)) {
            former.retain(|address| !addresses.contains(address));
        }
    }
}

/// Forget connections as they become outdated, until stopped.
pub async fn forget<K: Kernel>(kernel: Arc<K>, world: Arc<World>, stop: CancellationToken) {
    let connections = &world.connections;
    // Until it is known, every address that is put in place is looked for.
    if let Ok(former) = former(&*kernel).await {
        connections.set_former(former);
    }
    let (mut last, mut pause, mut told) = (Instant::now(), Duration::ZERO, false);
    loop {
        // Whatever is noted stays noted: no arm loses anything.
        tokio::select! {
            () = stop.cancelled() => return,
            () = connections.wake.notified() => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(last + pause) => {}
        }
        let Ok(_turn) = connections.turn.acquire().await else { return };
        let (mut left, began) = (BTreeMap::new(), Instant::now());
        for (netns, outdated) in connections.take() {
            if let Err(error) = kernel.forget(netns.clone(), outdated.clone()).await {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%netns, error = chain(&error), "connections to former ports and addresses may go on");
                }
                left.insert(netns, outdated);
            }
        }
        last = Instant::now();
        pause = PAUSE.max(last - began);
        if !left.is_empty() {
            connections.wake.notify_one();
            pause = AGAIN;
        }
        connections.done(left);
    }
}

/// The addresses that connections have, where our networks are.
pub(super) async fn former<K: Kernel>(kernel: &K) -> Result<BTreeMap<Netns, BTreeSet<IpAddr>>, KernelError> {
    let named = kernel.named_netns().await?.into_iter();
    let networks =
        named.filter(|(_, mark)| mark.as_ref().is_some_and(|it| matches!(it.unit, Unit::Network(_))));
    let mut former = BTreeMap::new();
    for netns in networks.map(|(name, _)| Netns::Named(name)).chain([Netns::Host]) {
        former.insert(netns.clone(), kernel.connected(netns).await?);
    }
    Ok(former)
}

impl<K: Kernel, P: Peers> Reconciler<K, P> {
    /// The host's ports are going to lead as this says.
    pub(super) fn host_leads(&self, input: &HostInput) {
        let before = self.host.as_deref();
        if before.is_some_and(|before| before.ports == input.ports && before.networks == input.networks) {
            return;
        }
        let ports = |input: &HostInput| {
            let table = host(input).netns.remove(&Netns::Host).and_then(|host| host.table);
            table.map(|table| table.ports).unwrap_or_default()
        };
        let outdated = Outdated::between(before.map(ports).as_ref(), &ports(input));
        self.world.connections.note(Netns::Host, outdated);
    }

    /// Before these steps of a network put addresses into sandboxes, what is left of their former owners is forgotten: later it
    /// could not be told from what is new. Nearly always there is nothing to look for.
    pub(super) async fn make_way(&self, id: NetworkId, ops: &[Op]) {
        let inside = netns_of(id);
        let address = |op: &Op| {
            let Op::AddAddress(link, net) = op else { return None };
            (link.netns != Netns::Host && link.netns != inside).then(|| net.addr())
        };
        let addresses: BTreeSet<IpAddr> = ops.iter().filter_map(address).collect();
        let connections = &self.world.connections;
        for netns in self.tracking(id) {
            if connections.suspect(&netns, &addresses).is_empty() {
                continue;
            }
            let Ok(_turn) = connections.turn.acquire().await else { return };
            let suspect = connections.suspect(&netns, &addresses);
            if suspect.is_empty() {
                continue;
            }
            let outdated = Outdated { addresses: suspect.clone(), ..Outdated::default() };
            match self.kernel.forget(netns.clone(), outdated).await {
                Ok(_forgotten) => connections.cleared(&netns, &suspect),
                Err(error) => tracing::debug!(%netns, error = chain(&error), "connections are not forgotten"),
            }
        }
    }

    /// These steps of a network have been taken: ports lead elsewhere in its namespace.
    pub(super) fn network_leads(&self, ops: &[Op]) {
        for op in ops {
            if let Op::SetTable(netns, table) = op {
                self.world.connections.note(netns.clone(), Outdated::between(None, &table.ports));
            } else if let Op::ChangePorts(netns, changes) = op {
                let come = changes.iter().map(|change| (change.map, change.come.clone())).collect();
                let mut outdated = Outdated::between(None, &come);
                let gone = changes.iter().flat_map(|change| change.gone.iter().map(|key| (change.map, *key)));
                outdated.changed.extend(gone);
                self.world.connections.note(netns.clone(), outdated);
            }
        }
    }

    /// These addresses of endpoints here went.
    pub(super) fn addresses_went(&self, id: NetworkId, addresses: &BTreeSet<IpAddr>) {
        for netns in self.tracking(id) {
            let outdated = Outdated { addresses: addresses.clone(), ..Outdated::default() };
            self.world.connections.note(netns, outdated);
        }
    }

    /// Where connections of a network are tracked. Those of other drivers do not pass this host.
    fn tracking(&self, id: NetworkId) -> Vec<Netns> {
        match self.driver(id) {
            Some(Driver::Overlay) => vec![netns_of(id), Netns::Host],
            Some(Driver::Bridge) => vec![Netns::Host],
            Some(Driver::Macvlan | Driver::Ipvlan | Driver::P2p) | None => Vec::new(),
        }
    }
}

/// The addresses of endpoints here that some pieces of a network had and those in their place do not have.
pub(super) fn gone_addresses<'a>(
    before: impl Iterator<Item = &'a Piece>,
    after: impl Iterator<Item = &'a Piece>,
) -> BTreeSet<IpAddr> {
    let kept: BTreeSet<IpAddr> = after.flat_map(addresses).collect();
    before.flat_map(addresses).filter(|address| !kept.contains(address)).collect()
}

fn addresses(piece: &Piece) -> impl Iterator<Item = IpAddr> {
    piece.local().into_iter().flat_map(|endpoint| endpoint.addresses.iter().map(IpNet::addr))
}
