//! An attachment as it was asked for, and what comes of it.

use std::net::IpAddr;

use super::PortSpec;
use crate::{
    convert::EndpointOptions,
    model::{Endpoint, EndpointLink, Mac, Name},
};

/// An attachment as it was asked for.
#[derive(Clone, Debug, Default)]
pub struct AttachSpec {
    /// The network: name, id or start of the id.
    pub network: String,
    /// Chosen IPv4 address.
    pub ip: Option<IpAddr>,
    /// Chosen IPv6 address.
    pub ip6: Option<IpAddr>,
    /// Chosen MAC address.
    pub mac: Option<Mac>,
    /// Further names.
    pub aliases: Vec<Name>,
    /// Ports to publish.
    pub ports: Vec<PortSpec>,
    /// What its options mean.
    pub options: EndpointOptions,
    /// Further addresses, which are link-local ones.
    pub link_local: Vec<IpAddr>,
    /// Of a sandbox's endpoints the one with the highest has its default route.
    pub gateway_priority: i32,
    /// Other endpoints of the network that it may talk to, with its own names for them.
    pub links: Vec<EndpointLink>,
}

/// An endpoint that works.
#[derive(Clone, Debug)]
pub struct Attached {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Names of live nodes of the network that did not confirm in time.
    pub unconfirmed: Vec<String>,
}
