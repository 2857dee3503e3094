//! Why a sandbox has no resolver.

use std::io;

use tokio::task::JoinError;

use crate::{kernel::KernelError, model::Name};

/// Why names do not resolve in a sandbox yet.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The kernel does not let us have sockets in its namespace.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Its sockets cannot be used.
    #[error(transparent)]
    Sockets(#[from] io::Error),
    /// The sandbox, its process or its namespace is gone.
    #[error("sandbox {0} is gone")]
    Gone(Name),
    /// Its namespace was replaced.
    #[error("its namespace was just replaced")]
    Replaced,
    /// The agent is stopping.
    #[error("the agent is stopping")]
    Stopping,
    /// The thread that opened the sockets ended early.
    #[error(transparent)]
    Ended(#[from] JoinError),
}
