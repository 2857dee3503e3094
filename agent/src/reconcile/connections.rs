//! Forgets outdated connections after ports or addresses have changed.
//!
//! Reading the kernel's connections takes long, so a separate task does it in batches. If an address is
//! allocated again before that, or had connections when the agent started, its attach forgets those first. So
//! even after a kill no connection reaches the wrong endpoint.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Peers, Reconciler, world::World};
use crate::{
    drivers::{self, Element},
    host::{HostInput, host},
    kernel::{Kernel, KernelError},
    model::{NetworkId, chain},
    plan::{
        Outdated, netns_of,
        op::{LinkRow, Op, RowOp, SettingOp},
        ownership::Unit,
        state::Netns,
    },
};

/// Shortest pause between two readings; a pause is at least as long as the last reading took. Changes that
/// come meanwhile share the next reading; an address that is allocated before that is handled by its attach.
const PAUSE: Duration = Duration::from_millis(20);
/// Pause after the kernel could not be read.
const AGAIN: Duration = Duration::from_secs(5);

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
                    tracing::warn!(
                        %netns, error = chain(&error),
                        "cannot end connections to removed ports and addresses"
                    );
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
    /// The host's ports will lead to these destinations.
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

    /// Forgets connections of former owners before these steps of a network put addresses into sandboxes;
    /// later they could not be told apart from new ones. Usually there are none.
    pub(super) async fn make_way(&self, id: NetworkId, ops: &[Op]) {
        let inside = netns_of(id);
        let address = |op: &Op| {
            let Op::Row(link, RowOp::Set, LinkRow::Address(net)) = op else { return None };
            (link.netns != Netns::Host && link.netns != inside).then(|| net.addr())
        };
        let addresses: BTreeSet<IpAddr> = ops.iter().filter_map(address).collect();
        let connections = &self.world.connections;
        for netns in drivers::tracking(id, self.driver(id)) {
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
                Err(error) => tracing::debug!(%netns, error = chain(&error), "cannot forget connections"),
            }
        }
    }

    /// These steps of a network were applied: ports may lead elsewhere in its namespace.
    pub(super) fn network_leads(&self, ops: &[Op]) {
        for op in ops {
            if let Op::Setting(netns, SettingOp::SetTable(table)) = op {
                self.world.connections.note(netns.clone(), Outdated::between(None, &table.ports));
            } else if let Op::Setting(netns, SettingOp::ChangePorts(changes)) = op {
                let come = changes.iter().map(|change| (change.map, change.come.clone())).collect();
                let mut outdated = Outdated::between(None, &come);
                let gone = changes.iter().flat_map(|change| change.gone.iter().map(|key| (change.map, *key)));
                outdated.changed.extend(gone);
                self.world.connections.note(netns.clone(), outdated);
            }
        }
    }

    /// These addresses of endpoints here were removed.
    pub(super) fn addresses_went(&self, id: NetworkId, addresses: &BTreeSet<IpAddr>) {
        for netns in drivers::tracking(id, self.driver(id)) {
            let outdated = Outdated { addresses: addresses.clone(), ..Outdated::default() };
            self.world.connections.note(netns, outdated);
        }
    }
}

/// The addresses of endpoints here that some pieces of a network had and their replacements do not have.
pub(super) fn gone_addresses<'a>(
    before: impl Iterator<Item = &'a Element>,
    after: impl Iterator<Item = &'a Element>,
) -> BTreeSet<IpAddr> {
    let kept: BTreeSet<IpAddr> = after.flat_map(addresses).collect();
    before.flat_map(addresses).filter(|address| !kept.contains(address)).collect()
}

fn addresses(piece: &Element) -> impl Iterator<Item = IpAddr> {
    piece.local().into_iter().flat_map(|endpoint| endpoint.addresses.iter().map(IpNet::addr))
}
