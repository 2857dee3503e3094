//! Every noun survives the way to bytes and back, and no bytes make the way back fail in another manner than by an
//! error.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use ovnet_proto::v1;
use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::model::{
    AddressOwner, DnsChoice, DriverSettings, Endpoint, EndpointId, EndpointLink, ExtraHost, HostAddress, Mac,
    Member, Name, Network, NetworkId, Node, NodeId, OverlaySettings, Protocol, PublishedPort, Sandbox,
    SandboxId, Scope, Subnet, Timestamp, Vni,
};

fn name() -> impl Strategy<Value = Name> {
    "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}".prop_map(|text| text.parse().unwrap())
}

fn node_id() -> impl Strategy<Value = NodeId> {
    any::<u128>().prop_map(|bits| NodeId(uuid::Uuid::from_u128(bits)))
}

fn network_id() -> impl Strategy<Value = NetworkId> {
    any::<[u8; 32]>().prop_map(NetworkId::from_bytes)
}

fn mac() -> impl Strategy<Value = Mac> {
    any::<IpAddr>().prop_map(Mac::derived)
}

fn address() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (any::<std::net::Ipv4Addr>(), 0..=32_u8).prop_map(|(a, l)| Ipv4Net::new(a, l).unwrap().into()),
        (any::<std::net::Ipv6Addr>(), 0..=128_u8).prop_map(|(a, l)| Ipv6Net::new(a, l).unwrap().into()),
    ]
}

/// A subnet of 10.N.0.0/16 or fd00:N::/64.
fn subnet(n: u8) -> impl Strategy<Value = Subnet> {
    let prefix: IpNet = if n.is_multiple_of(2) {
        format!("10.{n}.0.0/16").parse().unwrap()
    } else {
        format!("fd00:{n}::/64").parse().unwrap()
    };
    let inside = move |host: u16| -> IpAddr {
        match prefix.addr() {
            IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) + u32::from(host)).into()),
            IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) + u128::from(host)).into()),
        }
    };
    let range = if n.is_multiple_of(2) { format!("10.{n}.8.0/24") } else { format!("fd00:{n}::100/120") };
    (any::<u16>(), any::<bool>(), vec((name(), any::<u16>()), 0..4)).prop_map(
        move |(gateway, ranged, aux)| Subnet {
            prefix,
            gateway: (gateway % 4 != 0).then(|| inside(gateway)),
            ip_range: ranged.then(|| range.parse().unwrap()),
            aux_addresses: aux.into_iter().map(|(name, host)| (name.to_string(), inside(host))).collect(),
        },
    )
}

fn subnets() -> impl Strategy<Value = Vec<Subnet>> {
    (0..8_u8, 1..4_u8).prop_flat_map(|(first, count)| (first..first + count).map(subnet).collect::<Vec<_>>())
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    proptest::collection::btree_map("[a-z.]{1,20}", ".{0,20}", 0..4)
}

fn network() -> impl Strategy<Value = Network> {
    (
        (network_id(), name(), any::<bool>(), option::of(1..=Vni::MAX), subnets()),
        (any::<bool>(), labels(), option::of(1280..=65_535_u32), any::<bool>(), any::<u64>()),
    )
        .prop_map(|((id, name, local, vni, subnets), (internal, labels, mtu, multicast, created))| {
            Network {
                id,
                name,
                settings: DriverSettings::Overlay(OverlaySettings {
                    multicast,
                    ..OverlaySettings::default()
                }),
                scope: if local { Scope::Local } else { Scope::Global },
                vni: vni.map(|number| Vni::new(number).unwrap()),
                subnets,
                internal,
                labels,
                options: mtu
                    .map(|mtu| ("mtu".to_owned(), mtu.to_string()))
                    .into_iter()
                    .chain(multicast.then(|| ("multicast".to_owned(), "true".to_owned())))
                    .collect(),
                mtu,
                interface_prefix: None,
                created: Timestamp(created),
            }
        })
}

