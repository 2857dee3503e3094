//! Applying steps in order, rows in batches.

use std::{collections::BTreeMap, path::Path};

use nix::errno::Errno;

use crate::{
    kernel::{
        ApplyError, KernelError,
        linux::{
            failure::Failure,
            host::port_conflict,
            link::{create, operational, removal, upper},
            netfilter::{listings::Listings, nft, openings, resolver},
            netns::{mounts::Mounts, named, namespace::Namespace, sysctl},
            refusal::Refusal,
            rtnl::{batch::Request, links, routes, rows},
            session::Session,
        },
        step::{self, Broken},
    },
    plan::{
        op::{LinkRef, Op},
        state::{Netns, Port},
    },
};

/// Most namespaces that are open at a time: a descriptor, a socket and a receive buffer each.
const MOST_OPEN: usize = 64;

/// Apply steps in order.
pub(super) fn apply(
    dir: &Path,
    mounts: &Mounts,
    listings: &Listings,
    ops: Vec<Op>,
) -> Result<(), ApplyError> {
    let total = ops.len();
    let mut session = Session { dir, mounts, listings, open: BTreeMap::new() };
    let mut broken = Broken::default();
    let mut failures: Vec<(Op, KernelError)> = Vec::new();
    let mut rest = &ops[..];
    while let Some(first) = rest.first() {
        if session.open.len() >= MOST_OPEN {
            session.open.clear();
        }
        let length = rest.iter().take_while(|op| together(first, op)).count().max(1);
        let (run, later) = rest.split_at(length);
        rest = later;
        let run: Vec<&Op> = run.iter().filter(|op| !broken.concerns(op)).collect();
        let outcomes = match run.first() {
            Some(Op::SetSysctl(netns, ..)) => set_sysctls(&mut session, netns, &run),
            Some(Op::RemoveLink(link)) => remove_links(&mut session, &link.netns, &run),
            Some(op) if rows::is_row(op) => set_rows(&mut session, &run),
            Some(op) => vec![single(&mut session, op)],
            None => vec![],
        };
        for (op, outcome) in run.into_iter().zip(outcomes) {
            if let Err(failure) = outcome
                && let Some(error) = failure.into_error(op)
            {
                broken.note(op);
                failures.push((op.clone(), error));
            }
        }
    }
    operational::wait(&mut session, &ops);
    if failures.is_empty() { Ok(()) } else { Err(ApplyError { total, failures }) }
}

/// Whether the two go to the kernel in one go.
fn together(first: &Op, op: &Op) -> bool {
    match (first, op) {
        (Op::SetSysctl(a, ..), Op::SetSysctl(b, ..)) => a == b,
        (Op::RemoveLink(a), Op::RemoveLink(b)) => a.netns == b.netns,
        _ if rows::is_row(first) && rows::is_row(op) => {
            step::link(first).map(|link| &link.netns) == step::link(op).map(|link| &link.netns)
        }
        _ => false,
    }
}

type Outcome = Result<(), Failure>;

fn set_sysctls(session: &mut Session<'_>, netns: &Netns, run: &[&Op]) -> Vec<Outcome> {
    let values: Vec<(&str, &str)> = run
        .iter()
        .filter_map(|op| {
            let Op::SetSysctl(_, key, value) = op else { return None };
            Some((key.as_str(), value.as_str()))
        })
        .collect();
    let outcomes = session.namespace(netns).and_then(|namespace| sysctl::write_all(namespace, &values));
    match outcomes {
        Ok(outcomes) => outcomes.into_iter().map(|outcome| outcome.map_err(Failure::from)).collect(),
        Err(refusal) => run.iter().map(|_| Err(refusal.clone().into())).collect(),
    }
}

fn remove_links(session: &mut Session<'_>, netns: &Netns, run: &[&Op]) -> Vec<Outcome> {
    let names: Vec<_> = run.iter().filter_map(|op| step::link(op)).map(|link| link.name).collect();
    let outcomes = match session.namespace(netns) {
        Ok(namespace) => removal::remove_named(namespace, &names),
        Err(refusal) => names.iter().map(|_| Err(refusal.clone())).collect(),
    };
    // The other ends of veths go too, perhaps in other namespaces.
    session.open.values_mut().for_each(Namespace::forget_links);
    outcomes.into_iter().map(|outcome| outcome.map_err(Failure::from)).collect()
}

fn set_rows(session: &mut Session<'_>, run: &[&Op]) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(run.len());
    let mut requests: Vec<Request> = Vec::with_capacity(run.len());
    let mut places = Vec::with_capacity(run.len());
    for (place, op) in run.iter().enumerate() {
        let request = row(session, op);
        outcomes.push(request.map(|request| {
            requests.push(request);
            places.push(place);
        }));
    }
    let Some(link) = run.first().and_then(|op| step::link(op)) else { return outcomes };
    match session.namespace(&link.netns) {
        Ok(namespace) => {
            for (place, refusal) in places.into_iter().zip(namespace.rtnl.submit(requests)) {
                outcomes[place] = refusal.map_or(Ok(()), |refusal| Err(refusal.into()));
            }
        }
        Err(refusal) => {
            for place in places {
                outcomes[place] = Err(refusal.clone().into());
            }
        }
    }
    outcomes
}

