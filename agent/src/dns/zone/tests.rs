use std::collections::BTreeSet;

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::{
    intent::{Fact, Source},
    model::{
        BridgeSettings, DEFAULT_NETWORK, DriverSettings, EndpointId, EndpointLink, NetworkId, PublishedPort,
        Scope, Subnet,
        testing::{self, ME, OTHER},
    },
};

/// An intent that has been read, with these networks and endpoints.
pub(in crate::dns) fn intent(networks: &[Network], endpoints: &[Endpoint]) -> Intent {
    let mut intent = Intent::default();
    let source = |scope| if scope == Scope::Local { Source::Local } else { Source::Global };
    for scope in [Scope::Global, Scope::Local] {
        let here = networks.iter().filter(|network| network.scope == scope);
        let mut facts = Vec::new();
        for network in here {
            facts.push(Fact::Network(network.id, Some(network.clone())));
            let own = endpoints.iter().filter(|endpoint| endpoint.network == network.id);
            facts.extend(own.map(|own| Fact::Endpoint(network.id, own.id, Some(own.clone()))));
        }
        intent.replace(source(scope), 1, facts, &BTreeSet::new());
    }
    intent
}

/// A bridge of this name, 10.<number>.0.0/16 and fd00:<number>::/64.
pub(in crate::dns) fn bridge(name: &str, number: u8) -> Network {
    let subnet =
        |prefix: String| Subnet { prefix: prefix.parse().unwrap(), ..testing::network().subnets[0].clone() };
    Network {
        id: NetworkId::from_bytes([number; 32]),
        name: name.parse().unwrap(),
        settings: DriverSettings::Bridge(BridgeSettings::default()),
        scope: Scope::Local,
        vni: None,
        subnets: vec![subnet(format!("10.{number}.0.0/16")), subnet(format!("fd00:{number}::/64"))],
        ..testing::network()
    }
}

/// An endpoint of a network with these addresses.
pub(in crate::dns) fn endpoint(network: &Network, number: u8, name: &str, addresses: &[&str]) -> Endpoint {
    let node = if number < 100 { ME } else { OTHER };
    Endpoint {
        id: EndpointId::from_bytes([number; 32]),
        name: name.parse().unwrap(),
        sandbox: Some(name.parse().unwrap()),
        network: network.id,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        ..testing::endpoint(number, node)
    }
}

fn ask_as(intent: &Intent, sandbox: &str, name: &str, kind: RecordType) -> Verdict {
    let sandbox = sandbox.parse().unwrap();
    let viewer = Viewer { me: ME, sandbox: &sandbox, is_down: &|_| true };
    answer(intent, &viewer, &Question::new(name.split('.').map(str::as_bytes), kind), 0)
}

fn records(answers: Vec<Data>) -> Verdict {
    Verdict::Records { answers, along: Vec::new() }
}

fn address(text: &str) -> Data {
    Data::Address(text.parse().unwrap())
}

/// Two networks: `web` is in both, `db` with an alias in the first, `far` on a living and `dead` on a dead host.
fn two() -> Intent {
    let (front, back) = (bridge("front", 1), bridge("back.net", 2));
    let mut db = endpoint(&front, 3, "db", &["10.1.0.3/16", "fd00:1::3/64"]);
    db.aliases = vec!["Storage".parse().unwrap(), "pool".parse().unwrap()];
    let mut web = endpoint(&front, 1, "web", &["10.1.0.1/16"]);
    web.aliases = vec!["pool".parse().unwrap()];
    web.links = vec![EndpointLink { endpoint: db.name.clone(), alias: "mydb".parse().unwrap() }];
    let port = PublishedPort { protocol: Protocol::Tcp, host: None, host_port: 8080, port: 80 };
    web.ports = vec![port];
    let mut again = endpoint(&back, 2, "web", &["10.2.0.1/16", "fd00:2::1/64"]);
    again.ifname = "eth1".parse().unwrap();
    let other = endpoint(&back, 4, "other", &["10.2.0.4/16"]);
    let dead = endpoint(&front, 100, "dead", &["10.1.0.100/16"]);
    intent(&[front, back], &[web, again, db, other, dead])
}

