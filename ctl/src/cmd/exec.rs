//! `ovctl exec`: a further process in a sandbox that exists, made by us or adopted.

use std::ffi::OsString;

use clap::Args;
use ovnet_proto::v1 as pb;

use crate::{
    cli::Context,
    failure::{Exit, Failure},
    process::{Launch, Options, Place, Signals, check_privilege, wait},
};

/// `exec`
#[derive(Args, Debug)]
#[command(
    after_help = "Exit status: the command's own, 128+N if signal N ended it, 125 if the sandbox cannot be \
                  entered, 126 if the command cannot be executed, 127 if it does not exist."
)]
pub(crate) struct Exec {
    #[command(flatten)]
    options: Options,
    /// The sandbox on this host
    sandbox: String,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Exec {
    /// # Errors
    /// What the agent refuses, that it cannot be reached, or that the command does not start.
    pub(crate) async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        check_privilege("exec")?;
        let request = pb::InspectSandboxRequest { sandbox: self.sandbox.clone() };
        let detail = cx.agent().await?.inspect_sandbox(request).await?.into_inner();
        let sandbox = detail.sandbox.unwrap_or_default();
        if detail.state == "gone" {
            let from = if sandbox.pid == 0 { String::new() } else { format!(" (process {})", sandbox.pid) };
            return Err(Failure::Refused(format!(
                "the network namespace {}{from} of the sandbox {name} is gone: remove the sandbox with ovctl \
                 sandbox rm {name}",
                sandbox.netns,
                name = sandbox.name
            )));
        }
        if detail.state == "left" {
            return Err(Failure::Refused(format!(
                "the sandbox {name} was removed, and its namespace exists only for the sandboxes that share \
                 it: exec in one of those, see ovctl sandbox ls --format '{{{{.Name}}}} {{{{.Shares}}}}'",
                name = sandbox.name
            )));
        }
        let place = Place::of(sandbox, detail.files_dir);
        let mut signals = Signals::listen()?;
        let launch =
            Launch { place, options: self.options, detach: None, attended: None, command: self.command };
        let mut child = launch.start().await?;
        wait(&mut child, &mut signals).await
    }
}
