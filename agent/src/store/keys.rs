//! The names of all keys, as types. What an operator reads with etcdctl is what [`Key`] prints.
//!
//! Global keys lie under `/ovnet/v1/`, in the store that all nodes share; local ones under
//! `/ovnet/local/v1/`, only in this node's embedded store. The values are protobuf; `convert` reads and
//! writes them.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

use crate::model::{ClusterId, EndpointId, Invalid, Mac, Name, NetworkId, NodeId, Scope, Vni};

/// What every global key starts with.
pub(super) const GLOBAL: &str = "/ovnet/v1/";
/// What every local key starts with.
pub(super) const LOCAL: &str = "/ovnet/local/v1/";
/// Longest name of a sysctl, in bytes.
const SYSCTL_MAX: usize = 255;

/// The name of a key. Prints and parses; each key has exactly one spelling.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// `networks/<id>`: a network.
    Network(NetworkId),
    /// `network-names/<name>`: a network's id, by its unique name.
    NetworkName(Name),
    /// `vnis/<vni>`: a network's id, by its unique VNI.
    Vni(Vni),
    /// `endpoints/<network>/<id>`: an endpoint.
    Endpoint(NetworkId, EndpointId),
    /// `endpoint-names/<network>/<name>`: an endpoint's id, by its name in the network.
    EndpointName(NetworkId, Name),
    /// `addresses/<network>/<address>`: the owner of an address.
    Address(NetworkId, IpAddr),
    /// `addresses/<network>/<Ethernet address>`: the owner of an Ethernet address.
    Mac(NetworkId, Mac),
    /// `nodes/<id>`: a node.
    Node(NodeId),
    /// `alive/<id>`: bound to the node's lease.
    Alive(NodeId),
    /// `members/<network>/<node>`: a node's presence in a network.
    Member(NetworkId, NodeId),
    /// Who the cluster and its nodes are.
    Identity(Identity),
    /// `pools/<prefix>` with `-` for `/`: the id of the network that an automatic subnet went to.
    Pool(IpNet),
    /// Local: a local network, or a record that belongs to one, under the same name as in the cluster's
    /// store.
    Here(Box<Key>),
    /// Local, `sandboxes/<name>`: a sandbox of this node.
    Sandbox(Name),
    /// Local, `legs/<network>`: the host leg of a network on this node.
    Leg(NetworkId),
    /// Local, `sysctls/<dotted key>`: the value that a sysctl had before we set it.
    Sysctl(String),
}

/// Keys that distinguish a store from an empty one, or from a different cluster's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// `cluster`: the cluster's identity.
    Cluster,
    /// `cluster-accepted/<id>`: the identity that replaced this one when an operator accepted that.
    Accepted(ClusterId),
    /// `nodes-removed/<id>`: an operator removed the node, and it has not registered since.
    Removed(NodeId),
    /// Local, `node-id`: a copy of this node's id.
    NodeCopy,
    /// Local, `cluster-id`: a copy of the identity of this node's cluster.
    ClusterCopy,
    /// Local, `held`: the cluster's store is not believed, and nobody has accepted that; why, in words.
    Held,
    /// Local, `lost`: this store began in place of one that was lost, and nobody has accepted that; why, in words.
    Lost,
}

impl Key {
    /// The same key in the store that has the networks of this scope. What belongs to no network stays as it is.
    #[must_use]
    pub fn in_scope(self, scope: Scope) -> Self {
        match scope {
            Scope::Local if self.is_of_network() => Self::Here(Box::new(self)),
            Scope::Local | Scope::Global => self,
        }
    }

    /// The key without its scope.
    pub fn bare(&self) -> &Self {
        if let Self::Here(key) = self { key } else { self }
    }

