//! The choice of one address, and the count of what is left.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;

use super::{request::refuse_special, span::Span};
use crate::model::{Invalid, Subnet};

/// Which of the free addresses is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// The lowest.
    Lowest,
    /// One that the seed decides: hosts with different seeds that choose at the same time seldom choose the same.
    Random(u64),
}

/// No address is free.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no address is free in {range}: all {usable} usable addresses are taken; remove endpoints, or use a network with a larger subnet"
)]
pub struct Exhausted {
    /// The subnet, or its address range if it has one.
    pub range: IpNet,
    /// How many addresses of it can be given out at all, the gateway and auxiliary ones included.
    pub usable: u128,
}

/// Addresses of a subnet, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// That a host can have.
    pub total: u128,
    /// Addresses in use: those of endpoints and nodes, the gateway, auxiliary ones.
    pub used: u128,
    /// The rest.
    pub free: u128,
}

/// A free address of the subnet's range: not in `used`, not the network, broadcast, gateway or an auxiliary address.
/// Takes at most one step for each address that is taken, whatever the size of the subnet.
///
/// # Errors
/// Every address is taken.
pub fn choose(subnet: &Subnet, used: &BTreeSet<IpAddr>, pick: Pick) -> Result<IpAddr, Exhausted> {
    let exhausted = |usable| Exhausted { range: subnet.ip_range.unwrap_or(subnet.prefix), usable };
    let span = range(subnet).ok_or_else(|| exhausted(0))?;
    let reserved = reserved(subnet);
    let start = match pick {
        Pick::Lowest => span.first,
        Pick::Random(seed) => span.first + spread(seed) % span.count(),
    };
    // From the start to the end, then from the beginning to the start.
    (start..=span.last)
        .chain(span.first..start)
        .map(|bits| span.address(bits))
        .find(|address| !used.contains(address) && !reserved.contains(address))
        .ok_or_else(|| exhausted(span.count()))
}

/// The subnet that a chosen address belongs to. Whether it is free only the store can tell.
///
/// # Errors
/// Outside all subnets; the network, broadcast, gateway or an auxiliary address.
pub fn check_chosen(subnets: &[Subnet], address: IpAddr) -> Result<&Subnet, Invalid> {
    const WHAT: &str = "address";
    let wrong = |reason: String| Err(Invalid::new(WHAT, address.to_string(), reason));
    let Some(subnet) = subnets.iter().find(|subnet| subnet.prefix.contains(&address)) else {
        let all: Vec<_> = subnets.iter().map(|subnet| subnet.prefix.to_string()).collect();
        return wrong(format!("it lies in none of the network's subnets ({})", all.join(", ")));
    };
    refuse_special(WHAT, &address.to_string(), subnet.prefix, address)?;
    if Some(address) == subnet.gateway {
        return wrong(format!("it is the gateway of {}", subnet.prefix));
    }
    if let Some((name, _)) = subnet.aux_addresses.iter().find(|(_, taken)| **taken == address) {
        return wrong(format!("it is reserved in {} as the auxiliary address {name}", subnet.prefix));
    }
    Ok(subnet)
}

/// What of the whole prefix is taken; `used` may have addresses of other subnets, and the reserved ones or not.
pub fn usage(subnet: &Subnet, used: &BTreeSet<IpAddr>) -> Usage {
    let Some(span) = Span::usable(subnet.prefix) else { return Usage::default() };
    let endpoints = used.range(span.first_address()..=span.last_address()).count();
    let others =
        reserved(subnet).iter().filter(|address| span.contains(**address) && !used.contains(address)).count();
    let total = span.count();
    let used = u128::try_from(endpoints + others).unwrap_or(total).min(total);
    Usage { total, used, free: total - used }
}

/// Where automatic addresses come from.
fn range(subnet: &Subnet) -> Option<Span> {
    let usable = Span::usable(subnet.prefix)?;
    subnet.ip_range.map_or(Some(usable), |range| usable.intersection(Span::of(range)))
}

fn reserved(subnet: &Subnet) -> BTreeSet<IpAddr> {
    subnet.aux_addresses.values().copied().chain(subnet.gateway).collect()
}

/// 128 bits of a seed: two steps of SplitMix64 (Steele, Lea and Flood 2014).
fn spread(seed: u64) -> u128 {
    let step = |n: u64| {
        let z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u128::from(z ^ (z >> 31))
    };
    step(1) << 64 | step(2)
}
