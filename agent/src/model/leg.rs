//! The host leg: the veth between a network's namespace and the host, with its own addresses.
//!
//! Each network here has an index on this host; its two addresses of each family follow from it, so that
//! networks with equal subnets do not conflict in the host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Invalid, Mac};

/// A host leg by its index on this host, 0 to 8191: 169.254.0.0/18 in pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Leg(u16);

impl Leg {
    /// The number of legs.
    pub const COUNT: u16 = 8192;

    /// The prefix of all IPv4 addresses of legs (link-local, RFC 3927; the well-known 169.254.169.254 is
    /// outside).
    pub const RANGE_V4: Ipv4Net = match Ipv4Net::new(Ipv4Addr::new(169, 254, 0, 0), 18) {
        Ok(net) => net,
        Err(_) => panic!("18 is a prefix length"),
    };

    /// The prefix of all IPv6 addresses of legs (unique local, RFC 4193).
    pub const RANGE_V6: Ipv6Net =
        match Ipv6Net::new(Ipv6Addr::new(0xfd6f, 0x766e, 0x6c65, 0x6700, 0, 0, 0, 0), 64) {
            Ok(net) => net,
            Err(_) => panic!("64 is a prefix length"),
        };

    /// The leg with this index.
    ///
    /// # Errors
    /// An index of [`Leg::COUNT`] or more.
    pub fn new(index: u16) -> Result<Self, Invalid> {
        if index < Self::COUNT {
            Ok(Self(index))
        } else {
            Err(Invalid::new("host leg", index.to_string(), "a host supports 8192 networks"))
        }
    }

    /// Its index.
    pub const fn index(self) -> u16 {
        self.0
    }

    /// The lowest index that is not in `taken`.
    pub fn lowest_free(taken: impl Fn(Self) -> bool) -> Option<Self> {
        (0..Self::COUNT).map(Self).find(|leg| !taken(*leg))
    }

    /// The host's addresses, as /31 and /127 (RFC 3021, RFC 6164).
    pub fn outer(self) -> [IpNet; 2] {
        self.pair(0)
    }

    /// The network's addresses.
    pub fn inner(self) -> [IpNet; 2] {
        self.pair(1)
    }

    fn pair(self, end: u16) -> [IpNet; 2] {
        let number = u32::from(self.0) * 2 + u32::from(end);
        let v4 = Ipv4Addr::from_bits(Self::RANGE_V4.network().to_bits() | number);
        let v6 = Ipv6Addr::from_bits(Self::RANGE_V6.network().to_bits() | u128::from(number));
        let net = |address: IpAddr, len| IpNet::new(address, len).unwrap_or(IpNet::from(address));
        [net(v4.into(), 31), net(v6.into(), 127)]
    }

    /// Ethernet address of one end: the network's (`inner`), or the host's.
    pub fn mac(self, inner: bool) -> Mac {
        let [v4, _] = if inner { self.inner() } else { self.outer() };
        Mac::derived(v4.addr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legs_are_distinct_pairs_of_neighbours() {
        let leg = Leg::new(300).unwrap();
        assert_eq!(leg.outer()[0].to_string(), "169.254.2.88/31");
        assert_eq!(leg.inner()[0].to_string(), "169.254.2.89/31");
        assert_eq!(leg.inner()[1].to_string(), "fd6f:766e:6c65:6700::259/127");
        assert!(Leg::new(Leg::COUNT).is_err());
        let last = Leg::new(Leg::COUNT - 1).unwrap();
        assert!(Leg::RANGE_V4.contains(&match last.inner()[0].addr() {
            IpAddr::V4(v4) => v4,
            IpAddr::V6(_) => unreachable!(),
        }));
        assert_eq!(Leg::lowest_free(|leg| leg.index() < 3), Some(Leg(3)));
        assert_eq!(Leg::lowest_free(|_| true), None);
    }
}
