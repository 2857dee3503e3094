//! `ovctl node`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use ovnet_proto::v1 as pb;
use serde::Serialize;

use super::shape;
use crate::{
    cli::Context,
    failure::{Exit, Failure},
    filter::{Filter, admits},
    output::{Column, InspectFormat, Presentation, rfc3339, say, shown_id},
};

/// `node …`
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the nodes; * marks this one
    #[command(visible_alias = "list")]
    Ls(List),
    /// Show nodes
    Inspect(Inspect),
    /// Forget nodes that will not come back, with their endpoints
    #[command(visible_alias = "remove")]
    Rm(Remove),
}

impl Command {
    /// # Errors
    /// What the agent refuses, or that it cannot be reached.
    pub(crate) async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        match self {
            Self::Ls(list) => list.run(cx).await,
            Self::Inspect(inspect) => inspect.run(cx).await,
            Self::Rm(remove) => remove.run(cx).await,
        }
    }
}

const COLUMNS: &[Column] = &[
    Column::shown("ID", "NODE ID"),
    Column::shown("Name", "NAME"),
    Column::shown("State", "STATE"),
    Column::shown("Address", "ADDRESS"),
    Column::shown("Version", "VERSION"),
    Column::shown("Endpoints", "ENDPOINTS"),
    // Printed as the * after the id.
    Column::extra("Self", "SELF"),
    Column::extra("Gossip", "GOSSIP"),
    Column::extra("Lease", "LEASE"),
    Column::extra("CreatedAt", "CREATED AT"),
    // Printed below the table, on stderr.
    Column::extra("Warnings", "WARNINGS"),
];

const FILTERS: &[&str] = &["name", "state"];

/// `node ls`
#[derive(Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    how: Presentation,
    /// Only nodes with state=S or a part of name=N
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = |text: &str| Filter::parse(text, FILTERS))]
    filters: Vec<Filter>,
}

impl List {
    async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        let reply = cx.agent().await?.list_nodes(pb::ListNodesRequest {}).await?;
        let mut views: Vec<View> = reply.into_inner().nodes.into_iter().map(View::of).collect();
        views.retain(|view| {
            admits(&self.filters, |key, value| match key {
                "state" => view.state == value,
                _ => view.name.contains(value),
            })
        });
        views.sort_by(|left, right| (&left.name, &left.id).cmp(&(&right.name, &right.id)));
        let warnings: Vec<String> =
            views.iter().flat_map(|view| &view.warnings).map(|text| format!("warning: {text}")).collect();
        let rows = views.into_iter().map(|view| {
            [
                shown_id(&view.id, self.how.no_trunc).into(),
                view.name.into(),
                view.state.into(),
                view.vtep.into(),
                view.version.into(),
                view.endpoints.into(),
                view.is_self.into(),
                view.gossip.into(),
                view.lease.into(),
                view.created.into(),
                view.warnings.into(),
            ]
        });
        shape::list(cx, &self.how, COLUMNS, "ID", rows)?;
        if self.how.is_table() {
            cx.out.flush()?;
            warnings.iter().for_each(|text| say(text));
        }
        Ok(Exit::DONE)
    }
}

/// `node inspect`
#[derive(Args, Debug)]
pub(crate) struct Inspect {
    /// Print as `json` (on one line) or by a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<InspectFormat>,
    /// Names, ids, unique beginnings of ids, or self
    #[arg(default_value = "self", value_name = "NODE")]
    nodes: Vec<String>,
}

impl Inspect {
    async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        shape::inspect(cx, self.format, self.nodes, async |agent, node| {
            let reply = agent.inspect_node(pb::InspectNodeRequest { node }).await?;
            Ok(View::of(reply.into_inner()))
        })
        .await
    }
}

/// `node rm`
#[derive(Args, Debug)]
pub(crate) struct Remove {
    /// Forget a node although it seems to live
    #[arg(short, long)]
    force: bool,
    /// Names, ids or unique beginnings of ids
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
}

impl Remove {
    async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        shape::remove(cx, self.nodes, async |agent, name| {
            let request = pb::RemoveNodeRequest { node: name.clone(), force: self.force };
            let endpoints = agent.remove_node(request).await?.into_inner().endpoints;
            if endpoints > 0 {
                say(&format!("removed with {name}: {endpoints} endpoints"));
            }
            Ok(Some(name))
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
    state: String,
    #[serde(rename = "Self")]
    is_self: bool,
    lease: bool,
    #[serde(rename = "VTEP")]
    vtep: String,
    gossip: String,
    version: String,
    #[serde(rename = "UnderlayMTU")]
    underlay_mtu: u32,
    #[serde(rename = "VXLANPort")]
    vxlan_port: u32,
    endpoints: u32,
    warnings: Vec<String>,
    counters: BTreeMap<String, String>,
}

impl View {
    fn of(detail: pb::NodeDetail) -> Self {
        let node = detail.node.unwrap_or_default();
        Self {
            name: node.name,
            id: node.id,
            created: rfc3339(node.created_ms),
            state: detail.state,
            is_self: detail.is_self,
            lease: detail.lease,
            vtep: node.vtep,
            gossip: node.gossip,
            version: node.version,
            underlay_mtu: node.underlay_mtu,
            vxlan_port: node.vxlan_port,
            endpoints: detail.endpoints,
            warnings: detail.warnings,
            counters: detail.counters,
        }
    }
}
