//! Pools, requests and choices, by example and by property.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Instant,
};

use ipnet::IpNet;
use proptest::{collection::vec, prelude::*};

use super::{SubnetKind::*, *};
use crate::model::Subnet;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| net(text)).collect()
}

fn request(subnets: &[&str]) -> SubnetRequest {
    SubnetRequest { subnets: subnets.iter().map(ToString::to_string).collect(), ..Default::default() }
}

fn with(subnet: &str, change: impl FnOnce(&mut SubnetRequest)) -> Result<Vec<Subnet>, String> {
    let mut request = request(&[subnet]);
    change(&mut request);
    parse_subnets(&request, WithGateway).map_err(|error| error.to_string())
}

#[test]
fn a_pool_reads_back_what_it_prints() {
    for text in ["10.0.0.0/8,size=24", "fd6f:766e:6574::/48,size=64"] {
        assert_eq!(text.parse::<Pool>().unwrap().to_string(), text);
    }
    assert_eq!("base=10.0.0.0/8,size=24".parse(), Pool::new(net("10.0.0.0/8"), 24));
    for pool in default_pools() {
        assert_eq!(Pool::new(pool.prefix, pool.size), Ok(pool));
    }
    assert_eq!(default_pools().len(), 3);
}

#[test]
fn a_pool_that_cannot_be_is_refused() {
    for text in [
        "",
        "10.0.0.0/8",
        "10.0.0.0/8,24",
        "10.0.0.0/8,size=x",
        "10.0.0.0/8,size=7",
        "10.0.0.0/8,size=31",
        "x/8,size=24",
        "224.0.0.0/8,size=24",
    ] {
        let error = text.parse::<Pool>().unwrap_err();
        assert_eq!((error.what, error.input.as_str()), ("address pool", text));
    }
    let error = "10.1.0.0/8,size=24".parse::<Pool>().unwrap_err();
    assert!(error.reason.contains("did you mean 10.0.0.0/8?"), "{error}");
}

#[test]
fn the_first_free_subnet_is_picked() {
    let pools = default_pools();
    let pick = |taken: &[&str]| pick_subnet(&pools, &nets(taken), false).unwrap().to_string();
    assert_eq!(pick(&[]), "10.0.0.0/24");
    assert_eq!(pick(&["10.0.0.0/24", "10.0.2.0/24"]), "10.0.1.0/24");
    assert_eq!(pick(&["10.0.0.128/25", "10.0.1.7/32"]), "10.0.2.0/24");
    assert_eq!(pick(&["10.0.0.0/9"]), "10.128.0.0/24");
    assert_eq!(pick(&["10.0.0.0/8"]), "172.16.0.0/20");
    assert_eq!(pick_subnet(&pools, &[], true), Some(net("fd6f:766e:6574::/64")));
    assert_eq!(
        pick_subnet(&pools, &nets(&["fd6f:766e:6574::/64", "10.0.0.0/24"]), true),
        Some(net("fd6f:766e:6574:1::/64"))
    );
    assert_eq!(pick_subnet(&pools, &nets(&["10.0.0.0/8", "172.0.0.0/8"]), false), None);
}

#[test]
fn a_default_route_takes_nothing() {
    let default = nets(&["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1"]);
    assert_eq!(pick_subnet(&default_pools(), &default, false), Some(net("10.0.0.0/24")));
    assert_eq!(overlapping(net("10.0.0.0/24"), &default), None);
    let routes = nets(&["0.0.0.0/0", "10.0.0.0/16"]);
    assert_eq!(overlapping(net("10.0.0.0/24"), &routes), Some(net("10.0.0.0/16")));
    assert_eq!(overlapping(net("10.1.0.0/24"), &routes), None);
}

#[test]
fn thousands_of_networks_do_not_slow_the_pick() {
    let pool = [Pool::new(net("10.0.0.0/8"), 24).unwrap()];
    let taken: Vec<IpNet> = (0..60_000_u32)
        .map(|n| IpNet::new(IpAddr::from((0x0a00_0000 + (n << 8)).to_be_bytes()), 24).unwrap())
        .collect();
    let start = Instant::now();
    assert_eq!(pick_subnet(&pool, &taken, false), Some(net("10.234.96.0/24")));
    assert!(start.elapsed().as_millis() < 1000);
}

