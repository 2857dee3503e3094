//! What steps are called in `ovctl diff` and in the log.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;

use crate::{
    model::{IfName, Mac, Vni},
    plan::{
        op::{LinkOp, LinkRef, LinkRow, NetnsOp, NewLink, Op, RowOp, SettingOp},
        ownership::{Mark, Unit},
        ruleset::{Family, LinkMatch, PortChange, PortMap, Table},
        state::{LinkKind, Netns, Port, Route, Vxlan},
    },
};

fn mac() -> Mac {
    "02:00:00:00:00:09".parse().unwrap()
}

fn ip() -> IpAddr {
    "192.0.2.9".parse().unwrap()
}

fn net() -> IpNet {
    "10.9.0.0/24".parse().unwrap()
}

fn at() -> LinkRef {
    LinkRef { netns: Netns::Host, name: IfName::literal("br0") }
}

fn check(steps: impl IntoIterator<Item = (Op, &'static str, bool)>) {
    for (op, text, removes) in steps {
        assert_eq!((op.to_string().as_str(), op.removes()), (text, removes), "{op:?}");
    }
}

#[test]
fn a_step_on_a_namespace_or_a_new_link_is_printed_as_ip_has_it() {
    let netns = Netns::Named("web".parse().unwrap());
    let mark = Mark::new(Unit::Host, "br0");
    let new = |mac| NewLink { at: at(), mark: mark.clone(), mac, mtu: 1400 };
    let vxlan = LinkKind::Vxlan(Vxlan { vni: Vni::new(4097).unwrap(), local: ip(), port: 4789 });
    check([
        (Op::Netns(netns.clone(), NetnsOp::Add(mark.clone())), "add netns web", false),
        (Op::Netns(netns, NetnsOp::Remove), "remove netns web", true),
        (
            Op::AddLink(new(Some(mac())), LinkKind::Bridge),
            "add bridge host/br0 address 02:00:00:00:00:09 mtu 1400",
            false,
        ),
        (
            Op::AddLink(new(None), vxlan),
            "add vxlan (vni 4097 local 192.0.2.9 port 4789) host/br0 mtu 1400",
            false,
        ),
        (Op::AddVeth(new(None), new(None)), "add veth host/br0 peer host/br0 mtu 1400", false),
    ]);
}

#[test]
fn a_step_on_a_link_is_printed_with_the_link() {
    let port = Port {
        bridge: IfName::literal("br1"),
        learning: true,
        unicast_flood: true,
        isolated: false,
        hairpin: false,
    };
    let route = |via| Route { via, source: None, mtu: None, metric: 5 };
    let steps = [
        (LinkOp::Remove, "remove link host/br0", true),
        (LinkOp::SetMac(mac()), "set host/br0 address 02:00:00:00:00:09", false),
        (LinkOp::SetMtu(1300), "set host/br0 mtu 1300", false),
        (LinkOp::SetPort(Some(port)), "set host/br0 master br1", false),
        (LinkOp::SetPort(None), "set host/br0 nomaster", false),
        (LinkOp::SetUp(true), "set host/br0 up", false),
        (LinkOp::SetUp(false), "set host/br0 down", false),
        (LinkOp::SetRoute(net(), route(None)), "set route 10.9.0.0/24 dev host/br0", false),
        (
            LinkOp::SetRoute(net(), route(Some(ip()))),
            "set route 10.9.0.0/24 via 192.0.2.9 dev host/br0",
            false,
        ),
        (LinkOp::RemoveRoute(net(), route(Some(ip()))), "remove route 10.9.0.0/24 dev host/br0", true),
    ];
    check(steps.map(|(op, text, removes)| (Op::Link(at(), op), text, removes)));
}

#[test]
fn a_row_is_set_with_its_value_and_removed_without() {
    for (row, set, remove) in [
        (
            LinkRow::Address(net()),
            "add address 10.9.0.0/24 dev host/br0",
            "remove address 10.9.0.0/24 dev host/br0",
        ),
        (
            LinkRow::Neighbour(ip(), mac()),
            "set neighbour 192.0.2.9 lladdr 02:00:00:00:00:09 dev host/br0",
            "remove neighbour 192.0.2.9 dev host/br0",
        ),
        (
            LinkRow::VxlanFdb(mac(), ip()),
            "set fdb 02:00:00:00:00:09 dst 192.0.2.9 dev host/br0",
            "remove fdb 02:00:00:00:00:09 dev host/br0",
        ),
        (
            LinkRow::Flood(ip()),
            "add flood dst 192.0.2.9 dev host/br0",
            "remove flood dst 192.0.2.9 dev host/br0",
        ),
        (
            LinkRow::BridgeFdb(mac()),
            "set bridge fdb 02:00:00:00:00:09 dev host/br0",
            "remove bridge fdb 02:00:00:00:00:09 dev host/br0",
        ),
    ] {
        check([
            (Op::Row(at(), RowOp::Set, row), set, false),
            (Op::Row(at(), RowOp::Remove, row), remove, true),
        ]);
    }
}

#[test]
fn a_setting_is_printed_with_its_namespace() {
    let map = PortMap { family: Family::V4, addressed: false };
    let change = PortChange { map, gone: BTreeSet::new(), come: [].into() };
    let links: BTreeSet<LinkMatch> = [LinkMatch::Is(IfName::literal("br0"))].into();
    let forward_accepts = |family| SettingOp::SetForwardAccepts(family, links.clone());
    let steps = [
        (
            SettingOp::SetSysctl("net/ipv4/ip_forward".into(), "1".into()),
            "set sysctl net.ipv4.ip_forward=1 in host",
            false,
        ),
        (SettingOp::SetTable(Table::default()), "set nftables table (0 rules) in host", false),
        (
            SettingOp::ChangePorts(vec![change]),
            "change ports in nftables table (0 gone, 0 new) in host",
            false,
        ),
        (SettingOp::RemoveTable, "remove nftables table in host", true),
        (SettingOp::SetResolver(5301), "redirect 127.0.0.11 port 53 to 5301 in host", false),
        (SettingOp::RemoveResolver, "remove the redirect of 127.0.0.11 port 53 in host", true),
        (forward_accepts(Family::V4), "set rules in the FORWARD chain of iptables (1 links) in host", false),
        (forward_accepts(Family::V6), "set rules in the FORWARD chain of ip6tables (1 links) in host", false),
    ];
    check(steps.map(|(op, text, removes)| (Op::Setting(Netns::Host, op), text, removes)));
}
