//! `plan()`: the steps from the observed to the desired state of one unit.
//!
//! Pure and total. It walks the union of the desired and the observed objects, so that objects of ours that
//! are no longer desired are removed. An object without the unit's mark is never part of a step. `link.rs`
//! has the fields of one link.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    link::diff_link,
    op::{LinkOp, LinkRef, LinkRow, NetnsOp, NewLink, Op, RowOp, SettingOp},
    ownership::{Mark, Unit},
    settings::diff_settings,
    state::{Link, LinkKind, Netns, Route, State},
    sysctl,
};

/// The steps that make `observed` like `desired`, for the objects of `unit`, in an order in which no step
/// needs what a later one makes. `observed` must hold at least every namespace in which the unit has, or
/// should have, objects.
pub fn plan(unit: Unit, desired: &State, observed: &State) -> Vec<Op> {
    let mut ops = Vec::new();
    plan_netns(unit, desired, observed, &mut ops);
    let to_remove = doomed_links(unit, desired, observed);
    // Both ends of a veth are named: the second one is gone by then, unless the pair was no pair any more.
    ops.extend(to_remove.iter().cloned().map(|at| Op::Link(at, LinkOp::Remove)));
    let survives = |at: &LinkRef| kept(unit, at, observed, &to_remove).is_some();
    let created: BTreeSet<LinkRef> = links(desired).map(|(at, _)| at).filter(|at| !survives(at)).collect();
    for (at, link) in links(desired) {
        if created.contains(&at) {
            create(&at, link, desired, &mut ops);
        }
        // A bridge of somebody else's, which is not in the desired state, is not made anew by us.
        let bridge_is_new = link
            .port
            .is_some_and(|port| created.contains(&LinkRef { netns: at.netns.clone(), name: port.bridge }));
        diff_link(&at, link, kept(unit, &at, observed, &to_remove), bridge_is_new, &mut ops);
    }
    let gone = removed_netns(unit, desired, observed).cloned().collect();
    diff_settings(unit, desired, observed, &gone, &created, &mut ops);
    ops.sort_by_key(rank);
    ops
}

fn plan_netns(unit: Unit, desired: &State, observed: &State, ops: &mut Vec<Op>) {
    for (netns, want) in &desired.netns {
        let there = observed.netns.get(netns).and_then(|observed| observed.mark.as_ref());
        if let Some(mark) = &want.mark
            && there.is_none_or(|there| there.unit != unit)
        {
            ops.push(Op::Netns(netns.clone(), NetnsOp::Add(mark.clone())));
        }
    }
    for netns in removed_netns(unit, desired, observed) {
        ops.push(Op::Netns(netns.clone(), NetnsOp::Remove));
    }
}

/// Namespaces that we made for the unit and that are no longer desired.
fn removed_netns<'a>(unit: Unit, desired: &State, observed: &'a State) -> impl Iterator<Item = &'a Netns> {
    let kept: BTreeSet<Netns> = desired
        .netns
        .iter()
        .filter(|(_, want)| want.mark.is_some())
        .map(|(netns, _)| netns.clone())
        .collect();
    let ours = move |mark: &Option<Mark>| mark.as_ref().is_some_and(|mark| mark.unit == unit);
    observed
        .netns
        .iter()
        .filter(move |(netns, observed)| ours(&observed.mark) && !kept.contains(netns))
        .map(|(netns, _)| netns)
}

/// The unit's observed links that must be removed: not desired, of a different kind or role, half of a broken
/// or moved veth pair, or on a parent that is removed.
fn doomed_links(unit: Unit, desired: &State, observed: &State) -> BTreeSet<LinkRef> {
    let mut to_remove = BTreeSet::new();
    for (at, link) in links(observed).filter(|(_, link)| owned(unit, link)) {
        let keep =
            wanted_link(desired, &at).is_some_and(|want| want.kind == link.kind && want.mark == link.mark);
        if !keep {
            to_remove.insert(at);
        }
    }
    // A veth lives and dies with its other end.
    let wanted_pairs = pairs(desired);
    for (mark, ends) in pairs(observed).into_iter().filter(|(mark, _)| mark.unit == unit) {
        if wanted_pairs.get(mark) != Some(&ends) {
            to_remove.extend(ends);
        }
    }
    // A VLAN takes with it what is on it.
    let on_doomed = |link: &Link| parent_of(&link.kind).is_some_and(|parent| to_remove.contains(&parent));
    let lost: Vec<LinkRef> =
        links(observed).filter(|(_, link)| owned(unit, link) && on_doomed(link)).map(|(at, _)| at).collect();
    to_remove.extend(lost);
    to_remove
}

/// The parent in the host of a link of this kind.
fn parent_of(kind: &LinkKind) -> Option<LinkRef> {
    match kind {
        LinkKind::Macvlan(parent, _) | LinkKind::Ipvlan(parent, ..) | LinkKind::Vlan(parent, _) => {
            Some(LinkRef { netns: Netns::Host, name: *parent })
        }
        LinkKind::Bridge | LinkKind::Vxlan(_) | LinkKind::Veth | LinkKind::Other(_) => None,
    }
}

