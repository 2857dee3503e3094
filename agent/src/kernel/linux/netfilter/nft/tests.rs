//! The round trip of tables, through the real nft and the kernel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::json;

use super::*;
use crate::{
    kernel::linux::netns::test_netns,
    model::{IfName, Protocol, Vni},
    plan::ruleset::{Action, Chain, Family, Hook, LinkMatch, Match, PortKey, PortMap, Rule},
};

/// By nft, each time.
fn read(namespace: &Namespace, netns: &Netns) -> Result<Option<Table>, KernelError> {
    listed(namespace, netns)
}

/// By what the kernel says, and by nft where that is not enough: so many times.
fn read_here(namespace: &Namespace) -> (Option<Table>, u64) {
    let listings = Listings::default();
    let table = super::read(namespace, &Netns::Host, &listings).unwrap();
    (table, listings.reads())
}

fn write(namespace: &Namespace, netns: &Netns, table: Option<&Table>) -> Result<(), KernelError> {
    super::write(namespace, netns, table, &Listings::default())
}

fn host() -> Namespace {
    Namespace::open(std::path::Path::new(""), &Netns::Host).unwrap().unwrap()
}

fn address(family: Family) -> BoxedStrategy<IpAddr> {
    match family {
        Family::V4 => any::<Ipv4Addr>().prop_map(IpAddr::V4).boxed(),
        Family::V6 => any::<Ipv6Addr>().prop_map(IpAddr::V6).boxed(),
    }
}

fn net(family: Family) -> impl Strategy<Value = IpNet> {
    (address(family), 0_u8..=128).prop_map(|(addr, len)| {
        let longest = if addr.is_ipv4() { 32 } else { 128 };
        IpNet::new(addr, len.min(longest)).unwrap().trunc()
    })
}

fn link() -> impl Strategy<Value = LinkMatch> {
    // What nft has words for: see `encode::pattern`.
    let name = "[a-zA-Zé*$;@'\\\\-]{1,11}".prop_filter("as it is", |name| name != "." && name != "..");
    (name, 0..4)
        .prop_filter("an open name does not end with an escape", |(name, kind)| {
            *kind == 0 || *kind == 3 || !name.ends_with('\\')
        })
        .prop_map(|(name, kind)| {
            let name: IfName = name.chars().take(7).collect::<String>().parse().unwrap();
            match kind {
                0 => LinkMatch::Is(name),
                1 => LinkMatch::StartsWith(name),
                3 => LinkMatch::IsNot(name),
                _ => LinkMatch::StartsNotWith(name),
            }
        })
        .prop_filter("nft has words for it", |link| encode::pattern(link).is_ok())
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)]
}

/// A condition of a rule in which all that has a family has this one.
fn condition(family: Family) -> impl Strategy<Value = Match> {
    prop_oneof![
        link().prop_map(Match::In),
        link().prop_map(Match::Out),
        net(family).prop_map(Match::Source),
        net(family).prop_map(Match::Destination),
        net(family).prop_map(Match::NotDestination),
        Just(Match::DestinationLocal),
        Just(Match::DestinationElsewhere),
        Just(Match::FromBridge),
        Just(Match::ToBridge),
        Just(Match::Established),
        Just(Match::Redirected),
        Just(Match::Invalid),
        Just(Match::FromVtep(family)),
        Just(Match::ToVtep(family)),
        Just(Match::OtherVni),
    ]
}

