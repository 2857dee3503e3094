//! What the store says, in memory: networks, endpoints, members, nodes, and this node's sandboxes; pure.
//!
//! The follower feeds it [`Fact`]s; `reconcile` and `service` read it. Nothing here is ever emptied because something
//! could not be read: only a fact that says so removes.

mod fact;
mod lookup;
mod names;
mod network;
mod places;
mod referred;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

pub use fact::{Action, Changed, Fact, Touched};
pub use lookup::LookupError;
pub use network::NetworkView;
use places::Places;

use crate::model::{Endpoint, Leg, Name, NetworkId, Node, NodeId, Sandbox};

/// Which store a fact comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The cluster's.
    Global,
    /// This node's own.
    Local,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Global => "the cluster's store",
            Self::Local => "this host's own store",
        })
    }
}

/// The intent as last heard of.
#[derive(Clone, Debug, Default)]
pub struct Intent {
    networks: BTreeMap<NetworkId, NetworkView>,
    places: Places,
    nodes: BTreeMap<NodeId, Node>,
    alive: BTreeSet<NodeId>,
    sandboxes: BTreeMap<Name, Sandbox>,
    legs: BTreeMap<NetworkId, Leg>,
    global_revision: Option<i64>,
    local_revision: Option<i64>,
}

impl Intent {
    /// The store's revision that this reflects; None until its first snapshot has come.
    pub fn revision(&self, source: Source) -> Option<i64> {
        match source {
            Source::Global => self.global_revision,
            Source::Local => self.local_revision,
        }
    }

    /// Whether both stores have been read once. Before that, nothing may be concluded from what is not here.
    pub fn loaded(&self) -> bool {
        self.global_revision.is_some() && self.local_revision.is_some()
    }

    /// Networks with what belongs to them; also those of which only endpoints or members are known.
    pub fn networks(&self) -> impl Iterator<Item = (&NetworkId, &NetworkView)> {
        self.networks.iter()
    }

    /// One network with what belongs to it.
    pub fn network(&self, id: NetworkId) -> Option<&NetworkView> {
        self.networks.get(&id)
    }

    /// The endpoints in a sandbox of a node, in all networks.
    pub fn endpoints_in(&self, node: NodeId, sandbox: &Name) -> impl Iterator<Item = &Endpoint> {
        let ids = self.places.of(node, sandbox).iter();
        ids.filter_map(|(network, id)| self.networks.get(network)?.endpoints().get(id))
    }

    /// Registered nodes.
    pub fn nodes(&self) -> &BTreeMap<NodeId, Node> {
        &self.nodes
    }

    /// Whether a node's lease holds.
    pub fn is_alive(&self, node: NodeId) -> bool {
        self.alive.contains(&node)
    }

    /// This node's sandboxes.
    pub fn sandboxes(&self) -> &BTreeMap<Name, Sandbox> {
        &self.sandboxes
    }

    /// Whether there is a record of this.
    pub fn knows(&self, touched: &Touched) -> bool {
        let view = |id| self.networks.get(id);
        match touched {
            Touched::Network(id) => view(id).is_some_and(|view| view.network().is_some()),
            Touched::Endpoint(network, id) => view(network).is_some_and(|it| it.endpoints().contains_key(id)),
            Touched::Member(network, node) => view(network).is_some_and(|it| it.members().contains_key(node)),
            Touched::Node(id) => self.nodes.contains_key(id),
            Touched::Alive(id) => self.alive.contains(id),
            Touched::Sandbox(name) => self.sandboxes.contains_key(name),
            Touched::Leg(id) => self.legs.contains_key(id),
        }
    }

    /// This node's host legs.
    pub fn legs(&self) -> &BTreeMap<NetworkId, Leg> {
        &self.legs
    }

    /// Take in what changed at `revision`; what was a real change comes back.
    pub fn apply(&mut self, source: Source, revision: i64, facts: Vec<Fact>) -> Vec<Changed> {
        self.advance(source, revision);
        facts.into_iter().filter_map(|fact| self.take(source, fact)).collect()
    }

