//! Changing the store: one transaction, and what to do when its answer is lost.
//!
//! A change whose answer is lost is looked up before it is sent again. `outcome` decides what the look shows.

use std::{sync::atomic::Ordering, time::Duration};

use etcd_client::TxnResponse;

use super::{
    Cause, Commit, CommitError, Store, StoreError, client::ANSWER_MAX, endpoint::CallFailure, outcome,
    reach::Rounds, wire,
};

/// What errors call it.
const OPERATION: &str = "change keys";

impl Store {
    /// Makes the change as one transaction; the revision that it made, or the store's if it changed nothing.
    ///
    /// A change whose answer is lost is looked up, and sent again only if it was not made. A change that others undid
    /// in between counts as not made: guard it, and they are noticed.
    ///
    /// # Errors
    /// [`CommitError::Refused`] with the guards that did not hold; else see [`StoreError`].
    pub async fn commit(&self, commit: Commit) -> Result<i64, CommitError> {
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
                Err(CallFailure::NotSent(cause)) => {
                    if !rounds.another().await {
                        return Err(self.given_up(cause, lost, rounds.waited()).into());
                    }
                }
                Err(CallFailure::Lost(cause)) => {
                    if let Ok(Some(revision)) = self.made(&commit, base).await {
                        return Ok(revision);
                    }
                    if !rounds.another().await {
                        return Err(self.unknown(cause, rounds.waited()).into());
                    }
                    lost = Some(cause);
                }
                Err(fault @ CallFailure::No(_)) => {
                    return Err(fault.into_error(OPERATION, self.names(), rounds.waited()).into());
                }
            }
        }
    }

    /// Nobody takes the change any more: it was not made, unless an earlier try was lost on the way.
    fn given_up(&self, cause: Cause, lost: Option<Cause>, waited: Duration) -> StoreError {
        match lost {
            None => CallFailure::NotSent(cause).into_error(OPERATION, self.names(), waited),
            Some(source) => self.unknown(source, waited),
        }
    }

    fn unknown(&self, source: Cause, waited: Duration) -> StoreError {
        StoreError::Unknown { endpoints: self.names(), waited, source }
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
        let revision = self.history(OPERATION, response.header())?.revision;
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
}