fn create(at: &LinkRef, link: &Link, desired: &State, ops: &mut Vec<Op>) {
    let Some(new) = new_link(at, link) else { return };
    match &link.kind {
        LinkKind::Bridge
        | LinkKind::Vxlan(_)
        | LinkKind::Macvlan(..)
        | LinkKind::Ipvlan(..)
        | LinkKind::Vlan(..) => ops.push(Op::AddLink(new, link.kind.clone())),
        LinkKind::Veth => {
            // Said once for the pair, by the end that sorts first.
            let ends = link.mark.as_ref().map(|mark| pair_ends(desired, mark)).unwrap_or_default();
            if let [(a, a_link), (b, b_link)] = ends.as_slice()
                && a == at
                && let (Some(a_new), Some(b_new)) = (new_link(a, a_link), new_link(b, b_link))
            {
                ops.push(Op::AddVeth(a_new, b_new));
            }
        }
        LinkKind::Other(_) => {}
    }
}

fn new_link(at: &LinkRef, link: &Link) -> Option<NewLink> {
    Some(NewLink { at: at.clone(), mark: link.mark.clone()?, mac: link.mac, mtu: link.mtu })
}

/// The observed link at this place, if it belongs to the unit and stays.
fn kept<'a>(
    unit: Unit,
    at: &LinkRef,
    observed: &'a State,
    to_remove: &BTreeSet<LinkRef>,
) -> Option<&'a Link> {
    wanted_link(observed, at).filter(|link| !to_remove.contains(at) && owned(unit, link))
}

fn owned(unit: Unit, link: &Link) -> bool {
    link.mark.as_ref().is_some_and(|mark| mark.unit == unit)
}

fn links(state: &State) -> impl Iterator<Item = (LinkRef, &Link)> {
    state.netns.iter().flat_map(|(netns, state)| {
        state.links.iter().map(|(name, link)| (LinkRef { netns: netns.clone(), name: *name }, link))
    })
}

fn wanted_link<'a>(state: &'a State, at: &LinkRef) -> Option<&'a Link> {
    state.netns.get(&at.netns)?.links.get(&at.name)
}

/// The places of the ends of each veth pair, by its mark.
fn pairs(state: &State) -> BTreeMap<&Mark, Vec<LinkRef>> {
    let mut pairs: BTreeMap<&Mark, Vec<LinkRef>> = BTreeMap::new();
    for netns in &state.netns {
        for (name, link) in &netns.1.links {
            if link.kind == LinkKind::Veth
                && let Some(mark) = &link.mark
            {
                pairs.entry(mark).or_default().push(LinkRef { netns: netns.0.clone(), name: *name });
            }
        }
    }
    pairs
}

fn pair_ends<'a>(state: &'a State, mark: &Mark) -> Vec<(LinkRef, &'a Link)> {
    links(state).filter(|(_, link)| link.kind == LinkKind::Veth && link.mark.as_ref() == Some(mark)).collect()
}

/// Removals from the leaves inwards, then additions from the root outwards. Settings of a namespace come before its
/// links, which inherit them, those of a link before it is up; the rules too; rows after, since a link that goes up flushes
/// some. A gateway has its route before what is routed to it, and a parent its MTU before the links on it, which may have no
/// larger one.
fn rank(op: &Op) -> u8 {
    match op {
        Op::Link(_, LinkOp::RemoveRoute(..)) => 0,
        Op::Row(_, RowOp::Remove, LinkRow::Address(_)) => 2,
        Op::Row(_, RowOp::Remove, _) => 1,
        Op::Link(_, LinkOp::Remove) => 3,
        Op::Setting(_, SettingOp::RemoveTable | SettingOp::RemoveResolver) => 4,
        Op::Netns(_, NetnsOp::Remove) => 5,
        Op::Netns(_, NetnsOp::Add(_)) => 6,
        Op::Setting(_, SettingOp::SetSysctl(key, _)) if sysctl::link_of(key).is_none() => 7,
        // Whether a link may have IPv6 addresses is one of its settings.
        Op::Setting(_, SettingOp::SetSysctl(..)) => 15,
        Op::Setting(..) => 8,
        Op::Link(_, LinkOp::SetMtu(_)) => 9,
        Op::AddLink(_, LinkKind::Bridge | LinkKind::Vlan(..) | LinkKind::Veth | LinkKind::Other(_)) => 10,
        Op::AddLink(_, LinkKind::Vxlan(_) | LinkKind::Macvlan(..) | LinkKind::Ipvlan(..)) => 11,
        Op::AddVeth(..) => 12,
        Op::Link(_, LinkOp::SetMac(_)) => 13,
        Op::Link(_, LinkOp::SetPort(_)) => 14,
        Op::Row(_, RowOp::Set, LinkRow::Address(_)) => 16,
        Op::Link(_, LinkOp::SetUp(_)) => 17,
        Op::Row(_, RowOp::Set, _) => 18,
        Op::Link(_, LinkOp::SetRoute(_, Route { via: None, .. })) => 19,
        Op::Link(_, LinkOp::SetRoute(..)) => 20,
    }
}
