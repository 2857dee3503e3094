//! What to look at again, and how closely. An event only ever says this.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    intent::{Changed, Intent, NetworkView, Source, Touched},
    model::{DriverSettings, Endpoint, EndpointId, NetworkId, NodeId, Publish},
    plan::ownership::Unit,
};

/// More changed rows than this at once are cheaper as one full look.
const MOST_ROWS: usize = 2_000;

/// A piece of a network that can be looked at alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// An endpoint.
    Endpoint(EndpointId),
    /// A node's own addresses.
    Member(NodeId),
    /// All that is on a node: its own addresses and its endpoints.
    Node(NodeId),
}

/// How closely to look at a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Depth {
    /// These rows, against what was programmed for them; of a unit without rows, the whole.
    Rows(BTreeSet<Row>),
    /// All of it, against the kernel.
    Full,
}

impl Depth {
    /// Against what was programmed: nothing is looked at where that is what is wanted.
    pub const CHANGED: Self = Self::Rows(BTreeSet::new());
}

/// Units to look at again.
#[derive(Clone, Debug, Default)]
pub struct Dirty(BTreeMap<Unit, Depth>);

impl Dirty {
    /// Also look at this.
    pub fn add(&mut self, unit: Unit, depth: Depth) {
        use std::collections::btree_map::Entry;
        match self.0.entry(unit) {
            Entry::Vacant(vacant) => {
                vacant.insert(depth);
            }
            Entry::Occupied(mut there) => match (there.get_mut(), depth) {
                (Depth::Rows(known), Depth::Rows(more)) => {
                    known.extend(more);
                    if known.len() > MOST_ROWS {
                        there.insert(Depth::Full);
                    }
                }
                (Depth::Full, _) => {}
                (Depth::Rows(_), Depth::Full) => {
                    there.insert(Depth::Full);
                }
            },
        }
    }

    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The units in the order in which to look at them: the host, then sandboxes, then the networks that need both.
    pub fn into_units(self) -> Vec<(Unit, Depth)> {
        let mut units: Vec<_> = self.0.into_iter().collect();
        units.sort_by_key(|(unit, _)| match unit {
            Unit::Host => 0,
            Unit::Sandbox(_) => 1,
            Unit::Network(_) => 2,
        });
        units
    }

    /// What a change of the intent makes worth a look. `me` is this node.
    pub fn mark(&mut self, changed: &Changed, intent: &Intent, me: NodeId) {
        match &changed.touched {
            Touched::Network(id) => {
                self.add(Unit::Network(*id), Depth::Full);
                self.add(Unit::Host, Depth::CHANGED);
                self.equal_subnets(*id, intent, me);
            }
            Touched::Endpoint(network, id) => {
                self.row(*network, Row::Endpoint(*id));
                self.endpoint(*network, *id, intent, me);
            }
            Touched::Member(network, node) if *node == me => {
                self.add(Unit::Network(*network), Depth::Full);
                self.add(Unit::Host, Depth::CHANGED);
                self.equal_subnets(*network, intent, me);
            }
            Touched::Member(network, node) => self.row(*network, Row::Member(*node)),
            Touched::Node(node) | Touched::Alive(node) => self.node(*node, intent),
            Touched::Sandbox(name) => {
                if let Some(sandbox) = intent.sandboxes().get(name) {
                    self.add(Unit::Sandbox(sandbox.id), Depth::Full);
                }
                for endpoint in intent.endpoints_in(me, name) {
                    self.row(endpoint.network, Row::Endpoint(endpoint.id));
                }
            }
            Touched::Leg(_) => {}
        }
    }

    /// What else an endpoint that came, went or changed is of consequence to.
    fn endpoint(&mut self, network: NetworkId, id: EndpointId, intent: &Intent, me: NodeId) {
        let view = intent.network(network);
        let of_another_host = view.is_some_and(|view| {
            let elsewhere = |endpoint: &Endpoint| endpoint.node != me;
            view.endpoints().get(&id).is_some_and(elsewhere) && !is_mesh(view)
        });
        if of_another_host {
            return;
        }
        self.add(Unit::Host, Depth::CHANGED);
        // On this host alone, it has no members that would say that it comes or goes.
        if let Some(view) = view.filter(|view| view.source() == Source::Local)
            && view.endpoints_on(me).nth(1).is_none()
        {
            self.equal_subnets(network, intent, me);
        }
    }

    /// Everything on a node, in every network that it is in.
    pub fn node(&mut self, node: NodeId, intent: &Intent) {
        for (id, view) in intent.networks() {
            if !view.members().contains_key(&node) {
                continue;
            }
            if is_mesh(view) && view.published().any(|endpoint| endpoint.node == node) {
                // Its ports come or go with it.
                self.add(Unit::Network(*id), Depth::Full);
                self.add(Unit::Host, Depth::CHANGED);
            } else {
                self.row(*id, Row::Node(node));
            }
        }
    }

    fn row(&mut self, network: NetworkId, row: Row) {
        self.add(Unit::Network(network), Depth::Rows([row].into()));
    }

    /// A network that comes or goes can give or take another one's route in the host.
    fn equal_subnets(&mut self, id: NetworkId, intent: &Intent, me: NodeId) {
        let prefixes = |id: NetworkId| {
            let network = intent.network(id).and_then(|view| view.network());
            network.map(|network| network.subnets.iter().map(|subnet| subnet.prefix).collect::<Vec<_>>())
        };
        let mine = prefixes(id);
        for (other, _) in intent.networks().filter(|(other, view)| **other != id && super::is_here(view, me))
        {
            let meets = match (&mine, prefixes(*other)) {
                // A network that is gone took its subnets' names with it: look at every other one.
                (None, _) => true,
                (Some(mine), Some(theirs)) => {
                    mine.iter().any(|a| theirs.iter().any(|b| a.contains(b) || b.contains(a)))
                }
                (Some(_), None) => false,
            };
            if meets {
                self.add(Unit::Network(*other), Depth::Full);
            }
        }
    }
}

/// Whether the endpoints of other hosts are published here, too.
fn is_mesh(view: &NetworkView) -> bool {
    let settings = view.network().map(|network| &network.settings);
    matches!(settings, Some(DriverSettings::Overlay(overlay)) if overlay.publish == Publish::Mesh)
}