fn rule(hook: Hook) -> impl Strategy<Value = Rule> {
    prop_oneof![Just(Family::V4), Just(Family::V6)].prop_flat_map(move |family| {
        let nat = match hook {
            Hook::Raw | Hook::Forward | Hook::Sandboxes | Hook::Agent | Hook::Tunnel => {
                Just(Action::Drop).boxed()
            }
            Hook::Postrouting => {
                prop_oneof![Just(Action::Masquerade), address(family).prop_map(Action::SourceNat)].boxed()
            }
            Hook::Prerouting | Hook::Output => any::<bool>()
                .prop_map(move |addressed| Action::Redirect(PortMap { family, addressed }))
                .boxed(),
        };
        let ported = (protocol(), any::<u16>()).prop_map(|(protocol, port)| Match::Port(protocol, port));
        let conditions = proptest::collection::vec(condition(family), 0..4);
        let action = prop_oneof![Just(Action::Accept), Just(Action::Drop), nat];
        (conditions, ported, any::<bool>(), action).prop_map(
            move |(mut matches, ported, is_ported, action)| {
                if is_ported && !matches!(action, Action::Redirect(_)) {
                    matches.push(ported);
                }
                // The kernel knows the link that something leaves by in these hooks alone, and the other way round.
                matches.retain(|condition| match hook {
                    Hook::Raw | Hook::Prerouting => !matches!(condition, Match::Out(_) | Match::ToBridge),
                    Hook::Output | Hook::Postrouting => !matches!(
                        condition,
                        Match::In(_)
                            | Match::FromBridge
                            | Match::DestinationLocal
                            | Match::DestinationElsewhere
                    ),
                    Hook::Forward | Hook::Sandboxes | Hook::Agent | Hook::Tunnel => true,
                });
                Rule { matches, action }
            },
        )
    })
}

fn ports() -> impl Strategy<Value = Table> {
    let map = (prop_oneof![Just(Family::V4), Just(Family::V6)], any::<bool>());
    let filled = map.prop_flat_map(|(family, addressed)| {
        let key = (address(family), protocol(), any::<u16>()).prop_map(move |(address, protocol, port)| {
            PortKey { address: addressed.then_some(address), protocol, port }
        });
        let ports = proptest::collection::btree_map(key, (address(family), any::<u16>()), 1..9);
        (Just(PortMap { family, addressed }), ports)
    });
    proptest::collection::btree_map(any::<u8>(), filled, 0..5)
        .prop_map(|maps| Table { ports: maps.into_values().collect(), ..Table::default() })
}

fn table() -> impl Strategy<Value = Table> {
    let regular = [Hook::Sandboxes, Hook::Agent, Hook::Tunnel];
    let base = [Hook::Raw, Hook::Prerouting, Hook::Output, Hook::Forward, Hook::Postrouting];
    let chains =
        proptest::sample::subsequence([&regular[..], &base].concat(), 0..=8).prop_flat_map(|hooks| {
            let chain = |hook| {
                proptest::collection::vec(rule(hook), 0..5).prop_map(move |rules| Chain { hook, rules })
            };
            hooks.into_iter().map(chain).collect::<Vec<_>>()
        });
    let vni = (1..=Vni::MAX).prop_map(|number| Vni::new(number).unwrap());
    let vtep = prop_oneof![address(Family::V4), address(Family::V6)];
    let sets = (proptest::collection::btree_set(vni, 0..5), proptest::collection::btree_set(vtep, 0..5));
    (ports(), sets, chains).prop_map(|(ports, (vnis, vteps), chains)| Table { vnis, vteps, chains, ..ports })
}

#[test]
fn a_table_reads_back_as_it_was_written() {
    test_netns::run(|| {
        let namespace = host();
        let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(150) });
        let outcome = runner.run(&table(), |table| {
            let written = write(&namespace, &Netns::Host, Some(&table));
            prop_assert!(written.is_ok(), "{:?}", written);
            prop_assert_eq!(read(&namespace, &Netns::Host).unwrap(), Some(table.clone()));
            prop_assert_eq!(read_here(&namespace), (Some(table), 0));
            Ok(())
        });
        outcome.unwrap();
        write(&namespace, &Netns::Host, None).unwrap();
        assert_eq!(read(&namespace, &Netns::Host).unwrap(), None);
    });
}

