//! This node's own record, kept as it should be; and the cluster's identity, made by the first node.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{broadcast, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    convert::Record,
    intent::{Changed, Touched},
    model::{Node, NodeId, chain},
    reconcile::world::{Revisions, World},
    store::{Commit, CommitError, Identity, Key, Store, Tenure},
};

/// How often to look without a reason.
const EVERY: Duration = Duration::from_secs(5);

/// Register this node, and again whenever its record is removed or changed, until stopped; not while another
/// host has its id.
pub(super) async fn register(
    world: Arc<World>,
    global: Store,
    node: Node,
    mut tenure: watch::Receiver<Tenure>,
    stop: CancellationToken,
) {
    tokio::select! {
        () = stop.cancelled() => return,
        () = world.reached(Revisions::default()) => {}
    }
    let mut changes = world.changes();
    let (mut told, mut first) = (false, true);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            // The holder ends only when all is stopped.
            held = async { tenure.wait_for(|now| *now == Tenure::Held).await.is_ok() } => if !held {
                stop.cancelled().await;
                return;
            }
        }
        let known = world.read(|intent| intent.nodes().get(&node.id).cloned());
        let created = known.as_ref().map_or(node.created, |known| known.created);
        let wanted = Node { created, ..node.clone() };
        // While the store is not believed, nothing is written into it that would look like a cluster.
        let believed = world.held().is_none();
        if believed && world.cluster().is_none() {
            found(&world, &global).await;
        }
        let returned = believed && first && removed(&global, node.id).await;
        if believed && (known.as_ref() != Some(&wanted) || returned) {
            let commit = Commit::new()
                .put(Key::Node(node.id), wanted.to_bytes())
                .delete(Key::Identity(Identity::Removed(node.id)));
            match global.commit(commit).await {
                Ok(revision) => {
                    (told, first) = (false, false);
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = world.reached(Revisions { global: revision, local: 0 }) => {}
                    }
                }
                Err(error) if told => {
                    tracing::debug!(error = chain(&error), "still cannot register this node")
                }
                Err(error) => {
                    told = true;
                    tracing::warn!(error = chain(&error), "cannot register this node: retrying");
                }
            }
        }
        if !await_reason(&mut changes, |touched| *touched == Touched::Node(node.id), &stop).await {
            return;
        }
    }
}

/// Give the cluster an identity, if no other node does at the same time, and wait until it is known here.
async fn found(world: &World, global: &Store) {
    let id = uuid::Uuid::new_v4().to_string();
    let commit =
        Commit::new().absent(Key::Identity(Identity::Cluster)).put(Key::Identity(Identity::Cluster), id);
    match global.commit(commit).await {
        Ok(_) | Err(CommitError::Refused(_)) => {
            let mut changes = world.cluster_changes();
            // A store that is slow to say so is asked again at the next look.
            drop(timeout(EVERY, changes.wait_for(Option::is_some)).await);
        }
        Err(error) => tracing::debug!(error = chain(&error), "cannot give the cluster an identity yet"),
    }
}

/// Whether an operator removed this node, which is back now.
async fn removed(global: &Store, id: NodeId) -> bool {
    matches!(global.get(&Key::Identity(Identity::Removed(id))).await, Ok((_, Some(_))))
}

/// Wait for a reason to look again: a change that concerns the caller, or time. False: stopped.
pub(super) async fn await_reason(
    changes: &mut broadcast::Receiver<Changed>,
    concerns: impl Fn(&Touched) -> bool,
    stop: &CancellationToken,
) -> bool {
    loop {
        tokio::select! {
            () = stop.cancelled() => return false,
            // A change that is missed here is found by the next look.
            change = changes.recv() => match change {
                Ok(change) if !concerns(&change.touched) => {}
                Ok(_) | Err(_) => return true,
            },
            () = tokio::time::sleep(EVERY) => return true,
        }
    }
}
