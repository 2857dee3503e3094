//! Ready: said to systemd and in the log once this host is as it should be.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

use super::tasks::Tasks;
use crate::{
    reconcile::world::{Revisions, World},
    store::Tenure,
};

/// How long the start waits for the stores before it says that it is ready anyway.
const STORES: Duration = Duration::from_secs(10);
/// How long it then waits for the first look at everything; with the former less than the unit's TimeoutStartSec.
const FIRST_LOOK: Duration = Duration::from_secs(60);

/// Wait until a store is held.
async fn held(world: &World) {
    let mut turns = world.hold_changes();
    loop {
        turns.mark_unchanged();
        if world.held().is_some() {
            return;
        }
        // The sender lives as long as the world: this cannot fail.
        drop(turns.changed().await);
    }
}

/// Say that the agent is ready: once every network and sandbox of this host has been looked at, so that what is ordered after
/// the agent finds them, or the store lets it wait too long.
pub(super) fn ready(
    tasks: &mut Tasks,
    world: Arc<World>,
    tenure: watch::Receiver<Tenure>,
    name: String,
    vtep: IpAddr,
) {
    let stop = tasks.stop.clone();
    tasks.run("announcement", async move {
        let look = async {
            let read = async {
                tokio::select! {
                    () = world.reached(Revisions::default()) => true,
                    () = held(&world) => false,
                }
            };
            let read = timeout(STORES, read).await;
            if read == Ok(false) {
                return "ready, but a store is not believed: nothing is removed here (see ovctl node ls)";
            }
            if read.is_err() {
                let taken = matches!(*tenure.borrow(), Tenure::Taken(_));
                return if taken {
                    "ready, but another host has this node's id"
                } else {
                    "ready, but the store is away"
                };
            }
            match timeout(FIRST_LOOK, world.first_look()).await {
                Ok(()) => "ready",
                Err(_) => "ready, but not all networks have been looked at yet",
            }
        };
        let state = tokio::select! {
            () = stop.cancelled() => return,
            state = look => state,
        };
        tracing::info!(node = %name, %vtep, version = env!("CARGO_PKG_VERSION"), "{state}");
        let notified =
            sd_notify::notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(state)]);
        if let Err(error) = notified {
            tracing::warn!(%error, "cannot tell systemd that the agent is ready");
        }
        stop.cancelled().await;
        // The manager may be gone by now.
        drop(sd_notify::notify(&[sd_notify::NotifyState::Stopping]));
    });
}
