//! The fields of one link: wanted against seen.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    op::{LinkRef, Op},
    state::{Link, LinkKind},
};
use crate::model::MacvlanMode;

/// The steps for one link. `seen` is None for a link that is being made: then nothing of it is there but its MAC and MTU.
/// A port of a bridge that is being made has lost its place, and with it the bridge's rows.
pub(super) fn diff_link(
    at: &LinkRef,
    want: &Link,
    seen: Option<&Link>,
    bridge_is_new: bool,
    ops: &mut Vec<Op>,
) {
    let fresh;
    let seen = match seen {
        Some(seen) => seen,
        None => {
            fresh = bare(want);
            &fresh
        }
    };
    if want.mac != seen.mac
        && let Some(mac) = want.mac
    {
        ops.push(Op::SetMac(at.clone(), mac));
    }
    if want.mtu != seen.mtu {
        ops.push(Op::SetMtu(at.clone(), want.mtu));
    }
    let seen_port = if bridge_is_new { None } else { seen.port };
    if want.port != seen_port {
        ops.push(Op::SetPort(at.clone(), want.port));
    }
    if want.up != seen.up {
        ops.push(Op::SetUp(at.clone(), want.up));
    }
    let moved = want.port.map(|port| port.bridge) != seen_port.map(|port| port.bridge);
    diff_rows(at, want, seen, moved, ops);
}

/// What a link is when it has just been made.
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
        tunnels: BTreeMap::new(),
        floods: BTreeSet::new(),
        stations: own.into_iter().collect(),
    }
}

fn diff_rows(at: &LinkRef, want: &Link, seen: &Link, moved: bool, ops: &mut Vec<Op>) {
    set(&want.addresses, &seen.addresses, ops, |address, wanted| match wanted {
        true => Op::AddAddress(at.clone(), *address),
        false => Op::RemoveAddress(at.clone(), *address),
    });
    set(&want.floods, &seen.floods, ops, |vtep, wanted| match wanted {
        true => Op::AddFlood(at.clone(), *vtep),
        false => Op::RemoveFlood(at.clone(), *vtep),
    });
    let no_stations = BTreeSet::new();
    set(&want.stations, if moved { &no_stations } else { &seen.stations }, ops, |mac, wanted| match wanted {
        true => Op::SetStation(at.clone(), *mac),
        false => Op::RemoveStation(at.clone(), *mac),
    });
    map(&want.neighbours, &seen.neighbours, ops, |ip, mac| match mac {
        Wanted(mac) => Op::SetNeighbour(at.clone(), *ip, *mac),
        Unwanted(_) => Op::RemoveNeighbour(at.clone(), *ip),
    });
    map(&want.tunnels, &seen.tunnels, ops, |mac, vtep| match vtep {
        Wanted(vtep) => Op::SetTunnel(at.clone(), *mac, *vtep),
        Unwanted(_) => Op::RemoveTunnel(at.clone(), *mac),
    });
    map(&want.routes, &seen.routes, ops, |to, route| match route {
        Wanted(route) => Op::SetRoute(at.clone(), *to, *route),
        Unwanted(route) => Op::RemoveRoute(at.clone(), *to, *route),
    });
    // A route of another metric is another route to the kernel: the old one does not go by itself.
    for (to, route) in &want.routes {
        if let Some(old) = seen.routes.get(to)
            && old.metric != route.metric
        {
            ops.push(Op::RemoveRoute(at.clone(), *to, *old));
        }
    }
}

fn set<T: Ord>(want: &BTreeSet<T>, seen: &BTreeSet<T>, ops: &mut Vec<Op>, op: impl Fn(&T, bool) -> Op) {
    ops.extend(seen.difference(want).map(|item| op(item, false)));
    ops.extend(want.difference(seen).map(|item| op(item, true)));
}

enum Side<'a, V> {
    Wanted(&'a V),
    Unwanted(&'a V),
}
use Side::{Unwanted, Wanted};

fn map<K: Ord, V: PartialEq>(
    want: &BTreeMap<K, V>,
    seen: &BTreeMap<K, V>,
    ops: &mut Vec<Op>,
    op: impl Fn(&K, Side<'_, V>) -> Op,
) {
    ops.extend(
        seen.iter().filter(|(key, _)| !want.contains_key(key)).map(|(key, value)| op(key, Unwanted(value))),
    );
    ops.extend(
        want.iter()
            .filter(|(key, value)| seen.get(key) != Some(value))
            .map(|(key, value)| op(key, Wanted(value))),
    );
}
