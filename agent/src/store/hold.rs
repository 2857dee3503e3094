//! Hold a key: it exists for as long as this task runs, and a lease takes it away when we no longer can.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Commit, CommitError, Key, Retry, Store, StoreError, backoff::Backoff};

/// Shortest lease, in seconds: etcd itself grants no shorter one.
const TTL_MIN: i64 = 2;
/// How long taking the key away may hold up a shutdown.
const FAREWELL: Duration = Duration::from_secs(1);

/// Keeps `key` at `value`, bound to a lease of `ttl` (whole seconds, at least 2), until `stop`; then takes it away.
///
/// A lease that expired in an outage is replaced, a key that somebody deleted or changed is put again, both within a
/// third of `ttl` after the store can be reached.
pub async fn hold(store: Store, key: Key, value: Bytes, ttl: Duration, stop: CancellationToken) {
    let mut holder = Holder { store, key, value, ttl, lease: None };
    let mut backoff = Backoff::new(rand::random());
    loop {
        // A round that is cancelled leaves a lease that `farewell` revokes or that expires.
        let done = tokio::select! {
            () = stop.cancelled() => break,
            done = holder.round() => done,
        };
        let wait = match done {
            Ok(()) => {
                backoff.reset();
                ttl / 3
            }
            Err(error) if error.retry() == Retry::Look => backoff.next() / 10,
            Err(error) => {
                tracing::debug!(key = %holder.key, error = %super::error::chain(&error), "cannot keep a key alive");
                backoff.next().min(ttl / 3)
            }
        };
        tokio::select! {
            () = stop.cancelled() => break,
            () = sleep(wait) => {}
        }
    }
    holder.farewell().await;
}

struct Holder {
    store: Store,
    key: Key,
    value: Bytes,
    ttl: Duration,
    /// The lease that the key is bound to.
    lease: Option<i64>,
}

impl Holder {
    /// Renews the lease and looks at the key; makes anew what is missing.
    async fn round(&mut self) -> Result<(), StoreError> {
        let lease = match self.lease {
            Some(lease) => lease,
            None => self.store.grant(self.seconds()).await?,
        };
        self.lease = Some(lease);
        if let Err(error) = self.renew(lease).await {
            if matches!(error, StoreError::LeaseGone { .. }) {
                self.lease = None;
            }
            return Err(error);
        }
        Ok(())
    }

    async fn renew(&self, lease: i64) -> Result<(), StoreError> {
        self.store.renew(lease).await?;
        let (_, found) = self.store.get(&self.key).await?;
        if found.is_some_and(|entry| entry.lease == lease && entry.value == self.value) {
            return Ok(());
        }
        let put = Commit::new().put_leased(self.key.clone(), self.value.clone(), lease);
        match self.store.commit(put).await {
            Ok(_) | Err(CommitError::Refused(_)) => Ok(()),
            Err(CommitError::Store(error)) => Err(error),
        }
    }

    fn seconds(&self) -> i64 {
        let whole = self.ttl.as_secs() + u64::from(self.ttl.subsec_nanos() > 0);
        i64::try_from(whole).unwrap_or(i64::MAX).max(TTL_MIN)
    }

    /// Takes the key away with its lease.
    async fn farewell(&self) {
        let Some(lease) = self.lease else { return };
        match timeout(FAREWELL, self.store.revoke(lease)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the lease stays until it expires"),
            Err(_elapsed) => tracing::debug!("the lease stays until it expires"),
        }
    }
}
