//! Making links: created under a temporary name, then named and marked (see `rtnl::links`).

use std::{thread, time::Duration};

use nix::errno::Errno;

use super::upper;
use crate::{
    kernel::linux::{refusal::Refusal, rtnl::links, session::Session},
    model::IfName,
    plan::{
        op::{LinkRef, NewLink},
        state::{LinkKind, Netns, Vxlan},
    },
};

/// A namespace that has just gone frees its VNIs up to 0.1 s later; so long we wait between attempts …
const PAUSE: Duration = Duration::from_millis(10);
/// … and so often we try.
const ATTEMPTS: u32 = 100;

/// Make a link that has no other end.
pub(in crate::kernel::linux) fn add_link(
    session: &mut Session<'_>,
    new: &NewLink,
    kind: &LinkKind,
) -> Result<(), Refusal> {
    let temporary = links::temporary_name(new)?;
    discard(session, &new.at.netns, temporary)?;
    must_be_free(session, &new.at)?;
    match kind {
        LinkKind::Bridge => {
            session.namespace(&new.at.netns)?.rtnl.apply(links::new_bridge(temporary, new))?;
        }
        LinkKind::Vxlan(vxlan) => bear_vxlan(session, temporary, new, vxlan)?,
        LinkKind::Macvlan(..) | LinkKind::Ipvlan(..) | LinkKind::Vlan(..) => {
            upper::create_upper(session, temporary, new, kind)?;
        }
        LinkKind::Veth | LinkKind::Other(_) => {
            return Err(Refusal::new(
                Errno::EINVAL,
                format!("a link of kind {kind:?} cannot be made by itself"),
            ));
        }
    }
    name_and_mark(session, temporary, new)
}

/// Make a veth pair, each end created in its namespace.
pub(in crate::kernel::linux) fn add_veth(
    session: &mut Session<'_>,
    a: &NewLink,
    b: &NewLink,
) -> Result<(), Refusal> {
    let (main, peer) = if b.at.netns == Netns::Host { (b, a) } else { (a, b) };
    let (main_passing, peer_passing) = (links::temporary_name(main)?, links::temporary_name(peer)?);
    // The main end gets its name last: while it has its temporary name, the pair counts as unmade.
    discard(session, &main.at.netns, main_passing)?;
    must_be_free(session, &a.at)?;
    must_be_free(session, &b.at)?;
    let elsewhere = main.at.netns != peer.at.netns;
    let target = session.namespace(&peer.at.netns)?.descriptor().filter(|_| elsewhere);
    let request = links::new_veth((main_passing, main), (peer_passing, peer), target);
    session.namespace(&main.at.netns)?.rtnl.apply(request)?;
    if let Err(refusal) = name_and_mark(session, peer_passing, peer) {
        discard(session, &main.at.netns, main_passing)?;
        return Err(refusal);
    }
    name_and_mark(session, main_passing, main)
}

fn must_be_free(session: &mut Session<'_>, at: &LinkRef) -> Result<(), Refusal> {
    match session.namespace(&at.netns)?.link(at.name) {
        Ok(_link) => Err(Refusal::new(
            Errno::EEXIST,
            format!("a link named {} exists in {} already: remove or rename it", at.name, at.netns),
        )),
        Err(refusal) if refusal.errno == Errno::ENODEV => Ok(()),
        Err(refusal) => Err(refusal),
    }
}

fn bear_vxlan(
    session: &mut Session<'_>,
    temporary: IfName,
    new: &NewLink,
    vxlan: &Vxlan,
) -> Result<(), Refusal> {
    let target = session.namespace(&new.at.netns)?.descriptor();
    let mut attempt = 1;
    loop {
        let request = links::new_vxlan(temporary, new, vxlan, target);
        match session.namespace(&Netns::Host)?.rtnl.apply(request) {
            Err(refusal) if refusal.errno == Errno::EEXIST && attempt < ATTEMPTS => {}
            outcome => return outcome,
        }
        thread::sleep(PAUSE);
        attempt += 1;
    }
}

fn name_and_mark(session: &mut Session<'_>, temporary: IfName, new: &NewLink) -> Result<(), Refusal> {
    let namespace = session.namespace(&new.at.netns)?;
    namespace.forget_links();
    let named =
        namespace.index(temporary).and_then(|index| namespace.rtnl.apply(links::name_and_mark(index, new)));
    namespace.forget_links();
    if named.is_err() {
        discard(session, &new.at.netns, temporary)?;
    }
    named
}

/// Remove what has this temporary name: nothing but an attempt of ours has one.
fn discard(session: &mut Session<'_>, netns: &Netns, temporary: IfName) -> Result<(), Refusal> {
    match session.namespace(netns)?.rtnl.apply(links::remove_named(temporary)) {
        Err(refusal) if !refusal.is_absence() => Err(refusal),
        _gone => Ok(()),
    }
}
