//! Getting a request to the store: endpoint by endpoint, with a limit on tries and time.
//!
//! Reads go on from endpoint to endpoint until one answers. What may be sent only once goes on only while it cannot be
//! sent at all. Whichever endpoint answered last is asked first.

use std::{future::Future, sync::atomic::Ordering, time::Duration};

use etcd_client::Client;
use tokio::time::{Instant, sleep, timeout};

use super::{Store, StoreError, backoff::Backoff, endpoint::CallFailure};

/// How long one endpoint may take for one answer.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// How often all endpoints are asked before a request fails.
const ROUNDS: u32 = 3;
/// No further round begins after this.
const PATIENCE: Duration = Duration::from_secs(5);
/// A store that takes longer for an answer is slow: the log says so, once.
const SLOW: Duration = Duration::from_secs(1);
/// A store that was slow is no longer when it answers within this.
const QUICK: Duration = Duration::from_millis(250);

/// How often, and how long, a request goes on.
pub(super) struct Rounds {
    left: u32,
    since: Instant,
    backoff: Backoff,
}

impl Rounds {
    pub(super) fn begin() -> Self {
        Self { left: ROUNDS, since: Instant::now(), backoff: Backoff::new(rand::random()) }
    }

    /// How long it has been so far.
    pub(super) fn waited(&self) -> Duration {
        self.since.elapsed()
    }

    /// Waits for the next round; `false` if it is time to give up.
    pub(super) async fn another(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 || self.since.elapsed() > PATIENCE {
            return false;
        }
        sleep(self.backoff.next()).await;
        true
    }
}

impl Store {
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
                if !matches!(fault, CallFailure::Lost(_)) {
                    break;
                }
                fault = match self.attempt(&call).await {
                    Ok(answer) => return Ok(answer),
                    Err(fault) => fault,
                };
            }
            if matches!(fault, CallFailure::No(_)) || !rounds.another().await {
                return Err(fault.into_error(operation, self.names(), rounds.waited()));
            }
        }
    }

    /// A request, sent once at most: goes from endpoint to endpoint while it cannot be sent.
    pub(super) async fn attempt<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T, CallFailure>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let count = self.shared.endpoints.len();
        let first = self.shared.preferred.load(Ordering::Relaxed);
        let mut last = CallFailure::NotSent("there is no endpoint".into());
        for offset in 0..count {
            let at = (first + offset) % count;
            let Some(endpoint) = self.shared.endpoints.get(at) else { continue };
            let began = Instant::now();
            last = match timeout(REQUEST_TIMEOUT, endpoint.client()).await {
                Err(elapsed) => CallFailure::NotSent(elapsed.into()),
                Ok(Err(error)) => CallFailure::from(error).before_sending(),
                Ok(Ok(client)) => match timeout(REQUEST_TIMEOUT, call(client)).await {
                    Err(elapsed) => {
                        self.note_pace(began.elapsed());
                        CallFailure::Lost(elapsed.into())
                    }
                    Ok(Err(error)) => error.into(),
                    Ok(Ok(answer)) => {
                        self.shared.preferred.store(at, Ordering::Relaxed);
                        self.note_pace(began.elapsed());
                        return Ok(answer);
                    }
                },
            };
            match last {
                CallFailure::NotSent(_) => {}
                CallFailure::Lost(_) => {
                    // Whoever lost it is asked last the next time.
                    self.shared.preferred.store((at + 1) % count, Ordering::Relaxed);
                    return Err(last);
                }
                CallFailure::No(_) => return Err(last),
            }
        }
        Err(last)
    }

    /// How long the last slow answer took, or was waited for, while the store is slow.
    pub fn slowness(&self) -> Option<Duration> {
        match self.shared.slow.load(Ordering::Relaxed) {
            0 => None,
            millis => Some(Duration::from_millis(millis)),
        }
    }

    /// Takes note of how long an answer took, or was waited for, and says once each when the store becomes slow and when it no longer is.
    fn note_pace(&self, took: Duration) {
        let slow = &self.shared.slow;
        let names = &self.shared.names;
        if took >= SLOW {
            let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            if slow.swap(millis, Ordering::Relaxed) == 0 {
                tracing::warn!(
                    "the store at {names} is slow: it needs {:.1} s or more for an answer, so changes take \
                     longer or fail",
                    took.as_secs_f64()
                );
            }
        } else if took <= QUICK && slow.swap(0, Ordering::Relaxed) != 0 {
            tracing::info!("the store at {names} answers quickly again");
        }
    }
}
