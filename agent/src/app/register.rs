//! This node's own record, kept as it should be.

use std::{sync::Arc, time::Duration};

use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    convert::Record,
    intent::{Changed, Touched},
    model::Node,
    reconcile::{
        chain,
        world::{Revisions, World},
    },
    store::{Commit, Key, Store, Tenure},
};

/// How often to look without a reason.
const EVERY: Duration = Duration::from_secs(5);

/// Register this node, again whenever somebody removes or changes its record, until stopped; not while another host
/// has its id.
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
    let mut told = false;
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
        if known.as_ref() != Some(&wanted) {
            match global.commit(Commit::new().put(Key::Node(node.id), wanted.to_bytes())).await {
                Ok(revision) => {
                    told = false;
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
                    tracing::warn!(error = chain(&error), "cannot register this node: it is tried again");
                }
            }
        }
        if !await_reason(&mut changes, |touched| *touched == Touched::Node(node.id), &stop).await {
            return;
        }
    }
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
