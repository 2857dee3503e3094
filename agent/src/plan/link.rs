//! The steps for the fields of one link: desired against observed.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    op::{LinkOp, LinkRef, LinkRow, Op, RowOp},
    state::{Link, LinkKind},
};
use crate::model::MacvlanMode;

/// The steps for one link. `observed` is `None` for a link that is being made: it has only its MAC and MTU.
/// If the bridge is being made, its ports have lost their place in it, and with it the bridge's rows.
pub(super) fn diff_link(
    at: &LinkRef,
    want: &Link,
    observed: Option<&Link>,
    bridge_is_new: bool,
    ops: &mut Vec<Op>,
) {
    let fresh;
    let observed = match observed {
        Some(observed) => observed,
        None => {
            fresh = bare(want);
            &fresh
        }
    };
    let mut push = |op| ops.push(Op::Link(at.clone(), op));
    if want.mac != observed.mac
        && let Some(mac) = want.mac
    {
        push(LinkOp::SetMac(mac));
    }
    if want.mtu != observed.mtu {
        push(LinkOp::SetMtu(want.mtu));
    }
    let seen_port = if bridge_is_new { None } else { observed.port };
    if want.port != seen_port {
        push(LinkOp::SetPort(want.port));
    }
    if want.up != observed.up {
        push(LinkOp::SetUp(want.up));
    }
    diff_routes(want, observed, push);
    let moved = want.port.map(|port| port.bridge) != seen_port.map(|port| port.bridge);
    diff_rows(want, observed, moved, |op, row| ops.push(Op::Row(at.clone(), op, row)));
}

/// A link that has just been made.
fn bare(want: &Link) -> Link {
    // A macvlan link that has its parent for itself is born with the parent's address, whatever it was to have.
    let mac = if let LinkKind::Macvlan(_, MacvlanMode::Passthru) = want.kind { None } else { want.mac };
    let own = mac.filter(|_| want.kind == LinkKind::Bridge);
    Link {
        kind: want.kind.clone(),
        mark: want.mark.clone(),
        mac,
        mtu: want.mtu,
        up: false,
        port: None,
        addresses: BTreeSet::new(),
        routes: BTreeMap::new(),
        neighbours: BTreeMap::new(),
        vxlan_fdb: BTreeMap::new(),
        flood_list: BTreeSet::new(),
        bridge_fdb: own.into_iter().collect(),
    }
}

fn diff_routes(want: &Link, observed: &Link, mut push: impl FnMut(LinkOp)) {
    for (to, old) in observed.routes.iter().filter(|(to, _)| !want.routes.contains_key(to)) {
        push(LinkOp::RemoveRoute(*to, *old));
    }
    for (to, route) in want.routes.iter().filter(|(to, route)| observed.routes.get(to) != Some(route)) {
        // A route of another metric is another route to the kernel: the old one does not go by itself.
        if let Some(old) = observed.routes.get(to).filter(|old| old.metric != route.metric) {
            push(LinkOp::RemoveRoute(*to, *old));
        }
        push(LinkOp::SetRoute(*to, *route));
    }
}

fn diff_rows(want: &Link, observed: &Link, moved: bool, mut push: impl FnMut(RowOp, LinkRow)) {
    set(&want.addresses, &observed.addresses, LinkRow::Address, &mut push);
    set(&want.flood_list, &observed.flood_list, LinkRow::Flood, &mut push);
    let no_stations = BTreeSet::new();
    let bridge_fdb = if moved { &no_stations } else { &observed.bridge_fdb };
    set(&want.bridge_fdb, bridge_fdb, LinkRow::BridgeFdb, &mut push);
    map(&want.neighbours, &observed.neighbours, LinkRow::Neighbour, &mut push);
    map(&want.vxlan_fdb, &observed.vxlan_fdb, LinkRow::VxlanFdb, &mut push);
}

fn set<T: Ord + Copy>(
    want: &BTreeSet<T>,
    observed: &BTreeSet<T>,
    row: fn(T) -> LinkRow,
    push: &mut impl FnMut(RowOp, LinkRow),
) {
    observed.difference(want).for_each(|item| push(RowOp::Remove, row(*item)));
    want.difference(observed).for_each(|item| push(RowOp::Set, row(*item)));
}

fn map<K: Ord + Copy, V: PartialEq + Copy>(
    want: &BTreeMap<K, V>,
    observed: &BTreeMap<K, V>,
    row: fn(K, V) -> LinkRow,
    push: &mut impl FnMut(RowOp, LinkRow),
) {
    for (key, value) in observed.iter().filter(|(key, _)| !want.contains_key(key)) {
        push(RowOp::Remove, row(*key, *value));
    }
    for (key, value) in want.iter().filter(|(key, value)| observed.get(key) != Some(value)) {
        push(RowOp::Set, row(*key, *value));
    }
}