#[test]
fn a_thousand_ports_go_in_one_quick_transaction() {
    test_netns::run(|| {
        let map = PortMap { family: Family::V4, addressed: false };
        let port = |port| {
            let key = PortKey { address: None, protocol: Protocol::Tcp, port };
            (key, (Ipv4Addr::new(172, 17, 0, 2).into(), port))
        };
        let rule = Rule { matches: vec![Match::DestinationLocal], action: Action::Redirect(map) };
        let chains = vec![Chain { hook: Hook::Prerouting, rules: vec![rule] }];
        let ports = [(map, (1000..2000).map(port).collect())].into();
        let mut table = Table { ports, chains, ..Table::default() };
        let namespace = host();
        let mut rounds = Vec::new();
        for added in 2000..2010 {
            table.ports.entry(map).or_default().extend([port(added)]);
            let start = std::time::Instant::now();
            write(&namespace, &Netns::Host, Some(&table)).unwrap();
            let written = start.elapsed();
            assert_eq!(read(&namespace, &Netns::Host).unwrap().as_ref(), Some(&table));
            rounds.push((written, start.elapsed() - written));
        }
        rounds.sort();
        let (write, read) = rounds[rounds.len() / 2];
        assert!(write < Duration::from_secs(1) && read < Duration::from_secs(1), "{rounds:?}");
    });
}

#[test]
fn a_map_that_a_rule_refers_to_is_made_though_it_is_empty() {
    test_netns::run(|| {
        let map = PortMap { family: Family::V6, addressed: true };
        let rule = Rule { matches: Vec::new(), action: Action::Redirect(map) };
        let chains = vec![Chain { hook: Hook::Output, rules: vec![rule] }];
        let table = Table { chains, ..Table::default() };
        let namespace = host();
        write(&namespace, &Netns::Host, Some(&table)).unwrap();
        assert_eq!(read(&namespace, &Netns::Host).unwrap(), Some(table));
    });
}

#[test]
fn what_nft_cannot_say_is_refused_and_leaves_the_table_as_it_was() {
    test_netns::run(|| {
        let namespace = host();
        let one = |matches| Table {
            chains: vec![Chain { hook: Hook::Forward, rules: vec![Rule { matches, action: Action::Drop }] }],
            ..Table::default()
        };
        let before = one(vec![Match::In(LinkMatch::Is(IfName::literal("eth0")))]);
        write(&namespace, &Netns::Host, Some(&before)).unwrap();
        let named = |name: &str| name.parse::<IfName>().unwrap();
        for condition in [
            Match::In(LinkMatch::Is(named("\"drop;#"))),
            Match::Out(LinkMatch::StartsWith(named("a\\"))),
            Match::Out(LinkMatch::StartsWith(named("abcdefghijklmno"))),
            Match::Other(json!({ "counter": null }).to_string()),
        ] {
            let error = write(&namespace, &Netns::Host, Some(&one(vec![condition.clone()]))).unwrap_err();
            assert!(error.to_string().starts_with("nft: "), "{error}");
            assert_eq!(read(&namespace, &Netns::Host).unwrap().as_ref(), Some(&before), "{condition:?}");
        }
    });
}

