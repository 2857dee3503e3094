//! Errors of the reconcile loop.

use std::sync::Arc;

use tokio::task::JoinError;

use crate::{
    drivers::DriverError,
    kernel::KernelError,
    model::Leg,
    store::{CommitError, StoreError},
};

/// Why a unit cannot be looked at, or why a step of it failed. It is kept with the unit's outcome.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The kernel lacks something, refused, or did not answer.
    #[error(transparent)]
    Kernel(Arc<KernelError>),
    /// A store is away, or refused.
    #[error(transparent)]
    Store(Arc<CommitError>),
    /// A link that a network needs is missing, or cannot be used.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// No leg is left for one more overlay.
    #[error("this host has {} networks already", Leg::COUNT)]
    NoLeg,
    /// The host's links changed during a look.
    #[error("the host's links changed while they were read")]
    LinksChange,
    /// A record that the host's rules depend on cannot be read.
    #[error(
        "the host's rules are not changed, because a record that they depend on cannot be read (see ovctl \
         node ls): restore or delete it"
    )]
    HostInDoubt,
    /// The thread of a look ended early.
    #[error(transparent)]
    Ended(Arc<JoinError>),
}

impl From<KernelError> for ReconcileError {
    fn from(error: KernelError) -> Self {
        Self::Kernel(error.into())
    }
}

impl From<StoreError> for ReconcileError {
    fn from(error: StoreError) -> Self {
        CommitError::from(error).into()
    }
}

impl From<CommitError> for ReconcileError {
    fn from(error: CommitError) -> Self {
        Self::Store(error.into())
    }
}

impl From<JoinError> for ReconcileError {
    fn from(error: JoinError) -> Self {
        Self::Ended(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::chain;

    #[test]
    fn what_the_kernel_lacks_or_refuses_is_told_with_its_cause() {
        let lacking = KernelError::Missing { feature: "vxlan devices", option: "CONFIG_VXLAN" };
        let text = "the kernel has no vxlan devices: it needs CONFIG_VXLAN";
        assert_eq!(chain(&ReconcileError::from(lacking)), text);
        let source = std::io::Error::other("File exists");
        let refused = KernelError::Os { operation: "add vxlan", target: "v0".into(), source };
        assert_eq!(chain(&ReconcileError::from(refused)), "add vxlan v0: File exists");
    }
}
