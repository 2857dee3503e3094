//! `ovctl network`: `create` and `inspect` have their own files.

mod create;
mod inspect;

use clap::{Args, Subcommand};
use ovnet_proto::v1 as pb;

use super::shape;
use crate::{
    attachment::{Attachment, Choices},
    cli::Context,
    cmd::confirm::confirm,
    failure::{Exit, Failure},
    filter::{Filter, admits, has_label},
    output::{Column, Presentation, pairs, rfc3339, say, shown_id, warn_unconfirmed},
};

/// `network …`
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a network and print its id
    Create(create::Create),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(List),
    /// Show networks with the endpoints of all hosts
    Inspect(inspect::Inspect),
    /// Remove networks that have no endpoints
    #[command(visible_alias = "remove")]
    Rm(Remove),
    /// Remove all networks that have no endpoints
    Prune(Prune),
    /// Connect a sandbox to a network; returns when the other hosts reach it
    Connect(Connect),
    /// Disconnect a sandbox from a network
    Disconnect(Disconnect),
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
            Self::Prune(prune) => prune.run(cx).await,
            Self::Connect(connect) => connect.run(cx).await,
            Self::Disconnect(disconnect) => disconnect.run(cx).await,
        }
    }
}

const COLUMNS: &[Column] = &[
    Column::shown("ID", "NETWORK ID"),
    Column::shown("Name", "NAME"),
    Column::shown("Driver", "DRIVER"),
    Column::shown("Scope", "SCOPE"),
    Column::extra("CreatedAt", "CREATED AT"),
    Column::extra("IPv4", "IPV4"),
    Column::extra("IPv6", "IPV6"),
    Column::extra("Internal", "INTERNAL"),
    Column::extra("Labels", "LABELS"),
    Column::extra("Subnets", "SUBNETS"),
    Column::extra("VNI", "VNI"),
];

const FILTERS: &[&str] = &["driver", "id", "label", "name", "scope"];

/// `network ls`
#[derive(Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    how: Presentation,
    /// Only networks with driver=D, scope=global or scope=local, label=K[=V], or a part of name=N or id=I
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = |text: &str| Filter::parse(text, FILTERS))]
    filters: Vec<Filter>,
}

impl List {
    async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        let reply = cx.agent().await?.list_networks(pb::ListNetworksRequest {}).await?;
        let mut networks = reply.into_inner().networks;
        networks.retain(|network| {
            admits(&self.filters, |key, value| match key {
                "driver" => network.driver == value,
                "scope" => network.scope == value,
                "name" => network.name.contains(value),
                "id" => network.id.contains(value),
                _ => has_label(&network.labels, value),
            })
        });
        networks.sort_by(|left, right| left.name.cmp(&right.name).then_with(|| left.id.cmp(&right.id)));
        let rows = networks.into_iter().map(|network| {
            let subnets: Vec<&str> = network.subnets.iter().map(|subnet| subnet.prefix.as_str()).collect();
            let ipv4 = subnets.iter().any(|subnet| !subnet.contains(':'));
            // Text throughout, as in Docker's lists.
            [
                shown_id(&network.id, self.how.no_trunc).into(),
                network.name.clone().into(),
                network.driver.clone().into(),
                network.scope.clone().into(),
                rfc3339(network.created_ms).into(),
                ipv4.to_string().into(),
                network.ipv6.to_string().into(),
                network.internal.to_string().into(),
                pairs(&network.labels).into(),
                subnets.join(",").into(),
                Some(network.vni)
                    .filter(|vni| *vni != 0)
                    .map(|vni| vni.to_string())
                    .unwrap_or_default()
                    .into(),
            ]
        });
        shape::list(cx, &self.how, COLUMNS, "ID", rows)
    }
}

/// `network rm`
#[derive(Args, Debug)]
pub(crate) struct Remove {
    /// Pass over networks that do not exist
    #[arg(short, long)]
    force: bool,
    /// Names, ids or unique beginnings of ids
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
}

impl Remove {
    async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        shape::remove(cx, self.networks, async |agent, network| {
            match agent.remove_network(pb::RemoveNetworkRequest { network }).await {
                Err(status) if self.force && status.code() == tonic::Code::NotFound => Ok(None),
                removed => Ok(Some(removed?.into_inner().name)),
            }
        })
        .await
    }
}

/// `network prune`
#[derive(Args, Debug)]
pub(crate) struct Prune {
    /// Do not ask for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Prune {
    async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        if !self.force {
            confirm("This will remove all networks that have no endpoints on any host.")?;
        }
        let names = cx.agent().await?.prune_networks(pb::PruneNetworksRequest {}).await?.into_inner().names;
        if !names.is_empty() {
            say("Deleted Networks:");
        }
        names.iter().try_for_each(|name| cx.out.line(name))?;
        Ok(Exit::DONE)
    }
}

/// `network connect`
#[derive(Args, Debug)]
pub(crate) struct Connect {
    /// Name, id or a unique beginning of the id
    network: String,
    /// The sandbox on this host
    sandbox: String,
    // Last: it has a heading of its own in the help.
    #[command(flatten)]
    choices: Choices,
}

impl Connect {
    async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        let attachment = Attachment::of(self.network, self.choices).message()?;
        let request = pb::ConnectRequest { sandbox: self.sandbox, attachment: Some(attachment) };
        let reply = cx.agent().await?.connect_sandbox(request).await?.into_inner();
        warn_unconfirmed(&reply.unconfirmed);
        Ok(Exit::DONE)
    }
}

/// `network disconnect`
#[derive(Args, Debug)]
pub(crate) struct Disconnect {
    /// Disconnect an endpoint of another node too, by its name: for a node that will not come back
    #[arg(short, long)]
    force: bool,
    /// Name, id or a unique beginning of the id
    network: String,
    /// The sandbox on this host
    sandbox: String,
}

impl Disconnect {
    async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        let Self { force, network, sandbox } = self;
        cx.agent().await?.disconnect_sandbox(pb::DisconnectRequest { network, sandbox, force }).await?;
        Ok(Exit::DONE)
    }
}
