//! Hold a key: it exists for as long as this task runs, and a lease takes it away when we no longer can.

use std::time::Duration;

use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Commit, CommitError, Entry, Key, Retry, Store, StoreError, backoff::Backoff};

/// Shortest lease, in seconds: etcd itself grants no shorter one.
const TTL_MIN: i64 = 2;
/// How long taking the key away may hold up a shutdown.
const FAREWELL: Duration = Duration::from_millis(400);

/// The state of a held key, as its holder last saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tenure {
    /// The store has not been asked yet, or did not answer.
    #[default]
    Pending,
    /// Nobody else has the key.
    Free,
    /// It is ours.
    Held,
    /// A different holder has it, with this value, as long as its lease lives.
    Taken(Bytes),
}

/// Decides whether a value may be replaced, or belongs to a different holder.
pub type IsOurs = Box<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// A key to be held, and whose it may be.
pub struct Claim {
    /// The key.
    pub key: Key,
    /// What it is to have.
    pub value: Bytes,
    /// How long it stays when its holder does not renew it: whole seconds, at least 2.
    pub ttl: Duration,
    /// Whether the key may be taken over from whoever gave it this other value.
    pub ours: IsOurs,
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key, value, ttl, ours: _ } = self;
        f.debug_struct("Claim")
            .field("key", key)
            .field("value", value)
            .field("ttl", ttl)
            .finish_non_exhaustive()
    }
}

/// Keeps `key` at `value`, bound to a lease of `ttl` (whole seconds, at least 2), until `stop`; then takes it away.
///
/// A lease that expired in an outage is replaced, a key that somebody deleted or changed is put again, both within a
/// third of `ttl` after the store can be reached.
pub async fn hold(store: Store, key: Key, value: Bytes, ttl: Duration, stop: CancellationToken) {
    let claim = Claim { key, value, ttl, ours: Box::new(|_value| true) };
    hold_claim(store, claim, watch::Sender::default(), stop).await;
}

/// As [`hold`], for a key that a different holder may have: it is not touched while that holder's
/// lease lives, and taken within a third of the claim's time after the lease ended. `tenure` reports the
/// state.
pub async fn hold_claim(store: Store, claim: Claim, tenure: watch::Sender<Tenure>, stop: CancellationToken) {
    let ttl = claim.ttl;
    let mut holder = Holder { store, claim, tenure, lease: None };
    let mut backoff = Backoff::new(rand::random());
    loop {
        // A round that is cancelled leaves a lease that `release` revokes or that expires.
        let done = tokio::select! {
            () = stop.cancelled() => break,
            done = holder.round() => done,
        };
        let wait = match done {
            Ok(Done::ForNow) => {
                backoff.reset();
                ttl / 3
            }
            Ok(Done::LookAgain) => backoff.next() / 10,
            Err(error) if error.retry() == Retry::Look => backoff.next() / 10,
            Err(error) => {
                let key = &holder.claim.key;
                tracing::debug!(%key, error = %crate::model::chain(&error), "cannot hold a key");
                backoff.next().min(ttl / 3)
            }
        };
        tokio::select! {
            () = stop.cancelled() => break,
            () = sleep(wait) => {}
        }
    }
    holder.release().await;
}

struct Holder {
    store: Store,
    claim: Claim,
    tenure: watch::Sender<Tenure>,
    /// The lease that the key is bound to.
    lease: Option<i64>,
}

/// What a round came to.
enum Done {
    /// There is nothing to do until the lease is to be renewed.
    ForNow,
    /// Somebody changed the key at the same time.
    LookAgain,
}

impl Holder {
    /// Looks at the key and renews the lease; makes anew what is missing.
    async fn round(&mut self) -> Result<Done, StoreError> {
        let (_, found) = self.store.get(&self.claim.key).await?;
        let found = found.as_ref();
        if let Some(entry) = found.filter(|entry| self.is_of_another(entry)) {
            self.tell(Tenure::Taken(entry.value.clone()));
            // Nothing is bound to it: it expires.
            self.lease = None;
            return Ok(Done::ForNow);
        }
        if *self.tenure.borrow() != Tenure::Held {
            self.tell(Tenure::Free);
        }
        let lease = match self.lease {
            Some(lease) => {
                self.renew(lease).await?;
                lease
            }
            None => self.store.grant(self.seconds()).await?,
        };
        self.lease = Some(lease);
        if !found.is_some_and(|entry| entry.lease == lease && entry.value == self.claim.value) {
            let Claim { key, value, .. } = &self.claim;
            // Of two that come at the same time one is first.
            let put = Commit::new()
                .unchanged(key.clone(), found.map_or(0, |entry| entry.mod_revision))
                .put_leased(key.clone(), value.clone(), lease);
            match self.store.commit(put).await {
                Ok(_) => {}
                Err(CommitError::Refused(_)) => return Ok(Done::LookAgain),
                Err(CommitError::Store(error)) => return Err(error),
            }
        }
        self.tell(Tenure::Held);
        Ok(Done::ForNow)
    }

    /// Whether the key belongs to a different holder. A key without a lease is a leftover and belongs to no
    /// one.
    fn is_of_another(&self, entry: &Entry) -> bool {
        entry.lease != 0 && entry.value != self.claim.value && !(self.claim.ours)(&entry.value)
    }

    async fn renew(&mut self, lease: i64) -> Result<(), StoreError> {
        let renewed = self.store.renew(lease).await;
        if matches!(renewed, Err(StoreError::LeaseGone { .. })) {
            self.lease = None;
        }
        renewed
    }

    fn tell(&self, now: Tenure) {
        self.tenure.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
    }

    fn seconds(&self) -> i64 {
        let whole = self.claim.ttl.as_secs() + u64::from(self.claim.ttl.subsec_nanos() > 0);
        i64::try_from(whole).unwrap_or(i64::MAX).max(TTL_MIN)
    }

    /// Takes the key away with its lease.
    async fn release(&self) {
        let Some(lease) = self.lease else { return };
        match timeout(FAREWELL, self.store.revoke(lease)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the lease stays until it expires"),
            Err(_elapsed) => tracing::debug!("the lease stays until it expires"),
        }
    }
}
