//! One network on this host: its inputs, in a shared part and pieces that change on their own.
//!
//! A changed piece is planned against its programmed state, at the cost of that piece; anything else is
//! planned against the kernel. The drivers make the desired state; `unit` looks and plans.

mod unit;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

pub(super) use self::unit::Leftovers;
use super::dirty::Row;
use crate::{
    drivers::{Element, Env, Shared, Station},
    intent::Intent,
    model::{IfName, Mac, NetworkId, NodeId},
    plan::state::{Netns, State},
};

/// The last programmed state of a network.
#[derive(Clone, Debug)]
pub(super) struct Programmed {
    /// The shared part.
    pub shared: Shared,
    /// The pieces.
    pub pieces: BTreeMap<Row, Element>,
}

impl Programmed {
    /// Its desired state.
    pub(super) fn desired(&self) -> State {
        self.shared.desired(self.pieces.values())
    }

    /// The namespaces of sandboxes in which it has objects.
    pub(super) fn sandboxes(&self) -> BTreeSet<&Netns> {
        let netns = self.pieces.values().filter_map(|piece| match piece {
            Element::Local(_, netns) => Some(netns),
            Element::Remote(_) => None,
        });
        netns.collect()
    }

    /// The namespaces and host links that must exist. The full looks check their contents.
    pub(super) fn needs(&self) -> (Vec<Netns>, Vec<IfName>) {
        self.shared.needs(|| self.desired())
    }
}

/// One piece, or `None` if there is nothing (or no longer anything) to program for it.
pub(super) fn piece(intent: &Intent, env: &Env, id: NetworkId, row: Row) -> Option<Element> {
    let view = intent.network(id)?;
    match row {
        Row::Endpoint(endpoint) => {
            let endpoint = view.endpoints().get(&endpoint)?;
            // One that was made ahead of its sandbox is nowhere yet.
            let sandbox = endpoint.sandbox.as_ref()?;
            if endpoint.node == env.me {
                let netns = env.sandboxes.get(sandbox)?;
                return Some(Element::Local(Box::new(endpoint.clone()), netns.clone()));
            }
            station(intent, env, endpoint.node, endpoint.mac, &endpoint.addresses)
        }
        Row::Member(node) | Row::Node(node) if node == env.me => None,
        Row::Member(node) | Row::Node(node) => {
            let member = view.members().get(&node)?;
            station(intent, env, node, member.mac, &member.addresses)
        }
    }
}

fn station(intent: &Intent, env: &Env, node: NodeId, mac: Mac, addresses: &[IpNet]) -> Option<Element> {
    let vtep = intent.nodes().get(&node).filter(|_| !env.hidden.contains(&node))?.vtep;
    Some(Element::Remote(Station { mac, addresses: addresses.iter().map(IpNet::addr).collect(), vtep }))
}

/// All pieces.
pub(super) fn pieces(intent: &Intent, env: &Env, id: NetworkId) -> BTreeMap<Row, Element> {
    rows(intent, id).filter_map(|row| Some((row, piece(intent, env, id, row)?))).collect()
}

/// The rows that a network may have pieces for.
pub(super) fn rows(intent: &Intent, id: NetworkId) -> impl Iterator<Item = Row> {
    let view = intent.network(id);
    let endpoints = view.into_iter().flat_map(|view| view.endpoints().keys()).map(|id| Row::Endpoint(*id));
    let members = view.into_iter().flat_map(|view| view.members().keys()).map(|node| Row::Member(*node));
    endpoints.chain(members)
}

/// The rows of a request, with a node expanded to its rows. Rows that a node no longer has were requested
/// separately.
pub(super) fn spell_out(intent: &Intent, id: NetworkId, rows: BTreeSet<Row>) -> BTreeSet<Row> {
    let mut spelled = BTreeSet::new();
    for row in rows {
        match row {
            Row::Endpoint(_) | Row::Member(_) => {
                spelled.insert(row);
            }
            Row::Node(node) => {
                spelled.insert(Row::Member(node));
                if let Some(view) = intent.network(id) {
                    spelled.extend(view.endpoints_on(node).map(|endpoint| Row::Endpoint(endpoint.id)));
                }
            }
        }
    }
    spelled
}
