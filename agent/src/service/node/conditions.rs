//! The current problems of the environment, by node, as the watchers in `app` find them; `node ls` and
//! `inspect` show them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::model::NodeId;

/// A kind of problem with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// Another host has this one's node id.
    Clone,
    /// Another node has its name.
    Namesake,
    /// It is alive, but gossip does not reach it.
    Gossip,
    /// It does not answer through the tunnel.
    Tunnel,
    /// The kernel of this host lacks something.
    Kernel,
}

/// The current problems, a sentence each. Cheap to clone; all clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Conditions(Arc<Mutex<BTreeMap<(Condition, NodeId), String>>>);

/// The change of a kind of problem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transition {
    /// Nodes that did not have it before, each with its sentence.
    pub fresh: BTreeMap<NodeId, String>,
    /// Nodes that no longer have it.
    pub over: Vec<NodeId>,
}

impl Conditions {
    /// Replace all problems of a kind; returns which are new and which are over. A problem whose sentence
    /// only changed is not new.
    pub fn replace(&self, trouble: Condition, now: BTreeMap<NodeId, String>) -> Transition {
        let mut known = self.lock();
        let of = |(kind, node): &(Condition, NodeId)| (*kind == trouble).then_some(*node);
        let before: Vec<NodeId> = known.keys().filter_map(of).collect();
        let over = before.iter().filter(|node| !now.contains_key(node)).copied().collect();
        known.retain(|(kind, _), _| *kind != trouble);
        let mut fresh = BTreeMap::new();
        for (node, text) in now {
            if !before.contains(&node) {
                fresh.insert(node, text.clone());
            }
            known.insert((trouble, node), text);
        }
        Transition { fresh, over }
    }

    /// The problems of a node.
    pub fn of(&self, node: NodeId) -> Vec<String> {
        self.lock().iter().filter(|((_, of), _)| *of == node).map(|(_, text)| text.clone()).collect()
    }

    /// Why this node takes no part: another host has its id.
    pub fn conflict(&self) -> Option<String> {
        self.lock().iter().find(|((kind, _), _)| *kind == Condition::Clone).map(|(_, text)| text.clone())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Condition, NodeId), String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u128) -> NodeId {
        NodeId(uuid::Uuid::from_u128(n))
    }

    #[test]
    fn trouble_is_news_when_it_begins_and_when_it_ends_and_not_in_between() {
        let notices = Conditions::default();
        let one = || BTreeMap::from([(node(1), "a".to_owned())]);
        assert_eq!(notices.replace(Condition::Gossip, one()), Transition { fresh: one(), over: Vec::new() });
        let reworded = BTreeMap::from([(node(1), "b".to_owned())]);
        assert_eq!(notices.replace(Condition::Gossip, reworded), Transition::default());
        assert_eq!(notices.replace(Condition::Tunnel, one()).fresh, one(), "another kind is other news");
        assert_eq!(notices.of(node(1)), ["b", "a"]);
        let over = notices.replace(Condition::Gossip, BTreeMap::new());
        assert_eq!(over, Transition { fresh: BTreeMap::new(), over: vec![node(1)] });
        assert_eq!(notices.of(node(1)), ["a"]);
        assert_eq!(notices.conflict(), None);
    }
}
