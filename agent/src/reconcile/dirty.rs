//! What to look at again, and how closely. An event says nothing more than this.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::{
    drivers::is_here,
    intent::{Changed, Intent, NetworkView, Source, Touched},
    model::{Endpoint, EndpointId, NetworkId, NodeId},
    plan::ownership::Unit,
};

/// With more changed rows than this, one full look is cheaper.
const MOST_ROWS: usize = 2_000;

/// A piece of a network that can be looked at on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// An endpoint.
    Endpoint(EndpointId),
    /// A node's own addresses.
    Member(NodeId),
    /// Everything on a node: its own addresses and its endpoints.
    Node(NodeId),
}

/// How closely to look at a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Only these rows, against their programmed state; the whole unit, if it has no rows.
    Rows(BTreeSet<Row>),
    /// All of it, against the kernel.
    Full,
}

impl Depth {
    /// Against the programmed state: if that is desired, the kernel is not looked at.
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
        units.sort_by_key(|(unit, _)| in_order(unit));
        units
    }

    /// The units to look at after a change of the intent. `me` is this node.
    pub fn mark(&mut self, changed: &Changed, intent: &Intent, me: NodeId) {
        match &changed.touched {
            Touched::Network(id) => {
                self.add(Unit::Network(*id), Depth::Full);
                self.add(Unit::Host, Depth::CHANGED);
                self.equal_subnets(*id, &changed.left, intent, me);
            }
            Touched::Endpoint(network, id) => {
                self.row(*network, Row::Endpoint(*id));
                self.endpoint(*network, *id, intent, me);
            }
            Touched::Member(network, node) if *node == me => {
                self.add(Unit::Network(*network), Depth::Full);
                self.add(Unit::Host, Depth::CHANGED);
                self.equal_subnets(*network, &[], intent, me);
            }
            Touched::Member(network, node) => self.row(*network, Row::Member(*node)),
            Touched::Node(node) => {
                self.node(*node, intent);
                // Whose tunnels are let in.
                self.add(Unit::Host, Depth::CHANGED);
            }
            Touched::Alive(node) => self.node(*node, intent),
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

    /// The other units that an added, removed or changed endpoint affects.
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
            self.equal_subnets(network, &[], intent, me);
        }
    }

    /// Everything on a node, in all of its networks.
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

    /// A network that comes or goes can change which network has a route in the host. `left` are the subnets
    /// that it had before. A network without a record has none: they were handled when the record was
    /// removed.
    fn equal_subnets(&mut self, id: NetworkId, left: &[IpNet], intent: &Intent, me: NodeId) {
        let network = intent.network(id).and_then(|view| view.network());
        let own = network.into_iter().flat_map(|network| &network.subnets).map(|subnet| subnet.prefix);
        let mine: Vec<IpNet> = own.chain(left.iter().copied()).collect();
        let overlaps = |theirs: &IpNet| mine.iter().any(|own| own.contains(theirs) || theirs.contains(own));
        for (other, view) in intent.networks() {
            let meets =
                view.network().is_some_and(|it| it.subnets.iter().any(|subnet| overlaps(&subnet.prefix)));
            if meets && *other != id && is_here(view, me) {
                self.add(Unit::Network(*other), Depth::Full);
            }
        }
    }
}

/// The place of a unit in the order of looks.
pub(super) fn in_order(unit: &Unit) -> u8 {
    match unit {
        Unit::Host => 0,
        Unit::Sandbox(_) => 1,
        Unit::Network(_) => 2,
    }
}

/// Whether endpoints of other hosts are published here too.
fn is_mesh(view: &NetworkView) -> bool {
    view.network().is_some_and(|network| network.settings.is_mesh())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        intent::Fact,
        model::{Network, testing},
    };

    const ME: NodeId = testing::ME;

    /// An overlay by number, with this subnet.
    fn network(number: u8, prefix: &str) -> Network {
        let subnet = crate::model::Subnet {
            prefix: prefix.parse().unwrap(),
            gateway: None,
            ..testing::network().subnets.remove(0)
        };
        let name = format!("net{number}").parse().unwrap();
        Network { id: NetworkId::from_bytes([number; 32]), name, subnets: vec![subnet], ..testing::network() }
    }

    /// What makes a network be here.
    fn here(network: &Network) -> Vec<Fact> {
        let endpoint = Endpoint { network: network.id, ..testing::endpoint(2, ME) };
        vec![
            Fact::Network(network.id, Some(network.clone())),
            Fact::Member(network.id, ME, Some(testing::member(250, ME))),
            Fact::Endpoint(network.id, endpoint.id, Some(endpoint)),
        ]
    }

    /// The networks that are marked when a store says this.
    fn marked(intent: &mut Intent, facts: Vec<Fact>) -> BTreeSet<NetworkId> {
        let mut dirty = Dirty::default();
        for changed in intent.apply(Source::Global, 2, facts) {
            dirty.mark(&changed, intent, ME);
        }
        let units = dirty.into_units().into_iter();
        units
            .filter_map(|(unit, _)| match unit {
                Unit::Network(id) => Some(id),
                Unit::Host | Unit::Sandbox(_) => None,
            })
            .collect()
    }

    #[test]
    fn a_network_that_goes_is_of_consequence_to_those_alone_that_shared_its_addresses() {
        let (mut intent, empty) = (Intent::default(), network(1, "10.1.0.0/16"));
        let (wider, apart) = (network(2, "10.0.0.0/8"), network(3, "172.30.0.0/16"));
        intent.apply(Source::Global, 1, [here(&wider), here(&apart)].concat());
        let comes = marked(&mut intent, vec![Fact::Network(empty.id, Some(empty.clone()))]);
        assert_eq!(comes, [empty.id, wider.id].into());
        let goes = marked(&mut intent, vec![Fact::Network(empty.id, None)]);
        assert_eq!(goes, [empty.id, wider.id].into());
        // What belonged to it may be said to be gone later.
        let late = marked(&mut intent, vec![Fact::Member(empty.id, ME, Some(testing::member(250, ME)))]);
        assert_eq!(late, [empty.id].into());
        let later = marked(&mut intent, vec![Fact::Member(empty.id, ME, None)]);
        assert_eq!(later, [empty.id].into());
    }

    #[test]
    fn a_subnet_that_a_network_gives_up_is_of_consequence_to_those_that_shared_it() {
        let (mut intent, changes) = (Intent::default(), network(1, "10.1.0.0/16"));
        let (old, new) = (network(2, "10.1.0.0/24"), network(3, "10.2.0.0/24"));
        intent.apply(Source::Global, 1, [here(&changes), here(&old), here(&new)].concat());
        let moved = network(1, "10.2.0.0/16");
        let marked = marked(&mut intent, vec![Fact::Network(moved.id, Some(moved))]);
        assert_eq!(marked, [changes.id, old.id, new.id].into());
    }
}
