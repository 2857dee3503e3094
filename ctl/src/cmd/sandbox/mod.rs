//! `ovctl sandbox`: `create` and what is shown of a sandbox have their own files.

mod create;
mod view;

use clap::{Args, Subcommand};
use ovnet_proto::v1 as pb;

use self::view::{Attached, View};
use super::shape;
use crate::{
    cli::Context,
    failure::{Exit, Failure},
    filter::{Filter, admits},
    output::{Column, InspectFormat, Presentation, shown_id},
};

/// `sandbox …`
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a sandbox, or adopt a network namespace as one, and print its name
    Create(Box<create::Create>),
    /// List the sandboxes of this host
    #[command(visible_alias = "list")]
    Ls(List),
    /// Show sandboxes with their endpoints
    Inspect(Inspect),
    /// Remove sandboxes with their endpoints
    #[command(visible_alias = "remove")]
    Rm(Remove),
}

impl Command {
    /// # Errors
    /// What the agent refuses, or that it cannot be reached.
    pub(crate) async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        match self {
            Self::Create(create) => create.run(cx).await,
            Self::Ls(list) => list.run(cx).await,
            Self::Inspect(inspect) => inspect.run(cx).await,
            Self::Rm(remove) => remove.run(cx).await,
        }
    }
}

const COLUMNS: &[Column] = &[
    Column::shown("ID", "SANDBOX ID"),
    Column::shown("Name", "NAME"),
    Column::shown("State", "STATE"),
    Column::shown("Networks", "NETWORKS"),
    Column::shown("Addresses", "ADDRESSES"),
    Column::shown("Ports", "PORTS"),
    Column::shown("NetNS", "NETNS"),
    Column::extra("Hostname", "HOSTNAME"),
    Column::extra("Pid", "PID"),
    Column::extra("Adopted", "ADOPTED"),
    Column::extra("Shares", "SHARES"),
    Column::extra("CreatedAt", "CREATED AT"),
];

const FILTERS: &[&str] = &["name", "network", "state"];

/// `sandbox ls`
#[derive(Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    how: Presentation,
    /// Only sandboxes of network=N, with state=up, state=gone or state=left, or a part of name=N
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = |text: &str| Filter::parse(text, FILTERS))]
    filters: Vec<Filter>,
}

impl List {
    async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        let reply = cx.agent().await?.list_sandboxes(pb::ListSandboxesRequest {}).await?;
        let mut views: Vec<View> = reply.into_inner().sandboxes.into_iter().map(View::of).collect();
        views.retain(|view| {
            admits(&self.filters, |key, value| match key {
                "state" => view.state == value,
                "network" => view.networks.contains_key(value),
                _ => view.name.contains(value),
            })
        });
        views.sort_by(|left, right| left.name.cmp(&right.name));
        let rows = views.into_iter().map(|view| {
            let names: Vec<&str> = view.networks.keys().map(String::as_str).collect();
            let addresses: Vec<&str> = view.networks.values().flat_map(Attached::addresses).collect();
            [
                shown_id(&view.id, self.how.no_trunc).into(),
                view.name.clone().into(),
                view.state.clone().into(),
                names.join(",").into(),
                addresses.join(",").into(),
                view.listed.clone().into(),
                view.netns.clone().into(),
                view.hostname.clone().into(),
                view.pid.to_string().into(),
                view.adopted.to_string().into(),
                view.shares.clone().into(),
                view.created.clone().into(),
            ]
        });
        // A sandbox's name is unique on the host, and is what `sandbox create` prints.
        shape::list(cx, &self.how, COLUMNS, "Name", rows)
    }
}

/// `sandbox inspect`
#[derive(Args, Debug)]
pub(crate) struct Inspect {
    /// Print as `json` (on one line) or by a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<InspectFormat>,
    /// Names of sandboxes
    #[arg(required = true, value_name = "SANDBOX")]
    sandboxes: Vec<String>,
}

impl Inspect {
    async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        shape::inspect(cx, self.format, self.sandboxes, async |agent, sandbox| {
            let reply = agent.inspect_sandbox(pb::InspectSandboxRequest { sandbox }).await?;
            Ok(View::of(reply.into_inner()))
        })
        .await
    }
}

/// `sandbox rm`
#[derive(Args, Debug)]
pub(crate) struct Remove {
    /// Remove although processes run in it
    #[arg(short, long)]
    force: bool,
    /// Names of sandboxes
    #[arg(required = true, value_name = "SANDBOX")]
    sandboxes: Vec<String>,
}

impl Remove {
    async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        shape::remove(cx, self.sandboxes, async |agent, sandbox| {
            let request = pb::RemoveSandboxRequest { sandbox, force: self.force };
            Ok(Some(agent.remove_sandbox(request).await?.into_inner().name))
        })
        .await
    }
}
