//! Links that are on a link of the host: what the real kernel, and our edge to it, do with them.

use std::io::{self, ErrorKind};

use super::refuse::refuse;
use crate::{
    model::{IfName, Mac, MacvlanMode},
    plan::{
        op::{LinkRef, NewLink},
        state::{Link, LinkKind, Netns, State},
    },
};

/// The name of the link that one of this kind is on.
fn parent(kind: &LinkKind) -> Option<IfName> {
    match kind {
        LinkKind::Macvlan(parent, _) | LinkKind::Ipvlan(parent, ..) | LinkKind::Vlan(parent, _) => {
            Some(*parent)
        }
        LinkKind::Bridge | LinkKind::Vxlan(_) | LinkKind::Veth | LinkKind::Other(_) => None,
    }
}

fn in_host(state: &State, name: IfName) -> Option<&Link> {
    state.netns.get(&Netns::Host)?.links.get(&name)
}

fn links(state: &State) -> impl Iterator<Item = (LinkRef, &Link)> {
    state.netns.iter().flat_map(|(netns, there)| {
        there.links.iter().map(|(name, link)| (LinkRef { netns: netns.clone(), name: *name }, link))
    })
}

/// The links that are on this one of the host.
pub(super) fn on(state: &State, name: IfName) -> Vec<LinkRef> {
    links(state).filter(|(_, link)| parent(&link.kind) == Some(name)).map(|(at, _)| at).collect()
}

/// The Ethernet address of a new link of this kind, where it is not its own.
pub(super) fn mac(state: &State, kind: &LinkKind) -> Option<Mac> {
    if let LinkKind::Ipvlan(parent, ..) | LinkKind::Macvlan(parent, MacvlanMode::Passthru) = kind {
        in_host(state, *parent)?.mac
    } else {
        None
    }
}

/// Whether a new link can be on this parent.
pub(super) fn must_carry(state: &State, name: IfName, new: &NewLink, kind: &LinkKind) -> io::Result<()> {
    let gone =
        || refuse(ErrorKind::NotFound, format!("the host has no link named {name} to use as the parent"));
    let below = in_host(state, name).ok_or_else(gone)?;
    let is_vlan = matches!(kind, LinkKind::Vlan(..));
    if !is_vlan && matches!(below.kind, LinkKind::Macvlan(..) | LinkKind::Ipvlan(..)) {
        let text = format!("{name} is such a link itself: choose the link that it is on");
        return Err(refuse(ErrorKind::InvalidInput, text));
    }
    must_fit(name, below.mtu, new.mtu)?;
    let busy = |text: &str| Err(refuse(ErrorKind::ResourceBusy, format!("{name} {text}")));
    if !is_vlan && below.port.is_some() {
        return busy("belongs to a bridge already: remove it from there, or choose a different link");
    }
    for (_, other) in links(state).filter(|(_, link)| parent(&link.kind) == Some(name)) {
        match (kind, &other.kind) {
            (LinkKind::Macvlan(..), LinkKind::Ipvlan(..)) | (LinkKind::Ipvlan(..), LinkKind::Macvlan(..)) => {
                return busy("is in use by links of a different kind (macvlan, ipvlan)");
            }
            (LinkKind::Macvlan(_, MacvlanMode::Passthru), LinkKind::Macvlan(..))
            | (LinkKind::Macvlan(..), LinkKind::Macvlan(_, MacvlanMode::Passthru)) => {
                return busy("is in use: a macvlan link in mode passthru needs it exclusively");
            }
            _ => {}
        }
    }
    Ok(())
}

fn must_fit(parent: IfName, most: u32, mtu: u32) -> io::Result<()> {
    if mtu <= most {
        return Ok(());
    }
    let text = format!("an MTU of {mtu} is larger than the {most} of its parent {parent}");
    Err(refuse(ErrorKind::InvalidInput, text))
}

/// What a change of a link's MTU meets below it, and does above it.
pub(super) fn set_mtu(state: &mut State, at: &LinkRef, mtu: u32) -> io::Result<()> {
    let kind = state.netns.get(&at.netns).and_then(|there| there.links.get(&at.name)).map(|link| &link.kind);
    if let Some(name) = kind.and_then(parent)
        && let Some(below) = in_host(state, name)
    {
        must_fit(name, below.mtu, mtu)?;
    }
    if at.netns == Netns::Host {
        for above in on(state, at.name) {
            if let Some(link) =
                state.netns.get_mut(&above.netns).and_then(|there| there.links.get_mut(&above.name))
            {
                link.mtu = link.mtu.min(mtu);
            }
        }
    }
    Ok(())
}
