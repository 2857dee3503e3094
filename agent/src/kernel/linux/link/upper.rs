//! Links on a parent of the host, in any namespace: macvlan, ipvlan and VLAN links.

use std::{collections::HashMap, os::fd::RawFd};

use netlink_packet_route::link::{IpVlanFlags, IpVlanMode, MacVlanMode};
use nix::errno::Errno;
use rtnetlink::{LinkIpVlan, LinkMacVlan, LinkVlan};

use super::{
    find,
    row::{LinkRow, parse},
};
use crate::{
    kernel::linux::{
        netns::namespace::Namespace,
        refusal::Refusal,
        rtnl::{
            batch::Request,
            links::{create, in_netns, with_mac},
        },
        session::Session,
    },
    model::{IfName, IpvlanFlag, IpvlanMode, MacvlanMode},
    plan::{
        op::{LinkRef, NewLink},
        state::{LinkKind, Netns},
    },
};

/// Names of the host's links that others are on, during one look.
pub(in crate::kernel::linux) struct Parents {
    host: Namespace,
    names: HashMap<u32, Option<IfName>>,
}

impl Parents {
    /// On a thread in the host, before other namespaces are entered.
    pub(in crate::kernel::linux) fn open() -> Result<Self, Refusal> {
        Ok(Self { host: Namespace::here()?, names: HashMap::new() })
    }

    /// The kind of this link of a namespace, if its parent is in the host.
    pub(in crate::kernel::linux) fn kind(
        &mut self,
        netns: &Netns,
        row: &LinkRow,
    ) -> Result<Option<LinkKind>, Refusal> {
        let Some(lower) = row.lower.as_ref().filter(|lower| lower.elsewhere == (*netns != Netns::Host))
        else {
            return Ok(None);
        };
        if !self.names.contains_key(&lower.index) {
            let name = match find::by_index(&mut self.host, lower.index) {
                Err(refusal) if refusal.errno == Errno::ENODEV => None,
                row => row?.map(|row| row.name),
            };
            self.names.insert(lower.index, name);
        }
        Ok(self.names.get(&lower.index).copied().flatten().map(|parent| lower.on(parent)))
    }
}

/// Make such a link under its temporary name.
pub(in crate::kernel::linux) fn create_upper(
    session: &mut Session<'_>,
    temporary: IfName,
    new: &NewLink,
    kind: &LinkKind,
) -> Result<(), Refusal> {
    let (LinkKind::Macvlan(name, _) | LinkKind::Ipvlan(name, ..) | LinkKind::Vlan(name, _)) = kind else {
        return Err(Refusal::new(Errno::EINVAL, format!("a link of kind {kind:?} has no parent link")));
    };
    let gone =
        || Refusal::new(Errno::ENODEV, format!("the host has no link named {name} to use as the parent"));
    let parent = match session.namespace(&Netns::Host)?.link(*name) {
        Err(refusal) if refusal.errno == Errno::ENODEV => return Err(gone()),
        // What is found by an alternative name would be seen by its own.
        body => parse(&body?).filter(|row| row.name == *name).ok_or_else(gone)?,
    };
    must_carry(&parent, new, kind)?;
    let target = session.namespace(&new.at.netns)?.descriptor();
    let host = session.namespace(&Netns::Host)?;
    let outcome = host.rtnl.apply(request(temporary, new, kind, parent.index, target));
    outcome.map_err(|refusal| in_use(host, &parent, kind, refusal))
}

/// What the kernel would take, and do something else with than it was told.
fn must_carry(parent: &LinkRow, new: &NewLink, kind: &LinkKind) -> Result<(), Refusal> {
    let name = parent.name;
    let wrong = |text: String| Err(Refusal::new(Errno::EINVAL, text));
    if parent.loopback {
        return wrong(format!(
            "{name} is the loopback link, which cannot be a parent: choose one that leads outside"
        ));
    }
    let LinkKind::Other(below) = &parent.link.kind else { return must_fit(parent, new.mtu) };
    let is_vlan = matches!(kind, LinkKind::Vlan(..));
    if !is_vlan && ["macvlan", "macvtap", "ipvlan", "ipvtap"].contains(&below.as_str()) {
        // The kernel puts it on what that one is on.
        return wrong(format!("{name} is a {below} link itself: choose its parent"));
    }
    must_fit(parent, new.mtu)
}

fn must_fit(parent: &LinkRow, mtu: u32) -> Result<(), Refusal> {
    let (name, most) = (parent.name, parent.link.mtu);
    if mtu <= most {
        return Ok(());
    }
    Err(Refusal::new(
        Errno::EINVAL,
        format!("an MTU of {mtu} is larger than the {most} of its parent {name}: choose at most {most}"),
    ))
}

