//! Pools: the address space that automatic subnets are cut from.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    request::unfit,
    span::{Span, is_v6, overlap},
};
use crate::model::Invalid;

/// A prefix, cut into subnets of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The whole, host bits zero.
    pub prefix: IpNet,
    /// Prefix length of each subnet.
    pub size: u8,
}

impl Pool {
    /// A pool of subnets of this size.
    ///
    /// # Errors
    /// Host bits set, address space that endpoints cannot have, a size that is shorter than the prefix, or so long that no endpoint has room.
    pub fn new(prefix: IpNet, size: u8) -> Result<Self, Invalid> {
        let pool = Self { prefix, size };
        let wrong = |reason: String| Err(Invalid::new("address pool", pool.to_string(), reason));
        if prefix.trunc() != prefix {
            return wrong(format!("host bits are set; did you mean {}?", prefix.trunc()));
        }
        let longest = prefix.max_prefix_len() - 2;
        if size < prefix.prefix_len() || size > longest {
            return wrong(format!("expected a size from {} to {longest}", prefix.prefix_len()));
        }
        if let Some(word) = unfit(prefix) {
            return wrong(format!("it overlaps {word}, which endpoints cannot use"));
        }
        Ok(pool)
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},size={}", self.prefix, self.size)
    }
}

impl FromStr for Pool {
    type Err = Invalid;

    /// Reads `10.0.0.0/8,size=24`, and Docker's `base=10.0.0.0/8,size=24`.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong =
            || Invalid::new("address pool", text, "expected CIDR,size=LENGTH such as 10.0.0.0/8,size=24");
        let (prefix, size) = text.split_once(',').ok_or_else(wrong)?;
        let prefix = prefix.trim();
        let prefix = prefix.strip_prefix("base=").unwrap_or(prefix).parse().ok().ok_or_else(wrong)?;
        let size = size.trim().strip_prefix("size=").ok_or_else(wrong)?.parse().ok().ok_or_else(wrong)?;
        Self::new(prefix, size)
    }
}

/// The pools that are used when none is configured: 10.0.0.0/8 in /24s, 172.16.0.0/12 in /20s, and the unique local
/// prefix fd6f:766e:6574::/48 in /64s ("ovnet" in hex; RFC 4193).
pub fn default_pools() -> Vec<Pool> {
    let v4 = |octets: [u8; 4], length, size| {
        Ipv4Net::new(octets.into(), length).map(|net| Pool { prefix: net.into(), size })
    };
    let v6 = Ipv6Net::new([0xfd6f, 0x766e, 0x6574, 0, 0, 0, 0, 0].into(), 48)
        .map(|net| Pool { prefix: net.into(), size: 64 });
    // The lengths are right, so nothing is lost here.
    [v4([10, 0, 0, 0], 8, 24), v4([172, 16, 0, 0], 12, 20), v6].into_iter().flatten().collect()
}

/// The first subnet of the pools of that family, in their order, that overlaps nothing in `taken` (networks'
/// subnets and the host's routes). `None` if the pools are exhausted.
///
/// A default route, whole or in two halves as VPN clients set it, takes nothing.
pub fn pick_subnet(pools: &[Pool], taken: &[IpNet], v6: bool) -> Option<IpNet> {
    let mut blocks: Vec<Span> = taken.iter().filter(|net| is_v6(**net) == v6).filter_map(claims).collect();
    blocks.sort_unstable_by_key(|span| span.first);
    pools.iter().filter(|pool| is_v6(pool.prefix) == v6).find_map(|pool| first_free(*pool, &blocks))
}

/// The one of `taken` that `subnet` overlaps; default routes take nothing.
pub fn overlapping(subnet: IpNet, taken: &[IpNet]) -> Option<IpNet> {
    taken.iter().filter(|net| claims(net).is_some()).find(|net| overlap(**net, subnet)).copied()
}

/// What a route or subnet claims; none for (half) a default route.
fn claims(net: &IpNet) -> Option<Span> {
    (net.prefix_len() > 1).then(|| Span::of(*net))
}

/// The first free subnet, where `blocks` are sorted by their first address. Each block that is in the way moves the
/// candidate behind it, so the cost is linear in the blocks and not in the subnets.
fn first_free(pool: Pool, blocks: &[Span]) -> Option<IpNet> {
    let whole = Span::of(pool.prefix);
    let host_bits = u32::from(pool.prefix.max_prefix_len() - pool.size);
    let last_of = |first: u128| first | 1_u128.checked_shl(host_bits).map_or(u128::MAX, |step| step - 1);
    let mut candidate = whole.first;
    for block in blocks {
        if block.last < candidate {
            continue;
        }
        if block.first > last_of(candidate) {
            break;
        }
        candidate = last_of(block.last).checked_add(1).filter(|next| *next <= whole.last)?;
    }
    subnet(whole.address(candidate), pool.size)
}

fn subnet(address: IpAddr, length: u8) -> Option<IpNet> {
    IpNet::new(address, length).ok()
}
