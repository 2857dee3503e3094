//! `cluster accept-empty`: an operator accepts what the stores say although it is not plausible.
//!
//! Each acceptance gives the cluster's records a new identity, and `cluster-accepted/<old>` points from the
//! former identity to it. With it, every host of the cluster that holds, or comes back later, accepts the
//! records too.

use std::sync::Arc;

use super::super::{Service, ServiceError, locks::to_the_end};
use crate::{
    intent::Source,
    kernel::Kernel,
    model::ClusterId,
    store::{Commit, CommitError, Identity, Key},
};

/// What this host holds, and what accepting removes from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptance {
    /// Why it is held.
    pub why: String,
    /// All hosts of the cluster will follow the store as it is; false if only this host's own store is held.
    pub whole_cluster: bool,
}

impl<K: Kernel> Service<K> {
    /// Reports what is held and which hosts accepting concerns; with `go_ahead` it accepts.
    ///
    /// # Errors
    /// Nothing is held; the store is away, or was changed at the same time.
    pub async fn accept_empty(self: &Arc<Self>, go_ahead: bool) -> Result<Acceptance, ServiceError> {
        let service = Arc::clone(self);
        to_the_end(async move { service.accept(go_ahead).await }).await
    }

    async fn accept(&self, go_ahead: bool) -> Result<Acceptance, ServiceError> {
        let Some(why) = self.world.held() else {
            return Err(ServiceError::InUse(
                "this host holds nothing, so there is nothing to accept (ovctl node ls on a host shows what \
                 it holds)"
                    .into(),
            ));
        };
        let whole_cluster = self.world.is_held(Source::Global);
        if go_ahead {
            if whole_cluster {
                self.accept_cluster().await?;
            }
            if self.world.is_held(Source::Local) {
                self.local.commit(Commit::new().delete(Key::Identity(Identity::Lost))).await?;
                self.world.accept(Source::Local);
            }
            tracing::warn!(whole_cluster, "accepted by ovctl cluster accept-empty: {why}");
        }
        Ok(Acceptance { why, whole_cluster })
    }

    async fn accept_cluster(&self) -> Result<(), ServiceError> {
        let known = self.world.cluster();
        let entry = self.global.get(&Key::Identity(Identity::Cluster)).await?.1;
        let found: Option<ClusterId> =
            entry.as_ref().and_then(|entry| String::from_utf8_lossy(&entry.value).trim().parse().ok());
        // The records of another cluster, or what a host that came earlier began, have an identity already.
        let to =
            found.filter(|found| Some(*found) != known).unwrap_or_else(|| ClusterId(uuid::Uuid::new_v4()));
        let mut commit = Commit::new()
            .unchanged(Key::Identity(Identity::Cluster), entry.map_or(0, |entry| entry.mod_revision))
            .put(Key::Identity(Identity::Cluster), to.to_string());
        if let Some(known) = known {
            commit = commit.put(Key::Identity(Identity::Accepted(known)), to.to_string());
        }
        match self.global.commit(commit).await {
            Ok(_) => {
                self.world.accept(Source::Global);
                Ok(())
            }
            Err(CommitError::Refused(_)) => Err(ServiceError::Busy(
                "the cluster's identity in the store was changed at the same time: check ovctl node ls, and \
                 try again if this host still holds"
                    .into(),
            )),
            Err(CommitError::Store(error)) => Err(error.into()),
        }
    }
}
