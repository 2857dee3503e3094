//! What hangs off links, read from dumps: addresses, routes, neighbours, forwarding rows.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::AddressMessage,
    neighbour::{NeighbourAttribute, NeighbourMessage},
};
use nix::libc;

use crate::{
    kernel::linux::{
        refusal::Refusal,
        rtnl::{
            attributes::{Attributes, address, u8_at, u16_at, u32_at},
            routes::{self, Filter},
            socket::Rtnl,
        },
    },
    model::{IfName, Mac},
    plan::{
        ownership::ROUTE_PROTOCOL,
        state::{Link, LinkKind},
    },
};

/// Links by index.
pub(in crate::kernel::linux) type Links = BTreeMap<u32, (IfName, Link)>;

/// Length of struct ifaddrmsg.
const ADDRESS_HEADER: usize = 8;
/// Length of struct ndmsg.
const NEIGHBOUR_HEADER: usize = 12;
/// IFA_PROTO (linux/if_addr.h).
const ADDRESS_PROTOCOL: u16 = 11;

/// Fill in what hangs off these links; `one_by_one`: with a separate dump for each link.
pub(in crate::kernel::linux) fn fill(
    rtnl: &mut Rtnl,
    links: &mut Links,
    one_by_one: bool,
) -> Result<(), Refusal> {
    let filters: Vec<Option<u32>> =
        if one_by_one { links.keys().copied().map(Some).collect() } else { vec![None] };
    // The rows that switches and tunnels have are the dearest to ask for, and other links have none.
    let has_fdb =
        |link: &Link| matches!(link.kind, LinkKind::Bridge | LinkKind::Vxlan(_)) || link.port.is_some();
    let fdb = links.values().any(|(_, link)| has_fdb(link)).then_some(AddressFamily::Bridge);
    for only in filters {
        addresses(rtnl, only, &mut |index, net| {
            if let Some((_, link)) = links.get_mut(&index) {
                link.addresses.extend(net.filter_ours());
            }
        })?;
        for row in routes::dump(rtnl, Filter { protocol: Some(ROUTE_PROTOCOL), link: only })? {
            for index in row.links {
                if let Some((_, link)) = links.get_mut(&index) {
                    link.routes.entry(row.to).or_insert(row.route);
                }
            }
        }
        for family in [AddressFamily::Inet, AddressFamily::Inet6].into_iter().chain(fdb) {
            neighbours(rtnl, family, only, links)?;
        }
    }
    Ok(())
}

/// An address with what tells whose it is.
pub(in crate::kernel::linux) struct SeenAddress {
    /// With its prefix length.
    pub(in crate::kernel::linux) net: IpNet,
    scope: u8,
    flags: u32,
    protocol: u8,
}

impl SeenAddress {
    /// The address if it is one that a plan may speak of: permanent, of universe scope or 169.254.0.0/16 or set by us.
    /// The kernel's own fe80:: ones and those of DHCP and router advertisements are left out.
    fn filter_ours(&self) -> Option<IpNet> {
        let zeroconf = matches!(self.net.addr(), IpAddr::V4(v4) if v4.is_link_local());
        let scope = self.scope == libc::RT_SCOPE_UNIVERSE || zeroconf || self.protocol == ROUTE_PROTOCOL;
        (scope && self.flags & libc::IFA_F_PERMANENT != 0).then_some(self.net)
    }
}

/// Hand out the addresses with the index of their link.
pub(in crate::kernel::linux) fn addresses(
    rtnl: &mut Rtnl,
    only: Option<u32>,
    each: &mut dyn FnMut(u32, SeenAddress),
) -> Result<(), Refusal> {
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = AddressMessage::default();
        message.header.family = family;
        message.header.index = only.unwrap_or(0);
        rtnl.dump(RouteNetlinkMessage::GetAddress(message), &mut |body| {
            if u8_at(body, 0) == Some(family.into())
                && let Some((index, observed)) = parse_address(body)
                && only.is_none_or(|only| only == index)
            {
                each(index, observed);
            }
        })?;
    }
    Ok(())
}

fn parse_address(body: &[u8]) -> Option<(u32, SeenAddress)> {
    let attributes = Attributes::after(body, ADDRESS_HEADER);
    // On a point-to-point link IFA_ADDRESS is the other side's.
    let ours = attributes.find(libc::IFA_LOCAL).or_else(|| attributes.find(libc::IFA_ADDRESS))?;
    let flags = attributes.find(libc::IFA_FLAGS).and_then(|value| u32_at(value, 0));
    let observed = SeenAddress {
        net: IpNet::new(address(ours)?, u8_at(body, 1)?).ok()?,
        scope: u8_at(body, 3)?,
        flags: flags.unwrap_or(u8_at(body, 2)?.into()),
        protocol: attributes.find(ADDRESS_PROTOCOL).and_then(|value| u8_at(value, 0)).unwrap_or(0),
    };
    Some((u32_at(body, 4)?, observed))
}

fn neighbours(
    rtnl: &mut Rtnl,
    family: AddressFamily,
    only: Option<u32>,
    links: &mut Links,
) -> Result<(), Refusal> {
    let mut message = NeighbourMessage::default();
    message.header.family = family;
    message.attributes.extend(only.map(NeighbourAttribute::IfIndex));
    rtnl.dump(RouteNetlinkMessage::GetNeighbour(message), &mut |body| {
        if u8_at(body, 0) == Some(family.into())
            && let Some((_, link)) = u32_at(body, 4).and_then(|index| links.get_mut(&index))
        {
            // What is not of a kind that we set is passed over.
            let _foreign = parse_neighbour(body, family == AddressFamily::Bridge, link);
        }
    })
}

/// Put the row into the link, or return `None` if we never set that kind.
fn parse_neighbour(body: &[u8], bridge: bool, link: &mut Link) -> Option<()> {
    let (state, flags) = (u16_at(body, 8)?, u8_at(body, 10)?);
    let attributes = Attributes::after(body, NEIGHBOUR_HEADER);
    let octets: [u8; 6] = attributes.find(libc::NDA_LLADDR)?.try_into().ok()?;
    let to = attributes.find(libc::NDA_DST).and_then(address);
    let permanent = state & libc::NUD_PERMANENT != 0;
    if !bridge {
        if permanent && flags & libc::NTF_PROXY == 0 {
            link.neighbours.insert(to?, Mac::new(octets).ok()?);
        }
    } else if flags & libc::NTF_SELF != 0 {
        if permanent && octets == [0; 6] {
            link.flood_list.insert(to?);
        } else if permanent {
            link.vxlan_fdb.insert(Mac::new(octets).ok()?, to?);
        }
    } else if attributes.find(libc::NDA_MASTER).is_some() {
        let ours = if link.kind == LinkKind::Bridge {
            // Beside it there is one for each VLAN, which nothing goes by.
            permanent && attributes.find(libc::NDA_VLAN).is_none()
        } else {
            // A port's own address is permanent.
            state & libc::NUD_NOARP != 0 && !permanent
        };
        if ours {
            link.bridge_fdb.insert(Mac::new(octets).ok()?);
        }
    }
    Some(())
}
