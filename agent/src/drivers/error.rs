//! Why a network cannot be built on this host as it is.

use crate::model::{IfName, Name};

/// What a network is built upon is not there, or is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// The name of its bridge belongs to a link that is not a bridge.
    #[error("{link}, the bridge of network {network}, is not a bridge")]
    NoBridge {
        /// The link.
        link: IfName,
        /// The network.
        network: Name,
    },
    /// The name that we chose for its bridge belongs to a bridge that is not ours.
    #[error(
        "bridge {link} exists already and does not belong to network {network}: remove it, or choose it by \
         its name"
    )]
    ForeignBridge {
        /// The bridge.
        link: IfName,
        /// The network.
        network: Name,
    },
    /// Its parent is gone, and we must not make it.
    #[error("the parent {link} of network {network} does not exist any more")]
    NoParent {
        /// The parent, or the link below a VLAN.
        link: IfName,
        /// The network.
        network: Name,
    },
}
