//! The store as the rest of the agent sees it: what is there.
//! Lists are `list`'s, changing it is `transact`'s, getting there `reach`'s, keeping up with it `follow`'s.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
};

use etcd_client::{Client, CompactionOptions, ResponseHeader};

use super::{
    Embedded, Entry, EtcdConfig, Key, KeyRange, StoreError, endpoint::Endpoint, history::History, wire,
};

/// Largest answer, in bytes.
pub(super) const ANSWER_MAX: usize = 64 << 20;
/// Entries of a page: with a dozen published ports each they are some 10 MiB, of the 64 that an answer may have.
pub(super) const PAGE: i64 = 20_000;

/// A store, cheap to clone. Needs no store to be up when it is made.
#[derive(Clone)]
pub struct Store {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) endpoints: Vec<Endpoint>,
    /// All of them, for errors.
    pub(super) names: String,
    /// The one to ask first.
    pub(super) preferred: AtomicUsize,
    /// The latest revision that any answer carried.
    pub(super) latest: AtomicI64,
    /// How long the last slow answer took, in milliseconds; 0: it is not slow.
    pub(super) slow: AtomicU64,
    /// How many entries the next page of a list may have.
    pub(super) page: AtomicI64,
    /// The largest answer that is taken, in bytes.
    pub(super) answer_max: usize,
}

/// A store that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Its version.
    pub version: String,
    /// Its latest revision.
    pub revision: i64,
    /// Size of its database, in bytes.
    pub db_size: i64,
    /// Its cluster's identifier.
    pub cluster: u64,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.shared.names).finish()
    }
}

impl Store {
    /// An etcd. Connects when first used.
    ///
    /// # Errors
    /// An endpoint that is none, a TLS file that cannot be read or used.
    pub fn etcd(config: &EtcdConfig) -> Result<Self, StoreError> {
        Ok(Self::of(Endpoint::etcd(config)?, config.endpoints.join(",")))
    }

    /// The embedded server of this process, without a socket.
    pub fn embedded(server: &Embedded) -> Self {
        Self::of(vec![Endpoint::embedded(server)], "this node".into())
    }

    fn of(endpoints: Vec<Endpoint>, names: String) -> Self {
        let (preferred, latest) = (AtomicUsize::new(0), AtomicI64::new(0));
        let (slow, page) = (AtomicU64::new(0), AtomicI64::new(PAGE));
        let answer_max = ANSWER_MAX;
        Self { shared: Arc::new(Shared { endpoints, names, preferred, latest, slow, page, answer_max }) }
    }

    /// What `key` has, and the revision at which that was so.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn get(&self, key: &Key) -> Result<(i64, Option<Entry>), StoreError> {
        const OPERATION: &str = "read a key";
        let name = &key.to_string();
        let mut found = self
            .read(OPERATION, |client| async move { client.kv_client().get(name.as_str(), None).await })
            .await?;
        let revision = self.history(OPERATION, found.header())?.revision;
        Ok((revision, wire::entries(&mut found).into_iter().next()))
    }

    /// Whether the store answers, and who it is.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn status(&self) -> Result<Health, StoreError> {
        const OPERATION: &str = "read its state";
        let status =
            self.read(OPERATION, |client| async move { client.maintenance_client().status().await }).await?;
        let history = self.history(OPERATION, status.header())?;
        Ok(Health {
            version: status.version().to_owned(),
            revision: history.revision,
            db_size: status.db_size(),
            cluster: history.cluster,
        })
    }

    /// Forgets what was before `revision`. Followers that are further behind start again from a list.
    ///
    /// # Errors
    /// No answer, or a refusal: [`StoreError::Compacted`] if that was done already.
    pub async fn compact(&self, revision: i64) -> Result<(), StoreError> {
        const OPERATION: &str = "compact its history";
        let options = CompactionOptions::new().with_physical();
        let compact = |client: Client| {
            let options = options.clone();
            async move { client.kv_client().compact(revision, Some(options)).await }
        };
        self.read(OPERATION, compact).await.map(drop)
    }

    /// The latest revision and history of the store.
    pub(super) async fn head(&self, range: &KeyRange) -> Result<History, StoreError> {
        const OPERATION: &str = "read its revision";
        let found = self
            .read(OPERATION, |client| async move {
                let options = wire::ranged(range).with_limit(1).with_keys_only();
                client.kv_client().get(range.start.as_str(), Some(options)).await
            })
            .await?;
        self.history(OPERATION, found.header())
    }

    /// Notes a store that began anew: its revisions are to be counted from here.
    pub(super) fn restart_from(&self, revision: i64) {
        self.shared.latest.store(revision, Ordering::Relaxed);
    }

    pub(super) fn names(&self) -> String {
        self.shared.names.clone()
    }

    pub(super) fn corrupt(&self, operation: &'static str, what: String) -> StoreError {
        StoreError::Corrupt { operation, endpoints: self.names(), what }
    }

    pub(super) fn history(
        &self,
        operation: &'static str,
        header: Option<&ResponseHeader>,
    ) -> Result<History, StoreError> {
        let Some(header) = header else {
            return Err(self.corrupt(operation, "the answer has no header".into()));
        };
        self.shared.latest.fetch_max(header.revision(), Ordering::Relaxed);
        Ok(header.into())
    }
}
