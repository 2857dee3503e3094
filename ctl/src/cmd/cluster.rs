//! `ovctl cluster`.

use clap::{Args, Subcommand};
use ovnet_proto::v1 as pb;

use super::confirm::confirm;
use crate::{
    cli::Context,
    failure::{Exit, Failure},
    output::say,
};

/// `cluster …`
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Follow a store that lost its records: all hosts of the cluster remove what it does not have
    ///
    /// A host that finds its store empty, foreign, or without most of what it runs holds: its networks go on, it removes
    /// nothing, and refuses every change. If the records can be restored, restore them instead: hosts go on by themselves
    /// then. One host says this for all hosts of the cluster.
    AcceptEmpty(AcceptEmpty),
}

impl Command {
    /// # Errors
    /// What the agent refuses, or that it cannot be reached.
    pub(crate) async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        match self {
            Self::AcceptEmpty(accept) => accept.run(cx).await,
        }
    }
}

/// `cluster accept-empty`
#[derive(Args, Debug)]
pub(crate) struct AcceptEmpty {
    /// Do not ask for confirmation
    #[arg(short, long)]
    force: bool,
}

impl AcceptEmpty {
    async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        let mut agent = cx.agent().await?;
        let about = agent.accept_empty(pb::AcceptEmptyRequest { go_ahead: false }).await?.into_inner();
        if !self.force {
            say(&about.why);
            confirm(match about.whole_cluster {
                true => {
                    "Every host of this cluster will remove the networks and endpoints that the store does not have."
                }
                false => "This host will remove the sandboxes and networks that its own store does not have.",
            })?;
        }
        agent.accept_empty(pb::AcceptEmptyRequest { go_ahead: true }).await?;
        say(match about.whole_cluster {
            true => "Accepted: this cluster now follows the store as it is.",
            false => "Accepted: this host removes what its own store does not have.",
        });
        Ok(Exit::DONE)
    }
}
