//! Addresses as numbers: a run of consecutive addresses of one family.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// All addresses from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// IPv6, else IPv4.
    pub(super) v6: bool,
    pub(super) first: u128,
    pub(super) last: u128,
}

impl Span {
    /// Every address of `net`.
    pub(super) fn of(net: IpNet) -> Self {
        Self { v6: is_v6(net), first: bits(net.network()), last: bits(net.broadcast()) }
    }

    /// The addresses of `net` that a host can have: all but the network address (for IPv6 the subnet-router anycast
    /// address, RFC 4291 section 2.6.1) and, for IPv4, the broadcast address; both of a prefix of two (RFC 3021, RFC 6164). None:
    /// there are none.
    pub(super) fn usable(net: IpNet) -> Option<Self> {
        let all = Self::of(net);
        if net.prefix_len() + 1 == net.max_prefix_len() {
            return Some(all);
        }
        let first = all.first.checked_add(1)?;
        let last = if all.v6 { all.last } else { all.last.checked_sub(1)? };
        (first <= last).then_some(Self { first, last, ..all })
    }

    /// What both have.
    pub(super) fn intersection(self, other: Self) -> Option<Self> {
        let first = self.first.max(other.first);
        let last = self.last.min(other.last);
        (self.v6 == other.v6 && first <= last).then_some(Self { first, last, ..self })
    }

    pub(super) fn contains(self, address: IpAddr) -> bool {
        address.is_ipv6() == self.v6 && (self.first..=self.last).contains(&bits(address))
    }

    /// How many there are; one less for the whole of IPv6, which nobody asks for.
    pub(super) const fn count(self) -> u128 {
        (self.last - self.first).saturating_add(1)
    }

    /// The address with these bits.
    pub(super) fn address(self, bits: u128) -> IpAddr {
        if self.v6 {
            return Ipv6Addr::from_bits(bits).into();
        }
        Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX)).into()
    }

    /// The first address.
    pub(super) fn first_address(self) -> IpAddr {
        self.address(self.first)
    }

    /// The last address.
    pub(super) fn last_address(self) -> IpAddr {
        self.address(self.last)
    }
}

pub(super) const fn is_v6(net: IpNet) -> bool {
    matches!(net, IpNet::V6(_))
}

/// The address as a number.
pub(super) fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Whether two prefixes have an address in common.
pub(super) fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}