    fn is_of_network(&self) -> bool {
        match self {
            Self::Network(_)
            | Self::NetworkName(_)
            | Self::Endpoint(..)
            | Self::EndpointName(..)
            | Self::Address(..)
            | Self::Mac(..) => true,
            Self::Vni(_)
            | Self::Node(_)
            | Self::Alive(_)
            | Self::Member(..)
            | Self::Pool(_)
            | Self::Here(_)
            | Self::Sandbox(_)
            | Self::Leg(_)
            | Self::Sysctl(_)
            | Self::Identity(_) => false,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(id) => write!(f, "{GLOBAL}networks/{id}"),
            Self::NetworkName(name) => write!(f, "{GLOBAL}network-names/{name}"),
            Self::Vni(vni) => write!(f, "{GLOBAL}vnis/{vni}"),
            Self::Endpoint(network, id) => write!(f, "{GLOBAL}endpoints/{network}/{id}"),
            Self::EndpointName(network, name) => write!(f, "{GLOBAL}endpoint-names/{network}/{name}"),
            // ::ffff:10.0.0.1 is 10.0.0.1: one address must not have two keys.
            Self::Address(network, ip) => write!(f, "{GLOBAL}addresses/{network}/{}", ip.to_canonical()),
            Self::Mac(network, mac) => write!(f, "{GLOBAL}addresses/{network}/{mac}"),
            Self::Node(id) => write!(f, "{GLOBAL}nodes/{id}"),
            Self::Alive(id) => write!(f, "{GLOBAL}alive/{id}"),
            Self::Member(network, node) => write!(f, "{GLOBAL}members/{network}/{node}"),
            Self::Pool(prefix) => write!(f, "{GLOBAL}pools/{}-{}", prefix.network(), prefix.prefix_len()),
            Self::Here(key) => match key.to_string().strip_prefix(GLOBAL) {
                Some(path) => write!(f, "{LOCAL}{path}"),
                // Never: only keys of networks are wrapped, see `in_scope`.
                None => key.fmt(f),
            },
            Self::Sandbox(name) => write!(f, "{LOCAL}sandboxes/{name}"),
            Self::Leg(network) => write!(f, "{LOCAL}legs/{network}"),
            Self::Sysctl(name) => write!(f, "{LOCAL}sysctls/{name}"),
            Self::Identity(identity) => identity.fmt(f),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => write!(f, "{GLOBAL}cluster"),
            Self::Accepted(id) => write!(f, "{GLOBAL}cluster-accepted/{id}"),
            Self::Removed(id) => write!(f, "{GLOBAL}nodes-removed/{id}"),
            Self::NodeCopy => write!(f, "{LOCAL}node-id"),
            Self::ClusterCopy => write!(f, "{LOCAL}cluster-id"),
            Self::Held => write!(f, "{LOCAL}held"),
            Self::Lost => write!(f, "{LOCAL}lost"),
        }
    }
}

impl FromStr for Key {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = |reason: String| Invalid::new("store key", text, reason);
        let parsed = if let Some(path) = text.strip_prefix(GLOBAL) {
            global(path)
        } else if let Some(path) = text.strip_prefix(LOCAL) {
            local(path)
        } else {
            return Err(wrong(format!("expected it to start with {GLOBAL} or {LOCAL}")));
        };
        let key = parsed
            .map_err(|inner| wrong(inner.to_string()))?
            .ok_or_else(|| wrong("no key has this form".into()))?;
        let spelling = key.to_string();
        if spelling == text { Ok(key) } else { Err(wrong(format!("the same key is spelt {spelling}"))) }
    }
}

fn global(path: &str) -> Result<Option<Key>, Invalid> {
    let parts: Vec<&str> = path.splitn(4, '/').collect();
    Ok(Some(match parts.as_slice() {
        ["networks", id] => Key::Network(id.parse()?),
        ["network-names", name] => Key::NetworkName(name.parse()?),
        ["vnis", vni] => Key::Vni(vni.parse()?),
        ["endpoints", network, id] => Key::Endpoint(network.parse()?, id.parse()?),
        ["endpoint-names", network, name] => Key::EndpointName(network.parse()?, name.parse()?),
        ["addresses", network, text] => match text.parse() {
            Ok(mac) => Key::Mac(network.parse()?, mac),
            Err(_ip) => Key::Address(network.parse()?, address(text)?),
        },
        ["nodes", id] => Key::Node(id.parse()?),
        ["alive", id] => Key::Alive(id.parse()?),
        ["members", network, node] => Key::Member(network.parse()?, node.parse()?),
        ["pools", prefix] => Key::Pool(pool(prefix)?),
        ["cluster"] => Key::Identity(Identity::Cluster),
        ["cluster-accepted", id] => Key::Identity(Identity::Accepted(id.parse()?)),
        ["nodes-removed", id] => Key::Identity(Identity::Removed(id.parse()?)),
        _ => return Ok(None),
    }))
}

fn pool(text: &str) -> Result<IpNet, Invalid> {
    let wrong = |_parse| Invalid::new("pool", text, "expected a prefix such as 10.0.0.0-24");
    text.replacen('-', "/", 1).parse().map_err(wrong)
}

fn local(path: &str) -> Result<Option<Key>, Invalid> {
    match path {
        "node-id" => return Ok(Some(Key::Identity(Identity::NodeCopy))),
        "cluster-id" => return Ok(Some(Key::Identity(Identity::ClusterCopy))),
        "held" => return Ok(Some(Key::Identity(Identity::Held))),
        "lost" => return Ok(Some(Key::Identity(Identity::Lost))),
        _ => {}
    }
    Ok(Some(match path.split_once('/') {
        Some(("sandboxes", name)) => Key::Sandbox(name.parse()?),
        Some(("legs", network)) => Key::Leg(network.parse()?),
        // A dotted key may hold slashes: sysctl(8) swaps the two where an interface's name has a dot.
        Some(("sysctls", name)) => Key::Sysctl(sysctl(name)?),
        _ => return Ok(global(path)?.filter(Key::is_of_network).map(|key| Key::Here(Box::new(key)))),
    }))
}

