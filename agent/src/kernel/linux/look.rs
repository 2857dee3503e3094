//! Looking at one namespace: complete, or an error.
//!
//! A few links are asked for by name, with filtered dumps for what hangs off them; otherwise everything is dumped once.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use nix::errno::Errno;

use super::{
    hanging::{self, Links},
    link_row::{LinkRow, parse},
    links,
    namespace::Namespace,
    nft, openings,
    refusal::Refusal,
    resolver,
    stacked::Parents,
    sysctl,
};
use crate::{
    kernel::KernelError,
    model::IfName,
    plan::state::{Look, LookAt, Netns, NetnsState, Port, State},
};

/// How often a look starts again when objects come and go meanwhile.
const ATTEMPTS: usize = 5;
/// Up to so many named links are asked for one by one; with more, whole dumps are cheaper.
const FEW: usize = 16;

/// Everything that `look` names.
pub(super) fn observe(dir: &Path, look: &Look) -> Result<State, KernelError> {
    let mut state = State::default();
    let mut parents = Parents::default();
    for (netns, at) in &look.netns {
        let open = Namespace::open(dir, netns);
        let open = open.map_err(|refusal| refusal.into_error("open network namespace", netns.to_string()))?;
        if let Some(mut namespace) = open {
            let seen = look_at(&mut namespace, &mut parents, netns, at)?;
            state.netns.insert(netns.clone(), seen);
        }
    }
    Ok(state)
}

fn look_at(
    namespace: &mut Namespace,
    parents: &mut Parents,
    netns: &Netns,
    at: &LookAt,
) -> Result<NetnsState, KernelError> {
    let mut seen = NetnsState::default();
    let mut attempts = 0;
    loop {
        attempts += 1;
        match links(namespace, parents, netns, at.links.as_ref()) {
            Ok((mark, links)) => {
                seen.mark = mark;
                seen.links = links;
                break;
            }
            // Torn dump, or a link that went between two requests.
            Err(refusal) if attempts < ATTEMPTS && [Errno::EINTR, Errno::ENODEV].contains(&refusal.errno) => {
            }
            Err(refusal) => return Err(refusal.into_error("look at links of", netns.to_string())),
        }
    }
    if !at.sysctls.is_empty() {
        seen.sysctls = sysctl::read_all(namespace, netns, &at.sysctls)?;
    }
    if at.table {
        seen.table = nft::read(namespace, netns)?;
    }
    if at.resolver {
        let failed = |refusal: Refusal| {
            refusal.into_error("look at the rules for 127.0.0.11 port 53 of", netns.to_string())
        };
        seen.resolver = resolver::read(namespace).map_err(failed)?;
    }
    if at.openings {
        seen.openings = openings::read(namespace, netns)?;
    }
    Ok(seen)
}

type Marked = (Option<crate::plan::ownership::Mark>, BTreeMap<IfName, crate::plan::state::Link>);

fn links(
    namespace: &mut Namespace,
    parents: &mut Parents,
    netns: &Netns,
    wanted: Option<&BTreeSet<IfName>>,
) -> Result<Marked, Refusal> {
    namespace.forget_links();
    let few = wanted.filter(|wanted| wanted.len() <= FEW);
    let rows = match few {
        Some(few) => named(namespace, few)?,
        None => dump(namespace)?,
    };
    let mark = match rows.iter().find(|row| row.loopback) {
        Some(loopback) if *netns != Netns::Host => loopback.link.mark.clone(),
        _absent => None,
    };
    let names: BTreeMap<u32, IfName> = rows.iter().map(|row| (row.index, row.name)).collect();
    let mut links = Links::default();
    let chosen = |row: &LinkRow| !row.loopback && wanted.is_none_or(|wanted| wanted.contains(&row.name));
    for mut row in rows.into_iter().filter(chosen) {
        if let Some(kind) = parents.kind(netns, &row)? {
            row.link.kind = kind;
        }
        if let Some(flags) = row.port {
            let bridge = match names.get(&row.master) {
                Some(bridge) => Some(*bridge),
                None => by_index(namespace, row.master)?.map(|master| master.name),
            };
            row.link.port = bridge.map(|bridge| Port { bridge, ..flags });
        }
        links.insert(row.index, (row.name, row.link));
    }
    hanging::fill(&mut namespace.rtnl, &mut links, few.is_some())?;
    Ok((mark, links.into_values().collect()))
}

fn named(namespace: &mut Namespace, names: &BTreeSet<IfName>) -> Result<Vec<LinkRow>, Refusal> {
    let loopback = IfName::literal("lo");
    let mut rows = Vec::with_capacity(names.len() + 1);
    for name in names.iter().copied().filter(|name| *name != loopback).chain([loopback]) {
        match namespace.link(name) {
            // A name may also be found as another link's alternative name (`ip link property`): that is not it.
            Ok(body) => rows.extend(parse(&body).filter(|row| row.name == name)),
            Err(refusal) if refusal.errno == Errno::ENODEV => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(rows)
}

/// The link with this index.
pub(super) fn by_index(namespace: &mut Namespace, index: u32) -> Result<Option<LinkRow>, Refusal> {
    Ok(parse(&namespace.rtnl.get(links::indexed(index))?))
}

/// All links of the namespace.
pub(super) fn dump(namespace: &mut Namespace) -> Result<Vec<LinkRow>, Refusal> {
    let mut rows = Vec::new();
    namespace.rtnl.dump(links::all(), &mut |body| rows.extend(parse(body)))?;
    Ok(rows)
}