#[test]
fn a_pool_to_the_end_of_the_space_does_not_overflow() {
    let top = [Pool { prefix: net("255.255.255.0/24"), size: 30 }];
    assert_eq!(pick_subnet(&top, &nets(&["255.255.255.0/24"]), false), None);
    let all = [Pool { prefix: net("ffff::/16"), size: 126 }];
    assert_eq!(pick_subnet(&all, &nets(&["ffff::/16"]), true), None);
}

proptest! {
    #[test]
    fn a_picked_subnet_is_the_first_that_overlaps_nothing(blocks in vec((0..2048_u32, 20..=32_u8), 0..40)) {
        let pool = Pool::new(net("10.0.0.0/21"), 26).unwrap();
        let taken: Vec<IpNet> = blocks
            .iter()
            .map(|(at, length)| IpNet::new(IpAddr::from((0x0a00_0000 + at).to_be_bytes()), *length).unwrap().trunc())
            .collect();
        let naive = pool.prefix.subnets(26).unwrap().find(|subnet| overlapping(*subnet, &taken).is_none());
        prop_assert_eq!(pick_subnet(&[pool], &taken, false), naive);
    }
}

#[test]
fn a_subnet_has_its_first_address_as_gateway_unless_told() {
    let subnets = parse_subnets(&request(&["10.0.0.0/24", "fd00::/64"]), WithGateway).unwrap();
    assert_eq!(subnets[0].gateway, Some(ip("10.0.0.1")));
    assert_eq!(subnets[1].gateway, Some(ip("fd00::1")));
    assert_eq!(automatic(net("10.0.0.0/24"), WithGateway).as_ref(), subnets.first());
    assert_eq!(parse_subnets(&SubnetRequest::default(), WithGateway), Ok(Vec::new()));
}

#[test]
fn gateways_ranges_and_auxiliary_addresses_find_their_subnets() {
    let request = SubnetRequest {
        subnets: vec!["10.0.0.0/24".into(), "fd00::/64".into(), "10.0.1.0/24".into()],
        gateways: vec!["fd00::ff".into(), "10.0.1.254".into()],
        ip_ranges: vec!["10.0.1.128/25".into()],
        aux: [("printer".to_owned(), "10.0.0.9".to_owned())].into(),
    };
    let subnets = parse_subnets(&request, WithGateway).unwrap();
    assert_eq!((subnets[0].gateway, subnets[1].gateway), (Some(ip("10.0.0.1")), Some(ip("fd00::ff"))));
    assert_eq!(subnets[0].aux_addresses, BTreeMap::from([("printer".to_owned(), ip("10.0.0.9"))]));
    assert_eq!(
        (subnets[2].gateway, subnets[2].ip_range),
        (Some(ip("10.0.1.254")), Some(net("10.0.1.128/25")))
    );
}

#[test]
fn subnets_that_cannot_be_are_refused_with_what_would_be_right() {
    for (text, part) in [
        ("10.0.0.0", "expected ADDRESS/LENGTH such as 10.0.0.0/24"),
        ("fd00::", "such as fd00::/64"),
        ("10.0.0.0/33", "expected ADDRESS/LENGTH"),
        ("10.0.0.5/24", "did you mean 10.0.0.0/24?"),
        ("10.0.0.0/31", "/30 is the smallest"),
        ("10.0.0.1/32", "/30 is the smallest"),
        ("fd00::/127", "/126 is the smallest"),
        ("224.0.0.0/24", "multicast"),
        ("127.0.0.0/24", "loopback"),
        ("169.254.1.0/24", "link-local"),
        ("0.0.0.0/0", "this network"),
        ("fe80::/64", "link-local"),
        ("ff02::/64", "multicast"),
        ("::/0", "unspecified"),
    ] {
        let error = with(text, |_| ()).unwrap_err();
        assert!(error.starts_with(&format!("invalid subnet \"{text}\"")) && error.contains(part), "{error}");
    }
    let error = parse_subnets(&request(&["10.0.0.0/16", "10.0.3.0/24"]), WithGateway).unwrap_err();
    assert!(error.reason.contains("overlaps 10.0.0.0/16"), "{error}");
    assert!(parse_subnets(&request(&["10.0.0.0/24"; 17]), WithGateway).is_err());
}