fn address(text: &str) -> Result<IpAddr, Invalid> {
    text.parse().map_err(|_named| Invalid::new("address", text, "expected an IPv4 or IPv6 address"))
}

fn sysctl(text: &str) -> Result<String, Invalid> {
    let fits =
        !text.is_empty() && text.len() <= SYSCTL_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits {
        Ok(text.to_owned())
    } else {
        Err(Invalid::new("sysctl", text, "expected 1 to 255 printable characters, without white space"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name() -> impl Strategy<Value = Name> {
        "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}".prop_map(|text| text.parse().unwrap())
    }

    fn network() -> impl Strategy<Value = NetworkId> {
        any::<[u8; 32]>().prop_map(NetworkId::from_bytes)
    }

    fn node() -> impl Strategy<Value = NodeId> {
        any::<u128>().prop_map(|bits| NodeId(uuid::Uuid::from_u128(bits)))
    }

    fn ip() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
            any::<u128>().prop_map(|bits| IpAddr::V6(bits.into()).to_canonical()),
        ]
    }

    fn key() -> impl Strategy<Value = Key> {
        prop_oneof![
            network().prop_map(Key::Network),
            name().prop_map(Key::NetworkName),
            (1..=Vni::MAX).prop_map(|number| Key::Vni(Vni::new(number).unwrap())),
            (network(), any::<[u8; 32]>())
                .prop_map(|(network, id)| Key::Endpoint(network, EndpointId::from_bytes(id))),
            (network(), name()).prop_map(|(network, name)| Key::EndpointName(network, name)),
            (network(), ip()).prop_map(|(network, ip)| Key::Address(network, ip)),
            (network(), ip()).prop_map(|(network, ip)| Key::Mac(network, Mac::derived(ip))),
            node().prop_map(Key::Node),
            node().prop_map(Key::Alive),
            (network(), node()).prop_map(|(network, node)| Key::Member(network, node)),
            (ip(), 8..=32_u8).prop_map(|(ip, length)| Key::Pool(IpNet::new(ip, length).unwrap().trunc())),
            name().prop_map(Key::Sandbox),
            network().prop_map(|id| Key::Network(id).in_scope(Scope::Local)),
            (network(), name()).prop_map(|(id, name)| Key::EndpointName(id, name).in_scope(Scope::Local)),
            (network(), ip()).prop_map(|(id, ip)| Key::Address(id, ip).in_scope(Scope::Local)),
            network().prop_map(Key::Leg),
            "[a-z]{1,8}(\\.[a-z0-9_/]{1,8}){0,4}".prop_map(Key::Sysctl),
            node().prop_map(|id| Key::Identity(Identity::Accepted(ClusterId(id.0)))),
            node().prop_map(|id| Key::Identity(Identity::Removed(id))),
            prop_oneof![
                Just(Identity::Cluster),
                Just(Identity::NodeCopy),
                Just(Identity::ClusterCopy),
                Just(Identity::Held),
                Just(Identity::Lost)
            ]
            .prop_map(Key::Identity),
        ]
    }

    proptest! {
        #[test]
        fn a_key_reads_back_what_it_prints(key in key()) {
            prop_assert_eq!(key.to_string().parse::<Key>().unwrap(), key);
        }

        #[test]
        fn any_text_is_a_key_in_its_one_spelling_or_an_error_that_quotes_it(text in "\\PC{0,80}") {
            for text in [text.clone(), format!("{GLOBAL}{text}"), format!("{LOCAL}{text}")] {
                match text.parse::<Key>() {
                    Ok(key) => prop_assert_eq!(key.to_string(), text),
                    Err(error) => prop_assert_eq!(error.input, text),
                }
            }
        }
    }

    #[test]
    fn another_spelling_of_a_key_is_refused_and_the_right_one_named() {
        let error = "/ovnet/v1/vnis/0256".parse::<Key>().unwrap_err();
        assert!(error.to_string().ends_with("the same key is spelt /ovnet/v1/vnis/256"), "{error}");
        let mapped = format!("{GLOBAL}addresses/{}/::ffff:10.0.0.1", NetworkId::from_bytes([1; 32]));
        assert!(mapped.parse::<Key>().unwrap_err().reason.ends_with("/10.0.0.1"));
    }

    #[test]
    fn a_key_that_is_not_ours_is_refused() {
        for text in ["", "/", "/ovnet/v1/", "/ovnet/v1/networks/", "/ovnet/v2/vnis/1", "/ovnet/v1/vnis/1/2"] {
            assert_eq!(text.parse::<Key>().unwrap_err().input, text);
        }
    }
}
