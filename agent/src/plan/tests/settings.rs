//! Whose tables are, and which settings are written.

use super::stage::*;
use crate::{
    model::{NetworkId, Protocol, SandboxId},
    plan::{
        op::{Op, SettingOp},
        ownership::{Mark, Unit},
        ruleset::{Family, PortKey, PortMap, Table},
        state::{Netns, NetnsState, State},
        *,
    },
};

const BOX: Unit = Unit::Sandbox(SandboxId::from_bytes([5; 32]));

fn with(netns: Netns, mark: Option<Mark>, table: Option<Table>) -> State {
    State { netns: [(netns, NetnsState { mark, table, ..NetnsState::default() })].into() }
}

fn named(name: &str) -> Netns {
    Netns::Named(name.parse().unwrap())
}

#[test]
fn a_table_in_an_adopted_sandbox_is_the_sandboxs() {
    let table = Some(Table::default());
    let (bare, there) = (with(sandbox(2), None, None), with(sandbox(2), None, table.clone()));
    assert_eq!(plan(BOX, &there, &bare), [Op::Setting(sandbox(2), SettingOp::SetTable(Table::default()))]);
    assert_eq!(plan(BOX, &there, &there), []);
    assert_eq!(plan(BOX, &bare, &there), [Op::Setting(sandbox(2), SettingOp::RemoveTable)]);
    assert_eq!(plan(BOX, &State::default(), &there), [Op::Setting(sandbox(2), SettingOp::RemoveTable)]);
    for other in [unit(), Unit::Host] {
        assert_eq!(plan(other, &bare, &there), [], "{other:?}");
        assert_eq!(plan(other, &State::default(), &there), [], "{other:?}");
    }
}

#[test]
fn a_table_in_a_namespace_of_ours_is_its_makers_and_in_a_strangers_nobodys() {
    let table = Some(Table::default());
    let ours = with(named("web"), Some(Mark::new(BOX, "netns")), table.clone());
    let without = with(named("web"), Some(Mark::new(BOX, "netns")), None);
    assert_eq!(plan(BOX, &without, &ours), [Op::Setting(named("web"), SettingOp::RemoveTable)]);
    let other = Unit::Sandbox(SandboxId::from_bytes([6; 32]));
    let shared = with(Netns::Path("/run/netns/web".into()), Some(Mark::new(BOX, "netns")), table.clone());
    assert_eq!(plan(other, &State::default(), &shared), [], "it shares the namespace of the first");
    let strangers = with(named("theirs"), None, table.clone());
    for unit in [BOX, unit(), Unit::Host] {
        assert_eq!(plan(unit, &State::default(), &strangers), [], "{unit:?}");
    }
    let host = with(Netns::Host, None, table);
    assert_eq!(plan(BOX, &State::default(), &host), []);
    assert_eq!(plan(Unit::Network(NetworkId::from_bytes([1; 32])), &State::default(), &host), []);
    assert_eq!(
        plan(Unit::Host, &State::default(), &host),
        [Op::Setting(Netns::Host, SettingOp::RemoveTable)]
    );
}

#[test]
fn where_the_resolver_is_follows_what_is_wanted_and_goes_with_its_sandbox() {
    let with = |netns: Netns, resolver| State {
        netns: [(netns, NetnsState { resolver, ..NetnsState::default() })].into(),
    };
    let there = with(sandbox(2), Some(5_301));
    assert_eq!(plan(BOX, &there, &there), []);
    for observed in [None, Some(0), Some(5_302)] {
        let observed = with(sandbox(2), observed);
        assert_eq!(
            plan(BOX, &there, &observed),
            [Op::Setting(sandbox(2), SettingOp::SetResolver(5_301))],
            "{observed:?}"
        );
    }
    for observed in [0, 5_301] {
        let observed = with(sandbox(2), Some(observed));
        assert_eq!(
            plan(BOX, &with(sandbox(2), None), &observed),
            [Op::Setting(sandbox(2), SettingOp::RemoveResolver)]
        );
        assert_eq!(
            plan(BOX, &State::default(), &observed),
            [Op::Setting(sandbox(2), SettingOp::RemoveResolver)]
        );
        assert_eq!(plan(unit(), &State::default(), &observed), [], "it is not the network's");
    }
}

#[test]
fn a_table_of_which_a_few_ports_are_other_is_not_replaced() {
    let map = PortMap { family: Family::V4, addressed: false };
    let ports = |ports: std::ops::Range<u16>| {
        let to = |port: u16| ("10.0.0.2".parse().unwrap(), port);
        let key = |port: u16| PortKey { address: None, protocol: Protocol::Tcp, port };
        let ports = ports.map(|port| (key(port), to(port))).collect();
        Table { ports: [(map, ports)].into(), ..Table::default() }
    };
    let state = |table: Table| with(sandbox(2), None, Some(table));
    let steps = plan(BOX, &state(ports(11..101)), &state(ports(10..100)));
    let [Op::Setting(_, SettingOp::ChangePorts(changes))] = &steps[..] else { panic!("{steps:?}") };
    let [change] = &changes[..] else { panic!("{changes:?}") };
    let numbers = |keys: Vec<&PortKey>| keys.into_iter().map(|key| key.port).collect::<Vec<_>>();
    assert_eq!(
        (numbers(change.gone.iter().collect()), numbers(change.come.keys().collect())),
        (vec![10], vec![100])
    );
    // More than half of it, or a map that comes: a new table.
    let with_node = Table { vteps: ["198.51.100.1".parse().unwrap()].into(), ..ports(11..101) };
    for other in [ports(60..150), Table::default(), with_node] {
        let steps = plan(BOX, &state(ports(10..100)), &state(other.clone()));
        assert!(matches!(steps[..], [Op::Setting(_, SettingOp::SetTable(_))]), "{other:?}: {steps:?}");
    }
}
