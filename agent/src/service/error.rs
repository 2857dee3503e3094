//! Why a verb was refused: a sentence for people, and a kind for programs.

use crate::{
    dns::DnsError,
    intent::LookupError,
    kernel::KernelError,
    model::{Invalid, chain},
    reconcile::ReconcileError,
    store::{CommitError, StoreError},
};

/// A refusal. A refused verb leaves nothing behind.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Invalid input.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The name is unknown or ambiguous.
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
    /// A store is not believed: nothing is changed.
    #[error("{0}")]
    Held(String),
    /// Other verbs changed the same object again and again.
    #[error("{0}")]
    Busy(String),
    /// The kernel refused.
    #[error("{0}")]
    Kernel(String),
    /// The kernel has no driver for it.
    #[error("{0}")]
    Missing(String),
    /// An internal error.
    #[error("{0}")]
    Internal(String),
}

/// The meaning of a refusal for a program, independent of the front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The input is invalid or ambiguous.
    Invalid,
    /// Nothing has that name.
    Unknown,
    /// It is taken.
    Exists,
    /// It, or this host, is not in a state for this.
    State,
    /// A resource that it needs is exhausted.
    Exhausted,
    /// The store is away.
    Away,
    /// It conflicted with another operation, or took too long: a retry may work.
    Busy,
    /// The kernel lacks what it needs.
    Missing,
    /// An internal error.
    Internal,
}

impl ServiceError {
    /// A failure of the reconcile loop, in these words. It has the kind that it would have if the verb itself
    /// had failed.
    pub(super) fn failed(error: &ReconcileError, text: String) -> Self {
        match error {
            ReconcileError::Kernel(error) => Self::of_kernel(error, text),
            ReconcileError::Store(error) => Self::of_commit(error, text),
            ReconcileError::Driver(_)
            | ReconcileError::NoLeg
            | ReconcileError::LinksChange
            | ReconcileError::HostInDoubt
            | ReconcileError::Ended(_) => Self::Kernel(text),
        }
    }

    /// A failure of a sandbox's resolver, in these words.
    pub(super) fn unresolved(error: &DnsError, text: String) -> Self {
        match error {
            DnsError::Kernel(error) => Self::of_kernel(error, text),
            DnsError::Sockets(_)
            | DnsError::Gone(_)
            | DnsError::Replaced
            | DnsError::Stopping
            | DnsError::Ended(_) => Self::Kernel(text),
        }
    }

    fn of_kernel(error: &KernelError, text: String) -> Self {
        match error {
            KernelError::Missing { .. } => Self::Missing(text),
            KernelError::Os { .. } | KernelError::Privilege { .. } | KernelError::Program { .. } => {
                Self::Kernel(text)
            }
        }
    }

    fn of_store(error: &StoreError, text: String) -> Self {
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

    fn of_commit(error: &CommitError, text: String) -> Self {
        match error {
            CommitError::Refused(_) => Self::Busy(text),
            CommitError::Store(error) => Self::of_store(error, text),
        }
    }

    /// Its meaning for a program.
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
        Self::of_store(&error, chain(&error))
    }
}

impl From<CommitError> for ServiceError {
    fn from(error: CommitError) -> Self {
        Self::of_commit(&error, chain(&error))
    }
}

impl From<KernelError> for ServiceError {
    fn from(error: KernelError) -> Self {
        Self::of_kernel(&error, chain(&error))
    }
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use super::*;
    use crate::{drivers::DriverError, model::IfName, store::GuardRefusal};

    const LACKS: KernelError = KernelError::Missing { feature: "vxlan devices", option: "CONFIG_VXLAN" };

    fn refused() -> KernelError {
        KernelError::Os {
            operation: "add link",
            target: "v0".into(),
            source: io::ErrorKind::AlreadyExists.into(),
        }
    }

    fn away() -> StoreError {
        let source = io::Error::from(io::ErrorKind::ConnectionRefused).into();
        let endpoints = "192.0.2.9:2379".into();
        StoreError::Away { operation: "write", endpoints, waited: Duration::ZERO, source }
    }

    fn corrupt() -> StoreError {
        StoreError::Corrupt { operation: "read", endpoints: "x".into(), what: "no header".into() }
    }

    #[test]
    fn what_the_loop_meets_is_of_the_kind_that_it_is_for_a_verb() {
        let conflict = || CommitError::Refused(Vec::<GuardRefusal>::new());
        let gone = DriverError::NoParent { link: IfName::literal("eth9"), network: "lan".parse().unwrap() };
        for (loops, verbs, kind) in [
            (ReconcileError::from(LACKS), ServiceError::from(LACKS), ErrorKind::Missing),
            (refused().into(), refused().into(), ErrorKind::State),
            (away().into(), away().into(), ErrorKind::Away),
            (corrupt().into(), corrupt().into(), ErrorKind::Internal),
            (conflict().into(), conflict().into(), ErrorKind::Busy),
            (gone.clone().into(), ServiceError::Kernel(gone.to_string()), ErrorKind::State),
        ] {
            let text = chain(&loops);
            assert_eq!(text, verbs.to_string(), "the causes are told, too");
            let loops = ServiceError::failed(&loops, text);
            assert_eq!((loops.kind(), verbs.kind()), (kind, kind), "{loops:?} {verbs:?}");
        }
    }

    #[test]
    fn what_a_resolver_lacks_is_told_from_what_it_is_refused() {
        for (error, kind) in [
            (DnsError::from(LACKS), ErrorKind::Missing),
            (refused().into(), ErrorKind::State),
            (io::Error::from(io::ErrorKind::AddrInUse).into(), ErrorKind::State),
            (DnsError::Gone("box".parse().unwrap()), ErrorKind::State),
            (DnsError::Replaced, ErrorKind::State),
            (DnsError::Stopping, ErrorKind::State),
        ] {
            assert_eq!(ServiceError::unresolved(&error, chain(&error)).kind(), kind, "{error:?}");
        }
    }
}
