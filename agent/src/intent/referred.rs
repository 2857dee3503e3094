//! Finds unexplained removals: no verb of ours removes a record that others still refer to.
//!
//! A network goes after its endpoints, a node's part in a network goes with its last endpoint there, a node goes after all
//! that it has. A record that goes before was deleted by hand, or lost.

use std::collections::{BTreeMap, BTreeSet};

use super::{Fact, Intent, Source, Touched};
use crate::model::{EndpointId, NetworkId, NodeId};

impl Intent {
    /// Everything that a snapshot of a source does not have and that is known from it, as the facts that remove it;
    /// `unreadable` records are there.
    pub fn missing_in(&self, source: Source, facts: &[Fact], unreadable: &BTreeSet<Touched>) -> Vec<Fact> {
        let named: BTreeSet<Touched> = facts.iter().map(Fact::touched).collect();
        let stays = |touched: &Touched| named.contains(touched) || unreadable.contains(touched);
        self.known(source).filter(|fact| !stays(&fact.touched())).collect()
    }

    /// Of what these facts remove, applied in their order: the records that something refers to which stays. `me` is this
    /// node; its own record is its own to write again.
    pub fn still_referred_to(&self, me: NodeId, facts: &[Fact]) -> BTreeSet<Touched> {
        let suspect = |fact: &Fact| {
            matches!(fact, Fact::Network(_, None) | Fact::Member(_, _, None) | Fact::Node(_, None))
        };
        if !facts.iter().any(suspect) {
            return BTreeSet::new();
        }
        let after = self.after(facts);
        let refers = |fact: &Fact| match fact {
            Fact::Network(id, None) => {
                self.knows(&Touched::Network(*id)) && after.has_endpoint(*id, |_| true)
            }
            Fact::Member(id, node, None) => {
                self.knows(&Touched::Member(*id, *node)) && after.has_endpoint(*id, |owner| owner == *node)
            }
            Fact::Node(id, None) if *id != me => self.nodes.contains_key(id) && after.node_is_used(*id),
            Fact::Network(..)
            | Fact::Endpoint(..)
            | Fact::Member(..)
            | Fact::Node(..)
            | Fact::Alive(..)
            | Fact::Sandbox(..)
            | Fact::Leg(..) => false,
        };
        after.last.values().filter(|fact| refers(fact)).map(|fact| fact.touched()).collect()
    }

    /// The endpoints of a node that these facts remove.
    pub fn endpoints_removed(&self, node: NodeId, facts: &[Fact]) -> Vec<(NetworkId, EndpointId)> {
        if !facts.iter().any(|fact| matches!(fact, Fact::Endpoint(_, _, None))) {
            return Vec::new();
        }
        let removed = |fact: &Fact| {
            let Fact::Endpoint(network, id, None) = fact else { return None };
            let known = self.networks.get(network)?.endpoints().get(id)?;
            (known.node == node).then_some((*network, *id))
        };
        self.after(facts).last.values().filter_map(|fact| removed(fact)).collect()
    }

    /// Of these networks, those in which a node will have a part and no endpoint: its last endpoint goes with its part.
    pub fn forsaken_by(
        &self,
        node: NodeId,
        networks: &BTreeSet<NetworkId>,
        facts: &[Fact],
    ) -> BTreeSet<NetworkId> {
        if networks.is_empty() {
            return BTreeSet::new();
        }
        let after = self.after(facts);
        let forsaken =
            |id: &NetworkId| after.has_member(*id, node) && !after.has_endpoint(*id, |owner| owner == node);
        networks.iter().filter(|id| forsaken(id)).copied().collect()
    }

    fn after<'a>(&'a self, facts: &'a [Fact]) -> After<'a> {
        After { intent: self, last: facts.iter().map(|fact| (fact.touched(), fact)).collect() }
    }

    /// How many endpoints a node has that are known from this source.
    pub fn count_endpoints(&self, source: Source, node: NodeId) -> usize {
        let views = self.networks.values().filter(|view| view.source() == source);
        views.map(|view| view.endpoints_on(node).count()).sum()
    }
}

/// The intent as it will be when the facts have been applied.
struct After<'a> {
    intent: &'a Intent,
    /// The last that is said of each record.
    last: BTreeMap<Touched, &'a Fact>,
}

