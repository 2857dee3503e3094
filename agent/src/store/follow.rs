//! Follow a range: a list, then every change of it, in order and exactly once, across any outage.
//!
//! An outage changes nothing but the status. What was compacted away, or a store that began anew, brings a snapshot,
//! which replaces all that was known. `client` has the requests, `hold` the other standing task.

use std::time::Duration;

use etcd_client::{EventType, WatchOptions, WatchResponse, WatchStream};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Change, KeyEvent, KeyRange, Store, StoreError, backoff::Backoff, client::ANSWER_MAX,
    endpoint::CallFailure, history::History, reach::REQUEST_TIMEOUT, wire,
};
use crate::model::chain;

/// Events of one revision, or of one answer, that come in pieces. Beyond it, a list is the better way.
const EVENTS_MAX: usize = 200_000;
/// A session that lasted this long was a good one: the next wait is short again.
const GOOD: Duration = Duration::from_secs(10);
const OPERATION: &str = "follow keys";

/// Whether the store is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreStatus {
    /// Not yet known.
    Starting,
    /// Its changes arrive.
    Connected,
    /// It is away, or does not let us in. What was known stays valid.
    Away {
        /// Since when.
        since: Instant,
        /// Why, in one line.
        error: String,
    },
}

/// Why a session ended.
enum End {
    /// The receiver is gone.
    Unheard,
    /// The resume point is of no use: list again.
    Relist,
    /// The store failed.
    Failed(StoreError),
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// Follows `range` until `stop`, or until nobody listens. Sends a [`Change::Snapshot`] first.
///
/// A full `out` holds the store back, nothing is dropped. The status is sent when it changes.
pub async fn follow(
    store: Store,
    range: KeyRange,
    out: mpsc::Sender<Change>,
    status: watch::Sender<StoreStatus>,
    stop: CancellationToken,
) {
    let mut follower = Follower { store, range, out, status, seen: None };
    let mut backoff = Backoff::new(rand::random());
    loop {
        let began = Instant::now();
        // Cancelling a session in the middle loses nothing that matters: we never come back.
        let end = tokio::select! {
            () = stop.cancelled() => return,
            end = follower.session() => end,
        };
        if began.elapsed() > GOOD {
            backoff.reset();
        }
        match end {
            End::Unheard => return,
            End::Relist => {
                tracing::info!(
                    range = %follower.range.start,
                    "listing again: the store no longer has the missed events"
                );
                follower.seen = None;
            }
            End::Failed(StoreError::Compacted { .. }) => follower.seen = None,
            End::Failed(error) => follower.away(&error),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = follower.out.closed() => return,
            () = sleep(backoff.next()) => {}
        }
    }
}

/// An answer that has not come whole yet.
#[derive(Default)]
struct Pieces {
    revision: i64,
    events: Vec<KeyEvent>,
}

struct Follower {
    store: Store,
    range: KeyRange,
    out: mpsc::Sender<Change>,
    status: watch::Sender<StoreStatus>,
    /// Up to where everything was sent, and in which history.
    seen: Option<History>,
}

impl Follower {
    /// Catches up, then passes changes on for as long as the stream lives.
    async fn session(&mut self) -> End {
        match self.pass_on().await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn pass_on(&mut self) -> Result<std::convert::Infallible, End> {
        self.catch_up().await?;
        let mut stream = self.open().await?;
        let mut pieces = Pieces::default();
        loop {
            let message = stream.message().await.map_err(|error| self.failed(error))?;
            let Some(answer) = message else {
                return Err(self.broken("the store closed the stream".into(), Duration::ZERO).into());
            };
            self.take(answer, &mut pieces).await?;
        }
    }

    /// A first list, or a check that the resume point is still one of this store's.
    async fn catch_up(&mut self) -> Result<(), End> {
        if let Some(seen) = self.seen {
            let head = self.store.head(&self.range).await?;
            if same_history(&seen, &head) {
                self.seen = Some(History { revision: seen.revision, ..head });
                return Ok(());
            }
            tracing::warn!(was = ?seen, is = ?head, "the store is not the same as before: listing it again");
            self.seen = None;
        }
        let (listing, history) = self.store.list_with_history(&self.range).await?;
        self.store.restart_from(history.revision);
        self.send(Change::Snapshot(listing)).await?;
        self.seen = Some(history);
        Ok(())
    }

    /// A watch from right after the resume point; the store has confirmed it when this returns.
    async fn open(&mut self) -> Result<WatchStream, End> {
        let from = self.seen.map_or(0, |seen| seen.revision + 1);
        // No progress is ever asked for: etcd before 3.4.25 answers that before the events it counts. What it sends of
        // its own accord is in order.
        let options = WatchOptions::new()
            .with_range(self.range.end.as_str())
            .with_start_revision(from)
            .with_progress_notify()
            .with_fragment();
        let start = self.range.start.as_str();
        let mut stream = self
            .store
            .read(OPERATION, |client| {
                let options = options.clone();
                async move {
                    let mut watch = client.watch_client().max_decoding_message_size(ANSWER_MAX);
                    watch.watch(start, Some(options)).await
                }
            })
            .await?;
        let first = match timeout(REQUEST_TIMEOUT, stream.message()).await {
            Err(elapsed) => return Err(self.broken(elapsed.into(), REQUEST_TIMEOUT).into()),
            Ok(Err(error)) => return Err(self.failed(error).into()),
            Ok(Ok(None)) => {
                return Err(self.broken("the store closed the stream".into(), Duration::ZERO).into());
            }
            Ok(Ok(Some(answer))) => answer,
        };
        refused(&first).map_or(Ok(()), |reason| Err(self.cancelled(&first, reason)))?;
        if !first.created() {
            return Err(self.store.corrupt(OPERATION, "it did not confirm the watch".into()).into());
        }
        self.status.send_if_modified(|status| {
            let changed = *status != StoreStatus::Connected;
            *status = StoreStatus::Connected;
            changed
        });
        Ok(stream)
    }

    /// Passes one answer on, once it is whole.
    async fn take(&mut self, answer: WatchResponse, pieces: &mut Pieces) -> Result<(), End> {
        if let Some(reason) = refused(&answer) {
            return Err(self.cancelled(&answer, reason));
        }
        let Some(seen) = self.seen else { return Err(End::Relist) };
        for event in answer.events() {
            let Some(kv) = event.kv() else {
                return Err(self.store.corrupt(OPERATION, "an event has no key".into()).into());
            };
            // What a list or an earlier stream has shown already is not news.
            if kv.mod_revision() <= seen.revision {
                continue;
            }
            pieces.revision = kv.mod_revision();
            let deleted = event.event_type() == EventType::Delete;
            if let Some(entry) = wire::entry(kv.clone()) {
                let key = entry.key.clone();
                pieces.events.push(KeyEvent { key, entry: (!deleted).then_some(entry) });
            }
        }
        if pieces.events.len() > EVENTS_MAX {
            return Err(End::Relist);
        }
        if answer.0.fragment {
            return Ok(());
        }
        let Pieces { mut revision, events } = std::mem::take(pieces);
        if answer.events().is_empty() && events.is_empty() {
            // A progress notification: all up to the header's revision has been sent.
            revision = self.store.history(OPERATION, answer.header())?.revision;
        }
        let revision = revision.max(seen.revision);
        if !events.is_empty() {
            self.send(Change::Events { revision, events }).await?;
        }
        self.seen = Some(History { revision, ..seen });
        Ok(())
    }

    async fn send(&self, change: Change) -> Result<(), End> {
        self.out.send(change).await.map_err(|_unsent| End::Unheard)
    }

    fn cancelled(&self, answer: &WatchResponse, reason: &str) -> End {
        if answer.compact_revision() > 0 {
            return End::Relist;
        }
        let reason = if reason.is_empty() { "no reason given" } else { reason };
        let denied = reason.contains("permission denied") || reason.contains("auth");
        let (endpoints, source) = (self.store.names(), reason.into());
        End::Failed(if denied {
            StoreError::Auth { operation: OPERATION, endpoints, source }
        } else {
            StoreError::Away { operation: OPERATION, endpoints, waited: Duration::ZERO, source }
        })
    }

    fn failed(&self, error: etcd_client::Error) -> StoreError {
        CallFailure::from(error).into_error(OPERATION, self.store.names(), Duration::ZERO)
    }

    fn broken(&self, source: super::Cause, waited: Duration) -> StoreError {
        StoreError::Away { operation: OPERATION, endpoints: self.store.names(), waited, source }
    }

    /// Tells that the store is away; the moment it went is kept.
    fn away(&self, error: &StoreError) {
        let error = chain(error);
        tracing::debug!(%error, "the store is away");
        self.status.send_if_modified(|status| match status {
            StoreStatus::Away { error: known, .. } if *known == error => false,
            StoreStatus::Away { error: known, .. } => {
                *known = error;
                true
            }
            StoreStatus::Starting | StoreStatus::Connected => {
                *status = StoreStatus::Away { since: Instant::now(), error };
                true
            }
        });
    }
}

/// The reason of a watch that the store ended.
fn refused(answer: &WatchResponse) -> Option<&str> {
    (answer.canceled() || answer.compact_revision() > 0).then(|| answer.cancel_reason())
}

/// Whether `head` continues what was `seen`: the same cluster, and neither its term nor its revision went back, as they
/// do when it is restored from a backup.
fn same_history(seen: &History, head: &History) -> bool {
    head.cluster == seen.cluster && head.term >= seen.term && head.revision >= seen.revision
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_went_back_or_is_another_one_is_noticed() {
        let seen = History { cluster: 1, term: 4, revision: 100 };
        assert!(same_history(&seen, &History { cluster: 1, term: 5, revision: 100 }));
        for other in [
            History { cluster: 2, ..seen },
            History { term: 3, revision: 200, ..seen },
            History { revision: 99, ..seen },
        ] {
            assert!(!same_history(&seen, &other), "{other:?}");
        }
    }
}
