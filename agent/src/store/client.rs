//! The store as the rest of the agent sees it: list, get, commit.
//!
//! Reads go from endpoint to endpoint until one answers. A change whose answer is lost is looked up before it is sent
//! again. Whichever endpoint answered last is asked first.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use etcd_client::{Client, CompactionOptions, ResponseHeader, TxnResponse};
use tokio::time::{Instant, sleep, timeout};

use super::{
    Cause, Commit, CommitError, Embedded, Entry, EtcdConfig, Key, KeyRange, Listing, StoreError,
    backoff::Backoff,
    endpoint::{Endpoint, Fault},
    outcome, wire,
};

/// How long one endpoint may take for one answer.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// How often all endpoints are asked before a request fails.
const ROUNDS: u32 = 3;
/// No further round begins after this.
const PATIENCE: Duration = Duration::from_secs(5);
/// Entries of one page of a list.
const PAGE: i64 = 1000;
/// Entries of a list: a thousand networks with a thousand endpoints each.
const ENTRIES_MAX: usize = 1_000_000;
/// Largest answer, in bytes.
pub(super) const ANSWER_MAX: usize = 64 << 20;
/// How often a list starts again because its revision was compacted away meanwhile.
const LIST_TRIES: u32 = 3;

/// A store, cheap to clone. Needs no store to be up when it is made.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    endpoints: Vec<Endpoint>,
    /// All of them, for errors.
    names: String,
    /// The one to ask first.
    preferred: AtomicUsize,
    /// The latest revision that any answer carried.
    latest: AtomicI64,
}

/// Which history a revision belongs to: a store that was restored, or is another one, shows here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct History {
    pub(super) cluster: u64,
    pub(super) term: u64,
    pub(super) revision: i64,
}

impl From<&ResponseHeader> for History {
    fn from(header: &ResponseHeader) -> Self {
        Self { cluster: header.cluster_id(), term: header.raft_term(), revision: header.revision() }
    }
}

/// How often, and how long, a request goes on.
struct Rounds {
    left: u32,
    since: Instant,
    backoff: Backoff,
}

impl Rounds {
    fn begin() -> Self {
        Self { left: ROUNDS, since: Instant::now(), backoff: Backoff::new(rand::random()) }
    }

