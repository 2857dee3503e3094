//! Ranges of keys: what to list and what to follow.

use super::keys::{GLOBAL, LOCAL};
use crate::model::{NetworkId, Scope};

/// The keys from `start` on, up to and without `end`, in the order of their bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRange {
    /// The first key.
    pub start: String,
    /// The first key that is no longer in it; a zero byte means "no end", as in etcd.
    pub end: String,
}

impl KeyRange {
    /// "No end", and for a start "from the very first key": etcd's way to say so.
    const OPEN: &'static str = "\0";

    /// Every key that starts with `prefix`; every key at all when it is empty.
    pub fn prefix(prefix: &str) -> Self {
        let start = if prefix.is_empty() { Self::OPEN } else { prefix };
        Self { start: start.into(), end: after_prefix(prefix).unwrap_or_else(|| Self::OPEN.into()) }
    }

    /// Everything that an agent follows: from `alive/` to the end of `nodes/`. Some kinds are left out by the order of
    /// the keys: `addresses/`, the largest one, and `pools/` and `vnis/`, which only a transaction's guards look at.
    pub fn followed() -> Self {
        Self { start: format!("{GLOBAL}alive/"), end: format!("{GLOBAL}nodes0") }
    }

    /// The address keys of a network.
    pub fn addresses_of(network: NetworkId) -> Self {
        Self::prefix(&format!("{GLOBAL}addresses/{network}/"))
    }

    /// The endpoints of a network.
    pub fn endpoints_of(network: NetworkId) -> Self {
        Self::prefix(&format!("{GLOBAL}endpoints/{network}/"))
    }

    /// The nodes that are present in a network.
    pub fn members_of(network: NetworkId) -> Self {
        Self::prefix(&format!("{GLOBAL}members/{network}/"))
    }

    /// The same range in the store that has the networks of this scope: see [`super::Key::in_scope`].
    #[must_use]
    pub fn in_scope(self, scope: Scope) -> Self {
        let local = |text: String| match text.strip_prefix(GLOBAL) {
            Some(path) => format!("{LOCAL}{path}"),
            None => text,
        };
        match scope {
            Scope::Global => self,
            Scope::Local => Self { start: local(self.start), end: local(self.end) },
        }
    }

    /// All global keys.
    pub fn everything() -> Self {
        Self::prefix(GLOBAL)
    }

    /// All local keys.
    pub fn local() -> Self {
        Self::prefix(LOCAL)
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &str) -> bool {
        key >= self.start.as_str() && (self.end == Self::OPEN || key < self.end.as_str())
    }
}

/// The first text after all that start with `prefix`; none if there is no such text. UTF-8 sorts as its characters do.
fn after_prefix(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        // The surrogates are no characters: step over them.
        let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            text.push(next);
            return Some(text);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::{EndpointId, Mac, NodeId, Vni},
        store::{Identity, Key},
    };

    proptest! {
        #[test]
        fn a_prefix_range_holds_exactly_what_starts_with_it(prefix in "\\PC{0,3}", key in "\\PC{1,5}") {
            let range = KeyRange::prefix(&prefix);
            prop_assert_eq!(range.contains(&key), key.starts_with(&prefix));
            let longer = format!("{prefix}{key}");
            prop_assert!(range.contains(&longer));
        }
    }

    #[test]
    fn what_is_followed_leaves_out_addresses_vnis_and_local_keys_alone() {
        let network = NetworkId::from_bytes([0xff; 32]);
        let node = NodeId(uuid::Uuid::from_u128(u128::MAX));
        let name = || "zz".parse().unwrap();
        let range = KeyRange::followed();
        for key in [
            Key::Network(network),
            Key::NetworkName(name()),
            Key::Endpoint(network, EndpointId::from_bytes([0; 32])),
            Key::EndpointName(network, name()),
            Key::Node(node),
            Key::Alive(node),
            Key::Member(network, node),
            Key::Identity(Identity::Cluster),
            Key::Identity(Identity::Removed(node)),
        ] {
            assert!(range.contains(&key.to_string()), "{key}");
        }
        for key in [
            Key::Address(network, IpAddr::V4(Ipv4Addr::LOCALHOST)),
            Key::Mac(network, Mac::derived(IpAddr::V4(Ipv4Addr::LOCALHOST))),
            Key::Vni(Vni::new(1).unwrap()),
            Key::Sandbox(name()),
            Key::Leg(network),
            Key::Sysctl("net.ipv4.ip_forward".into()),
        ] {
            assert!(!range.contains(&key.to_string()), "{key}");
        }
    }

    #[test]
    fn the_endpoints_of_a_network_are_not_those_of_another() {
        let (one, other) = (NetworkId::from_bytes([1; 32]), NetworkId::from_bytes([2; 32]));
        let key = Key::Endpoint(one, EndpointId::from_bytes([3; 32])).to_string();
        assert!(KeyRange::endpoints_of(one).contains(&key));
        assert!(!KeyRange::endpoints_of(other).contains(&key));
        assert!(!KeyRange::members_of(one).contains(&key));
        assert!(KeyRange::everything().contains(&key));
        assert!(!KeyRange::local().contains(&key));
    }
}
