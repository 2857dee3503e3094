//! Addresses on the command line.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// An IPv4 address.
///
/// # Errors
/// The text is none.
pub(crate) fn parse_ip(text: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_reason| format!("{text:?} is not an IPv4 address: expected one such as 10.0.0.5"))
}

/// An IPv6 address.
///
/// # Errors
/// The text is none.
pub(crate) fn parse_ip6(text: &str) -> Result<Ipv6Addr, String> {
    text.parse().map_err(|_reason| format!("{text:?} is not an IPv6 address: expected one such as fd00::5"))
}

/// An address of either family, an IPv6 one also in brackets.
///
/// # Errors
/// The text is none.
pub(crate) fn parse_address(text: &str) -> Result<IpAddr, String> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let parsed = match inner {
        Some(inner) => inner.parse().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    };
    parsed.ok_or_else(|| format!("{text:?} is not an IP address: expected one such as 10.0.0.5 or fd00::5"))
}

/// An address of 169.254.0.0/16 or fe80::/64.
///
/// # Errors
/// The text is no address, or one from elsewhere.
pub(crate) fn parse_link_local(text: &str) -> Result<IpAddr, String> {
    let address = parse_address(text)?;
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.octets().starts_with(&[0xfe, 0x80, 0, 0, 0, 0, 0, 0]),
    };
    if link_local {
        return Ok(address);
    }
    Err(format!("{text:?} is not a link-local address: expected one of 169.254.0.0/16 or fe80::/64"))
}

/// A MAC address of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MacAddress(String);

impl FromStr for MacAddress {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bytes: Vec<u8> = text
            .split(':')
            .map_while(|pair| {
                u8::from_str_radix(pair, 16).ok().filter(|_byte| pair.len() == 2 && !pair.starts_with('+'))
            })
            .collect();
        let group = bytes.first().is_none_or(|first| first & 1 == 1);
        if bytes.len() != 6 || text.len() != 17 || group {
            return Err(format!(
                "{text:?} is not a MAC address of an interface: expected one such as 02:42:0a:00:00:05"
            ));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn link_local_addresses_are_of_two_prefixes() {
        for good in ["169.254.0.9", "fe80::9", "[fe80::9]"] {
            assert!(parse_link_local(good).is_ok(), "{good}");
        }
        for bad in ["169.253.0.9", "fe80:1::9", "febf::1", "fd00::1", "fe80::9/64", "fe80::9%eth0", ""] {
            let error = parse_link_local(bad).unwrap_err();
            assert!(error.contains("expected one"), "{bad}: {error}");
        }
    }

    proptest! {
        #[test]
        fn an_address_parses_back_with_and_without_brackets(v6: u128, v4: u32) {
            let (v6, v4) = (Ipv6Addr::from_bits(v6), Ipv4Addr::from_bits(v4));
            prop_assert_eq!(parse_address(&v6.to_string()), Ok(IpAddr::V6(v6)));
            prop_assert_eq!(parse_address(&format!("[{v6}]")), Ok(IpAddr::V6(v6)));
            prop_assert_eq!(parse_address(&v4.to_string()), Ok(IpAddr::V4(v4)));
            let bracketed = format!("[{v4}]");
            prop_assert!(parse_address(&bracketed).is_err());
        }

        #[test]
        fn a_mac_address_parses_back(bytes: [u8; 6]) {
            let text = bytes.map(|byte| format!("{byte:02x}")).join(":");
            let parsed = text.to_uppercase().parse::<MacAddress>().map(|mac| mac.to_string());
            prop_assert_eq!(parsed.ok(), (bytes[0] & 1 == 0).then_some(text));
        }
    }
}