impl After<'_> {
    /// Whether a network will have an endpoint whose node is one of these.
    fn has_endpoint(&self, network: NetworkId, of: impl Fn(NodeId) -> bool) -> bool {
        let known = self.intent.networks.get(&network).into_iter().flat_map(|view| view.endpoints());
        let stays = |id: EndpointId| !self.last.contains_key(&Touched::Endpoint(network, id));
        let of_network = |last: u8| Touched::Endpoint(network, EndpointId::from_bytes([last; 32]));
        known.into_iter().any(|(id, endpoint)| of(endpoint.node) && stays(*id))
            || self.last.range(of_network(0)..=of_network(u8::MAX)).any(|(_, fact)| {
                let Fact::Endpoint(_, _, Some(endpoint)) = fact else { return false };
                of(endpoint.node)
            })
    }

    /// Whether a node will have a part in a network.
    fn has_member(&self, network: NetworkId, node: NodeId) -> bool {
        let touched = Touched::Member(network, node);
        match self.last.get(&touched) {
            Some(fact) => !fact.is_removal(),
            None => self.intent.knows(&touched),
        }
    }

    fn node_is_used(&self, node: NodeId) -> bool {
        let networks = self.intent.networks.keys().copied();
        let named = self.last.keys().filter_map(|touched| {
            let Touched::Endpoint(network, _) = touched else { return None };
            Some(*network)
        });
        let networks: BTreeSet<NetworkId> = networks.chain(named).collect();
        networks.into_iter().any(|network| self.has_endpoint(network, |owner| owner == node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Endpoint, testing};

    fn judged(intent: &Intent, facts: &[Fact]) -> BTreeSet<Touched> {
        intent.still_referred_to(testing::ME, facts)
    }

    fn with_two_endpoints() -> (Intent, NetworkId, [Endpoint; 2]) {
        let (network, mine) = testing::network_with_endpoint();
        let theirs = Endpoint { network: network.id, ..testing::endpoint(4, testing::OTHER) };
        let mut intent = Intent::default();
        let fact = |endpoint: &Endpoint| Fact::Endpoint(network.id, endpoint.id, Some(endpoint.clone()));
        let members = [(8, testing::ME), (9, testing::OTHER)]
            .map(|(number, node)| Fact::Member(network.id, node, Some(testing::member(number, node))));
        let node = Fact::Node(testing::OTHER, Some(testing::node(testing::OTHER)));
        let facts = [Fact::Network(network.id, Some(network.clone())), fact(&mine), fact(&theirs)];
        intent.apply(Source::Global, 1, facts.into_iter().chain(members).chain([node]).collect());
        (intent, network.id, [mine, theirs])
    }

    #[test]
    fn a_network_or_a_part_of_it_that_goes_before_its_endpoints_is_still_referred_to() {
        let (intent, network, [mine, theirs]) = with_two_endpoints();
        let gone = |endpoint: &Endpoint| Fact::Endpoint(network, endpoint.id, None);
        let (record, part) = (Fact::Network(network, None), Fact::Member(network, testing::OTHER, None));
        assert_eq!(judged(&intent, std::slice::from_ref(&record)), [record.touched()].into());
        assert_eq!(judged(&intent, std::slice::from_ref(&part)), [part.touched()].into());
        assert_eq!(
            judged(&intent, &[gone(&theirs), part.clone()]),
            BTreeSet::new(),
            "with the last endpoint"
        );
        assert_eq!(judged(&intent, &[part.clone(), gone(&theirs)]), BTreeSet::new(), "whatever the order");
        let all = [gone(&mine), gone(&theirs), record.clone(), part];
        assert_eq!(judged(&intent, &all), BTreeSet::new());
        let back = Fact::Endpoint(network, mine.id, Some(mine.clone()));
        assert_eq!(
            judged(&intent, &[gone(&theirs), gone(&mine), record.clone(), back]),
            [record.touched()].into(),
            "what comes again refers to it again"
        );
    }

    #[test]
    fn a_node_is_referred_to_by_its_endpoints_and_this_ones_own_record_never_is() {
        let (intent, network, [_, theirs]) = with_two_endpoints();
        let (other, me) = (Fact::Node(testing::OTHER, None), Fact::Node(testing::ME, None));
        assert_eq!(judged(&intent, &[other.clone(), me]), [other.touched()].into());
        assert_eq!(judged(&intent, &[Fact::Endpoint(network, theirs.id, None), other]), BTreeSet::new());
    }

    #[test]
    fn what_a_snapshot_does_not_have_is_missing_unless_it_cannot_be_read() {
        let (intent, network, [mine, theirs]) = with_two_endpoints();
        let facts = [Fact::Endpoint(network, mine.id, Some(mine.clone()))];
        let unreadable = [Touched::Network(network)].into();
        let missing = intent.missing_in(Source::Global, &facts, &unreadable);
        let touched: BTreeSet<Touched> = missing.iter().map(Fact::touched).collect();
        assert!(
            touched.contains(&Touched::Endpoint(network, theirs.id)) && touched.len() == 4,
            "{touched:?}"
        );
        let removed = intent.endpoints_removed(testing::OTHER, &missing);
        assert_eq!(removed, [(network, theirs.id)]);
        assert_eq!(intent.count_endpoints(Source::Global, testing::ME), 1);
        assert_eq!(intent.count_endpoints(Source::Local, testing::ME), 0);
    }
}