/// Why the parent cannot be used, when the kernel's error does not say it.
fn in_use(host: &mut Namespace, parent: &LinkRow, kind: &LinkKind, refusal: Refusal) -> Refusal {
    let name = parent.name;
    let text = match (refusal.errno, kind) {
        (Errno::EBUSY, _) if parent.master != 0 => {
            let master = find::by_index(host, parent.master).ok().flatten();
            let master = master.map_or_else(|| "another link".to_owned(), |row| row.name.to_string());
            format!("{name} belongs to {master} already: remove it from there, or choose a different link")
        }
        (Errno::EBUSY, _) => {
            format!(
                "{name} is in use by links of a different kind (macvlan, ipvlan): remove them, or choose a \
                 different link"
            )
        }
        (Errno::EINVAL, LinkKind::Macvlan(_, MacvlanMode::Passthru)) if refusal.text.is_none() => {
            format!("{name} has other macvlan links, and one in mode passthru needs it exclusively")
        }
        (Errno::EINVAL, LinkKind::Macvlan(..)) if refusal.text.is_none() => {
            format!("{name} is used exclusively by a macvlan link in mode passthru")
        }
        _ => return refusal,
    };
    Refusal::new(refusal.errno, text)
}

fn request(temporary: IfName, new: &NewLink, kind: &LinkKind, parent: u32, target: Option<RawFd>) -> Request {
    let name = temporary.as_str();
    match kind {
        LinkKind::Macvlan(_, mode) => {
            let mode = match mode {
                MacvlanMode::Bridge => MacVlanMode::Bridge,
                MacvlanMode::Private => MacVlanMode::Private,
                MacvlanMode::Vepa => MacVlanMode::Vepa,
                MacvlanMode::Passthru => MacVlanMode::Passthrough,
            };
            let link = with_mac(LinkMacVlan::new(name, parent, mode), new.mac);
            create(in_netns(link.mtu(new.mtu), target))
        }
        LinkKind::Ipvlan(_, mode, flag) => {
            let mode = match mode {
                IpvlanMode::L2 => IpVlanMode::L2,
                IpvlanMode::L3 => IpVlanMode::L3,
                IpvlanMode::L3s => IpVlanMode::L3S,
            };
            let flag = match flag {
                IpvlanFlag::Bridge => IpVlanFlags::empty(),
                IpvlanFlag::Private => IpVlanFlags::Private,
                IpvlanFlag::Vepa => IpVlanFlags::Vepa,
            };
            // Its Ethernet address is its parent's.
            create(in_netns(LinkIpVlan::new(name, parent, mode).flag(flag).mtu(new.mtu), target))
        }
        LinkKind::Vlan(_, id) => {
            create(in_netns(with_mac(LinkVlan::new(name, parent, *id), new.mac).mtu(new.mtu), target))
        }
        LinkKind::Bridge | LinkKind::Vxlan(_) | LinkKind::Veth | LinkKind::Other(_) => {
            create(in_netns(rtnetlink::LinkUnspec::new_with_name(name), target))
        }
    }
}

/// Why a link cannot have this MTU, if it is because of its parent.
pub(in crate::kernel::linux) fn too_large(
    session: &mut Session<'_>,
    link: &LinkRef,
    mtu: u32,
) -> Option<Refusal> {
    must_fit(&parent(session, link)?, mtu).err()
}

/// Why a link does not come up, if it is because of its parent.
pub(in crate::kernel::linux) fn stays_down(
    session: &mut Session<'_>,
    link: &LinkRef,
    refusal: &Refusal,
) -> Option<Refusal> {
    let parent = parent(session, link)?;
    let name = parent.name;
    let text = if refusal.errno == Errno::EADDRINUSE {
        format!("{name}, or another link on it, has the same Ethernet address")
    } else if refusal.errno == Errno::ENETDOWN && !parent.link.up {
        format!("its parent {name} is down: bring it up (ip link set {name} up)")
    } else {
        return None;
    };
    Some(Refusal::new(refusal.errno, text))
}

/// The link of the host that this one is on.
fn parent(session: &mut Session<'_>, link: &LinkRef) -> Option<LinkRow> {
    let row = parse(&session.namespace(&link.netns).ok()?.link(link.name).ok()?)?;
    let lower = row.lower.filter(|lower| lower.elsewhere == (link.netns != Netns::Host))?;
    find::by_index(session.namespace(&Netns::Host).ok()?, lower.index).ok()?
}