fn port() -> impl Strategy<Value = PublishedPort> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)];
    (protocol, option::of(any::<IpAddr>()), 1..=u16::MAX, 1..=u16::MAX)
        .prop_map(|(protocol, host, host_port, port)| PublishedPort { protocol, host, host_port, port })
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    (
        (any::<[u8; 32]>(), name(), network_id(), option::of(name()), node_id()),
        (mac(), vec(address(), 0..4), vec(name(), 0..4), "[a-z]{1,15}", any::<u64>()),
        (vec(port(), 0..4), vec(any::<IpAddr>(), 0..3), Endpoint::GATEWAY_PRIORITIES, vec(name(), 0..3)),
    )
        .prop_map(
            |((id, name, network, sandbox, node), (mac, addresses, aliases, ifname, created), rest)| {
                let (ports, link_local, gateway_priority, links) = rest;
                Endpoint {
                    id: EndpointId::from_bytes(id),
                    name,
                    network,
                    sandbox,
                    node,
                    mac,
                    addresses,
                    aliases,
                    ifname: ifname.parse().unwrap(),
                    created: Timestamp(created),
                    ports,
                    sysctls: links.iter().map(|link| (link.to_string(), "1".to_owned())).collect(),
                    link_local,
                    gateway_priority,
                    links: links
                        .into_iter()
                        .map(|link| EndpointLink { alias: link.clone(), endpoint: link })
                        .collect(),
                }
            },
        )
}

fn node() -> impl Strategy<Value = Node> {
    let unicast = any::<IpAddr>().prop_filter("unicast", |a| !a.is_unspecified() && !a.is_multicast());
    (
        (node_id(), name(), unicast, any::<(IpAddr, u16)>()),
        ("[0-9.]{1,9}", any::<u32>(), 1..=u16::MAX, any::<u64>()),
    )
        .prop_map(|((id, name, vtep, gossip), (version, underlay_mtu, vxlan_port, created))| Node {
            id,
            name,
            vtep,
            gossip: gossip.into(),
            version,
            underlay_mtu,
            vxlan_port,
            created: Timestamp(created),
        })
}

fn owner() -> impl Strategy<Value = AddressOwner> {
    prop_oneof![
        any::<[u8; 32]>().prop_map(|id| AddressOwner::Endpoint(EndpointId::from_bytes(id))),
        node_id().prop_map(AddressOwner::Node),
        ".{0,50}".prop_map(AddressOwner::Reserved),
    ]
}

fn sandbox() -> impl Strategy<Value = Sandbox> {
    (
        (any::<[u8; 32]>(), name(), "/[a-z/]{1,40}", any::<bool>()),
        (option::of((1..u32::MAX, any::<u64>())), any::<u64>(), "[a-z]{0,20}", any::<u64>()),
        ("[a-z]{1,8}(\\.[a-z0-9]{1,8}){0,2}", vec(any::<std::net::Ipv4Addr>(), 0..3), option::of(name())),
    )
        .prop_map(|((id, name, netns, adopted), (process, netns_inode, hostname, created), rest)| {
            let (domain, servers, shares) = rest;
            let usable = |v4: &std::net::Ipv4Addr| !v4.is_unspecified() && !v4.is_multicast();
            let servers: Vec<IpAddr> = servers.into_iter().filter(usable).map(IpAddr::V4).collect();
            Sandbox {
                id: SandboxId::from_bytes(id),
                name,
                netns: netns.into(),
                adopted,
                process,
                netns_inode,
                unfinished: netns_inode % 2 == 1,
                hostname,
                created: Timestamp(created),
                domain: domain.clone(),
                dns: DnsChoice {
                    servers: servers.clone(),
                    search: vec![domain],
                    options: vec!["ndots:2".into()],
                },
                hosts: servers
                    .into_iter()
                    .map(HostAddress::Ip)
                    .chain([HostAddress::Gateway])
                    .map(|address| ExtraHost { name: "extra".into(), address })
                    .collect(),
                shares,
                left: netns_inode % 3 == 1,
            }
        })
}

