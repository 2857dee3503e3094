//! Why a vxlan device does not come up: its UDP port is taken, and by whom.

use nix::errno::Errno;

use crate::{
    kernel::{
        linux::{
            link::row::{parse, vxlan_port},
            refusal::Refusal,
            rtnl::links,
            session::Session,
        },
        port,
    },
    model::Protocol,
    plan::{op::LinkRef, state::Netns},
};

/// The flag that chooses a different port.
const FLAG: &str = "--vxlan-port on every node";

/// The refusal that names the port of this vxlan device and its holder; `None` if it is not a vxlan device,
/// or is gone.
pub(in crate::kernel::linux) fn port(session: &mut Session<'_>, link: &LinkRef) -> Option<Refusal> {
    let number = vxlan_port(&session.namespace(&link.netns).ok()?.link(link.name).ok()?)?;
    let holder = port::holder(Protocol::Udp, number).or_else(|| device(session, number));
    Some(Refusal::new(Errno::EADDRINUSE, port::held_by(holder.as_deref(), Protocol::Udp, number, FLAG)))
}

/// Somebody else's vxlan device on this port, whose socket cannot be shared (`external`, `gbp` …): it belongs to no
/// process.
fn device(session: &mut Session<'_>, number: u16) -> Option<String> {
    let mut found = None;
    let host = session.namespace(&Netns::Host).ok()?;
    let dump = host.rtnl.dump(links::all(), &mut |body| {
        let foreign = parse(body).filter(|row| row.link.mark.is_none() && row.link.up);
        found = found.or(foreign.filter(|_| vxlan_port(body) == Some(number)).map(|row| row.name));
    });
    // A part of the links is good enough here.
    dump.ok().and(found).map(|name| format!("the vxlan device {name}"))
}
