//! A requested attachment, and its result.

use std::net::IpAddr;

use super::PortSpec;
use crate::{
    convert::EndpointOptions,
    model::{Endpoint, EndpointLink, Mac, Name},
};

/// A requested attachment.
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
    /// Additional names.
    pub aliases: Vec<Name>,
    /// Ports to publish.
    pub ports: Vec<PortSpec>,
    /// Its parsed options.
    pub options: EndpointOptions,
    /// Additional link-local addresses.
    pub link_local: Vec<IpAddr>,
    /// The endpoint of a sandbox with the highest priority has its default route.
    pub gateway_priority: i32,
    /// Other endpoints of the network that it may always reach, with its own names for them.
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
