//! The task that ends leases.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::engine::Engine;

/// How long to wait after the file failed us.
const PAUSE: Duration = Duration::from_secs(1);

/// Ends leases when their time has come, until `stop`.
pub(super) async fn tend(engine: Arc<Engine>, stop: CancellationToken) {
    loop {
        let next = engine.leases().next();
        let due = async {
            match next {
                Some((id, deadline)) => {
                    sleep_until(deadline).await;
                    id
                }
                None => std::future::pending().await,
            }
        };
        // All arms only wait; a lease that was renewed meanwhile is noticed by `expire`.
        let id = tokio::select! {
            () = stop.cancelled() => return,
            () = engine.lease_added() => continue,
            id = due => id,
        };
        if let Err(fault) = engine.call(move |engine| engine.expire(id, Instant::now())).await {
            tracing::warn!(lease = id, %fault, "cannot end a lease");
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(PAUSE) => {}
            }
        }
    }
}
