//! Connections that are to be forgotten since ports or addresses have changed: what, and when.
//!
//! Going through the kernel's connections takes long, so it is done behind the loop's back and for all that has come together.
//! It is done when something goes and again when something is put in its place: whatever was missed in between, by a
//! kill for instance, leads nobody to a stranger.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Peers, Reconciler, chain, network::Piece, world::World};
use crate::{
    kernel::Kernel,
    model::{Driver, NetworkId},
    plan::{HostInput, Outdated, host, netns_of, op::Op, state::Netns},
};

/// How long after the first word more is waited for, which also is the shortest time between two readings.
const PAUSE: Duration = Duration::from_millis(250);
/// Pause after the kernel could not be read.
const AGAIN: Duration = Duration::from_secs(5);

/// What is to be forgotten, by namespace.
#[derive(Debug, Default)]
pub(super) struct Connections {
    outdated: Mutex<BTreeMap<Netns, Outdated>>,
    wake: Notify,
}

impl Connections {
    /// This is outdated in a namespace.
    pub(super) fn note(&self, netns: Netns, outdated: Outdated) {
        if !outdated.is_empty() {
            let mut all = self.outdated.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(netns).or_default().merge(outdated);
            self.wake.notify_one();
        }
    }

    /// All that is outdated; it is somebody else's now.
    pub(super) fn take(&self) -> BTreeMap<Netns, Outdated> {
        std::mem::take(&mut *self.outdated.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// It could not be forgotten: what was noted since is the later.
    fn put_back(&self, netns: Netns, mut outdated: Outdated) {
        let mut all = self.outdated.lock().unwrap_or_else(PoisonError::into_inner);
        outdated.merge(all.remove(&netns).unwrap_or_default());
        all.insert(netns, outdated);
    }
}

/// Forget connections as they become outdated, until stopped.
pub async fn forget<K: Kernel>(kernel: Arc<K>, world: Arc<World>, stop: CancellationToken) {
    let mut pause = PAUSE;
    let mut told = false;
    loop {
        // Whatever is noted stays noted: no arm loses anything.
        tokio::select! {
            () = stop.cancelled() => return,
            () = world.connections.wake.notified() => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(std::mem::replace(&mut pause, PAUSE)) => {}
        }
        for (netns, outdated) in world.connections.take() {
            match kernel.forget(netns.clone(), outdated.clone()).await {
                Ok(0) => {}
                Ok(connections) => tracing::debug!(%netns, connections, "forgotten"),
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(%netns, error = chain(&error), "connections to former ports and addresses may go on");
                    }
                    world.connections.put_back(netns, outdated);
                    world.connections.wake.notify_one();
                    pause = AGAIN;
                }
            }
        }
    }
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

    /// These steps of a network have been taken: addresses were put into sandboxes, ports lead elsewhere in its namespace.
    pub(super) fn network_leads(&self, id: NetworkId, ops: &[Op]) {
        let inside = netns_of(id);
        let mut addresses = BTreeSet::new();
        for op in ops {
            if let Op::AddAddress(link, net) = op {
                let is_sandboxs = link.netns != Netns::Host && link.netns != inside;
                addresses.extend(is_sandboxs.then(|| net.addr()));
            } else if let Op::SetTable(netns, table) = op {
                self.world.connections.note(netns.clone(), Outdated::between(None, &table.ports));
            } else if let Op::ChangePorts(netns, changes) = op {
                let come = changes.iter().map(|change| (change.map, change.come.clone())).collect();
                let mut outdated = Outdated::between(None, &come);
                let gone = changes.iter().flat_map(|change| change.gone.iter().map(|key| (change.map, *key)));
                outdated.changed.extend(gone);
                self.world.connections.note(netns.clone(), outdated);
            }
        }
        self.addresses_changed(id, addresses);
    }

    /// These addresses of endpoints here came or went. Connections of networks of other drivers do not pass this host.
    pub(super) fn addresses_changed(&self, id: NetworkId, addresses: BTreeSet<IpAddr>) {
        let outdated = Outdated { addresses, ..Outdated::default() };
        match self.driver(id) {
            Some(Driver::Overlay) => {
                self.world.connections.note(netns_of(id), outdated.clone());
                self.world.connections.note(Netns::Host, outdated);
            }
            Some(Driver::Bridge) => self.world.connections.note(Netns::Host, outdated),
            Some(Driver::Macvlan | Driver::Ipvlan | Driver::P2p) | None => {}
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
