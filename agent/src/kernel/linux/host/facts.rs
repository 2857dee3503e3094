//! What the host has of its own: links, addresses, routes, and the MTU toward an address.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::IpAddr,
    path::Path,
};

use nix::errno::Errno;

use crate::{
    kernel::{
        FactLink, Facts,
        linux::{
            link::{contents::addresses, find},
            netns::namespace::Namespace,
            refusal::Refusal,
            rtnl::routes::{self, Filter},
        },
    },
    model::IfName,
    plan::state::Netns,
};

/// How often a dump starts again when objects come and go meanwhile.
const ATTEMPTS: usize = 5;

/// Links, addresses and routes of the agent's own namespace.
pub(in crate::kernel::linux) fn facts() -> Result<Facts, Refusal> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match attempt() {
            Err(refusal) if attempts < ATTEMPTS && refusal.errno == Errno::EINTR => {}
            outcome => return outcome,
        }
    }
}

fn host() -> Result<Namespace, Refusal> {
    let gone = || Refusal::new(Errno::ENOENT, "no network namespace of our own");
    Namespace::open(Path::new(""), &Netns::Host)?.ok_or_else(gone)
}

fn attempt() -> Result<Facts, Refusal> {
    let mut host = host()?;
    let mut links: BTreeMap<u32, FactLink> = find::all(&mut host)?
        .into_iter()
        .map(|row| {
            let link = FactLink { name: row.name, mtu: row.link.mtu, up: row.running, addresses: Vec::new() };
            (row.index, link)
        })
        .collect();
    addresses(&mut host.rtnl, None, &mut |index, observed| {
        if let Some(link) = links.get_mut(&index) {
            link.addresses.push(observed.net);
        }
    })?;
    let name = |index: &u32| links.get(index).map(|link| link.name);
    let routes: Vec<(ipnet::IpNet, IfName)> = routes::dump(&mut host.rtnl, Filter::default())?
        .into_iter()
        .filter(|row| row.to.prefix_len() > 0)
        .flat_map(|row| row.links.iter().filter_map(name).map(move |name| (row.to, name)).collect::<Vec<_>>())
        .collect();
    Ok(Facts { links: links.into_values().collect(), routes })
}

/// Names of the links of the agent's own namespace. The kernel looks for the other end's namespace of each link that netlink tells of,
/// among those of all others.
pub(in crate::kernel::linux) fn link_names() -> Result<BTreeSet<IfName>, Refusal> {
    let table = fs::read_to_string("/proc/net/dev")?;
    // Behind two lines of headings, "  eth0: 1234 …" (proc(5)); no name has a colon.
    let names = table.lines().skip(2).filter_map(|line| line.split_once(':'));
    Ok(names.filter_map(|(name, _)| name.trim_start().parse().ok()).collect())
}

/// MTU of the path to this address.
pub(in crate::kernel::linux) fn path_mtu(to: IpAddr) -> Result<u32, Refusal> {
    let mut host = host()?;
    let (index, mtu) = routes::toward(&mut host.rtnl, to)?;
    if let Some(mtu) = mtu {
        return Ok(mtu);
    }
    let link = find::by_index(&mut host, index)?;
    link.map(|row| row.link.mtu).ok_or_else(|| Refusal::new(Errno::ENODEV, "the route's link has gone"))
}
