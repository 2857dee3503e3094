//! The agent's tasks: few and long. The first one that ends on its own ends the agent.
//!
//! They end in turns: first what answers people, while all that their verbs need is there, last the resolvers, whose silence the
//! sandboxes notice.

use std::{future::Future, time::Duration};

use anyhow::{Result, bail};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::{JoinError, JoinSet},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// How long the tasks have to end, all turns together.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a task ended.
type Ended = Result<(&'static str, Result<()>), JoinError>;

/// Tasks that end together.
#[derive(Default)]
struct Turn {
    running: JoinSet<(&'static str, Result<()>)>,
    stop: CancellationToken,
}

impl Turn {
    async fn ended(&mut self) -> Ended {
        match self.running.join_next().await {
            Some(ended) => ended,
            None => std::future::pending().await,
        }
    }

    /// End them; false: not in time.
    async fn end(&mut self, by: Instant) -> bool {
        self.stop.cancel();
        timeout_at(by, async { while self.running.join_next().await.is_some() {} }).await.is_ok()
    }
}

/// Which tasks end when.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    /// Before all others.
    First,
    /// After those, together.
    Then,
    /// When nothing else runs any more.
    Last,
}

/// Tasks, and the stop of those that neither end first nor last.
#[derive(Default)]
pub(super) struct Tasks {
    first: Turn,
    then: Turn,
    last: Turn,
    pub(super) stop: CancellationToken,
}

impl Tasks {
    pub(super) fn new() -> Self {
        let mut tasks = Self::default();
        tasks.then.stop = tasks.stop.clone();
        tasks
    }

    /// Run a task that ends only when it is stopped.
    pub(super) fn run(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.run_fallible(name, async {
            task.await;
            Ok(())
        });
    }

    /// The same for one that can fail.
    pub(super) fn run_fallible(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<()>> + Send + 'static,
    ) {
        self.run_until(When::Then, name, |_stop| task);
    }

    /// The same for one whose end has its turn; it is given what stops it.
    pub(super) fn run_until<F: Future<Output = Result<()>> + Send + 'static>(
        &mut self,
        when: When,
        name: &'static str,
        task: impl FnOnce(CancellationToken) -> F,
    ) {
        let turn = match when {
            When::First => &mut self.first,
            When::Then => &mut self.then,
            When::Last => &mut self.last,
        };
        let task = task(turn.stop.clone());
        turn.running.spawn(async move { (name, task.await) });
    }

    /// Wait for SIGTERM, SIGINT, or a task that ends early; then stop all of them, and wait a bounded time.
    pub(super) async fn until_stopped(mut self) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let early = tokio::select! {
            // Each arm only says that it is over; none of them holds anything.
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            ended = self.first.ended() => Some(ended),
            ended = self.then.ended() => Some(ended),
            ended = self.last.ended() => Some(ended),
        };
        let by = Instant::now() + PATIENCE;
        let mut all = true;
        for turn in [&mut self.first, &mut self.then, &mut self.last] {
            all &= turn.end(by).await;
        }
        if !all {
            tracing::warn!(patience = ?PATIENCE, "some tasks did not stop in time");
        }
        match early {
            None => Ok(()),
            Some(Ok((name, Ok(())))) => bail!("the {name} ended early"),
            Some(Ok((name, Err(error)))) => Err(error.context(format!("the {name} failed"))),
            Some(Err(error)) => bail!("a task died: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn tasks_end_in_turns_and_one_that_ends_early_ends_all() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Tasks::new();
        for (when, name) in [(When::Last, "last"), (When::Then, "then"), (When::First, "first")] {
            let order = Arc::clone(&order);
            tasks.run_until(when, name, |stop| async move {
                stop.cancelled().await;
                tokio::task::yield_now().await;
                order.lock().unwrap().push(name);
                Ok(())
            });
        }
        let stop = tasks.stop.clone();
        let others = Arc::clone(&order);
        tasks.run("other", async move {
            stop.cancelled().await;
            assert_eq!(*others.lock().unwrap(), ["first"]);
        });
        tasks.run("early one", async {});
        let ended = tasks.until_stopped().await.unwrap_err().to_string();
        assert_eq!(ended, "the early one ended early");
        assert_eq!(*order.lock().unwrap(), ["first", "then", "last"]);
    }
}
