//! What the stores say, fed into the agent's picture of the world.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{QUEUE, claim::undisputed, stores::Stores, tasks::Tasks};
use crate::{
    intent::Source,
    model::chain,
    reconcile::{
        Evidence,
        feed::{Feed, feed},
        world::World,
    },
    store::{Commit, Identity, Key, KeyRange, Store, StoreStatus, Tenure, follow},
};

/// Follow the cluster's keys and this node's own, and hold them against what the kernel had. The status of the cluster's
/// store comes back.
pub(super) fn follow_both(
    tasks: &mut Tasks,
    world: &Arc<World>,
    (stores, evidence): (&Stores, &Evidence),
    tenure: &watch::Receiver<Tenure>,
) -> watch::Receiver<StoreStatus> {
    let (status, seen) = watch::channel(StoreStatus::Starting);
    let (local_status, _) = watch::channel(StoreStatus::Starting);
    let both = [
        (Source::Global, &stores.global, KeyRange::followed(), status, "follower of the store"),
        (Source::Local, &stores.local, KeyRange::local(), local_status, "follower of the local store"),
    ];
    for (source, store, range, status, name) in both {
        let (out, changes) = mpsc::channel(QUEUE);
        tasks.run(name, follow(store.clone(), range.clone(), out, status, tasks.stop.clone()));
        let from = Feed { source, store: store.clone(), range, evidence: evidence.clone() };
        let (world, mut tenure, stop) = (Arc::clone(world), tenure.clone(), tasks.stop.clone());
        tasks.run("feed", async move {
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
        });
    }
    let note = note_holds(Arc::clone(world), stores.local.clone(), evidence.held, tasks.stop.clone());
    tasks.run("note of the hold", note);
    tasks.run("store watch", tell_store(seen.clone(), tasks.stop.clone()));
    seen
}

/// Keep in this host's own store that the cluster's is not believed, for an agent that starts in the middle of that.
async fn note_holds(world: Arc<World>, local: Store, mut noted: bool, stop: CancellationToken) {
    let mut turns = world.hold_changes();
    loop {
        turns.mark_unchanged();
        let why = world.why_held(Source::Global);
        let believed = why.is_none() && world.read(|intent| intent.revision(Source::Global).is_some());
        let key = Key::Identity(Identity::Held);
        let commit = match why {
            Some(why) if !noted => Some(Commit::new().put(key, why)),
            None if noted && believed => Some(Commit::new().delete(key)),
            Some(_) | None => None,
        };
        if let Some(commit) = commit {
            match local.commit(commit).await {
                Ok(_revision) => noted = !noted,
                Err(error) => {
                    tracing::warn!(error = chain(&error), "cannot note that the store is held, or no longer")
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            _ = turns.changed() => {}
        }
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

/// Say in the log when the store goes and comes, once each: while it is away, every try fails in words of its own.
async fn tell_store(mut status: watch::Receiver<StoreStatus>, stop: CancellationToken) {
    let mut away = false;
    loop {
        // The newest value stays in the channel when this is cut short.
        let changed = tokio::select! {
            () = stop.cancelled() => return,
            changed = status.changed() => changed,
        };
        if changed.is_err() {
            stop.cancelled().await;
            return;
        }
        match &*status.borrow_and_update() {
            StoreStatus::Starting => {}
            StoreStatus::Connected => {
                away = false;
                tracing::info!("the store is there");
            }
            StoreStatus::Away { error, .. } if away => tracing::debug!(%error, "the store is still away"),
            StoreStatus::Away { error, .. } => {
                away = true;
                tracing::warn!(%error, "the store is away: networks go on as they are, changes must wait");
            }
        }
    }
}
