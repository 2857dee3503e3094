//! Networks. MTU and the driver's settings are not in the message: they follow from the options.

use ovnet_proto::v1;

use super::{
    limits::{self, check_labels},
    parse_options,
};
use crate::model::{Invalid, Name, Network, Subnet, Timestamp, Vni};

impl From<&Network> for v1::Network {
    fn from(network: &Network) -> Self {
        Self {
            id: network.id.to_string(),
            name: network.name.to_string(),
            driver: network.driver().to_string(),
            scope: network.scope.to_string(),
            vni: network.vni.map(Vni::get).unwrap_or_default(),
            subnets: network.subnets.iter().map(Into::into).collect(),
            internal: network.internal,
            ipv6: network.has_ipv6(),
            labels: network.labels.clone(),
            options: network.options.clone(),
            created_ms: network.created.0,
        }
    }
}

impl TryFrom<v1::Network> for Network {
    type Error = Invalid;

    fn try_from(wire: v1::Network) -> Result<Self, Invalid> {
        check_labels(&wire.labels)?;
        let options = parse_options(wire.driver.parse()?, &wire.options)?;
        let network = Self {
            id: wire.id.parse()?,
            name: Name::parse("network name", &wire.name)?,
            scope: wire.scope.parse()?,
            vni: if wire.vni == 0 { None } else { Some(Vni::new(wire.vni)?) },
            subnets: subnets(wire.subnets)?,
            internal: wire.internal,
            labels: wire.labels,
            options: wire.options,
            mtu: options.mtu,
            interface_prefix: options.interface_prefix.clone(),
            settings: options.settings.clone(),
            created: Timestamp(wire.created_ms),
        };
        if network.has_ipv6() {
            options.check_ipv6()?;
        }
        Ok(network)
    }
}

/// At least one, and none that overlaps another.
fn subnets(wire: Vec<v1::Subnet>) -> Result<Vec<Subnet>, Invalid> {
    limits::count("subnet", wire.len(), Network::MAX_SUBNETS)?;
    if wire.is_empty() {
        return Err(Invalid::new("subnet", "", "a network has at least one"));
    }
    let mut subnets: Vec<Subnet> = Vec::with_capacity(wire.len());
    for subnet in wire {
        let subnet = Subnet::try_from(subnet)?;
        let overlaps =
            |other: &&Subnet| other.prefix.contains(&subnet.prefix) || subnet.prefix.contains(&other.prefix);
        if let Some(other) = subnets.iter().find(overlaps) {
            let reason = format!("it overlaps {} of the same network", other.prefix);
            return Err(Invalid::new("subnet", subnet.prefix.to_string(), reason));
        }
        subnets.push(subnet);
    }
    Ok(subnets)
}
