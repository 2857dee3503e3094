//! One verb at a time on a sandbox or on a local network. Each verb runs to its end, even if its client
//! disconnects.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ServiceError;
use crate::model::{Name, NetworkId};

/// How long a verb waits for its turn.
const PATIENCE: Duration = Duration::from_secs(60);

/// The objects that verbs take turns on. A verb that needs several takes them in this order: sandboxes (a
/// sharing one before its owner), then the variants below.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    /// A sandbox.
    Sandbox(Name),
    /// A local network: its store has only one writer, so a verb that waits needs no retry.
    Network(NetworkId),
    /// The creation of local networks, which must not choose the same subnet, parent or bridge.
    Creation,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sandbox(name) => write!(f, "sandbox {name}"),
            Self::Network(id) => write!(f, "network {}", id.short()),
            Self::Creation => f.write_str("other networks of this host"),
        }
    }
}

/// The turns that are held.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<BTreeMap<Work, Arc<Semaphore>>>);

/// A held turn: no other verb works on the object until this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl Turns {
    /// Wait for the turn on a sandbox.
    ///
    /// # Errors
    /// The wait takes too long.
    pub(super) async fn take(&self, sandbox: &Name) -> Result<Turn, ServiceError> {
        self.wait(Work::Sandbox(sandbox.clone())).await
    }

    /// Wait for the turn.
    ///
    /// # Errors
    /// The wait takes too long.
    pub(super) async fn wait(&self, work: Work) -> Result<Turn, ServiceError> {
        let one = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever waits or works holds one more.
            all.retain(|_, one| Arc::strong_count(one) > 1);
            Arc::clone(all.entry(work.clone()).or_insert_with(|| Arc::new(Semaphore::new(1))))
        };
        match tokio::time::timeout(PATIENCE, one.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Turn { _permit: permit }),
            Ok(Err(_)) | Err(_) => Err(ServiceError::Busy(format!(
                "another operation on {work} is still running (waited {} s): try again",
                PATIENCE.as_secs()
            ))),
        }
    }
}

/// Run `verb` to its end, even if its caller goes away: the front drops a call whose client is gone.
///
/// # Errors
/// The verb's, or that the agent is stopping.
pub(super) async fn to_the_end<T: Send + 'static>(
    verb: impl Future<Output = Result<T, ServiceError>> + Send + 'static,
) -> Result<T, ServiceError> {
    let done = tokio::spawn(verb).await;
    done.unwrap_or_else(|error| Err(ServiceError::Internal(format!("the agent is stopping: {error}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_are_taken_one_after_the_other_and_leave_nothing_behind() {
        let turns = Turns::default();
        let (a, b): (Name, Name) = ("a".parse().unwrap(), "b".parse().unwrap());
        let first = turns.take(&a).await.unwrap();
        let other = turns.take(&b).await.unwrap();
        assert!(matches!(turns.take(&a).await, Err(ServiceError::Busy(_))));
        drop((first, other));
        drop(turns.take(&a).await.unwrap());
        drop(turns.take(&b).await.unwrap());
        assert_eq!(turns.0.lock().unwrap().len(), 1);
    }
}
