//! Looking at one namespace: complete, or an error.
//!
//! A few links are read by name, with filtered dumps for their addresses, routes and rows; otherwise
//! everything is dumped once.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use nix::errno::Errno;

use crate::{
    kernel::{
        KernelError,
        linux::{
            link::{
                conf::Conf,
                contents::{self, Links},
                find,
                row::{LinkRow, parse},
                upper::Parents,
            },
            netfilter::{forward_accepts, forwarders, listings::Listings, nft, resolver},
            netns::{
                namespace::{self, Namespace},
                procfs::Procfs,
                sysctl,
            },
            refusal::Refusal,
        },
    },
    model::IfName,
    plan::{
        ownership::Mark,
        state::{Link, Look, LookAt, Netns, NetnsState, Port, State},
        sysctl::parts_of,
    },
};

/// How often a look starts again when objects come and go meanwhile.
const ATTEMPTS: usize = 5;
/// Up to so many named links are asked for one by one; with more, whole dumps are cheaper.
const FEW: usize = 16;
/// That limit if only the links themselves are read.
const FEW_BARE: usize = 128;

/// Everything that `look` names.
pub(super) fn observe(
    dir: &Path,
    look: &Look,
    listings: &Listings,
    procfs: &Procfs,
) -> Result<State, KernelError> {
    let mut state = State::default();
    let unseen = |refusal: Refusal| refusal.into_error("look at links of", "the host");
    let mut parents = Parents::open().map_err(unseen)?;
    for (netns, at) in &look.netns {
        let mut eye = Eye { parents: &mut parents, netns, listings, procfs };
        let observed = match namespace::path(dir, netns) {
            None => Some(eye.look_here(at)),
            // Entered once for all that is looked at.
            Some(path) => namespace::open_file(&path)
                .and_then(|file| file.map(|file| namespace::inside(&file, || eye.look_here(at))).transpose())
                .map_err(|refusal| refusal.into_error("open network namespace", netns.to_string()))?,
        };
        if let Some(observed) = observed.transpose()? {
            state.netns.insert(netns.clone(), observed);
        }
    }
    Ok(state)
}

/// What a look at one namespace needs.
struct Eye<'a> {
    parents: &'a mut Parents,
    netns: &'a Netns,
    listings: &'a Listings,
    procfs: &'a Procfs,
}

impl Eye<'_> {
    /// Look at the namespace of the calling thread, which is this one.
    fn look_here(&mut self, at: &LookAt) -> Result<NetnsState, KernelError> {
        let failed = |refusal: Refusal| refusal.into_error("open network namespace", self.netns.to_string());
        let mut namespace = Namespace::here().map_err(failed)?;
        look_at(&mut namespace, self, at)
    }
}

fn look_at(
    namespace: &mut Namespace,
    Eye { parents, netns, listings, procfs }: &mut Eye<'_>,
    at: &LookAt,
) -> Result<NetnsState, KernelError> {
    let mut observed = NetnsState::default();
    let mut attempts = 0;
    let conf = loop {
        attempts += 1;
        match links(namespace, parents, netns, at) {
            Ok((mark, links, conf)) => {
                observed.mark = mark;
                observed.links = links;
                break conf;
            }
            // Torn dump, or a link that went between two requests.
            Err(refusal) if attempts < ATTEMPTS && [Errno::EINTR, Errno::ENODEV].contains(&refusal.errno) => {
            }
            Err(refusal) => return Err(refusal.into_error("look at links of", netns.to_string())),
        }
    };
    let mut files = BTreeSet::new();
    for key in &at.sysctls {
        let told =
            parts_of(key).and_then(|(protocol, link, setting)| conf.get(&link)?.get(protocol, setting));
        match told {
            Some(value) => drop(observed.sysctls.insert(key.clone(), value)),
            None => drop(files.insert(key.as_str())),
        }
    }
    if !files.is_empty() {
        observed.sysctls.extend(sysctl::read_all(namespace, netns, &files, procfs)?);
    }
    if at.table {
        observed.table = nft::read(namespace, netns, listings)?;
    }
    if at.resolver {
        let failed = |refusal: Refusal| {
            refusal.into_error("look at the rules for 127.0.0.11 port 53 of", netns.to_string())
        };
        observed.resolver = resolver::read(namespace).map_err(failed)?;
    }
    if at.forward_accepts {
        observed.forward_accepts = forward_accepts::read(namespace, netns)?;
        observed.forwarders = forwarders::read(namespace, netns)?;
    }
    Ok(observed)
}

/// The mark of the namespace, its links, and their own settings.
type Found = (Option<Mark>, BTreeMap<IfName, Link>, BTreeMap<IfName, Conf>);

fn links(
    namespace: &mut Namespace,
    parents: &mut Parents,
    netns: &Netns,
    at: &LookAt,
) -> Result<Found, Refusal> {
    namespace.forget_links();
    let desired = at.links.as_ref();
    let few = desired.filter(|desired| desired.len() <= if at.bare { FEW_BARE } else { FEW });
    let rows = match few {
        Some(few) => named(namespace, few)?,
        None => find::all(namespace)?,
    };
    let mark = match rows.iter().find(|row| row.loopback) {
        Some(loopback) if *netns != Netns::Host => loopback.link.mark.clone(),
        _absent => None,
    };
    let names: BTreeMap<u32, IfName> = rows.iter().map(|row| (row.index, row.name)).collect();
    let conf = match at.sysctls.is_empty() {
        true => BTreeMap::new(),
        false => rows.iter().map(|row| (row.name, row.conf)).collect(),
    };
    let mut links = Links::default();
    let chosen = |row: &LinkRow| !row.loopback && desired.is_none_or(|desired| desired.contains(&row.name));
    for mut row in rows.into_iter().filter(chosen) {
        if let Some(kind) = parents.kind(netns, &row)? {
            row.link.kind = kind;
        }
        if let Some(flags) = row.port {
            let bridge = match names.get(&row.master) {
                Some(bridge) => Some(*bridge),
                None => find::by_index(namespace, row.master)?.map(|master| master.name),
            };
            row.link.port = bridge.map(|bridge| Port { bridge, ..flags });
        }
        links.insert(row.index, (row.name, row.link));
    }
    if !at.bare {
        contents::fill(&mut namespace.rtnl, &mut links, few.is_some())?;
    }
    Ok((mark, links.into_values().collect(), conf))
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