fn back<T: Record + PartialEq + std::fmt::Debug>(noun: &T) {
    assert_eq!(T::from_bytes(&noun.to_bytes()).as_ref(), Ok(noun));
}

proptest! {
    #[test]
    fn every_noun_reads_back_as_it_was_stored(
        network in network(),
        endpoint in endpoint(),
        node in node(),
        (member_network, member_node, mac, addresses) in (network_id(), node_id(), mac(), vec(address(), 0..4)),
        owner in owner(),
        sandbox in sandbox(),
    ) {
        back(&network);
        back(&endpoint);
        back(&node);
        back(&Member { network: member_network, node: member_node, mac, addresses });
        back(&owner);
        back(&sandbox);
    }

    #[test]
    fn arbitrary_bytes_are_an_error_or_a_noun_and_nothing_else(bytes in vec(any::<u8>(), 0..200)) {
        drop(Network::from_bytes(&bytes));
        drop(Endpoint::from_bytes(&bytes));
        drop(Node::from_bytes(&bytes));
        drop(Member::from_bytes(&bytes));
        drop(AddressOwner::from_bytes(&bytes));
        drop(Sandbox::from_bytes(&bytes));
    }
}

fn sample() -> v1::Network {
    v1::Network {
        id: "ab".repeat(32),
        name: "ov_net1".into(),
        driver: "overlay".into(),
        scope: "global".into(),
        vni: 256,
        subnets: vec![v1::Subnet {
            prefix: "10.0.0.0/24".into(),
            gateway: "10.0.0.1".into(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn refusal(change: impl FnOnce(&mut v1::Network)) -> String {
    let mut wire = sample();
    change(&mut wire);
    Network::try_from(wire).unwrap_err().to_string()
}

#[test]
fn mtu_and_multicast_follow_from_the_options() {
    let mut wire = sample();
    wire.options =
        [("mtu".to_owned(), "1400".to_owned()), ("multicast".to_owned(), "true".to_owned())].into();
    let network: Network = decode::<v1::Network, Network>(&encode(&wire)).unwrap();
    assert_eq!(network.mtu, Some(1400));
    let settings = OverlaySettings { multicast: true, ..OverlaySettings::default() };
    assert_eq!(network.settings, DriverSettings::Overlay(settings));
}

#[test]
fn a_network_that_cannot_be_is_refused_with_the_reason() {
    let none = refusal(|wire| wire.subnets.clear());
    assert!(none.contains("at least one"), "{none}");
    let host_bits = refusal(|wire| wire.subnets[0].prefix = "10.0.0.5/24".into());
    assert!(host_bits.contains("did you mean 10.0.0.0/24?"), "{host_bits}");
    let outside = refusal(|wire| wire.subnets[0].gateway = "10.0.1.1".into());
    assert!(outside.contains(r#"invalid gateway "10.0.1.1": it lies outside"#), "{outside}");
    let twice = refusal(|wire| wire.subnets = vec![wire.subnets[0].clone(), wire.subnets[0].clone()]);
    assert!(twice.contains("overlaps"), "{twice}");
    let option = refusal(|wire| drop(wire.options.insert("mtuu".into(), "1400".into())));
    assert!(option.contains("did you mean mtu?"), "{option}");
}

#[test]
fn sizes_are_limited() {
    let too_long = vec![0; MAX_RECORD + 1];
    let error = Network::from_bytes(&too_long).unwrap_err();
    assert!(error.to_string().starts_with("invalid network record \"262145 bytes\""), "{error}");
    let labels = refusal(|wire| {
        wire.labels = (0..=MAX_LABELS).map(|n| (n.to_string(), String::new())).collect();
    });
    assert!(labels.contains("at most 64"), "{labels}");
    let value = refusal(|wire| drop(wire.labels.insert("a".into(), "x".repeat(MAX_LABEL_VALUE + 1))));
    assert!(value.contains("2049 bytes"), "{value}");
}

#[test]
fn an_address_without_an_owner_is_refused() {
    assert!(AddressOwner::try_from(v1::AddressOwner { owner: None }).is_err());
}
