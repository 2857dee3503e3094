//! Sandboxes as `ls` and `inspect` show them.

use std::collections::BTreeMap;

use ovnet_proto::v1 as pb;
use serde::Serialize;

use super::super::{address_of, endpoint::Extras};
use crate::{
    output::rfc3339,
    port::{Binding, bindings, listed},
};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct View {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) created: String,
    pub(super) state: String,
    #[serde(rename = "NetNS")]
    pub(super) netns: String,
    pub(super) adopted: bool,
    pub(super) pid: u32,
    /// The sandbox whose namespace it shares.
    pub(super) shares: String,
    pub(super) hostname: String,
    domainname: String,
    #[serde(rename = "DNS")]
    dns: Vec<String>,
    #[serde(rename = "DNSSearch")]
    dns_search: Vec<String>,
    #[serde(rename = "DNSOptions")]
    dns_options: Vec<String>,
    extra_hosts: Vec<String>,
    files_dir: String,
    ports: BTreeMap<String, Vec<Binding>>,
    pub(super) networks: BTreeMap<String, Attached>,
    /// The ports as lists show them.
    #[serde(skip)]
    pub(super) listed: String,
}

/// An endpoint of the sandbox, under its network's name.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Attached {
    #[serde(rename = "NetworkID")]
    network_id: String,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    interface: String,
    mac_address: String,
    #[serde(rename = "IPv4Address")]
    ipv4_address: String,
    #[serde(rename = "IPv6Address")]
    ipv6_address: String,
    aliases: Vec<String>,
    #[serde(flatten)]
    extras: Extras,
}

impl Attached {
    fn of(endpoint: pb::Endpoint) -> Self {
        Self {
            ipv4_address: address_of(&endpoint, false),
            ipv6_address: address_of(&endpoint, true),
            extras: Extras::of(&endpoint),
            network_id: endpoint.network_id,
            endpoint_id: endpoint.id,
            interface: endpoint.ifname,
            mac_address: endpoint.mac,
            aliases: endpoint.aliases,
        }
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = &str> {
        [self.ipv4_address.as_str(), self.ipv6_address.as_str()].into_iter().filter(|text| !text.is_empty())
    }
}

impl View {
    pub(super) fn of(detail: pb::SandboxDetail) -> Self {
        let names: BTreeMap<String, String> =
            detail.networks.into_iter().map(|network| (network.id, network.name)).collect();
        let name = |id: &str| names.get(id).cloned().unwrap_or_else(|| id.to_owned());
        let sandbox = detail.sandbox.unwrap_or_default();
        let host = |pb::ExtraHost { name, address }| format!("{name}:{address}");
        Self {
            name: sandbox.name,
            id: sandbox.id,
            created: rfc3339(sandbox.created_ms),
            state: detail.state,
            netns: sandbox.netns,
            adopted: sandbox.adopted,
            pid: sandbox.pid,
            shares: sandbox.shares,
            hostname: sandbox.hostname,
            domainname: sandbox.domain,
            dns: sandbox.dns_servers,
            dns_search: sandbox.dns_search,
            dns_options: sandbox.dns_options,
            extra_hosts: sandbox.hosts.into_iter().map(host).collect(),
            files_dir: detail.files_dir,
            ports: bindings(&detail.endpoints),
            listed: listed(&detail.endpoints),
            networks: detail.endpoints.into_iter().map(|e| (name(&e.network_id), Attached::of(e))).collect(),
        }
    }
}
