//! What is noted and told of what the stores say. `core` has their followers.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::tasks::Tasks;
use crate::{
    intent::Source,
    model::chain,
    reconcile::world::World,
    store::{Commit, Identity, Key, Store, StoreStatus},
};

/// Note whether the cluster's store is held, which it was if `noted`, and say when it is away.
pub(super) fn watch_stores(
    tasks: &mut Tasks,
    world: &Arc<World>,
    local: &Store,
    noted: bool,
    status: watch::Receiver<StoreStatus>,
) {
    tasks.run("note of the hold", note_holds(Arc::clone(world), local.clone(), noted, tasks.stop.clone()));
    tasks.run("store watch", tell_store(status, tasks.stop.clone()));
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
                    tracing::warn!(error = chain(&error), "cannot record whether the store is held")
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            _ = turns.changed() => {}
        }
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
                tracing::info!("the store is connected");
            }
            StoreStatus::Away { error, .. } if away => tracing::debug!(%error, "the store is still away"),
            StoreStatus::Away { error, .. } => {
                away = true;
                tracing::warn!(%error, "the store is away: networks keep working, changes must wait");
            }
        }
    }
}
