//! `ovctl sandbox`.

use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf};

use clap::{Args, Subcommand};
use ovnet_proto::v1 as pb;
use serde::Serialize;

use super::address_of;
use crate::{
    attachment::Attachment,
    cli::Context,
    failure::{Exit, Failure, Tally},
    filter::{Filter, admits},
    output::{Column, InspectFormat, Inspection, Listing, Presentation, rfc3339, shown_id, warn_unconfirmed},
};

/// `sandbox …`
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a sandbox, or adopt a network namespace as one, and print its name
    Create(Create),
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

/// `sandbox create`
#[derive(Args, Debug)]
pub(crate) struct Create {
    /// Network to attach, with what is chosen there: NET[:ip=A][,ip6=A][,mac=M][,alias=N]; may be given several times
    #[arg(long = "network", value_name = "NETWORK[:CHOICES]")]
    networks: Vec<Attachment>,
    /// Adopt the network namespace of this process; the sandbox goes when the process does
    #[arg(long, conflicts_with = "netns", value_parser = parse_pid)]
    pid: Option<NonZeroU32>,
    /// Adopt the network namespace at this path, such as /run/netns/NAME
    #[arg(long, value_name = "PATH")]
    netns: Option<PathBuf>,
    /// Hostname of what `run` and `exec` start in it, if not the name
    #[arg(long)]
    hostname: Option<String>,
    /// Name of the sandbox; one is made up if absent
    name: Option<String>,
}

/// The number of a process.
fn parse_pid(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_reason| "expected the number of a process, such as 4711".to_owned())
}

impl Create {
    async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        let netns = self.netns.map(std::path::absolute).transpose();
        let netns = netns.map_err(Failure::local("make the path of --netns absolute"))?;
        let netns = netns.unwrap_or_default().into_os_string().into_string();
        let request = pb::CreateSandboxRequest {
            name: self.name.unwrap_or_default(),
            netns: netns.map_err(|path| Failure::Usage(format!("--netns {path:?} is not UTF-8")))?,
            pid: self.pid.map_or(0, NonZeroU32::get),
            attachments: self.networks.iter().map(Attachment::message).collect(),
            hostname: self.hostname.unwrap_or_default(),
            ..pb::CreateSandboxRequest::default()
        };
        let reply = cx.agent().await?.create_sandbox(request).await?.into_inner();
        warn_unconfirmed(&reply.unconfirmed);
        cx.out.line(&reply.sandbox.unwrap_or_default().name)?;
        Ok(Exit::DONE)
    }
}

const COLUMNS: &[Column] = &[
    Column::shown("ID", "SANDBOX ID"),
    Column::shown("Name", "NAME"),
    Column::shown("State", "STATE"),
    Column::shown("Networks", "NETWORKS"),
    Column::shown("Addresses", "ADDRESSES"),
    Column::shown("NetNS", "NETNS"),
    Column::extra("Hostname", "HOSTNAME"),
    Column::extra("Pid", "PID"),
    Column::extra("Adopted", "ADOPTED"),
    Column::extra("CreatedAt", "CREATED AT"),
];

const FILTERS: &[&str] = &["name", "network", "state"];

/// `sandbox ls`
#[derive(Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    how: Presentation,
    /// Only sandboxes of network=N, with state=up or state=gone, or a part of name=N
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
        // Sandboxes go by their names: unique on the host, and what `sandbox create` prints.
        let mut listing = Listing::new(COLUMNS, "Name");
        for view in views {
            let names: Vec<&str> = view.networks.keys().map(String::as_str).collect();
            let addresses: Vec<&str> = view.networks.values().flat_map(Attached::addresses).collect();
            listing.push([
                shown_id(&view.id, self.how.no_trunc).into(),
                view.name.clone().into(),
                view.state.clone().into(),
                names.join(",").into(),
                addresses.join(",").into(),
                view.netns.clone().into(),
                view.hostname.clone().into(),
                view.pid.to_string().into(),
                view.adopted.to_string().into(),
                view.created.clone().into(),
            ]);
        }
        listing.print(&mut cx.out, &self.how)?;
        Ok(Exit::DONE)
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
        let mut agent = cx.agent().await?;
        let mut tally = Tally::default();
        let mut inspection = Inspection::new(self.format.as_ref());
        for sandbox in self.sandboxes {
            let reply = agent.inspect_sandbox(pb::InspectSandboxRequest { sandbox }).await;
            if let Some(reply) = tally.note(reply.map_err(Failure::from))? {
                inspection.push(&mut cx.out, &View::of(reply.into_inner()))?;
            }
        }
        inspection.finish(&mut cx.out)?;
        Ok(tally.exit())
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
        let mut agent = cx.agent().await?;
        let mut tally = Tally::default();
        for sandbox in self.sandboxes {
            let request = pb::RemoveSandboxRequest { sandbox, force: self.force };
            let removed = agent.remove_sandbox(request).await.map_err(Failure::from);
            if let Some(reply) = tally.note(removed)? {
                cx.out.line(&reply.into_inner().name)?;
            }
        }
        Ok(tally.exit())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct View {
    name: String,
    id: String,
    created: String,
    state: String,
    #[serde(rename = "NetNS")]
    netns: String,
    adopted: bool,
    pid: u32,
    hostname: String,
    files_dir: String,
    networks: BTreeMap<String, Attached>,
}

/// An endpoint of the sandbox, under its network's name.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Attached {
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
}

impl Attached {
    fn of(endpoint: pb::Endpoint) -> Self {
        Self {
            ipv4_address: address_of(&endpoint, false),
            ipv6_address: address_of(&endpoint, true),
            network_id: endpoint.network_id,
            endpoint_id: endpoint.id,
            interface: endpoint.ifname,
            mac_address: endpoint.mac,
            aliases: endpoint.aliases,
        }
    }

    fn addresses(&self) -> impl Iterator<Item = &str> {
        [self.ipv4_address.as_str(), self.ipv6_address.as_str()].into_iter().filter(|text| !text.is_empty())
    }
}

impl View {
    fn of(detail: pb::SandboxDetail) -> Self {
        let names: BTreeMap<String, String> =
            detail.networks.into_iter().map(|network| (network.id, network.name)).collect();
        let name = |id: &str| names.get(id).cloned().unwrap_or_else(|| id.to_owned());
        let sandbox = detail.sandbox.unwrap_or_default();
        Self {
            name: sandbox.name,
            id: sandbox.id,
            created: rfc3339(sandbox.created_ms),
            state: detail.state,
            netns: sandbox.netns,
            adopted: sandbox.adopted,
            pid: sandbox.pid,
            hostname: sandbox.hostname,
            files_dir: detail.files_dir,
            networks: detail.endpoints.into_iter().map(|e| (name(&e.network_id), Attached::of(e))).collect(),
        }
    }
}
