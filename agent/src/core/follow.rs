//! Feeds the stores' changes into the agent's world, as long as no other host has this node's id.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{QUEUE, Task};
use crate::{
    intent::Source,
    reconcile::{
        Evidence,
        feed::{Feed, feed},
        world::World,
    },
    service::Stores,
    store::{KeyRange, StoreStatus, Tenure, follow},
};

/// How long gossip waits for the store to say whether this node's id is another's.
const TENURE: Duration = Duration::from_secs(2);

/// Follow the cluster's keys and this node's own, and hold them against what the kernel had. The status of the cluster's
/// store comes back.
pub(super) fn follow_both(
    tasks: &mut Vec<Task>,
    world: &Arc<World>,
    stores: &Stores,
    evidence: &Evidence,
    tenure: &watch::Receiver<Tenure>,
    stop: &CancellationToken,
) -> watch::Receiver<StoreStatus> {
    let (status, seen) = watch::channel(StoreStatus::Starting);
    let (local_status, _) = watch::channel(StoreStatus::Starting);
    let both = [
        (Source::Global, &stores.global, KeyRange::followed(), status, "follower of the store"),
        (Source::Local, &stores.local, KeyRange::local(), local_status, "follower of the local store"),
    ];
    for (source, store, range, status, name) in both {
        let (out, changes) = mpsc::channel(QUEUE);
        tasks.push(Task::new(name, follow(store.clone(), range.clone(), out, status, stop.clone())));
        let from = Feed { source, store: store.clone(), range, evidence: evidence.clone() };
        let (world, mut tenure, stop) = (Arc::clone(world), tenure.clone(), stop.clone());
        tasks.push(Task::new("feed", async move {
            // What the cluster's store says of this node is another host's as long as that one has its id.
            if source == Source::Local || undisputed(&mut tenure, &stop).await {
                // What is of this host only is known first: what is not is the cluster's.
                if source == Source::Global {
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = local_is_settled(&world) => {}
                    }
                }
                feed(world, from, changes).await;
            }
        }));
    }
    seen
}

/// Gossip, unless the store says that another host has this node's id.
pub(super) async fn once_undisputed(
    gossip: impl Future<Output = ()>,
    mut tenure: watch::Receiver<Tenure>,
    stop: CancellationToken,
) {
    // Nobody is to hear of a second node with the id of another. A store that is away says nothing of that.
    let known = timeout(TENURE, tenure.wait_for(|now| *now != Tenure::Pending)).await.is_ok();
    if !known || undisputed(&mut tenure, &stop).await {
        gossip.await;
    }
}

/// Wait until it is known that nobody else has this node's id; false: stopped.
async fn undisputed(tenure: &mut watch::Receiver<Tenure>, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        // An error says that the holder has ended, which only a stop makes it do.
        free = tenure.wait_for(|now| matches!(now, Tenure::Free | Tenure::Held)) => free.is_ok(),
    }
}

/// Wait until this host's own store has been read, or is held.
async fn local_is_settled(world: &World) {
    let mut turns = world.hold_changes();
    loop {
        turns.mark_unchanged();
        let read = world.read(|intent| intent.revision(Source::Local).is_some());
        if read || world.is_held(Source::Local) {
            return;
        }
        // The sender lives as long as the world: this cannot fail.
        drop(turns.changed().await);
    }
}
