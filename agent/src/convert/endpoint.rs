//! Endpoints.

use ovnet_proto::v1;

use super::{
    each,
    limits::{MAX_ADDRESSES, MAX_ALIASES},
    subnet::net,
};
use crate::model::{Endpoint, Invalid, Name, Timestamp};

impl From<&Endpoint> for v1::Endpoint {
    fn from(endpoint: &Endpoint) -> Self {
        Self {
            id: endpoint.id.to_string(),
            name: endpoint.name.to_string(),
            network_id: endpoint.network.to_string(),
            sandbox: endpoint.sandbox.to_string(),
            node_id: endpoint.node.to_string(),
            mac: endpoint.mac.to_string(),
            addresses: endpoint.addresses.iter().map(ToString::to_string).collect(),
            aliases: endpoint.aliases.iter().map(ToString::to_string).collect(),
            ifname: endpoint.ifname.to_string(),
            created_ms: endpoint.created.0,
        }
    }
}

impl TryFrom<v1::Endpoint> for Endpoint {
    type Error = Invalid;

    fn try_from(wire: v1::Endpoint) -> Result<Self, Invalid> {
        Ok(Self {
            id: wire.id.parse()?,
            name: Name::parse("endpoint name", &wire.name)?,
            network: wire.network_id.parse()?,
            sandbox: Name::parse("sandbox name", &wire.sandbox)?,
            node: wire.node_id.parse()?,
            mac: wire.mac.parse()?,
            addresses: each("endpoint address", &wire.addresses, MAX_ADDRESSES, |text| {
                net("endpoint address", text)
            })?,
            aliases: each("alias", &wire.aliases, MAX_ALIASES, |text| Name::parse("alias", text))?,
            ifname: wire.ifname.parse()?,
            created: Timestamp(wire.created_ms),
        })
    }
}
