//! `ovctl network inspect`: Docker's shape, and what only an overlay without Docker has.

use std::collections::BTreeMap;

use clap::Args;
use ovnet_proto::v1 as pb;
use serde::Serialize;

use super::super::{address_of, shape};
use crate::{
    cli::Context,
    failure::{Exit, Failure},
    output::{InspectFormat, rfc3339},
    port::{Binding, bindings},
};

/// `network inspect`
#[derive(Args, Debug)]
pub(crate) struct Inspect {
    /// Print as `json` (on one line) or by a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<InspectFormat>,
    /// Accepted as in Docker: the endpoints of all hosts are always listed
    #[arg(short, long)]
    verbose: bool,
    /// Names, ids or unique beginnings of ids
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
}

impl Inspect {
    /// # Errors
    /// The agent cannot be reached, or the template does not fit.
    pub(super) async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        shape::inspect(cx, self.format, self.networks, async |agent, network| {
            let reply = agent.inspect_network(pb::InspectNetworkRequest { network }).await?;
            Ok(NetworkView::of(reply.into_inner()))
        })
        .await
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkView {
    name: String,
    id: String,
    created: String,
    scope: String,
    driver: String,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
    internal: bool,
    containers: BTreeMap<String, Container>,
    options: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    /// Only where there is one; a template finds no value otherwise.
    #[serde(rename = "VNI", skip_serializing_if = "Option::is_none")]
    vni: Option<u32>,
    #[serde(rename = "MTU")]
    mtu: u32,
    /// The network's link on this host: its bridge or its parent.
    interface: String,
    here: bool,
    usage: Vec<Usage>,
    host_routes: Vec<String>,
    host_route_note: String,
    members: Vec<Member>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ipam {
    driver: &'static str,
    options: BTreeMap<String, String>,
    config: Vec<Pool>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Pool {
    subnet: String,
    gateway: String,
    #[serde(rename = "IPRange")]
    ip_range: String,
    auxiliary_addresses: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    name: String,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    mac_address: String,
    #[serde(rename = "IPv4Address")]
    ipv4_address: String,
    #[serde(rename = "IPv6Address")]
    ipv6_address: String,
    node: String,
    sandbox: String,
    ports: BTreeMap<String, Vec<Binding>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Usage {
    subnet: String,
    total: String,
    used: String,
    free: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Member {
    node: String,
    #[serde(rename = "NodeID")]
    node_id: String,
    #[serde(rename = "VTEP")]
    vtep: String,
    mac_address: String,
    addresses: Vec<String>,
}

impl NetworkView {
    fn of(reply: pb::InspectNetworkResponse) -> Self {
        let nodes: BTreeMap<&str, &pb::Node> =
            reply.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
        let node_name = |id: &str| nodes.get(id).map_or_else(|| id.to_owned(), |node| node.name.clone());
        let container = |endpoint: pb::Endpoint| Container {
            ipv4_address: address_of(&endpoint, false),
            ipv6_address: address_of(&endpoint, true),
            ports: bindings([&endpoint]),
            node: node_name(&endpoint.node_id),
            name: endpoint.name,
            endpoint_id: endpoint.id,
            mac_address: endpoint.mac,
            sandbox: endpoint.sandbox,
        };
        let member = |member: pb::Member| Member {
            node: node_name(&member.node_id),
            vtep: nodes.get(member.node_id.as_str()).map(|node| node.vtep.clone()).unwrap_or_default(),
            node_id: member.node_id,
            mac_address: member.mac,
            addresses: member.addresses,
        };
        let usage = |usage: pb::SubnetUsage| Usage {
            subnet: usage.prefix,
            total: usage.total,
            used: usage.used,
            free: usage.free,
        };
        let network = reply.network.unwrap_or_default();
        let pools = network.subnets.into_iter().map(|subnet| Pool {
            subnet: subnet.prefix,
            gateway: subnet.gateway,
            ip_range: subnet.ip_range,
            auxiliary_addresses: subnet.aux_addresses,
        });
        Self {
            name: network.name,
            id: network.id,
            created: rfc3339(network.created_ms),
            scope: network.scope,
            driver: network.driver,
            enable_ipv6: network.ipv6,
            ipam: Ipam { driver: "default", options: BTreeMap::new(), config: pools.collect() },
            internal: network.internal,
            containers: reply.endpoints.into_iter().map(|e| (e.id.clone(), container(e))).collect(),
            options: network.options,
            labels: network.labels,
            vni: Some(network.vni).filter(|vni| *vni != 0),
            mtu: reply.mtu,
            interface: reply.interface,
            here: reply.here,
            usage: reply.usage.into_iter().map(usage).collect(),
            host_routes: reply.host_routes,
            host_route_note: reply.host_route_note,
            members: reply.members.into_iter().map(member).collect(),
        }
    }
}
