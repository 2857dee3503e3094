use hickory_proto::rr::RecordType;

use super::*;
use crate::{
    dns::zone::tests::{bridge, endpoint, intent},
    intent::{Fact, Source},
    model::{DriverSettings, SandboxId, Timestamp, testing::ME},
};

/// A sandbox of this name for which these servers were chosen.
pub(in crate::dns) fn sandbox(name: &str, servers: &[&str]) -> Sandbox {
    Sandbox {
        id: SandboxId::from_bytes([7; 32]),
        name: name.parse().unwrap(),
        netns: "/nowhere".into(),
        adopted: false,
        process: None,
        netns_inode: 0,
        hostname: name.into(),
        unfinished: false,
        created: Timestamp(0),
        domain: String::new(),
        dns: DnsChoice {
            servers: servers.iter().map(|server| server.parse().unwrap()).collect(),
            ..DnsChoice::default()
        },
        hosts: Vec::new(),
        shares: None,
        left: false,
    }
}

fn ask(name: &str) -> Question {
    Question::new(name.split('.').map(str::as_bytes), RecordType::A)
}

fn direct(intent: &Intent, sandbox: &Sandbox, host: &str) -> Option<Vec<String>> {
    let servers = direct_servers(intent, ME, sandbox, &DnsChoice::default(), &ResolvConf::parse(host));
    servers.map(|servers| servers.into_iter().map(|server| server.address.to_string()).collect())
}

#[test]
fn nothing_of_a_sandbox_without_a_way_out_leaves_the_host() {
    let internal = Network { internal: true, ..bridge("secret", 1) };
    let pair = Network { settings: DriverSettings::P2p, ..bridge("pair", 2) };
    let open = bridge("open", 3);
    let own = |network: &Network, number, name: &str| endpoint(network, number, name, &["10.1.0.1/16"]);
    let all = [own(&internal, 1, "a"), own(&pair, 2, "a"), own(&internal, 3, "b"), own(&open, 4, "b")];
    let intent = intent(&[internal, pair, open], &all);
    let way = |name, question| super::way(&intent, None, ME, &sandbox(name, &[]), &ask(question));
    assert_eq!(way("a", "example.com"), Way::Refuse);
    assert_eq!(way("a", "nobody"), Way::NoName);
    assert_eq!(way("b", "example.com"), Way::Ask { unsure: false });
    assert_eq!(way("nowhere", "example.com"), Way::Refuse);
}

#[test]
fn whoever_chose_to_search_hears_at_once_that_a_bare_name_is_not_there() {
    let net = bridge("net", 1);
    let intent = intent(std::slice::from_ref(&net), &[endpoint(&net, 1, "a", &["10.1.0.1/16"])]);
    let mut chosen = sandbox("a", &[]);
    assert_eq!(way(&intent, None, ME, &chosen, &ask("nobody")), Way::Ask { unsure: false });
    chosen.dns.options = vec!["ndots:0".into(), "ndots:2".into()];
    assert_eq!(way(&intent, None, ME, &chosen, &ask("nobody")), Way::NoName);
    assert_eq!(way(&intent, None, ME, &chosen, &ask("no.body")), Way::Ask { unsure: false });
}

#[test]
fn before_all_is_known_a_no_is_no_answer() {
    let net = bridge("net", 1);
    let own = endpoint(&net, 1, "a", &["10.1.0.1/16"]);
    let mut intent = Intent::default();
    let facts =
        vec![Fact::Network(net.id, Some(net.clone())), Fact::Endpoint(net.id, own.id, Some(own.clone()))];
    intent.apply(Source::Local, 1, facts);
    let way = |name, question| super::way(&intent, None, ME, &sandbox(name, &[]), &ask(question));
    assert_eq!(way("a", "example.com"), Way::Ask { unsure: true });
    assert_eq!(way("a", "web"), Way::NotYet);
    assert_eq!(way("b", "example.com"), Way::NotYet, "its networks may all be internal");
    let copy = super::super::zone::tests::intent(
        std::slice::from_ref(&net),
        &[endpoint(&net, 3, "b", &["10.1.0.3/16"])],
    );
    let known = super::way(&intent, Some(&copy), ME, &sandbox("b", &[]), &ask("example.com"));
    assert_eq!(known, Way::Ask { unsure: true }, "as it was known before");
    assert!(needs_resolver(&intent, ME, &sandbox("b", &[]), &DnsChoice::default(), &ResolvConf::default()));
}

#[test]
fn chosen_servers_are_asked_from_the_sandbox_and_the_hosts_from_the_host() {
    let host = ResolvConf::parse("nameserver 127.0.0.53\n");
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    let defaults = DnsChoice {
        servers: vec!["192.0.2.1".parse().unwrap(), "127.0.0.1".parse().unwrap()],
        ..DnsChoice::default()
    };
    let none = DnsChoice::default();
    assert_eq!(servers(&none, &none, &host, &|_| None), [(at("127.0.0.53:53"), From::Host)]);
    let told = [(at("192.0.2.1:53"), From::Sandbox), (at("127.0.0.1:53"), From::Host)];
    assert_eq!(servers(&none, &defaults, &host, &|_| None), told);
    let own = sandbox("a", &["127.0.0.11", "127.0.0.1", "2001:db8::1"]).dns;
    let own_told = [(at("127.0.0.1:53"), From::Sandbox), (at("[2001:db8::1]:53"), From::Sandbox)];
    assert_eq!(servers(&own, &defaults, &host, &|_| None), own_told, "and never ourselves");
}

#[test]
fn only_whoever_has_a_name_or_no_other_resolver_has_ours() {
    let (default, net) = (bridge(crate::model::DEFAULT_NETWORK, 1), bridge("net", 2));
    let both = ["10.1.0.3/16", "fd00:1::3/64"];
    let all = [
        endpoint(&default, 1, "plain", &["10.1.0.1/16"]),
        endpoint(&net, 2, "named", &["10.2.0.1/16"]),
        endpoint(&default, 3, "both", &both),
    ];
    let intent = intent(&[default, net], &all);
    let plain = |servers| sandbox("plain", servers);
    let mixed = "nameserver 127.0.0.53\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n";
    assert_eq!(direct(&intent, &plain(&[]), mixed).unwrap(), ["192.0.2.1"], "what works in it");
    assert_eq!(direct(&intent, &sandbox("both", &[]), mixed).unwrap(), ["192.0.2.1", "2001:db8::1"]);
    assert_eq!(direct(&intent, &plain(&[]), "nameserver 127.0.0.53\n"), None, "nothing else works in it");
    assert_eq!(direct(&intent, &plain(&["192.0.2.9"]), "nameserver 127.0.0.53\n").unwrap(), ["192.0.2.9"]);
    assert_eq!(direct(&intent, &sandbox("named", &["192.0.2.9"]), mixed), None);
    assert_eq!(direct(&intent, &sandbox("alone", &[]), mixed).unwrap().len(), 3);
    let host = ResolvConf::parse("nameserver 127.0.0.53\n");
    let mut sharer = sandbox("plain", &[]);
    assert!(needs_resolver(&intent, ME, &sharer, &DnsChoice::default(), &host));
    sharer.shares = Some("named".parse().unwrap());
    assert!(!needs_resolver(&intent, ME, &sharer, &DnsChoice::default(), &host));
}
