//! One thing that a store says, and what it changed.

use std::{collections::BTreeMap, fmt};

use ipnet::IpNet;

use crate::model::{Endpoint, EndpointId, Leg, Member, Name, Network, NetworkId, Node, NodeId, Sandbox};

/// A record as a store has it; `None` if it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// `networks/<id>`
    Network(NetworkId, Option<Network>),
    /// `endpoints/<network>/<id>`
    Endpoint(NetworkId, EndpointId, Option<Endpoint>),
    /// `members/<network>/<node>`
    Member(NetworkId, NodeId, Option<Member>),
    /// `nodes/<id>`
    Node(NodeId, Option<Node>),
    /// `alive/<id>`
    Alive(NodeId, bool),
    /// `sandboxes/<name>` of the local store
    Sandbox(Name, Option<Sandbox>),
    /// `legs/<network>` of the local store
    Leg(NetworkId, Option<Leg>),
}

/// What a fact is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touched {
    /// A network's own record.
    Network(NetworkId),
    /// An endpoint.
    Endpoint(NetworkId, EndpointId),
    /// A node's part in a network.
    Member(NetworkId, NodeId),
    /// A node.
    Node(NodeId),
    /// A node's lease.
    Alive(NodeId),
    /// A sandbox.
    Sandbox(Name),
    /// A host leg.
    Leg(NetworkId),
}

impl fmt::Display for Touched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(id) => write!(f, "networks/{id}"),
            Self::Endpoint(network, id) => write!(f, "endpoints/{network}/{id}"),
            Self::Member(network, node) => write!(f, "members/{network}/{node}"),
            Self::Node(id) => write!(f, "nodes/{id}"),
            Self::Alive(id) => write!(f, "alive/{id}"),
            Self::Sandbox(name) => write!(f, "sandboxes/{name}"),
            Self::Leg(id) => write!(f, "legs/{id}"),
        }
    }
}

/// What happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is new.
    Create,
    /// It has changed.
    Update,
    /// It is gone.
    Remove,
    /// A node's lease appeared.
    Alive,
    /// A node's lease ran out.
    Expired,
}

/// A real change: a fact that says what was known already makes none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// What.
    pub touched: Touched,
    /// How.
    pub action: Action,
    /// Its name, for people.
    pub name: String,
    /// Of a network's record: the subnets that it had and has no more.
    pub left: Vec<IpNet>,
}

impl Fact {
    /// That this is gone.
    pub fn gone(touched: Touched) -> Self {
        match touched {
            Touched::Network(id) => Self::Network(id, None),
            Touched::Endpoint(network, id) => Self::Endpoint(network, id, None),
            Touched::Member(network, node) => Self::Member(network, node, None),
            Touched::Node(id) => Self::Node(id, None),
            Touched::Alive(id) => Self::Alive(id, false),
            Touched::Sandbox(name) => Self::Sandbox(name, None),
            Touched::Leg(id) => Self::Leg(id, None),
        }
    }

    /// Whether it says that something is gone.
    pub fn is_removal(&self) -> bool {
        *self == Self::gone(self.touched())
    }

    /// What it is about.
    pub fn touched(&self) -> Touched {
        match self {
            Self::Network(id, _) => Touched::Network(*id),
            Self::Endpoint(network, id, _) => Touched::Endpoint(*network, *id),
            Self::Member(network, node, _) => Touched::Member(*network, *node),
            Self::Node(id, _) => Touched::Node(*id),
            Self::Alive(id, _) => Touched::Alive(*id),
            Self::Sandbox(name, _) => Touched::Sandbox(name.clone()),
            Self::Leg(id, _) => Touched::Leg(*id),
        }
    }
}

/// Put or remove `value` under `key`, and say whether that changed anything.
pub(super) fn replace<K: Ord, V: PartialEq>(
    map: &mut BTreeMap<K, V>,
    key: K,
    value: Option<V>,
    touched: Touched,
    name: impl Fn(&V) -> String,
) -> Option<Changed> {
    let (action, name) = match (map.get(&key), &value) {
        (None, None) => return None,
        (Some(old), Some(new)) if old == new => return None,
        (None, Some(new)) => (Action::Create, name(new)),
        (Some(_), Some(new)) => (Action::Update, name(new)),
        (Some(old), None) => (Action::Remove, name(old)),
    };
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
    Some(Changed { touched, action, name, left: Vec::new() })
}
