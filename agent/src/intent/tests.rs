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

/// An endpoint of [`testing::network`] with this name and these aliases.
fn named(number: u8, name: &str, aliases: &[&str]) -> Endpoint {
    let aliases = aliases.iter().map(|alias| alias.parse().unwrap()).collect();
    Endpoint { name: name.parse().unwrap(), aliases, ..testing::endpoint(number, ME) }
}

fn say(intent: &mut Intent, number: u8, endpoint: Option<Endpoint>) {
    let (network, id) = (testing::network().id, testing::endpoint(number, ME).id);
    intent.apply(Source::Global, 1, vec![Fact::Endpoint(network, id, endpoint)]);
}

fn by_name(intent: &Intent, text: &str) -> Vec<u8> {
    let view = intent.network(testing::network().id);
    let found = view.into_iter().flat_map(|view| view.endpoints_by_name(text));
    found.map(|endpoint| endpoint.id.as_bytes()[0]).collect()
}

#[test]
fn endpoints_are_found_by_name_alias_and_short_id_whatever_the_case() {
    let mut intent = Intent::default();
    say(&mut intent, 2, Some(named(2, "Web", &["www", "front"])));
    say(&mut intent, 3, Some(named(3, "db", &["WWW"])));
    for text in ["web", "WEB", "Web", "0202020202", "020202020202"] {
        let expected: &[u8] = if text == "0202020202" { &[] } else { &[2] };
        assert_eq!(by_name(&intent, text), expected, "{text}");
    }
    assert_eq!(by_name(&intent, "wWw"), [2, 3]);
    assert_eq!(by_name(&intent, "030303030303"), [3]);
    for nobody in ["", "we", "webb", "040404040404", "no name", "\u{fc}ber", &"w".repeat(300)] {
        assert!(by_name(&intent, nobody).is_empty(), "{nobody}");
    }
    let view = intent.network(testing::network().id).unwrap();
    assert!(view.endpoint_named(&"Web".parse().unwrap()).is_some());
    assert!(view.endpoint_named(&"www".parse().unwrap()).is_none(), "an alias is not its name");
    // One that is called by its own short id is one too.
    say(&mut intent, 3, Some(named(3, "030303030303", &["www"])));
    assert_eq!(by_name(&intent, "030303030303"), [3]);
    assert!(by_name(&intent, "db").is_empty(), "it has another name now");
    say(&mut intent, 2, None);
    assert_eq!((by_name(&intent, "www"), by_name(&intent, "web")), (vec![3], vec![]));
}

#[test]
fn an_address_is_its_holders_also_when_it_has_just_changed_hands() {
    let mut intent = Intent::default();
    let holder = |intent: &Intent, number: u8| {
        let view = intent.network(testing::network().id)?;
        Some(view.endpoint_at([10, 0, 0, number].into())?.id.as_bytes()[0])
    };
    say(&mut intent, 2, Some(testing::endpoint(2, ME)));
    assert_eq!((holder(&intent, 2), holder(&intent, 3)), (Some(2), None));
    let heir = Endpoint { addresses: testing::endpoint(2, ME).addresses, ..testing::endpoint(3, ME) };
    say(&mut intent, 3, Some(heir));
    say(&mut intent, 2, None);
    assert_eq!(holder(&intent, 2), Some(3));
    say(&mut intent, 3, None);
    assert_eq!(holder(&intent, 2), None);
}

#[test]
fn a_sandboxs_endpoints_are_found_across_networks_and_stores() {
    let mut intent = Intent::default();
    let (sandbox, other): (Name, Name) = ("box".parse().unwrap(), "other".parse().unwrap());
    let second = NetworkId::from_bytes([7; 32]);
    let one = Endpoint { sandbox: Some(sandbox.clone()), ..testing::endpoint(2, ME) };
    let two = Endpoint { network: second, ..one.clone() };
    intent.apply(Source::Global, 1, vec![Fact::Endpoint(one.network, one.id, Some(one.clone()))]);
    intent.apply(Source::Local, 1, vec![Fact::Endpoint(second, two.id, Some(two.clone()))]);
    let networks = |intent: &Intent, node, sandbox: &Name| {
        intent.endpoints_in(node, sandbox).map(|endpoint| endpoint.network).collect::<Vec<_>>()
    };
    assert_eq!(networks(&intent, ME, &sandbox), [one.network, second]);
    assert!(networks(&intent, testing::OTHER, &sandbox).is_empty(), "another node's box is another");
    let moved = Endpoint { sandbox: Some(other.clone()), ..one.clone() };
    intent.apply(Source::Global, 2, vec![Fact::Endpoint(one.network, one.id, Some(moved.clone()))]);
    assert_eq!(networks(&intent, ME, &sandbox), [second]);
    assert_eq!(networks(&intent, ME, &other), [one.network]);
    // A snapshot that does not name it, and a removal.
    load(&mut intent, vec![]);
    intent.apply(Source::Local, 2, vec![Fact::Endpoint(second, two.id, None)]);
    assert!(networks(&intent, ME, &sandbox).is_empty() && networks(&intent, ME, &other).is_empty());
}

#[test]
fn those_that_publish_ports_are_known_without_a_search() {
    let mut intent = Intent::default();
    let port = crate::model::PublishedPort {
        protocol: crate::model::Protocol::Tcp,
        host: None,
        host_port: 80,
        port: 80,
    };
    let published =
        |intent: &Intent| intent.network(testing::network().id).map_or(0, |view| view.published().count());
    say(&mut intent, 2, Some(testing::endpoint(2, ME)));
    assert_eq!(published(&intent), 0);
    say(&mut intent, 2, Some(Endpoint { ports: vec![port], ..testing::endpoint(2, ME) }));
    assert_eq!(published(&intent), 1);
    say(&mut intent, 2, Some(testing::endpoint(2, ME)));
    assert_eq!(published(&intent), 0);
}

#[test]
fn of_two_networks_of_one_name_the_id_is_asked_for() {
    let mut intent = Intent::default();
    let global = testing::network();
    let local = Network {
        id: NetworkId::from_bytes([7; 32]),
        scope: crate::model::Scope::Local,
        settings: crate::model::DriverSettings::P2p,
        ..testing::network()
    };
    intent.apply(Source::Global, 1, vec![Fact::Network(global.id, Some(global.clone()))]);
    intent.apply(Source::Local, 1, vec![Fact::Network(local.id, Some(local.clone()))]);
    let error = intent.find_network(global.name.as_str()).unwrap_err().to_string();
    assert_eq!(
        error,
        "two networks are named ov_net1: 070707070707 on this host only, and abababababab on all hosts: give the id"
    );
    assert_eq!(intent.find_network("0707").unwrap().1.source(), Source::Local);
    assert_eq!(intent.find_network("abab").unwrap().1.source(), Source::Global);
    assert!(matches!(intent.find_endpoint("ov_net1/c2"), Err(LookupError::TwoScopes { .. })));
    intent.apply(Source::Local, 2, vec![Fact::Network(local.id, None)]);
    assert_eq!(intent.find_network(global.name.as_str()).unwrap().0.id, global.id);
}
