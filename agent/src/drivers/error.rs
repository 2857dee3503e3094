//! Errors of a network that cannot be built on this host.

use crate::model::{IfName, Name};

/// A link that a network needs is missing, or cannot be used.
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
    /// The name that we chose for its bridge belongs to a foreign bridge.
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
