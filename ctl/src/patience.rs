//! How long an answer of the agent is waited for, and what is said meanwhile.
//!
//! An agent that is stopped (SIGSTOP), or stuck, keeps its socket: connections are made by the kernel, and nothing ever comes.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::timeout;
use tonic::{
    Code, Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    transport::{Channel, Error},
};

use crate::output::say;

/// When it is said that there is no answer yet; an agent that has not read its store yet says so after 3 s.
const WORD: Duration = Duration::from_millis(3200);
/// How long what only reads waits for an answer, or for its first part.
pub(crate) const READ: Duration = Duration::from_secs(10);
/// The same for what the agent itself gives more time: a look at the whole kernel, reading the whole store.
const LONG_READ: Duration = Duration::from_secs(40);
/// What the agent gives more time.
const LONG: [&str; 2] = ["Diff", "DumpStore"];

/// The agent that is waited for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// Its process, if that is known.
    pub(crate) pid: Option<i32>,
    /// That it is waited for was said.
    said: Arc<AtomicBool>,
}

impl Peer {
    /// "the agent (pid 7)".
    fn called(&self) -> String {
        self.pid.map_or_else(|| "the agent".into(), |pid| format!("the agent (pid {pid})"))
    }

    /// What is to be said when it has not answered for so long.
    pub(crate) fn silent(&self, limit: Duration) -> String {
        let (called, hint) = (self.called(), self.hint());
        format!("{called} did not answer in {} s: {hint}", limit.as_secs())
    }

    fn hint(&self) -> String {
        let stopped = self.pid.filter(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.lines().any(|line| line.starts_with("State:\tT"))
        });
        stopped.map_or_else(
            || "see systemctl status ovagent and its log".into(),
            |pid| format!("its process is stopped; kill -CONT {pid} resumes it"),
        )
    }

    /// Waits until `limit`, with a word before, which is said once.
    pub(crate) async fn wait<T>(
        &self,
        limit: Duration,
        note: &str,
        answer: impl Future<Output = T>,
    ) -> Option<T> {
        let mut answer = pin!(answer);
        if let Ok(answer) = timeout(WORD, &mut answer).await {
            return Some(answer);
        }
        if !self.said.swap(true, Ordering::Relaxed) {
            say(&format!("ovctl: waiting for {}, which has not answered yet{note}", self.called()));
        }
        timeout(limit.saturating_sub(WORD), answer).await.ok()
    }
}

/// The connection, with limits by what is asked.
#[derive(Clone, Debug)]
pub(crate) struct Patient {
    pub(crate) channel: Channel,
    pub(crate) peer: Peer,
    /// How long what changes something waits.
    pub(crate) change: Duration,
}

impl Service<http::Request<Body>> for Patient {
    type Response = http::Response<Body>;
    type Error = Error;
    type Future = BoxFuture<Self::Response, Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let (peer, answer) = (self.peer.clone(), self.channel.call(request));
        let (limit, note) = match read(&method) {
            Some(limit) => (limit, ""),
            None => (self.change, "; Ctrl-C stops waiting, but the agent may still carry out the request"),
        };
        Box::pin(async move {
            let silent = || {
                let undecided = if note.is_empty() {
                    ""
                } else {
                    "; it may still carry out the request: check with ovctl before you retry"
                };
                Status::new(Code::DeadlineExceeded, format!("{}{undecided}", peer.silent(limit))).into_http()
            };
            peer.wait(limit, note, answer).await.unwrap_or_else(|| Ok(silent()))
        })
    }
}

/// How long a method that only reads may take, or its first part.
fn read(method: &str) -> Option<Duration> {
    if LONG.contains(&method) {
        return Some(LONG_READ);
    }
    let reads = ["List", "Inspect"].iter().any(|start| method.starts_with(start));
    (reads || ["Version", "Events"].contains(&method)).then_some(READ)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_something_is_told_from_what_reads() {
        for method in ["ListNetworks", "InspectNode", "Version", "Events", "Diff", "DumpStore"] {
            assert!(read(method).is_some(), "{method}");
        }
        for method in ["CreateNetwork", "ConnectSandbox", "RemoveNode", "PruneNetworks", "DisconnectSandbox"]
        {
            assert_eq!(read(method), None, "{method}");
        }
    }

    #[test]
    fn nobody_is_said_to_be_stopped_who_runs() {
        let pid = i32::try_from(std::process::id()).ok();
        let text = Peer { pid, ..Peer::default() }.silent(READ);
        assert!(text.starts_with("the agent (pid ") && text.contains(" did not answer in 10 s"), "{text}");
        assert!(!text.contains("kill -CONT"), "{text}");
    }
}
