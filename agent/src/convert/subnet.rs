//! Subnets, and addresses as texts.

use std::{fmt::Display, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use ovnet_proto::v1;

use super::limits::{self, MAX_TEXT};
use crate::model::{Invalid, Subnet};

impl From<&Subnet> for v1::Subnet {
    fn from(subnet: &Subnet) -> Self {
        Self {
            prefix: subnet.prefix.to_string(),
            gateway: subnet.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
            ip_range: subnet.ip_range.as_ref().map(ToString::to_string).unwrap_or_default(),
            aux_addresses: subnet.aux_addresses.iter().map(|(k, v)| (k.clone(), v.to_string())).collect(),
        }
    }
}

impl TryFrom<v1::Subnet> for Subnet {
    type Error = Invalid;

    fn try_from(wire: v1::Subnet) -> Result<Self, Invalid> {
        let prefix = whole(net("subnet", &wire.prefix)?, "subnet")?;
        let inside = |what: &'static str, address: IpAddr| {
            if prefix.contains(&address) {
                return Ok(address);
            }
            Err(Invalid::new(what, address.to_string(), format!("it lies outside the subnet {prefix}")))
        };
        let ip_range = match wire.ip_range.as_str() {
            "" => None,
            text => Some(whole(net("address range", text)?, "address range")?),
        };
        if let Some(range) = ip_range.filter(|range| !prefix.contains(range)) {
            let reason = format!("it lies outside the subnet {prefix}");
            return Err(Invalid::new("address range", range.to_string(), reason));
        }
        limits::count("auxiliary address", wire.aux_addresses.len(), Subnet::MAX_AUX)?;
        let aux_addresses = wire
            .aux_addresses
            .into_iter()
            .map(|(name, text)| {
                limits::text("auxiliary address", &name, MAX_TEXT)?;
                Ok((name, inside("auxiliary address", address("auxiliary address", &text)?)?))
            })
            .collect::<Result<_, Invalid>>()?;
        let gateway = match wire.gateway.as_str() {
            "" => None,
            text => Some(inside("gateway", address("gateway", text)?)?),
        };
        Ok(Self { prefix, gateway, ip_range, aux_addresses })
    }
}

/// A prefix whose host bits are zero.
fn whole(net: IpNet, what: &'static str) -> Result<IpNet, Invalid> {
    if net.trunc() == net {
        return Ok(net);
    }
    Err(Invalid::new(what, net.to_string(), format!("host bits are set; did you mean {}?", net.trunc())))
}

/// An address with prefix length.
pub(super) fn net(what: &'static str, text: &str) -> Result<IpNet, Invalid> {
    parsed(what, text, "expected an address with prefix length such as 10.0.0.2/24")
}

/// An address.
pub(super) fn address(what: &'static str, text: &str) -> Result<IpAddr, Invalid> {
    parsed(what, text, "expected an IPv4 or IPv6 address")
}

/// What `text` says, in standard notation.
pub(super) fn parsed<T: FromStr>(what: &'static str, text: &str, expected: &str) -> Result<T, Invalid>
where
    T::Err: Display,
{
    text.parse().map_err(|error| Invalid::new(what, text, format!("{expected} ({error})")))
}