#[test]
fn what_does_not_fit_the_subnet_is_refused_with_the_reason() {
    let gateway = |text: &str| with("10.0.0.0/24", |r| r.gateways.push(text.into())).unwrap_err();
    assert!(gateway("10.0.1.1").contains("none of the subnets (10.0.0.0/24)"));
    assert!(gateway("10.0.0.0").contains("the network address of 10.0.0.0/24; choose from 10.0.0.1 to"));
    assert!(gateway("10.0.0.255").contains("the broadcast address"));
    assert!(gateway("10.0.0.1/24").contains("did you mean 10.0.0.1?"));
    assert!(gateway("gw").contains("expected an IPv4 or IPv6 address"));
    let two = with("10.0.0.0/24", |r| r.gateways = vec!["10.0.0.1".into(), "10.0.0.2".into()]).unwrap_err();
    assert!(two.contains("has the gateway 10.0.0.1 already"), "{two}");

    let range = |text: &str| with("10.0.0.0/24", |r| r.ip_ranges.push(text.into())).unwrap_err();
    assert!(range("10.0.1.0/25").contains("none of the subnets"));
    assert!(range("10.0.0.1/25").contains("did you mean 10.0.0.0/25?"));
    assert!(range("10.0.0.0/23").contains("none of the subnets"));
    assert!(range("10.0.0.1/32").contains("leave no address"));

    let aux = |name: &str, text: &str| {
        with("10.0.0.0/24", |r| drop(r.aux.insert(name.into(), text.into()))).unwrap_err()
    };
    assert!(aux("a", "10.0.1.1").contains("none of the subnets"));
    assert!(aux("a", "10.0.0.1").contains("it is the gateway"));
    assert!(aux("a", "10.0.0.255").contains("broadcast"));
    assert!(aux("a b", "10.0.0.9").contains("character ' '"));
    assert!(aux("gateway", "10.0.0.9").contains("--gateway"));
    let same = with("10.0.0.0/24", |r| {
        r.aux = [("a", "10.0.0.9"), ("b", "10.0.0.9")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    });
    assert!(same.unwrap_err().contains("a has the same address"));

    let alone = SubnetRequest { gateways: vec!["10.0.0.1".into()], ..Default::default() };
    assert!(parse_subnets(&alone, WithGateway).unwrap_err().reason.contains("--subnet"));
}

/// Subnets small enough to be exhausted.
fn small() -> impl Strategy<Value = Subnet> {
    let prefix = prop_oneof![
        (22..=30_u8).prop_map(|length| IpNet::new(ip("10.0.0.0"), length).unwrap()),
        (118..=126_u8).prop_map(|length| IpNet::new(ip("fd00::"), length).unwrap()),
        Just(net("255.255.255.240/28")),
    ];
    (prefix, any::<prop::sample::Index>(), any::<bool>(), vec(any::<prop::sample::Index>(), 0..4))
        .prop_filter_map("no room", |(prefix, gateway, ranged, aux)| {
            let hosts: Vec<IpAddr> = prefix.hosts().filter(|a| *a != prefix.network()).collect();
            let mut request = request(&[&prefix.to_string()]);
            request.gateways.push(gateway.get(&hosts).to_string());
            if prefix.addr() == ip("255.255.255.240") {
                // Not to be asked for, but the end of the space is where sums overflow.
                return Some(Subnet {
                    prefix,
                    gateway: Some(*gateway.get(&hosts)),
                    ip_range: None,
                    aux_addresses: BTreeMap::new(),
                });
            }
            if ranged {
                let half = IpNet::new(prefix.addr(), prefix.prefix_len() + 1).unwrap();
                request.ip_ranges.push(half.to_string());
            }
            for (n, index) in aux.iter().enumerate() {
                request.aux.insert(format!("aux{n}"), index.get(&hosts).to_string());
            }
            parse_subnets(&request, WithGateway).ok().map(|mut subnets| subnets.remove(0))
        })
}

proptest! {
    #[test]
    fn addresses_are_handed_out_once_each_until_none_is_left(subnet in small(), seed in any::<u64>(), lowest in any::<bool>()) {
        let range = subnet.ip_range.unwrap_or(subnet.prefix);
        let fit = |a: &IpAddr| range.contains(a) && check_chosen(std::slice::from_ref(&subnet), *a).is_ok();
        let expected: BTreeSet<IpAddr> = subnet.prefix.hosts().chain([subnet.prefix.network()]).filter(fit).collect();
        let mut used = BTreeSet::new();
        let mut last = None;
        for n in 0..expected.len() {
            let pick = if lowest { Pick::Lowest } else { Pick::Random(seed.wrapping_add(n as u64)) };
            let address = choose(&subnet, &used, pick).unwrap();
            prop_assert!(expected.contains(&address), "{} is not to be given out", address);
            prop_assert!(used.insert(address), "{} was given out twice", address);
            if lowest {
                prop_assert!(last < Some(address));
                last = Some(address);
            }
        }
        prop_assert_eq!(&used, &expected);
        prop_assert!(choose(&subnet, &used, Pick::Lowest).is_err());
        prop_assert!(choose(&subnet, &used, Pick::Random(seed)).is_err());
    }

    #[test]
    fn used_and_free_make_the_total(subnet in small(), picks in vec(any::<prop::sample::Index>(), 0..50)) {
        let hosts: Vec<IpAddr> = subnet.prefix.hosts().filter(|a| *a != subnet.prefix.network()).collect();
        let used: BTreeSet<IpAddr> = picks.iter().map(|index| *index.get(&hosts)).chain([ip("192.0.2.1")]).collect();
        let usage = usage(&subnet, &used);
        let mut taken = used.clone();
        taken.extend(subnet.gateway);
        taken.extend(subnet.aux_addresses.values());
        prop_assert_eq!(usage.total, hosts.len() as u128);
        prop_assert_eq!(usage.used, (taken.len() - 1) as u128);
        prop_assert_eq!(usage.free, usage.total - usage.used);
    }
}

#[test]
fn a_large_ipv6_subnet_costs_no_more_than_its_used_addresses() {
    let subnet = automatic(net("fd00::/64"), WithGateway).unwrap();
    let mut used = BTreeSet::new();
    for _ in 0..1000 {
        assert!(used.insert(choose(&subnet, &used, Pick::Lowest).unwrap()));
    }
    assert_eq!(used.first(), Some(&ip("fd00::2")));
    let usage = usage(&subnet, &used);
    assert_eq!((usage.total, usage.used), ((1 << 64) - 1, 1001));
}

#[test]
fn different_seeds_seldom_choose_the_same() {
    let subnet = automatic(net("10.0.0.0/16"), WithGateway).unwrap();
    let used = BTreeSet::new();
    let chosen: BTreeSet<IpAddr> =
        (0..100).map(|seed| choose(&subnet, &used, Pick::Random(seed)).unwrap()).collect();
    assert!(chosen.len() > 90, "{} different ones of 100", chosen.len());
}

#[test]
fn an_exhausted_range_is_named() {
    let subnets = with("10.0.0.0/24", |r| r.ip_ranges.push("10.0.0.8/31".into())).unwrap();
    let used = [ip("10.0.0.8"), ip("10.0.0.9")].into();
    assert_eq!(
        choose(&subnets[0], &used, Pick::Lowest).unwrap_err().to_string(),
        "no address is free in 10.0.0.8/31: all 2 usable addresses are taken; remove endpoints, or use a network \
         with a larger subnet"
    );
}

#[test]
fn a_chosen_address_outside_the_range_is_fine_and_a_reserved_one_is_named() {
    let subnets = with("10.0.0.0/24", |r| {
        r.ip_ranges.push("10.0.0.128/25".into());
        r.aux.insert("printer".into(), "10.0.0.9".into());
    })
    .unwrap();
    assert_eq!(check_chosen(&subnets, ip("10.0.0.2")).map(|subnet| subnet.prefix), Ok(net("10.0.0.0/24")));
    for (text, part) in [
        ("10.0.1.2", "none of the network's subnets (10.0.0.0/24)"),
        ("10.0.0.0", "network address"),
        ("10.0.0.255", "broadcast address"),
        ("10.0.0.1", "the gateway of 10.0.0.0/24"),
        ("10.0.0.9", "auxiliary address printer"),
    ] {
        let error = check_chosen(&subnets, ip(text)).unwrap_err();
        assert!(error.to_string().starts_with(&format!("invalid address \"{text}\"")), "{error}");
        assert!(error.reason.contains(part), "{error}");
    }
}
