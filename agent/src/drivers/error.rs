//! Why a network cannot be built on this host as it is.

use crate::model::{IfName, Name};

/// What a network is built upon is not there, or is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// The name of its bridge belongs to a link of another kind.
    #[error("{link}, the bridge of network {network}, is a link that is no bridge")]
    NoBridge {
        /// The link.
        link: IfName,
        /// The network.
        network: Name,
    },
    /// The name that we chose for its bridge belongs to a bridge that is not ours.
    #[error(
        "there is a bridge {link} already that is not network {network}'s: remove it, or choose it by its name"
    )]
    ForeignBridge {
        /// The bridge.
        link: IfName,
        /// The network.
        network: Name,
    },
    /// Its parent is gone, and not ours to make.
    #[error("the parent {link} of network {network} is gone: there is no such link")]
    NoParent {
        /// The parent, or the link below a VLAN.
        link: IfName,
        /// The network.
        network: Name,
    },
}
