//! Ethernet addresses, and the ones that we derive from IP addresses.

use std::{fmt, net::IpAddr, str::FromStr};

use super::Invalid;

/// A unicast Ethernet address (IEEE 802, 48 bits).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

impl Mac {
    /// The address with these octets.
    ///
    /// # Errors
    /// A multicast or all-zero address: no interface can have it.
    pub fn new(octets: [u8; 6]) -> Result<Self, Invalid> {
        let mac = Self(octets);
        if octets[0] & 1 == 1 {
            return Err(Invalid::new(
                "MAC address",
                mac.to_string(),
                "it is a multicast address: the first octet must be even",
            ));
        }
        if octets == [0; 6] {
            return Err(Invalid::new("MAC address", mac.to_string(), "it is all zero"));
        }
        Ok(mac)
    }

    /// The default address of an interface, derived from its IP address: `02:42` and the IPv4 address, as in
    /// Docker; for IPv6 `02:43` and 32 bits folded from the address.
    pub fn derived(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                Self([0x02, 0x42, a, b, c, d])
            }
            IpAddr::V6(v6) => Self::internal(0x43, &v6.octets()),
        }
    }

    /// A locally administered address for a device of ours: `02:<tag>` and 32 bits folded from `seed`.
    pub fn internal(tag: u8, seed: &[u8]) -> Self {
        // Fowler-Noll-Vo (FNV-1a, 32 bits): spreads well and will never change.
        let fold = |hash: u32, octet: &u8| (hash ^ u32::from(*octet)).wrapping_mul(0x0100_0193);
        let [a, b, c, d] = seed.iter().fold(0x811c_9dc5_u32, fold).to_be_bytes();
        Self([0x02, tag, a, b, c, d])
    }

    /// The octets in wire order.
    pub const fn octets(&self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid::new("MAC address", text, "expected six hex octets such as 02:42:0a:00:00:02");
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(wrong)?;
            *octet = u8::from_str_radix(part, 16).ok().ok_or_else(wrong)?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        Self::new(octets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_reads_back_what_it_prints() {
        let mac = Mac::derived("10.0.0.2".parse().unwrap());
        assert_eq!(mac.to_string(), "02:42:0a:00:00:02");
        assert_eq!(mac.to_string().parse::<Mac>().unwrap(), mac);
    }

    #[test]
    fn what_no_interface_can_have_is_refused() {
        for text in [
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "02:42:0a:00:00",
            "02:42:0a:00:00:02:03",
            "zz:42:0a:00:00:02",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }
}
