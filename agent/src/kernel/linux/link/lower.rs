//! What a macvlan, ipvlan or VLAN link is on, as the kernel tells it of the link.

use netlink_packet_route::link::{IpVlanFlags, IpVlanMode, MacVlanMode};
use nix::libc;

use crate::{
    kernel::linux::rtnl::attributes::{Attributes, text, u16_at, u32_at},
    model::{IfName, IpvlanFlag, IpvlanMode, MacvlanMode},
    plan::state::LinkKind,
};

/// Within IFLA_INFO_DATA (linux/if_link.h).
const MACVLAN_MODE: u16 = 1;
const IPVLAN_MODE: u16 = 1;
const IPVLAN_FLAGS: u16 = 2;
const VLAN_ID: u16 = 1;
const VLAN_PROTOCOL: u16 = 5;
/// ETH_P_8021Q.
const DOT1Q: u16 = 0x8100;

/// What a link is on, as the kernel tells it.
#[derive(Clone, Debug)]
pub(in crate::kernel::linux) struct Lower {
    /// Index of the parent, in its namespace.
    pub(in crate::kernel::linux) index: u32,
    /// That is another one than the link's.
    pub(in crate::kernel::linux) elsewhere: bool,
    /// On a parent of any name.
    pub(in crate::kernel::linux) kind: LinkKind,
}

/// For a kind whose parent is not known yet.
const ANY: IfName = IfName::literal("-");

impl Lower {
    /// Of the link with these attributes and this IFLA_LINKINFO; None: it is of no kind that is made here.
    pub(in crate::kernel::linux) fn parse(attributes: Attributes<'_>, info: Attributes<'_>) -> Option<Self> {
        let data = Attributes::nested(info.find(libc::IFLA_INFO_DATA)?);
        let short = |kind| data.find(kind).and_then(|value| u16_at(value, 0));
        let kind = match info.find(libc::IFLA_INFO_KIND).and_then(text)? {
            "macvlan" => {
                let mode = data.find(MACVLAN_MODE).and_then(|value| u32_at(value, 0))?;
                LinkKind::Macvlan(ANY, macvlan_mode(mode.into())?)
            }
            "ipvlan" => {
                let flags = IpVlanFlags::from_bits_retain(short(IPVLAN_FLAGS).unwrap_or(0));
                LinkKind::Ipvlan(ANY, ipvlan_mode(short(IPVLAN_MODE)?.into())?, ipvlan_flag(flags))
            }
            "vlan" if short(VLAN_PROTOCOL).map(u16::from_be) == Some(DOT1Q) => {
                LinkKind::Vlan(ANY, short(VLAN_ID)?)
            }
            _ => return None,
        };
        let index = attributes.find(libc::IFLA_LINK).and_then(|value| u32_at(value, 0))?;
        Some(Self { index, elsewhere: attributes.find(libc::IFLA_LINK_NETNSID).is_some(), kind })
    }

    /// The kind, on a parent of this name.
    pub(in crate::kernel::linux) fn on(&self, parent: IfName) -> LinkKind {
        match &self.kind {
            LinkKind::Macvlan(_, mode) => LinkKind::Macvlan(parent, *mode),
            LinkKind::Ipvlan(_, mode, flag) => LinkKind::Ipvlan(parent, *mode, *flag),
            LinkKind::Vlan(_, id) => LinkKind::Vlan(parent, *id),
            kind @ (LinkKind::Bridge | LinkKind::Vxlan(_) | LinkKind::Veth | LinkKind::Other(_)) => {
                kind.clone()
            }
        }
    }
}

/// `None` for a mode that we never choose.
fn macvlan_mode(mode: MacVlanMode) -> Option<MacvlanMode> {
    [
        (MacVlanMode::Bridge, MacvlanMode::Bridge),
        (MacVlanMode::Private, MacvlanMode::Private),
        (MacVlanMode::Vepa, MacvlanMode::Vepa),
        (MacVlanMode::Passthrough, MacvlanMode::Passthru),
    ]
    .into_iter()
    .find_map(|(observed, ours)| (observed == mode).then_some(ours))
}

fn ipvlan_mode(mode: IpVlanMode) -> Option<IpvlanMode> {
    [(IpVlanMode::L2, IpvlanMode::L2), (IpVlanMode::L3, IpvlanMode::L3), (IpVlanMode::L3S, IpvlanMode::L3s)]
        .into_iter()
        .find_map(|(observed, ours)| (observed == mode).then_some(ours))
}

fn ipvlan_flag(flags: IpVlanFlags) -> IpvlanFlag {
    if flags.contains(IpVlanFlags::Private) {
        IpvlanFlag::Private
    } else if flags.contains(IpVlanFlags::Vepa) {
        IpvlanFlag::Vepa
    } else {
        IpvlanFlag::Bridge
    }
}