fn row(session: &mut Session<'_>, op: &Op) -> Result<Request, Failure> {
    let unknown = || Refusal::new(Errno::EINVAL, "not a row");
    let link = step::link(op).ok_or_else(unknown)?;
    let at = session.namespace(&link.netns)?.index_and_bridge(link.name)?;
    Ok(rows::request(op, at).ok_or_else(unknown)?)
}

fn single(session: &mut Session<'_>, op: &Op) -> Outcome {
    let listings = session.listings;
    match op {
        Op::AddNetns(netns, mark) => {
            session.open.remove(netns);
            let (dir, name) = (session.dir, name_of(netns)?);
            Ok(session.mounts.run(|| named::create(dir, name, mark))?)
        }
        Op::RemoveNetns(netns) => {
            // An open one would live on.
            session.open.remove(netns);
            session.open.values_mut().for_each(Namespace::forget_links);
            listings.forget(netns);
            let (dir, name) = (session.dir, name_of(netns)?);
            Ok(session.mounts.run(|| named::remove(dir, name))?)
        }
        Op::AddLink(new, kind) => Ok(create::add_link(session, new, kind)?),
        Op::AddVeth(a, b) => Ok(create::add_veth(session, a, b)?),
        Op::SetMac(link, mac) => Ok(change(session, link, |index| vec![links::set_mac(index, *mac)])?),
        Op::SetMtu(link, mtu) => Ok(set_mtu(session, link, *mtu)?),
        Op::SetUp(link, up) => Ok(set_up(session, link, *up)?),
        Op::SetPort(link, port) => Ok(set_port(session, link, port.as_ref())?),
        Op::SetRoute(link, to, route) => {
            let namespace = session.namespace(&link.netns)?;
            let index = namespace.index(link.name)?;
            Ok(routes::set(&mut namespace.rtnl, index, *to, route)?)
        }
        Op::RemoveRoute(link, to, route) => {
            let namespace = session.namespace(&link.netns)?;
            let index = namespace.index(link.name)?;
            Ok(routes::remove(&mut namespace.rtnl, index, *to, route)?)
        }
        Op::SetTable(netns, table) => {
            Ok(nft::write(session.namespace(netns)?, netns, Some(table), listings)?)
        }
        Op::ChangePorts(netns, changes) => {
            Ok(nft::change(session.namespace(netns)?, netns, changes, listings)?)
        }
        Op::RemoveTable(netns) => Ok(nft::write(session.namespace(netns)?, netns, None, listings)?),
        Op::SetResolver(netns, port) => Ok(resolver::write(session.namespace(netns)?, Some(*port))?),
        Op::RemoveResolver(netns) => Ok(resolver::write(session.namespace(netns)?, None)?),
        Op::SetOpenings(netns, family, links) => {
            Ok(openings::set(session.namespace(netns)?, netns, *family, links)?)
        }
        Op::RemoveLink(_)
        | Op::SetSysctl(..)
        | Op::AddAddress(..)
        | Op::RemoveAddress(..)
        | Op::SetNeighbour(..)
        | Op::RemoveNeighbour(..)
        | Op::SetTunnel(..)
        | Op::RemoveTunnel(..)
        | Op::AddFlood(..)
        | Op::RemoveFlood(..)
        | Op::SetStation(..)
        | Op::RemoveStation(..) => Err(Refusal::new(Errno::EINVAL, "goes in batches").into()),
    }
}

fn name_of(netns: &Netns) -> Result<&crate::model::Name, Refusal> {
    match netns {
        Netns::Named(name) => Ok(name),
        Netns::Host | Netns::Path(_) => {
            Err(Refusal::new(Errno::EINVAL, "only named network namespaces are made and removed"))
        }
    }
}

fn change(
    session: &mut Session<'_>,
    link: &LinkRef,
    requests: impl FnOnce(u32) -> Vec<Request>,
) -> Result<(), Refusal> {
    let namespace = session.namespace(&link.netns)?;
    let index = namespace.index(link.name)?;
    namespace.rtnl.apply_all(requests(index))
}

fn set_up(session: &mut Session<'_>, link: &LinkRef, up: bool) -> Result<(), Refusal> {
    let outcome = change(session, link, |index| vec![links::set_up(index, up)]);
    let Err(refusal) = outcome else { return Ok(()) };
    let taken = if refusal.errno == Errno::EADDRINUSE { port_conflict::port(session, link) } else { None };
    Err(taken.or_else(|| upper::stays_down(session, link, &refusal)).unwrap_or(refusal))
}

fn set_mtu(session: &mut Session<'_>, link: &LinkRef, mtu: u32) -> Result<(), Refusal> {
    match change(session, link, |index| vec![links::set_mtu(index, mtu)]) {
        Err(refusal) if [Errno::EINVAL, Errno::ERANGE].contains(&refusal.errno) => {
            Err(upper::too_large(session, link, mtu).unwrap_or(refusal))
        }
        outcome => outcome,
    }
}

fn set_port(session: &mut Session<'_>, link: &LinkRef, port: Option<&Port>) -> Result<(), Refusal> {
    let bridge = match port {
        Some(port) => session.namespace(&link.netns)?.index(port.bridge)?,
        None => 0,
    };
    change(session, link, |index| {
        let flags = port.map(|port| links::set_port(index, port));
        std::iter::once(links::set_bridge(index, bridge)).chain(flags).collect()
    })
}
