//! The agent's tasks: few and long. The first one that ends on its own ends the agent.

use std::{future::Future, time::Duration};

use anyhow::{Result, bail};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// How long the tasks have to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tasks under one stop.
pub(super) struct Tasks {
    running: JoinSet<(&'static str, Result<()>)>,
    pub(super) stop: CancellationToken,
}

impl Tasks {
    pub(super) fn new() -> Self {
        Self { running: JoinSet::new(), stop: CancellationToken::new() }
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
        self.running.spawn(async move { (name, task.await) });
    }

    /// Wait for SIGTERM, SIGINT, or a task that ends early; then stop all of them, and wait a bounded time.
    pub(super) async fn until_stopped(mut self) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let early = tokio::select! {
            // Each arm only says that it is over; none of them holds anything.
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            ended = self.running.join_next() => ended,
        };
        self.stop.cancel();
        let drained =
            tokio::time::timeout(PATIENCE, async { while self.running.join_next().await.is_some() {} });
        if drained.await.is_err() {
            tracing::warn!(patience = ?PATIENCE, "some tasks did not end in time");
        }
        match early {
            None => Ok(()),
            Some(Ok((name, Ok(())))) => bail!("the {name} ended early"),
            Some(Ok((name, Err(error)))) => Err(error.context(format!("the {name} failed"))),
            Some(Err(error)) => bail!("a task died: {error}"),
        }
    }
}
