//! Why a verb was refused: whole sentences for people, and a kind for programs.

use crate::{
    intent::LookupError,
    kernel::KernelError,
    model::{Invalid, chain},
    reconcile::ReconcileError,
    store::{CommitError, StoreError},
};

/// A refusal. Nothing half-done stays behind.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Input that cannot be.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Nothing, or too much, has that name.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// The name, address or number is taken.
    #[error("{0}")]
    Exists(String),
    /// It is in use, or not in a state for this.
    #[error("{0}")]
    InUse(String),
    /// No address or subnet is left.
    #[error("{0}")]
    Exhausted(String),
    /// The store cannot be reached, or has not been read yet.
    #[error("{0}")]
    StoreAway(String),
    /// What a store says is not believed: nothing is changed by it.
    #[error("{0}")]
    Held(String),
    /// Others changed the same thing again and again.
    #[error("{0}")]
    Busy(String),
    /// The kernel refused.
    #[error("{0}")]
    Kernel(String),
    /// The kernel has no driver for it.
    #[error("{0}")]
    Missing(String),
    /// Anything that should not happen.
    #[error("{0}")]
    Internal(String),
}

/// What a refusal means to a program, whatever front it asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The input cannot be, or is not clear.
    Invalid,
    /// There is nothing of that name.
    Unknown,
    /// It is taken.
    Exists,
    /// It, or this host, is not in a state for this.
    State,
    /// Nothing is left of what it needs.
    Exhausted,
    /// The store is away.
    Away,
    /// Others were at it at the same time, or it took too long: the same may work again.
    Busy,
    /// The kernel lacks what it needs.
    Missing,
    /// It should not happen.
    Internal,
}

impl ServiceError {
    /// What the loop failed at, in these words: what the kernel lacks is told from what it refuses.
    pub(super) fn failed(error: &ReconcileError, text: String) -> Self {
        match error {
            ReconcileError::Missing(_) => Self::Missing(text),
            ReconcileError::Kernel(_) | ReconcileError::Store(_) | ReconcileError::State(_) => {
                Self::Kernel(text)
            }
        }
    }

    /// What it means to a program.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_)
            | Self::Lookup(
                LookupError::Ambiguous { .. } | LookupError::Shared { .. } | LookupError::TwoScopes { .. },
            ) => ErrorKind::Invalid,
            Self::Lookup(LookupError::Unknown { .. }) => ErrorKind::Unknown,
            Self::Exists(_) => ErrorKind::Exists,
            Self::InUse(_) | Self::Kernel(_) | Self::Held(_) => ErrorKind::State,
            Self::Exhausted(_) => ErrorKind::Exhausted,
            Self::StoreAway(_) => ErrorKind::Away,
            Self::Busy(_) => ErrorKind::Busy,
            Self::Missing(_) => ErrorKind::Missing,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        let text = chain(&error);
        match error {
            StoreError::Away { .. } | StoreError::Unknown { .. } => Self::StoreAway(text),
            StoreError::Auth { .. }
            | StoreError::LeaseGone { .. }
            | StoreError::Compacted { .. }
            | StoreError::TooLarge { .. }
            | StoreError::Refused { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Config { .. }
            | StoreError::TlsFile { .. } => Self::Internal(text),
        }
    }
}

impl From<CommitError> for ServiceError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Refused(_) => Self::Busy(error.to_string()),
            CommitError::Store(error) => error.into(),
        }
    }
}

impl From<KernelError> for ServiceError {
    fn from(error: KernelError) -> Self {
        let text = chain(&error);
        match error {
            KernelError::Missing { .. } => Self::Missing(text),
            KernelError::Os { .. } | KernelError::Privilege { .. } | KernelError::Program { .. } => {
                Self::Kernel(text)
            }
        }
    }
}
