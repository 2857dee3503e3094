//! `ovctl endpoint`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use ovnet_proto::v1 as pb;
use serde::Serialize;

use super::{address_of, shape};
use crate::{
    cli::Context,
    failure::{Exit, Failure},
    filter::{Filter, admits},
    output::{Column, InspectFormat, Presentation, rfc3339, shown_id},
    port::{Binding, bindings, listed},
};

/// `endpoint …`
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the endpoints of all hosts
    #[command(visible_alias = "list")]
    Ls(List),
    /// Show endpoints
    Inspect(Inspect),
}

impl Command {
    /// # Errors
    /// What the agent refuses, or that it cannot be reached.
    pub(crate) async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        match self {
            Self::Ls(list) => list.run(cx).await,
            Self::Inspect(inspect) => inspect.run(cx).await,
        }
    }
}

const COLUMNS: &[Column] = &[
    Column::shown("ID", "ENDPOINT ID"),
    Column::shown("Name", "NAME"),
    Column::shown("Network", "NETWORK"),
    Column::shown("Node", "NODE"),
    Column::shown("Sandbox", "SANDBOX"),
    Column::shown("Address", "ADDRESS"),
    Column::shown("MAC", "MAC"),
    Column::extra("Aliases", "ALIASES"),
    Column::extra("Interface", "INTERFACE"),
    Column::extra("Ports", "PORTS"),
    Column::extra("CreatedAt", "CREATED AT"),
];

const FILTERS: &[&str] = &["name", "network", "node", "sandbox"];

/// `endpoint ls`
#[derive(Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    how: Presentation,
    /// Only endpoints of network=N, node=N, sandbox=S, or a part of name=N
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = |text: &str| Filter::parse(text, FILTERS))]
    filters: Vec<Filter>,
    /// Only those of this network: name, id or a unique beginning of the id
    network: Option<String>,
}

impl List {
    async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        let request = pb::ListEndpointsRequest { network: self.network.unwrap_or_default() };
        let reply = cx.agent().await?.list_endpoints(request).await?;
        let mut views: Vec<View> = reply.into_inner().endpoints.into_iter().map(View::of).collect();
        views.retain(|view| {
            admits(&self.filters, |key, value| match key {
                "network" => view.network == value || view.network_id == value,
                "node" => view.node == value || view.node_id == value,
                "sandbox" => view.sandbox == value,
                _ => view.name.contains(value),
            })
        });
        views.sort_by(|left, right| (&left.network, &left.name).cmp(&(&right.network, &right.name)));
        let rows = views.into_iter().map(|view| {
            [
                shown_id(&view.id, self.how.no_trunc).into(),
                view.name.into(),
                view.network.into(),
                view.node.into(),
                view.sandbox.into(),
                view.addresses.join(",").into(),
                view.mac_address.into(),
                view.aliases.join(",").into(),
                view.interface.into(),
                view.listed.into(),
                view.created.into(),
            ]
        });
        shape::list(cx, &self.how, COLUMNS, "ID", rows)
    }
}

/// `endpoint inspect`
#[derive(Args, Debug)]
pub(crate) struct Inspect {
    /// Print as `json` (on one line) or by a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<InspectFormat>,
    /// Ids, unique beginnings of ids, or NETWORK/NAME
    #[arg(required = true, value_name = "ENDPOINT")]
    endpoints: Vec<String>,
}

impl Inspect {
    async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        shape::inspect(cx, self.format, self.endpoints, async |agent, endpoint| {
            let reply = agent.inspect_endpoint(pb::InspectEndpointRequest { endpoint }).await?;
            Ok(View::of(reply.into_inner()))
        })
        .await
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct View {
    name: String,
    id: String,
    created: String,
    network: String,
    #[serde(rename = "NetworkID")]
    network_id: String,
    node: String,
    #[serde(rename = "NodeID")]
    node_id: String,
    sandbox: String,
    interface: String,
    mac_address: String,
    #[serde(rename = "IPv4Address")]
    ipv4_address: String,
    #[serde(rename = "IPv6Address")]
    ipv6_address: String,
    addresses: Vec<String>,
    aliases: Vec<String>,
    #[serde(flatten)]
    extras: Extras,
    /// The ports as lists show them.
    #[serde(skip)]
    listed: String,
}

/// What not every endpoint has.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Extras {
    ports: BTreeMap<String, Vec<Binding>>,
    #[serde(rename = "LinkLocalIPs")]
    link_local_ips: Vec<String>,
    gw_priority: i32,
    links: Vec<String>,
    sysctls: BTreeMap<String, String>,
}

impl Extras {
    pub(super) fn of(endpoint: &pb::Endpoint) -> Self {
        let link = |link: &pb::EndpointLink| format!("{}:{}", link.endpoint, link.alias);
        Self {
            ports: bindings([endpoint]),
            link_local_ips: endpoint.link_local.clone(),
            gw_priority: endpoint.gateway_priority,
            links: endpoint.links.iter().map(link).collect(),
            sysctls: endpoint.sysctls.clone(),
        }
    }
}

impl View {
    fn of(detail: pb::EndpointDetail) -> Self {
        let endpoint = detail.endpoint.unwrap_or_default();
        Self {
            ipv4_address: address_of(&endpoint, false),
            ipv6_address: address_of(&endpoint, true),
            extras: Extras::of(&endpoint),
            listed: listed([&endpoint]),
            name: endpoint.name,
            id: endpoint.id,
            created: rfc3339(endpoint.created_ms),
            network: detail.network.map_or_else(|| endpoint.network_id.clone(), |network| network.name),
            network_id: endpoint.network_id,
            node: detail.node.map_or_else(|| endpoint.node_id.clone(), |node| node.name),
            node_id: endpoint.node_id,
            sandbox: endpoint.sandbox,
            interface: endpoint.ifname,
            mac_address: endpoint.mac,
            addresses: endpoint.addresses,
            aliases: endpoint.aliases,
        }
    }
}
