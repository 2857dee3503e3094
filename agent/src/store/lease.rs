//! Leases: grant, renew, revoke. [`hold`](super::hold()) is what most callers want.

use super::{Store, StoreError};

impl Store {
    /// A new lease of `seconds`; its identifier. Keys bound to it vanish when it is not renewed for that long.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn grant(&self, seconds: i64) -> Result<i64, StoreError> {
        // A grant whose answer is lost leaves a lease without keys, which expires.
        let grant =
            |client: etcd_client::Client| async move { client.lease_client().grant(seconds, None).await };
        self.read("grant a lease", grant).await.map(|granted| granted.id())
    }

    /// Renews a lease for its full time.
    ///
    /// # Errors
    /// [`StoreError::LeaseGone`] if it has expired; else no answer, or a refusal.
    pub async fn renew(&self, lease: i64) -> Result<(), StoreError> {
        // One short stream for each renewal: a long one ends with every restart and never comes back.
        let renew =
            |client: etcd_client::Client| async move { client.lease_client().keep_alive(lease).await };
        self.read("renew a lease", renew).await.map(drop)
    }

    /// Ends a lease, and with it the keys bound to it. One that has ended already is fine.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn revoke(&self, lease: i64) -> Result<(), StoreError> {
        let revoke = |client: etcd_client::Client| async move { client.lease_client().revoke(lease).await };
        match self.read("revoke a lease", revoke).await {
            Ok(_) | Err(StoreError::LeaseGone { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