    /// Take in a whole snapshot: what it does not have is gone, but for `unreadable` records, which stay as they were.
    pub fn replace(
        &mut self,
        source: Source,
        revision: i64,
        facts: Vec<Fact>,
        unreadable: &BTreeSet<Touched>,
    ) -> Vec<Changed> {
        let named: BTreeSet<Touched> = facts.iter().map(Fact::touched).collect();
        let stays = |touched: Touched| named.contains(&touched) || unreadable.contains(&touched);
        let gone: Vec<Fact> = self.known(source).filter(|fact| !stays(fact.touched())).collect();
        match source {
            Source::Global => self.global_revision = Some(revision),
            Source::Local => self.local_revision = Some(revision),
        }
        gone.into_iter().chain(facts).filter_map(|fact| self.take(source, fact)).collect()
    }

    fn advance(&mut self, source: Source, revision: i64) {
        let known = match source {
            Source::Global => &mut self.global_revision,
            Source::Local => &mut self.local_revision,
        };
        *known = Some(known.map_or(revision, |known| known.max(revision)));
    }

    /// Everything known from a source, as the facts that would remove it.
    fn known(&self, source: Source) -> Box<dyn Iterator<Item = Fact> + '_> {
        match source {
            Source::Global => Box::new(
                self.networks
                    .iter()
                    .filter(|(_, view)| view.source() == Source::Global)
                    .flat_map(|(id, view)| view.known(*id))
                    .chain(self.nodes.keys().map(|id| Fact::Node(*id, None)))
                    .chain(self.alive.iter().map(|id| Fact::Alive(*id, false))),
            ),
            Source::Local => Box::new(
                self.networks
                    .iter()
                    .filter(|(_, view)| view.source() == Source::Local)
                    .flat_map(|(id, view)| view.known(*id))
                    .chain(self.sandboxes.keys().map(|name| Fact::Sandbox(name.clone(), None)))
                    .chain(self.legs.keys().map(|id| Fact::Leg(*id, None))),
            ),
        }
    }

    fn take(&mut self, source: Source, fact: Fact) -> Option<Changed> {
        match fact {
            Fact::Network(id, network) => self.in_network(source, id, |view| view.set_network(id, network)),
            Fact::Endpoint(network, id, endpoint) => {
                let known = self.networks.get(&network).and_then(|view| view.endpoints().get(&id));
                let before = known.and_then(|known| Some((known.node, known.sandbox.clone()?)));
                self.places.moved(network, id, before, endpoint.as_ref());
                self.in_network(source, network, |view| view.set_endpoint(network, id, endpoint))
            }
            Fact::Member(network, node, member) => {
                self.in_network(source, network, |view| view.set_member(network, node, member))
            }
            Fact::Node(id, node) => {
                let name = |node: &Node| node.name.to_string();
                fact::replace(&mut self.nodes, id, node, Touched::Node(id), name)
            }
            Fact::Alive(id, alive) => {
                let changed = if alive { self.alive.insert(id) } else { self.alive.remove(&id) };
                let name = self.nodes.get(&id).map_or_else(|| id.to_string(), |node| node.name.to_string());
                let action = if alive { Action::Alive } else { Action::Expired };
                changed.then_some(Changed { touched: Touched::Alive(id), action, name, left: Vec::new() })
            }
            Fact::Sandbox(key, sandbox) => {
                let touched = Touched::Sandbox(key.clone());
                fact::replace(&mut self.sandboxes, key, sandbox, touched, |sandbox| sandbox.name.to_string())
            }
            Fact::Leg(id, leg) => {
                fact::replace(&mut self.legs, id, leg, Touched::Leg(id), |leg| leg.index().to_string())
            }
        }
    }

    fn in_network(
        &mut self,
        source: Source,
        id: NetworkId,
        change: impl FnOnce(&mut NetworkView) -> Option<Changed>,
    ) -> Option<Changed> {
        let view = self.networks.entry(id).or_insert_with(|| NetworkView::new(source));
        let changed = change(view);
        if view.is_empty() {
            self.networks.remove(&id);
        }
        changed
    }
}

#[cfg(test)]
mod tests;
