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
            netfilter::{forward_accepts, listings::Listings, nft, resolver},
            netns::{mounts::Mounts, named, namespace::Namespace, sysctl},
            refusal::Refusal,
            rtnl::{batch::Request, links, routes, rows},
            session::Session,
        },
        step::Broken,
    },
    plan::{
        op::{LinkOp, LinkRef, NetnsOp, Op, SettingOp},
        ownership::Mark,
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
            Some(Op::Setting(netns, SettingOp::SetSysctl(..))) => set_sysctls(&mut session, netns, &run),
            Some(Op::Link(link, LinkOp::Remove)) => remove_links(&mut session, &link.netns, &run),
            Some(Op::Row(link, ..)) => set_rows(&mut session, &link.netns, &run),
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
        (Op::Setting(a, SettingOp::SetSysctl(..)), Op::Setting(b, SettingOp::SetSysctl(..))) => a == b,
        (Op::Link(a, LinkOp::Remove), Op::Link(b, LinkOp::Remove)) | (Op::Row(a, ..), Op::Row(b, ..)) => {
            a.netns == b.netns
        }
        _ => false,
    }
}

type StepResult = Result<(), Failure>;

fn set_sysctls(session: &mut Session<'_>, netns: &Netns, run: &[&Op]) -> Vec<StepResult> {
    let values: Vec<(&str, &str)> = run
        .iter()
        .filter_map(|op| {
            let Op::Setting(_, SettingOp::SetSysctl(key, value)) = op else { return None };
            Some((key.as_str(), value.as_str()))
        })
        .collect();
    let outcomes = session.namespace(netns).and_then(|namespace| sysctl::write_all(namespace, &values));
    match outcomes {
        Ok(outcomes) => outcomes.into_iter().map(|outcome| outcome.map_err(Failure::from)).collect(),
        Err(refusal) => run.iter().map(|_| Err(refusal.clone().into())).collect(),
    }
}

fn remove_links(session: &mut Session<'_>, netns: &Netns, run: &[&Op]) -> Vec<StepResult> {
    let names: Vec<_> = run.iter().filter_map(|op| op.link()).map(|link| link.name).collect();
    let outcomes = match session.namespace(netns) {
        Ok(namespace) => removal::remove_named(namespace, &names),
        Err(refusal) => names.iter().map(|_| Err(refusal.clone())).collect(),
    };
    // The other ends of veths go too, perhaps in other namespaces.
    session.open.values_mut().for_each(Namespace::forget_links);
    outcomes.into_iter().map(|outcome| outcome.map_err(Failure::from)).collect()
}

fn set_rows(session: &mut Session<'_>, netns: &Netns, run: &[&Op]) -> Vec<StepResult> {
    let mut outcomes: Vec<StepResult> = Vec::with_capacity(run.len());
    let mut requests: Vec<Request> = Vec::with_capacity(run.len());
    let mut places = Vec::with_capacity(run.len());
    for (place, op) in run.iter().enumerate() {
        let request = row(session, op);
        outcomes.push(request.map(|request| {
            requests.push(request);
            places.push(place);
        }));
    }
    match session.namespace(netns) {
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
    let Op::Row(link, op, row) = op else { return Err(Refusal::new(Errno::EINVAL, "not a row").into()) };
    let (index, bridge) = session.namespace(&link.netns)?.index_and_bridge(link.name)?;
    Ok(rows::request(*op, row, index, bridge))
}

fn single(session: &mut Session<'_>, op: &Op) -> StepResult {
    match op {
        Op::Netns(netns, NetnsOp::Add(mark)) => Ok(add_netns(session, netns, mark)?),
        Op::Netns(netns, NetnsOp::Remove) => Ok(remove_netns(session, netns)?),
        Op::AddLink(new, kind) => Ok(create::add_link(session, new, kind)?),
        Op::AddVeth(a, b) => Ok(create::add_veth(session, a, b)?),
        Op::Link(link, op) => Ok(change_link(session, link, op)?),
        Op::Setting(netns, op) => change_setting(session, netns, op),
        Op::Row(..) => Err(in_batches().into()),
    }
}

fn in_batches() -> Refusal {
    Refusal::new(Errno::EINVAL, "goes in batches")
}

fn add_netns(session: &mut Session<'_>, netns: &Netns, mark: &Mark) -> Result<(), Refusal> {
    session.open.remove(netns);
    let (dir, name) = (session.dir, name_of(netns)?);
    session.mounts.run(|| named::create(dir, name, mark))
}

fn remove_netns(session: &mut Session<'_>, netns: &Netns) -> Result<(), Refusal> {
    // An open one would live on.
    session.open.remove(netns);
    session.open.values_mut().for_each(Namespace::forget_links);
    session.listings.forget(netns);
    let (dir, name) = (session.dir, name_of(netns)?);
    session.mounts.run(|| named::remove(dir, name))
}

fn change_link(session: &mut Session<'_>, link: &LinkRef, op: &LinkOp) -> Result<(), Refusal> {
    match op {
        LinkOp::SetMac(mac) => change(session, link, |index| vec![links::set_mac(index, *mac)]),
        LinkOp::SetMtu(mtu) => set_mtu(session, link, *mtu),
        LinkOp::SetUp(up) => set_up(session, link, *up),
        LinkOp::SetPort(port) => set_port(session, link, port.as_ref()),
        LinkOp::SetRoute(to, route) => {
            let namespace = session.namespace(&link.netns)?;
            let index = namespace.index(link.name)?;
            routes::set(&mut namespace.rtnl, index, *to, route)
        }
        LinkOp::RemoveRoute(to, route) => {
            let namespace = session.namespace(&link.netns)?;
            let index = namespace.index(link.name)?;
            routes::remove(&mut namespace.rtnl, index, *to, route)
        }
        LinkOp::Remove => Err(in_batches()),
    }
}

fn change_setting(session: &mut Session<'_>, netns: &Netns, op: &SettingOp) -> StepResult {
    let listings = session.listings;
    let namespace = session.namespace(netns)?;
    match op {
        SettingOp::SetTable(table) => Ok(nft::write(namespace, netns, Some(table), listings)?),
        SettingOp::ChangePorts(changes) => Ok(nft::change(namespace, netns, changes, listings)?),
        SettingOp::RemoveTable => Ok(nft::write(namespace, netns, None, listings)?),
        SettingOp::SetResolver(port) => Ok(resolver::write(namespace, Some(*port))?),
        SettingOp::RemoveResolver => Ok(resolver::write(namespace, None)?),
        SettingOp::SetForwardAccepts(family, links) => {
            Ok(forward_accepts::set(namespace, netns, *family, links)?)
        }
        SettingOp::SetSysctl(..) => Err(in_batches().into()),
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