#[test]
fn a_sandbox_finds_what_is_in_its_networks_by_every_name_it_has() {
    let intent = two();
    let id = EndpointId::from_bytes([3; 32]).short();
    for name in ["db", "DB", "db.front", "storage", "STORAGE.Front", "mydb", &id, &format!("{id}.front")] {
        assert_eq!(ask_as(&intent, "web", name, RecordType::A), records(vec![address("10.1.0.3")]), "{name}");
        assert_eq!(
            ask_as(&intent, "web", name, RecordType::AAAA),
            records(vec![address("fd00:1::3")]),
            "{name}"
        );
    }
    assert_eq!(ask_as(&intent, "web", "other.back.net", RecordType::A), records(vec![address("10.2.0.4")]));
    for name in ["other", "other.back.net", "web.back.net", "mydb"] {
        assert_eq!(ask_as(&intent, "db", name, RecordType::A), Verdict::Foreign, "db is not there: {name}");
    }
    for name in ["db.back.net", "db.fronts", "dbfront", "db.front.example", "front", "example.com", "w*b"] {
        assert_eq!(ask_as(&intent, "web", name, RecordType::A), Verdict::Foreign, "{name}");
    }
}

#[test]
fn a_name_without_an_address_of_the_family_has_no_records_but_is_there() {
    let intent = two();
    assert_eq!(ask_as(&intent, "db", "web", RecordType::AAAA), records(vec![]));
    for kind in [RecordType::MX, RecordType::TXT, RecordType::HTTPS, RecordType::SRV] {
        assert_eq!(ask_as(&intent, "web", "db", kind), records(vec![]), "{kind}");
    }
    assert_eq!(
        ask_as(&intent, "web", "web", RecordType::AAAA),
        records(vec![address("fd00:2::1")]),
        "the second network has one"
    );
    assert_eq!(
        ask_as(&intent, "web", "web", RecordType::A),
        records(vec![address("10.1.0.1")]),
        "the first goes first"
    );
}

#[test]
fn endpoints_of_dead_hosts_have_no_names() {
    let mut intent = two();
    let reverse = "100.0.1.10.in-addr.arpa";
    assert_eq!(ask_as(&intent, "web", "dead", RecordType::A), Verdict::NoName);
    assert_eq!(ask_as(&intent, "web", reverse, RecordType::PTR), Verdict::NoName);
    intent.apply(Source::Global, 2, vec![Fact::Alive(OTHER, true)]);
    assert_eq!(ask_as(&intent, "web", "dead", RecordType::A), records(vec![address("10.1.0.100")]));
    assert_eq!(
        ask_as(&intent, "web", reverse, RecordType::PTR),
        records(vec![Data::Pointer("dead.front".into())])
    );
}

#[test]
fn addresses_lead_back_to_names_and_unknown_ones_in_our_subnets_to_none() {
    let intent = two();
    let reverse =
        |address: &str| hickory_proto::rr::Name::from(address.parse::<IpAddr>().unwrap()).to_ascii();
    let ask = |sandbox: &str, address: &str| {
        ask_as(&intent, sandbox, reverse(address).trim_end_matches('.'), RecordType::PTR)
    };
    assert_eq!(ask("web", "10.1.0.3"), records(vec![Data::Pointer("db.front".into())]));
    assert_eq!(ask("web", "fd00:1::3"), records(vec![Data::Pointer("db.front".into())]));
    assert_eq!(ask("web", "10.1.99.99"), Verdict::NoName);
    assert_eq!(ask("web", "192.0.2.1"), Verdict::Foreign);
    assert_eq!(ask("db", "10.2.0.4"), Verdict::Foreign, "it is not in that network");
    let lan = Network {
        settings: DriverSettings::Macvlan(
            crate::model::Parent { link: "eth0".parse().unwrap(), vlan: None },
            crate::model::MacvlanMode::Bridge,
        ),
        ..bridge("lan", 7)
    };
    let intent =
        super::tests::intent(std::slice::from_ref(&lan), &[endpoint(&lan, 1, "web", &["10.7.0.1/16"])]);
    assert_eq!(
        ask_as(&intent, "web", "9.0.7.10.in-addr.arpa", RecordType::PTR),
        Verdict::Foreign,
        "others on that link have names that somebody else knows"
    );
}

