use super::*;
use crate::model::{
    Network, Timestamp,
    testing::{self, ME},
};

fn load(intent: &mut Intent, facts: Vec<Fact>) -> Vec<Changed> {
    intent.replace(Source::Global, 1, facts, &BTreeSet::new())
}

#[test]
fn a_snapshot_replaces_what_was_known_and_says_what_changed() {
    let (network, endpoint) = testing::network_with_endpoint();
    let mut intent = Intent::default();
    let facts = vec![
        Fact::Network(network.id, Some(network.clone())),
        Fact::Endpoint(network.id, endpoint.id, Some(endpoint.clone())),
    ];
    assert_eq!(load(&mut intent, facts.clone()).len(), 2);
    assert!(load(&mut intent, facts).is_empty(), "the same again changes nothing");
    let changed = load(&mut intent, vec![Fact::Network(network.id, Some(network.clone()))]);
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0].action, Action::Remove);
    assert!(intent.network(network.id).unwrap().used().is_empty(), "its address is free again");
    assert_eq!(load(&mut intent, vec![]).len(), 1);
    assert!(intent.network(network.id).is_none());
}

#[test]
fn a_record_that_cannot_be_read_is_not_a_record_that_is_gone() {
    let (network, _) = testing::network_with_endpoint();
    let mut intent = Intent::default();
    load(&mut intent, vec![Fact::Network(network.id, Some(network.clone()))]);
    let unreadable = BTreeSet::from([Touched::Network(network.id)]);
    assert!(intent.replace(Source::Global, 2, vec![], &unreadable).is_empty());
    assert_eq!(intent.network(network.id).unwrap().network(), Some(&network));
}

#[test]
fn an_update_moves_the_used_addresses() {
    let (network, mut endpoint) = testing::network_with_endpoint();
    let mut intent = Intent::default();
    let before = endpoint.addresses[0].addr();
    intent.apply(Source::Global, 1, vec![Fact::Endpoint(network.id, endpoint.id, Some(endpoint.clone()))]);
    endpoint.addresses = vec!["10.0.0.9/24".parse().unwrap()];
    intent.apply(Source::Global, 2, vec![Fact::Endpoint(network.id, endpoint.id, Some(endpoint.clone()))]);
    let used = intent.network(network.id).unwrap().used();
    assert!(!used.contains(&before) && used.contains(&endpoint.addresses[0].addr()));
}

#[test]
fn nothing_is_loaded_before_both_stores_were_read() {
    let mut intent = Intent::default();
    intent.replace(Source::Global, 7, vec![], &BTreeSet::new());
    assert!(!intent.loaded());
    intent.replace(Source::Local, 3, vec![], &BTreeSet::new());
    assert!(intent.loaded());
    assert_eq!(intent.revision(Source::Global), Some(7));
}

#[test]
fn people_find_things_by_name_id_or_start_of_id_and_get_a_hint() {
    let (network, endpoint) = testing::network_with_endpoint();
    let mut intent = Intent::default();
    load(
        &mut intent,
        vec![
            Fact::Network(network.id, Some(Network { created: Timestamp(1), ..network.clone() })),
            Fact::Endpoint(network.id, endpoint.id, Some(endpoint.clone())),
        ],
    );
    for text in [network.name.to_string(), network.id.to_string(), network.id.short()] {
        assert_eq!(intent.find_network(&text).unwrap().0.id, network.id, "{text}");
    }
    let typed = format!("{}x", network.name);
    let error = intent.find_network(&typed).unwrap_err().to_string();
    assert_eq!(error, format!("no such network: {typed} (did you mean {}?)", network.name));
    let path = format!("{}/{}", network.name, endpoint.name);
    assert_eq!(intent.find_endpoint(&path).unwrap().id, endpoint.id);
}

#[test]
fn the_endpoints_of_a_node_are_those_that_name_it_wherever_they_move() {
    let network = testing::network().id;
    let mut intent = Intent::default();
    let mut say = |number: u8, node: Option<crate::model::NodeId>| {
        let endpoint = node.map(|node| testing::endpoint(number, node));
        let id = testing::endpoint(number, ME).id;
        intent.apply(Source::Global, 1, vec![Fact::Endpoint(network, id, endpoint)]);
        [ME, testing::OTHER].map(|node| {
            let view = intent.network(network);
            let scan = |view: &NetworkView| view.endpoints().values().filter(|it| it.node == node).count();
            let count = view.map_or(0, |view| view.endpoints_on(node).count());
            assert_eq!(count, view.map_or(0, scan));
            count
        })
    };
    assert_eq!(say(2, Some(ME)), [1, 0]);
    assert_eq!(say(3, Some(ME)), [2, 0]);
    assert_eq!(say(2, Some(testing::OTHER)), [1, 1]);
    assert_eq!(say(2, None), [1, 0]);
    assert_eq!(say(3, None), [0, 0]);
}
