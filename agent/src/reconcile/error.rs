//! Why something is not in sync: one line for people, and a kind for programs.

use crate::{
    kernel::KernelError,
    model::chain,
    store::{CommitError, StoreError},
};

/// Why a unit cannot be looked at, or why a step of it failed: the reason with its causes, in one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReconcileError {
    /// The kernel lacks a driver or a feature: nobody can do it on this host.
    #[error("{0}")]
    Missing(String),
    /// The kernel refused, or could not be asked.
    #[error("{0}")]
    Kernel(String),
    /// A store is away, or refused.
    #[error("{0}")]
    Store(String),
    /// Something else on this host is not as it has to be.
    #[error("{0}")]
    State(String),
}

impl From<KernelError> for ReconcileError {
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

impl From<StoreError> for ReconcileError {
    fn from(error: StoreError) -> Self {
        Self::Store(chain(&error))
    }
}

impl From<CommitError> for ReconcileError {
    fn from(error: CommitError) -> Self {
        Self::Store(chain(&error))
    }
}

impl From<String> for ReconcileError {
    fn from(text: String) -> Self {
        Self::State(text)
    }
}

impl From<&str> for ReconcileError {
    fn from(text: &str) -> Self {
        Self::State(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_lacks_is_told_from_what_it_refuses() {
        let lacking = KernelError::Missing { feature: "vxlan devices", option: "CONFIG_VXLAN" };
        let text = "the kernel has no vxlan devices: it needs CONFIG_VXLAN".to_owned();
        assert_eq!(ReconcileError::from(lacking), ReconcileError::Missing(text));
        let source = std::io::Error::other("File exists");
        let refused = KernelError::Os { operation: "add vxlan", target: "v0".into(), source };
        let text = "add vxlan v0: File exists".to_owned();
        assert_eq!(ReconcileError::from(refused), ReconcileError::Kernel(text));
    }
}