#[test]
fn published_ports_are_services_with_the_endpoints_port_and_its_addresses_along() {
    let intent = two();
    let Verdict::Records { answers, along } = ask_as(&intent, "db", "_80._tcp.web", RecordType::SRV) else {
        panic!("it is published")
    };
    assert_eq!(answers, [Data::Service(80, "web.front".into())]);
    assert_eq!(along, [("web.front".to_owned(), "10.1.0.1".parse().unwrap())]);
    assert_eq!(ask_as(&intent, "db", "_80._tcp.web.front", RecordType::A), records(vec![]));
    for name in ["_8080._tcp.web", "_80._udp.web", "_80._tcp.db"] {
        assert_eq!(ask_as(&intent, "db", name, RecordType::SRV), Verdict::NoName, "{name}");
    }
    assert_eq!(ask_as(&intent, "db", "_80._tcp.nobody", RecordType::SRV), Verdict::Foreign);
}

#[test]
fn nobody_has_a_name_in_the_network_bridge_but_in_a_global_one_of_that_name() {
    let default = bridge(DEFAULT_NETWORK, 1);
    let both = [endpoint(&default, 1, "a", &["10.1.0.1/16"]), endpoint(&default, 2, "b", &["10.1.0.2/16"])];
    let intent = super::tests::intent(&[default], &both);
    assert_eq!(ask_as(&intent, "a", "b", RecordType::A), Verdict::Foreign);
    let overlay = Network { name: DEFAULT_NETWORK.parse().unwrap(), ..testing::network() };
    let both = [endpoint(&overlay, 1, "a", &["10.0.0.1/24"]), endpoint(&overlay, 2, "b", &["10.0.0.2/24"])];
    let intent = super::tests::intent(&[overlay], &both);
    assert_eq!(ask_as(&intent, "a", "b", RecordType::A), records(vec![address("10.0.0.2")]));
}

#[test]
fn an_endpoint_that_was_made_ahead_of_its_sandbox_has_no_address_for_others() {
    let network = testing::network();
    let ahead = Endpoint { sandbox: None, ..endpoint(&network, 2, "b", &["10.0.0.2/24"]) };
    let intent = intent(
        std::slice::from_ref(&network),
        &[endpoint(&network, 1, "a", &["10.0.0.1/24"]), ahead.clone()],
    );
    assert_eq!(ask_as(&intent, "a", "b", RecordType::A), Verdict::NoName);
    let placed = Endpoint { sandbox: Some("b".parse().unwrap()), ..ahead };
    let intent = super::tests::intent(
        std::slice::from_ref(&network),
        &[endpoint(&network, 1, "a", &["10.0.0.1/24"]), placed],
    );
    assert_eq!(ask_as(&intent, "a", "b", RecordType::A), records(vec![address("10.0.0.2")]));
}

