//! What can go wrong between us and the store, sorted by what the caller can do about it.

use std::{error::Error, path::PathBuf, time::Duration};

/// The cause, in the words of the side that refused.
pub type Cause = Box<dyn Error + Send + Sync>;

/// A failed request. `endpoints` says where the store was looked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There was no answer, or not in time. Nothing was changed.
    #[error(
        "the store at {endpoints} does not answer when asked to {operation}{}; check that it runs and that \
         this host can reach it",
        after(*waited)
    )]
    Away {
        /// What was asked, as a verb: "list keys".
        operation: &'static str,
        /// Where.
        endpoints: String,
        /// How long it was waited for, all tries together; zero where nothing was.
        waited: Duration,
        /// What the last endpoint tried had to say.
        #[source]
        source: Cause,
    },
    /// The connection was lost after a change was sent, and the store could not be asked again in time.
    #[error(
        "the connection to the store at {endpoints} was lost before it confirmed the change{}; check the \
         result before you retry",
        after(*waited)
    )]
    Unknown {
        /// Where.
        endpoints: String,
        /// How long it was waited for, all tries together; zero where nothing was.
        waited: Duration,
        /// How the connection was lost.
        #[source]
        source: Cause,
    },
    /// The store does not accept us.
    #[error(
        "the store at {endpoints} does not allow this agent to {operation}; check the user, the password, \
         and the user's roles"
    )]
    Auth {
        /// What was asked.
        operation: &'static str,
        /// Where.
        endpoints: String,
        /// The store's words.
        #[source]
        source: Cause,
    },
    /// The lease that a change is bound to has expired.
    #[error("the store at {endpoints} cannot {operation}: the lease has expired; take a new one")]
    LeaseGone {
        /// What was asked.
        operation: &'static str,
        /// Where.
        endpoints: String,
    },
    /// The revision asked for is no longer kept.
    #[error("the store at {endpoints} cannot {operation}: that revision was compacted away; list again")]
    Compacted {
        /// What was asked.
        operation: &'static str,
        /// Where.
        endpoints: String,
    },
    /// More than one transaction, or one answer, may hold.
    #[error("cannot {operation}: {what}")]
    TooLarge {
        /// What was asked.
        operation: &'static str,
        /// What is too large, and how much is allowed.
        what: String,
    },
    /// Any other refusal: out of space, a request that the store does not know.
    #[error("the store at {endpoints} refused to {operation}")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// Where.
        endpoints: String,
        /// The store's words.
        #[source]
        source: Cause,
    },
    /// The answer makes no sense: not an etcd, or a broken one.
    #[error("the store at {endpoints} cannot {operation}: it gave a wrong answer: {what}")]
    Corrupt {
        /// What was asked.
        operation: &'static str,
        /// Where.
        endpoints: String,
        /// What is wrong with the answer.
        what: String,
    },
    /// An endpoint that cannot be one, or TLS material that does not fit together.
    #[error("wrong store configuration: {what}")]
    Config {
        /// The setting, what is wrong with it, and what would be right.
        what: String,
    },
    /// A TLS file that cannot be read.
    #[error("cannot read the store's {role} file {}", file.display())]
    TlsFile {
        /// "CA", "certificate" or "key".
        role: &'static str,
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same again, after a while.
    Later,
    /// Read first: the change may have been made, or what was known is too old.
    Look,
    /// Somebody has to change something first.
    Never,
}

impl StoreError {
    /// Whether there was somebody who could be asked, and whose answer did not come in time.
    pub(super) fn is_late(&self) -> bool {
        matches!(self, Self::Away { source, .. } if source.is::<tokio::time::error::Elapsed>())
    }

    /// What the caller can do about it.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Away { .. } | Self::Corrupt { .. } => Retry::Later,
            Self::Unknown { .. } | Self::LeaseGone { .. } | Self::Compacted { .. } => Retry::Look,
            Self::Auth { .. }
            | Self::TooLarge { .. }
            | Self::Refused { .. }
            | Self::Config { .. }
            | Self::TlsFile { .. } => Retry::Never,
        }
    }
}

/// How long somebody waited, in brackets; nothing if he did not.
fn after(waited: Duration) -> String {
    if waited.is_zero() { String::new() } else { format!(" (waited {:.1} s)", waited.as_secs_f64()) }
}
