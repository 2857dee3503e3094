//! Where the namespace of a network is.

use super::{ownership::NETNS_PREFIX, state::Netns};
use crate::model::{Name, NetworkId};

/// The namespace of a network's own, for a driver that has one.
pub fn netns_of(network: NetworkId) -> Netns {
    let name = format!("{NETNS_PREFIX}{}", network.prefix(10));
    // Ten hex digits and the prefix are always a good name.
    name.parse::<Name>().map_or(Netns::Path(name.into()), Netns::Named)
}
