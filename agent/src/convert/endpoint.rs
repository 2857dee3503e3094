//! Endpoints.

use std::collections::BTreeMap;

use ovnet_proto::v1;

use super::{
    each,
    limits::{self, MAX_ADDRESSES, MAX_ALIASES, check_map},
    subnet::{address, net},
};
use crate::model::{Endpoint, EndpointLink, Invalid, Name, PublishedPort, Timestamp};

impl From<&Endpoint> for v1::Endpoint {
    fn from(endpoint: &Endpoint) -> Self {
        Self {
            id: endpoint.id.to_string(),
            name: endpoint.name.to_string(),
            network_id: endpoint.network.to_string(),
            sandbox: endpoint.sandbox.as_ref().map(Name::to_string).unwrap_or_default(),
            node_id: endpoint.node.to_string(),
            mac: endpoint.mac.to_string(),
            addresses: endpoint.addresses.iter().map(ToString::to_string).collect(),
            aliases: endpoint.aliases.iter().map(ToString::to_string).collect(),
            ifname: endpoint.ifname.to_string(),
            created_ms: endpoint.created.0,
            ports: endpoint.ports.iter().map(Into::into).collect(),
            sysctls: endpoint.sysctls.clone(),
            link_local: endpoint.link_local.iter().map(ToString::to_string).collect(),
            gateway_priority: endpoint.gateway_priority,
            links: endpoint.links.iter().map(Into::into).collect(),
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
            sandbox: match wire.sandbox.as_str() {
                "" => None,
                name => Some(Name::parse("sandbox name", name)?),
            },
            node: wire.node_id.parse()?,
            mac: wire.mac.parse()?,
            addresses: each("endpoint address", &wire.addresses, MAX_ADDRESSES, |text| {
                net("endpoint address", text)
            })?,
            aliases: each("alias", &wire.aliases, MAX_ALIASES, |text| Name::parse("alias", text))?,
            ifname: wire.ifname.parse()?,
            created: Timestamp(wire.created_ms),
            ports: each("published port", &wire.ports, PublishedPort::MAX, |port| port.try_into())?,
            sysctls: sysctls(wire.sysctls)?,
            link_local: each("link-local address", &wire.link_local, Endpoint::MAX_LINK_LOCAL, |text| {
                address("link-local address", text)
            })?,
            gateway_priority: gateway_priority(wire.gateway_priority)?,
            links: each("link", &wire.links, Endpoint::MAX_LINKS, |link| link.try_into())?,
        })
    }
}

impl From<&PublishedPort> for v1::PublishedPort {
    fn from(port: &PublishedPort) -> Self {
        Self {
            protocol: port.protocol.to_string(),
            host_ip: port.host.map(|host| host.to_string()).unwrap_or_default(),
            host_port: port.host_port.into(),
            port: port.port.into(),
        }
    }
}

impl TryFrom<&v1::PublishedPort> for PublishedPort {
    type Error = Invalid;

    fn try_from(wire: &v1::PublishedPort) -> Result<Self, Invalid> {
        let host = match wire.host_ip.as_str() {
            "" => None,
            text => Some(address("address of a published port", text)?),
        };
        Ok(Self {
            protocol: wire.protocol.parse()?,
            host,
            host_port: port_number("host port", wire.host_port)?,
            port: port_number("port", wire.port)?,
        })
    }
}

/// A port's number, 1 to 65535; `what` names the noun in the error.
///
/// # Errors
/// Another number.
pub fn port_number(what: &'static str, number: u32) -> Result<u16, Invalid> {
    let port = u16::try_from(number).ok().filter(|port| *port != 0);
    port.ok_or_else(|| Invalid::new(what, number.to_string(), "expected a number from 1 to 65535"))
}

impl From<&EndpointLink> for v1::EndpointLink {
    fn from(link: &EndpointLink) -> Self {
        Self { endpoint: link.endpoint.to_string(), alias: link.alias.to_string() }
    }
}

impl TryFrom<&v1::EndpointLink> for EndpointLink {
    type Error = Invalid;

    fn try_from(wire: &v1::EndpointLink) -> Result<Self, Invalid> {
        Ok(Self {
            endpoint: Name::parse("link", &wire.endpoint)?,
            alias: Name::parse("alias of a link", &wire.alias)?,
        })
    }
}

fn sysctls(wire: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Invalid> {
    limits::count("sysctl", wire.len(), Endpoint::MAX_SYSCTLS)?;
    check_map("sysctl", &wire)?;
    Ok(wire)
}

/// A gateway priority.
///
/// # Errors
/// Outside of [`Endpoint::GATEWAY_PRIORITIES`].
pub fn gateway_priority(number: i32) -> Result<i32, Invalid> {
    if Endpoint::GATEWAY_PRIORITIES.contains(&number) {
        return Ok(number);
    }
    let (least, most) = (Endpoint::GATEWAY_PRIORITIES.start(), Endpoint::GATEWAY_PRIORITIES.end());
    Err(Invalid::new(
        "gateway priority",
        number.to_string(),
        format!("expected a number from {least} to {most}"),
    ))
}
