//! Rolls back an attach that failed: an attach is all or nothing.

use std::{sync::Arc, time::Duration};

use super::super::{Service, ServiceError};
use crate::{kernel::Kernel, model::Endpoint};

/// First and longest pause between tries.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
/// The number of tries: they take more than an hour.
const TRIES: u32 = 150;

impl<K: Kernel> Service<K> {
    /// Remove an endpoint that was refused; if the store cannot be reached, retry until it is gone.
    pub(in crate::service) async fn roll_back(self: &Arc<Self>, endpoint: &Endpoint) {
        let Err(error) = self.remove_endpoint(endpoint).await else { return };
        tracing::warn!(endpoint = %endpoint.id.short(), %error, "cannot roll back an endpoint: retrying");
        let (service, endpoint) = (Arc::clone(self), endpoint.clone());
        tokio::spawn(async move {
            let mut pause = FIRST;
            for _ in 0..TRIES {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST);
                if service.remove_endpoint(&endpoint).await.is_ok() {
                    tracing::info!(endpoint = %endpoint.id.short(), "an endpoint was rolled back");
                    return;
                }
            }
            tracing::error!(
                endpoint = %endpoint.id.short(),
                "an endpoint could not be rolled back: disconnect it"
            );
        });
    }

    /// Remove this node's endpoints whose sandboxes are gone: a killed agent may have left some.
    ///
    /// # Errors
    /// The store away.
    pub async fn remove_stray_endpoints(&self) -> Result<(), ServiceError> {
        self.ready_to_change().await?;
        for stray in self.believable_strays() {
            if self.remove_stray(&stray).await? {
                tracing::info!(
                    endpoint = %stray.id.short(), name = %stray.name,
                    "endpoint removed: it has no sandbox"
                );
            }
        }
        Ok(())
    }
}
