//! Why a command did not do what it was asked for, and the exit status that tells it.

use std::{error::Error, fmt::Write as _, io};

use tonic::{Code, Status};

use crate::output::{say, template::TemplateError};

/// What the agent's word to those begins with whom its end cuts short.
const STOPPING: &str = "the agent is stopping";

/// The status that ovctl ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit(pub(crate) u8);

impl Exit {
    /// All is done.
    pub(crate) const DONE: Self = Self(0);
    /// Something was refused.
    pub(crate) const REFUSED: Self = Self(1);
}

/// A failure; its text starts after `ovctl: `.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The agent, or ovctl itself, refused what was asked.
    #[error("{0}")]
    Refused(String),
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// The agent cannot be reached, or the connection broke.
    #[error("{0}")]
    Unreachable(String),
    /// A process did not start in its sandbox; the status is the one that a shell would give.
    #[error("{message}")]
    NotStarted {
        /// 125 (the sandbox cannot be entered), 126 (not executable) or 127 (not found).
        status: u8,
        /// What is wrong.
        message: String,
    },
    /// This host does not let us.
    #[error("cannot {what}")]
    Local {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
    /// Standard output does not take what is printed.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

impl Failure {
    /// This host did not let us `what`.
    pub(crate) fn local(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |cause| Self::Local { what, cause }
    }

    /// An object that JSON cannot express.
    pub(crate) fn encode(cause: serde_json::Error) -> Self {
        Self::Local { what: "print the object as JSON".into(), cause: cause.into() }
    }

    /// The status to end with.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Refused(_) | Self::Local { .. } => Exit::REFUSED,
            Self::Usage(_) => Exit(2),
            Self::Unreachable(_) => Exit(3),
            Self::NotStarted { status, .. } => Exit(*status),
            Self::Output(cause) if cause.kind() == io::ErrorKind::BrokenPipe => Exit::DONE,
            Self::Output(_) => Exit::REFUSED,
        }
    }

    /// Tells the failure on standard error, but for a reader of our output that has seen enough (`| head`).
    pub(crate) fn report(&self) {
        if !matches!(self, Self::Output(cause) if cause.kind() == io::ErrorKind::BrokenPipe) {
            say(&format!("ovctl: {}", chain(self)));
        }
    }
}

/// The error with its causes. The agent has such a function in its `model`: the two share generated messages only.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        write!(text, ": {cause}").ok();
        next = cause.source();
    }
    text
}

impl From<TemplateError> for Failure {
    fn from(error: TemplateError) -> Self {
        Self::Refused(format!("--format: {error}"))
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        // A status that came from the agent has no source; one that the transport made up has.
        if let Some(cause) = status.source() {
            return Self::Unreachable(format!(
                "the connection to the agent broke: {}: is ovagent still running? systemctl status ovagent",
                chain(cause)
            ));
        }
        if status.code() == Code::Cancelled && status.message().starts_with(STOPPING) {
            return Self::Unreachable(status.message().to_owned());
        }
        // No refusal of the agent has this code: it is our own deadline.
        if status.code() == Code::DeadlineExceeded {
            return Self::Unreachable(status.message().to_owned());
        }
        if status.message().is_empty() {
            let unknown = status.code() == Code::Unimplemented;
            let hint =
                if unknown { ": is the agent older than ovctl? compare with ovctl version" } else { "" };
            return Self::Refused(format!("the agent refused: {}{hint}", status.code()));
        }
        Self::Refused(status.message().to_owned())
    }
}

/// A command given several names goes on after one that is refused, and fails at the end.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    refused: bool,
}

impl Tally {
    /// Reports a refusal at once and takes note of it.
    ///
    /// # Errors
    /// The failure itself, if the next name would meet it as well.
    pub(crate) fn note<T>(&mut self, result: Result<T, Failure>) -> Result<Option<T>, Failure> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(refusal @ Failure::Refused(_)) => {
                refusal.report();
                self.refused = true;
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    /// The status for all names.
    pub(crate) fn exit(&self) -> Exit {
        if self.refused { Exit::REFUSED } else { Exit::DONE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_refusals_and_our_deadline_differ_in_status() {
        let refused = Failure::from(Status::unavailable("the store is away"));
        assert_eq!((refused.exit(), refused.to_string().as_str()), (Exit::REFUSED, "the store is away"));
        assert_eq!(Failure::from(Status::deadline_exceeded("no answer")).exit(), Exit(3));
        let stopping = Failure::from(Status::cancelled("the agent is stopping: this is all"));
        assert_eq!(
            (stopping.exit(), stopping.to_string().as_str()),
            (Exit(3), "the agent is stopping: this is all")
        );
        let old = Failure::from(Status::unimplemented(""));
        assert!(old.to_string().ends_with("compare with ovctl version"), "{old}");
    }

    #[test]
    fn a_failure_is_told_with_its_causes() {
        let failure = Failure::local("open x")(io::ErrorKind::NotFound.into());
        assert_eq!(chain(&failure), "cannot open x: entity not found");
    }
}