#[test]
fn what_others_put_into_our_table_makes_it_another_one() {
    test_netns::run(|| {
        let namespace = host();
        let map = PortMap { family: Family::V4, addressed: false };
        let to = (Ipv4Addr::new(10, 0, 0, 2).into(), 80);
        let key = PortKey { address: None, protocol: Protocol::Sctp, port: 80 };
        let rule = Rule { matches: vec![Match::DestinationLocal], action: Action::Redirect(map) };
        let chains = vec![Chain { hook: Hook::Prerouting, rules: vec![rule] }];
        let vteps = [Ipv4Addr::new(192, 0, 2, 1).into()].into();
        let ports = [(map, [(key, to)].into())].into();
        let ours = Table { ports, vteps, chains, ..Table::default() };
        for damage in [
            "add chain inet ovnet input { type filter hook input priority 0; }",
            "add set inet ovnet s { type ipv4_addr; }",
            "add chain inet ovnet agent",
            "add element inet ovnet vteps4 { 192.0.2.2 }",
            "delete element inet ovnet vteps4 { 192.0.2.1 }",
            "add set inet ovnet vteps6 { type ipv6_addr; timeout 1h; }",
            "add set inet ovnet vnis { type ipv6_addr; }",
            "add map inet ovnet m { type ipv4_addr : ipv4_addr; }",
            "add map inet ovnet ports6 { type inet_proto . inet_service : ipv6_addr . inet_service; timeout 1h; }",
            "add element inet ovnet ports4 { tcp . 81 : 10.0.0.2 . 81 }",
            "delete element inet ovnet ports4 { sctp . 80 }",
            "add element inet ovnet ports4 { 50 . 81 : 10.0.0.2 . 81 }",
            "add rule inet ovnet prerouting tcp dport 1-2 drop",
            "add rule inet ovnet prerouting meta l4proto tcp counter",
            "add rule inet ovnet prerouting fib saddr type local drop",
            "add rule inet ovnet prerouting ct state new drop",
            "add rule inet ovnet prerouting tcp dport 1 dnat ip to ip saddr . tcp dport map { 10.0.0.1 . 1 : 10.0.0.2 . 1 }",
            "add chain inet ovnet prerouting { type nat hook prerouting priority -100; policy drop; }",
        ] {
            let listings = Listings::default();
            super::write(&namespace, &Netns::Host, Some(&ours), &listings).unwrap();
            assert_eq!(read(&namespace, &Netns::Host).unwrap().as_ref(), Some(&ours));
            assert!(transact(&namespace, &Netns::Host, damage).unwrap(), "{damage}");
            let observed = read(&namespace, &Netns::Host).unwrap();
            assert_ne!(observed.as_ref(), Some(&ours), "{damage}");
            assert_eq!(read_here(&namespace).0, observed, "{damage}");
            // Nor is it taken for what was written.
            assert_eq!(super::read(&namespace, &Netns::Host, &listings).unwrap(), observed, "{damage}");
        }
    });
}

#[test]
fn what_nft_must_read_it_reads_once() {
    test_netns::run(|| {
        let (namespace, listings) = (host(), Listings::default());
        let elsewhere = Netns::Path("/proc/self/ns/net".into());
        let map = PortMap { family: Family::V4, addressed: false };
        let key = |port| PortKey { address: None, protocol: Protocol::Tcp, port };
        let to = |port| (IpAddr::from(Ipv4Addr::new(10, 0, 0, 2)), port);
        let rule = Rule { matches: vec![Match::DestinationLocal], action: Action::Redirect(map) };
        let chains = vec![Chain { hook: Hook::Prerouting, rules: vec![rule] }];
        let ports = (1..2_000).map(|port| (key(port), to(port))).collect();
        let table = Table { ports: [(map, ports)].into(), chains, ..Table::default() };
        let expect = |netns: &Netns, reads| {
            assert_eq!(super::read(&namespace, netns, &listings).unwrap(), read(&namespace, netns).unwrap());
            assert_eq!(listings.reads(), reads);
        };
        for (netns, reads) in [(&Netns::Host, 0), (&elsewhere, 1)] {
            write(&namespace, netns, Some(&table)).unwrap();
            expect(netns, reads);
            // A rule that only nft can read, once, whatever comes and goes in other tables.
            let strange = "add rule inet ovnet prerouting meta l4proto tcp counter";
            assert!(transact(&namespace, netns, strange).unwrap());
            expect(netns, reads + 1);
            assert!(transact(&namespace, netns, "add table inet other; delete table inet other").unwrap());
            expect(netns, reads + 1);
            // What we write is known without, if we know what was there.
            let gone = [key(7), key(9)].into();
            let changes = [PortChange { map, gone, come: [(key(9), to(7)), (key(3_000), to(8))].into() }];
            super::change(&namespace, netns, &changes, &listings).unwrap();
            expect(netns, reads + 1);
            super::write(&namespace, netns, None, &listings).unwrap();
            expect(netns, reads + 1);
        }
    });
}

#[test]
fn a_listing_that_is_none_is_an_error() {
    assert!(decode::table("{}").is_err());
    assert!(decode::table("nothing").is_err());
}