    /// Waits for the next round; `false` if it is time to give up.
    async fn another(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 || self.since.elapsed() > PATIENCE {
            return false;
        }
        sleep(self.backoff.next()).await;
        true
    }
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
        Self { shared: Arc::new(Shared { endpoints, names, preferred, latest }) }
    }

    /// Everything in `range`, at one revision.
    ///
    /// # Errors
    /// No answer, a refusal, or more than a million entries.
    pub async fn list(&self, range: &KeyRange) -> Result<Listing, StoreError> {
        self.list_with_history(range).await.map(|(listing, _)| listing)
    }

    pub(super) async fn list_with_history(&self, range: &KeyRange) -> Result<(Listing, History), StoreError> {
        let mut tries = 1;
        loop {
            match self.list_once(range).await {
                Err(StoreError::Compacted { .. }) if tries < LIST_TRIES => tries += 1,
                done => return done,
            }
        }
    }

    async fn list_once(&self, range: &KeyRange) -> Result<(Listing, History), StoreError> {
        const OPERATION: &str = "list keys";
        let mut history: Option<History> = None;
        let mut entries = Vec::new();
        let mut from = range.start.clone();
        loop {
            let mut options = wire::ranged(range).with_limit(PAGE);
            if let Some(history) = history {
                options = options.with_revision(history.revision);
            }
            let (key, options) = (&from, &options);
            let mut page = self
                .read(OPERATION, |client| async move {
                    let mut kv = client.kv_client().max_decoding_message_size(ANSWER_MAX);
                    kv.get(key.as_str(), Some(options.clone())).await
                })
                .await?;
            let seen = self.history(OPERATION, page.header())?;
            let history = *history.get_or_insert(seen);
            let more = page.more();
            // The next page starts right after the last key, text or not.
            let last = page.kvs().last().map(|kv| kv.key().to_vec());
            entries.append(&mut wire::entries(&mut page));
            if entries.len() > ENTRIES_MAX {
                let what = format!("there are more than {ENTRIES_MAX} keys");
                return Err(StoreError::TooLarge { operation: OPERATION, what });
            }
            match last.map(String::from_utf8) {
                Some(Ok(last)) if more => from = last + "\0",
                Some(Err(_foreign)) if more => {
                    return Err(self.corrupt(OPERATION, "a key is not text; delete it with etcdctl".into()));
                }
                Some(_) | None => return Ok((Listing { revision: history.revision, entries }, history)),
            }
        }
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

    /// Makes the change as one transaction; the revision that it made, or the store's if it changed nothing.
    ///
    /// A change whose answer is lost is looked up, and sent again only if it was not made. A change that others undid
    /// in between counts as not made: guard it, and they are noticed.
    ///
    /// # Errors
    /// [`CommitError::Refused`] with the guards that did not hold; else see [`StoreError`].
    pub async fn commit(&self, commit: Commit) -> Result<i64, CommitError> {
        const OPERATION: &str = "change keys";
        commit.check()?;
        let base = self.shared.latest.load(Ordering::Relaxed);
        let mut lost = None;
        let mut rounds = Rounds::begin();
        loop {
            let sent = self
                .attempt(|client| {
                    let txn = wire::txn(&commit);
                    async move { client.kv_client().txn(txn).await }
                })
                .await;
            match sent {
                Ok(response) => return self.answer(&commit, &response, lost.is_some(), base).await,
                Err(Fault::NotSent(cause)) => {
                    if !rounds.another().await {
                        return Err(self.given_up(cause, lost).into());
                    }
                }
                Err(Fault::Lost(cause)) => {
                    if let Ok(Some(revision)) = self.made(&commit, base).await {
                        return Ok(revision);
                    }
                    if !rounds.another().await {
                        return Err(StoreError::Unknown { endpoints: self.names(), source: cause }.into());
                    }
                    lost = Some(cause);
                }
                Err(fault @ Fault::No(_)) => return Err(fault.into_error(OPERATION, self.names()).into()),
            }
        }
    }

    /// Nobody takes the change any more: it was not made, unless an earlier try was lost on the way.
    fn given_up(&self, cause: Cause, lost: Option<Cause>) -> StoreError {
        match lost {
            None => Fault::NotSent(cause).into_error("change keys", self.names()),
            Some(source) => StoreError::Unknown { endpoints: self.names(), source },
        }
    }

    /// What an answered transaction means. One that is refused after an earlier try was lost may be refused because
    /// that try was made after all.
    async fn answer(
        &self,
        commit: &Commit,
        response: &TxnResponse,
        retried: bool,
        base: i64,
    ) -> Result<i64, CommitError> {
        let revision = self.history("change keys", response.header())?.revision;
        if response.succeeded() {
            return Ok(revision);
        }
        if retried && let Some(revision) = self.made(commit, base).await? {
            return Ok(revision);
        }
        Err(CommitError::Refused(wire::refusals(&commit.guards, response)))
    }

    /// The revision at which the change was made, going by what the store shows.
    async fn made(&self, commit: &Commit, base: i64) -> Result<Option<i64>, StoreError> {
        const OPERATION: &str = "look whether a change was made";
        let looked = self
            .read(OPERATION, |client| {
                let review = wire::review(&commit.writes);
                async move { client.kv_client().max_decoding_message_size(ANSWER_MAX).txn(review).await }
            })
            .await?;
        let now = self.history(OPERATION, looked.header())?.revision;
        let seen = wire::reviewed(&commit.writes, &looked);
        Ok(outcome::made_at(&commit.writes, &seen, base, now))
    }

    /// Whether the store answers, and who it is.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn status(&self) -> Result<Health, StoreError> {
        const OPERATION: &str = "tell its state";
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

    /// A request that may be sent any number of times: round after round over all endpoints.
    pub(super) async fn read<T, F>(
        &self,
        operation: &'static str,
        call: impl Fn(Client) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let mut rounds = Rounds::begin();
        loop {
            // A lost read is as good as one that was never sent: the next endpoint may have it.
            let mut fault = match self.attempt(&call).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            for _ in 1..self.shared.endpoints.len() {
                if !matches!(fault, Fault::Lost(_)) {
                    break;
                }
                fault = match self.attempt(&call).await {
                    Ok(answer) => return Ok(answer),
                    Err(fault) => fault,
                };
            }
            if matches!(fault, Fault::No(_)) || !rounds.another().await {
                return Err(fault.into_error(operation, self.names()));
            }
        }
    }

    /// A request, sent once at most: goes from endpoint to endpoint while it cannot be sent.
    async fn attempt<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let count = self.shared.endpoints.len();
        let first = self.shared.preferred.load(Ordering::Relaxed);
        let mut last = Fault::NotSent("there is no endpoint".into());
        for offset in 0..count {
            let at = (first + offset) % count;
            let Some(endpoint) = self.shared.endpoints.get(at) else { continue };
            last = match timeout(REQUEST_TIMEOUT, endpoint.client()).await {
                Err(elapsed) => Fault::NotSent(elapsed.into()),
                Ok(Err(error)) => match Fault::from(error) {
                    // Logging in changes nothing.
                    Fault::Lost(cause) => Fault::NotSent(cause),
                    fault => fault,
                },
                Ok(Ok(client)) => match timeout(REQUEST_TIMEOUT, call(client)).await {
                    Err(elapsed) => Fault::Lost(elapsed.into()),
                    Ok(Err(error)) => error.into(),
                    Ok(Ok(answer)) => {
                        self.shared.preferred.store(at, Ordering::Relaxed);
                        return Ok(answer);
                    }
                },
            };
            match last {
                Fault::NotSent(_) => {}
                Fault::Lost(_) => {
                    // Whoever lost it is asked last the next time.
                    self.shared.preferred.store((at + 1) % count, Ordering::Relaxed);
                    return Err(last);
                }
                Fault::No(_) => return Err(last),
            }
        }
        Err(last)
    }
}
