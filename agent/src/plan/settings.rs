//! The settings of a whole namespace: its sysctls, our tables in it, and our accept rules in the FORWARD
//! chains of others.

use std::collections::BTreeSet;

use super::{
    op::{LinkRef, Op, SettingOp},
    ownership::Unit,
    state::{Netns, NetnsState, State},
    sysctl,
};

/// The steps for settings. `gone` are the namespaces that are removed with all that is in them; `created` are
/// the links that are being made, whose settings start from the defaults.
pub(super) fn diff_settings(
    unit: Unit,
    desired: &State,
    observed: &State,
    gone: &BTreeSet<Netns>,
    created: &BTreeSet<LinkRef>,
    ops: &mut Vec<Op>,
) {
    let nothing = NetnsState::default();
    for (netns, want) in &desired.netns {
        let there = observed.netns.get(netns).unwrap_or(&nothing);
        for (key, value) in &want.sysctls {
            let link = sysctl::link_of(key).map(|name| LinkRef { netns: netns.clone(), name });
            let afresh = link.is_some_and(|link| created.contains(&link));
            if afresh || there.sysctls.get(key) != Some(value) {
                ops.push(Op::Setting(netns.clone(), SettingOp::SetSysctl(key.clone(), value.clone())));
            }
        }
        if let Some(table) = &want.table
            && there.table.as_ref() != Some(table)
        {
            let changes = there.table.as_ref().and_then(|there| there.port_changes(table));
            ops.push(match changes {
                Some(changes) => Op::Setting(netns.clone(), SettingOp::ChangePorts(changes)),
                None => Op::Setting(netns.clone(), SettingOp::SetTable(table.clone())),
            });
        }
        if let Some(port) = want.resolver
            && there.resolver != want.resolver
        {
            ops.push(Op::Setting(netns.clone(), SettingOp::SetResolver(port)));
        }
    }
    for (netns, there) in &observed.netns {
        if gone.contains(netns) || !has_tables(unit, netns, there) {
            continue;
        }
        let want = desired.netns.get(netns).unwrap_or(&nothing);
        if want.table.is_none() && there.table.is_some() {
            ops.push(Op::Setting(netns.clone(), SettingOp::RemoveTable));
        }
        if want.resolver.is_none() && there.resolver.is_some() {
            ops.push(Op::Setting(netns.clone(), SettingOp::RemoveResolver));
        }
    }
    diff_forward_accepts(unit, desired, observed, ops);
}

/// Whether our tables in a namespace belong to the unit. They belong to the unit that made the namespace; the
/// host's tables belong to the host unit, those of an adopted sandbox to the sandbox.
fn has_tables(unit: Unit, netns: &Netns, there: &NetnsState) -> bool {
    match (&there.mark, netns) {
        (Some(mark), _) => mark.unit == unit,
        (None, Netns::Host) => unit == Unit::Host,
        (None, Netns::Path(_)) => matches!(unit, Unit::Sandbox(_)),
        (None, Netns::Named(_)) => false,
    }
}

/// Accept rules in FORWARD belong to the host unit. If a family was not observed, it has no chain for them,
/// or needs no rules.
fn diff_forward_accepts(unit: Unit, desired: &State, observed: &State, ops: &mut Vec<Op>) {
    if unit != Unit::Host {
        return;
    }
    let Some(there) = observed.netns.get(&Netns::Host) else { return };
    let want = desired.netns.get(&Netns::Host);
    for (family, links) in &there.forward_accepts {
        let desired = want.and_then(|want| want.forward_accepts.get(family)).cloned().unwrap_or_default();
        if desired != *links {
            ops.push(Op::Setting(Netns::Host, SettingOp::SetForwardAccepts(*family, desired)));
        }
    }
}