#[test]
fn very_many_endpoints_of_one_name_are_told_in_part_and_in_turn() {
    let network = testing::network();
    let own = endpoint(&network, 1, "me", &["10.0.0.1/24"]);
    let many = (0..5000_u32).map(|number| {
        let mut id = [9; 32];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let address = IpNet::from(IpAddr::from(std::net::Ipv4Addr::from(0x0a01_0000 + number)));
        Endpoint {
            id: EndpointId::from_bytes(id),
            name: format!("w{number}").parse().unwrap(),
            sandbox: Some(format!("w{number}").parse().unwrap()),
            aliases: vec!["all".parse().unwrap()],
            addresses: vec![address],
            ..own.clone()
        }
    });
    let endpoints: Vec<Endpoint> = many.chain([own.clone()]).collect();
    let intent = intent(&[network], &endpoints);
    let sandbox = "me".parse().unwrap();
    let viewer = Viewer { me: ME, sandbox: &sandbox, is_down: &|_| false };
    let question = Question::new([b"all".as_slice()].into_iter(), RecordType::A);
    let firsts: BTreeSet<String> = (0..5000)
        .step_by(100)
        .map(|turn| match answer(&intent, &viewer, &question, turn) {
            Verdict::Records { answers, .. } if answers.len() == MOST => format!("{:?}", answers[0]),
            other @ (Verdict::Records { .. } | Verdict::NoName | Verdict::Foreign) => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(firsts.len(), 50, "each has its turn");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whoever_is_in_a_network_of_mine_is_found_and_nobody_else(
        homes in prop::collection::vec((0usize..3, 0usize..3, any::<bool>()), 1..30),
        turn: usize,
    ) {
        let networks = [bridge("n0", 10), bridge("n1", 11), bridge("n2", 12)];
        let mut endpoints = Vec::new();
        for (index, (at, alias, here)) in homes.iter().enumerate() {
            let number = u8::try_from(index).unwrap() + if *here { 1 } else { 100 };
            let address = format!("10.{}.1.{number}/16", 10 + at);
            let mut one = endpoint(&networks[*at], number, &format!("s{index}"), &[&address]);
            one.aliases = vec![format!("Alias{alias}").parse().unwrap()];
            endpoints.push(one);
        }
        let intent = intent(&networks, &endpoints);
        for viewer in &endpoints {
            let sandbox = viewer.sandbox.clone().unwrap();
            let as_viewer = Viewer { me: ME, sandbox: &sandbox, is_down: &|_| false };
            let ask = |name: &str| {
                answer(&intent, &as_viewer, &Question::new(name.split('.').map(str::as_bytes), RecordType::A), turn)
            };
            for other in &endpoints {
                let own = Data::Address(other.addresses[0].addr());
                let sees = viewer.node == ME && viewer.network == other.network;
                let expected = if sees { records(vec![own]) } else { Verdict::Foreign };
                prop_assert_eq!(&ask(other.name.as_str()), &expected);
                prop_assert_eq!(&ask(&other.id.short()), &expected);
            }
            // An alias gives exactly those that have it, each once, and begins with another one each turn.
            for alias in 0..3 {
                let name = format!("alias{alias}");
                let has = |it: &&Endpoint| it.network == viewer.network && it.aliases[0].as_str() == format!("Alias{alias}");
                let mut all: Vec<IpAddr> =
                    endpoints.iter().filter(has).map(|it| it.addresses[0].addr()).collect();
                all.sort();
                let verdict = ask(&name);
                let Verdict::Records { answers, .. } = verdict else {
                    prop_assert!(verdict == Verdict::Foreign && (all.is_empty() || viewer.node != ME));
                    continue;
                };
                let address = |data| {
                    let Data::Address(address) = data else { panic!("{data:?}") };
                    address
                };
                let mut told: Vec<IpAddr> = answers.into_iter().map(address).collect();
                told.sort();
                prop_assert_eq!(told, all);
            }
        }
    }

    #[test]
    fn any_name_at_all_has_a_verdict(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..8)) {
        let question = Question::new(labels.iter().map(Vec::as_slice), RecordType::ANY);
        let sandbox = "web".parse().unwrap();
        let viewer = Viewer { me: ME, sandbox: &sandbox, is_down: &|_| false };
        answer(&two(), &viewer, &question, 3);
    }
}
