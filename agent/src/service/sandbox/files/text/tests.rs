use std::collections::BTreeSet;

use super::*;
use crate::{
    intent::{Fact, Source},
    model::{
        BridgeSettings, DEFAULT_NETWORK, DriverSettings, EndpointLink, ExtraHost, Leg, Network, SandboxId,
        Scope, Timestamp,
        testing::{self, ME},
    },
};

fn sandbox(name: &str) -> Sandbox {
    Sandbox {
        id: SandboxId::from_bytes([1; 32]),
        name: name.parse().unwrap(),
        netns: "/nowhere".into(),
        adopted: false,
        process: None,
        netns_inode: 0,
        hostname: name.into(),
        unfinished: false,
        created: Timestamp(0),
        domain: String::new(),
        dns: DnsChoice::default(),
        hosts: Vec::new(),
        shares: None,
        left: false,
    }
}

fn bridge(name: &str) -> Network {
    Network {
        name: name.parse().unwrap(),
        scope: Scope::Local,
        settings: DriverSettings::Bridge(BridgeSettings::default()),
        ..testing::network()
    }
}

fn intent(network: &Network, endpoints: &[Endpoint], legs: &[Leg]) -> Intent {
    let mut intent = Intent::default();
    intent.replace(Source::Global, 1, Vec::new(), &BTreeSet::new());
    let mut facts = vec![Fact::Network(network.id, Some(network.clone()))];
    facts.extend(endpoints.iter().map(|it| Fact::Endpoint(network.id, it.id, Some(it.clone()))));
    facts.extend(legs.iter().map(|leg| Fact::Leg(network.id, Some(*leg))));
    intent.replace(Source::Local, 1, facts, &BTreeSet::new());
    intent
}

fn texts_of(intent: &Intent, sandbox: &Sandbox, host: &str) -> Texts {
    let (defaults, host) = (DnsChoice::default(), ResolvConf::parse(host));
    texts(intent, sandbox, &Context { me: ME, defaults: &defaults, host: &host, host_gateways: &[] })
}

/// What a hosts file has for an address.
fn names<'t>(texts: &'t Texts, address: &str) -> Vec<&'t str> {
    let lines = texts.hosts.lines().filter_map(|line| line.split_once('\t'));
    lines.filter(|(own, _)| *own == address).flat_map(|(_, names)| names.split(' ')).collect()
}

fn extra(name: &str, address: HostAddress) -> ExtraHost {
    ExtraHost { name: name.into(), address }
}

#[test]
fn hosts_has_own_names_links_and_what_was_added() {
    let (mut own, other) = (testing::endpoint(1, ME), testing::endpoint(2, ME));
    own.links = vec![
        EndpointLink { endpoint: other.name.clone(), alias: "store".parse().unwrap() },
        EndpointLink { endpoint: "gone".parse().unwrap(), alias: "gone".parse().unwrap() },
    ];
    let mut web = sandbox("c1");
    (web.hostname, web.domain) = ("front".into(), "example.test".into());
    web.hosts = vec![
        extra("db", HostAddress::Ip("2001:db8::1".parse().unwrap())),
        extra("home", HostAddress::Gateway),
    ];
    let texts = texts_of(&intent(&bridge("net"), &[own, other], &[]), &web, "");
    assert!(texts.hosts.starts_with(MARK));
    assert_eq!(names(&texts, "127.0.0.1"), ["localhost"]);
    assert_eq!(
        names(&texts, "10.0.0.1"),
        ["front.example.test", "front", "c1", "home"],
        "its own, and its gateway"
    );
    assert_eq!(names(&texts, "10.0.0.2"), ["store", "c2"]);
    assert_eq!(names(&texts, "2001:db8::1"), ["db"]);
    assert!(!texts.hosts.contains("gone"));
    assert_eq!(texts.hostname, "front\n");
}

#[test]
fn the_host_is_reached_at_what_was_chosen_or_at_its_end_of_the_leg() {
    let mut web = sandbox("c2");
    web.hosts = vec![extra("home", HostAddress::Gateway)];
    let leg = Leg::new(5).unwrap();
    let known = intent(&testing::network(), &[testing::endpoint(2, ME)], &[leg]);
    let outer = leg.outer().map(|outer| outer.addr().to_string());
    let texts = texts_of(&known, &web, "");
    assert_eq!(names(&texts, &outer[0]), ["home"]);
    assert_eq!(names(&texts, &outer[1]), Vec::<&str>::new(), "it has no IPv6");
    let (defaults, host) = (DnsChoice::default(), ResolvConf::default());
    let chosen = ["192.0.2.1".parse().unwrap()];
    let around = Context { me: ME, defaults: &defaults, host: &host, host_gateways: &chosen };
    assert_eq!(names(&super::texts(&known, &web, &around), "192.0.2.1"), ["home"]);
}

#[test]
fn resolv_conf_has_our_resolver_and_what_was_chosen_or_the_hosts_own() {
    let host = "nameserver 192.0.2.1\nnameserver 127.0.0.53\nsearch host.test\noptions edns0\n";
    let lines = |texts: Texts| texts.resolv.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    let named = intent(&bridge("net"), &[testing::endpoint(2, ME)], &[]);
    let plain = intent(&bridge(DEFAULT_NETWORK), &[testing::endpoint(2, ME)], &[]);
    let mut web = sandbox("c2");
    assert_eq!(
        lines(texts_of(&named, &web, host)),
        ["nameserver 127.0.0.11", "search host.test", "options edns0 ndots:0"]
    );
    assert_eq!(
        lines(texts_of(&plain, &web, host)),
        ["nameserver 192.0.2.1", "search host.test", "options edns0"]
    );
    assert_eq!(
        lines(texts_of(&plain, &web, "nameserver 127.0.0.53\n")),
        ["nameserver 127.0.0.11", "options ndots:0"]
    );
    web.dns = DnsChoice {
        servers: vec!["192.0.2.9".parse().unwrap()],
        search: vec![".".into()],
        options: vec!["ndots:3".into()],
    };
    assert_eq!(lines(texts_of(&named, &web, host)), ["nameserver 127.0.0.11", "options ndots:3"]);
    assert_eq!(lines(texts_of(&plain, &web, host)), ["nameserver 192.0.2.9", "options ndots:3"]);
}
