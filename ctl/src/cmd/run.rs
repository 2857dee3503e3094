//! `ovctl run`: a new sandbox and a process in it; if the process cannot start, the sandbox goes again.

use std::{ffi::OsString, path::PathBuf};

use clap::Args;
use ovnet_proto::v1 as pb;

use crate::{
    attachment::Attachment,
    cli::Context,
    failure::{Exit, Failure, chain},
    output::{say, warn_unconfirmed},
    process::{Attended, Launch, Options, Place, Signals, check_privilege, wait},
};

/// `run`
#[derive(Args, Debug)]
#[command(after_help = "The sandbox stays after the command's end, for ovctl exec, unless --rm is given.\n\
    Exit status: the command's own, 128+N if signal N ended it, 125 if the sandbox cannot be entered, 126 if the \
    command cannot be executed, 127 if there is none.")]
pub(crate) struct Run {
    /// Name of the sandbox; one is made up if absent
    #[arg(long)]
    name: Option<String>,
    /// Hostname that the command sees, if not the sandbox's name
    #[arg(long)]
    hostname: Option<String>,
    /// Network to attach, with what is chosen there: NET[:ip=A][,ip6=A][,mac=M][,alias=N]; may be given several times
    #[arg(long = "network", value_name = "NETWORK[:CHOICES]")]
    networks: Vec<Attachment>,
    /// Leave the command running and print the sandbox's name
    #[arg(short, long)]
    detach: bool,
    /// With --detach: append the command's output to this file; otherwise nobody keeps it
    #[arg(long, value_name = "FILE", requires = "detach")]
    log: Option<PathBuf>,
    /// Remove the sandbox after the command's end
    #[arg(long)]
    rm: bool,
    #[command(flatten)]
    options: Options,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Run {
    /// # Errors
    /// What the agent refuses, that it cannot be reached, or that the command does not start.
    pub(crate) async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        check_privilege("run")?;
        let mut signals = Signals::listen()?;
        let request = pb::CreateSandboxRequest {
            name: self.name.unwrap_or_default(),
            attachments: self.networks.iter().map(Attachment::message).collect(),
            hostname: self.hostname.unwrap_or_default(),
            ..pb::CreateSandboxRequest::default()
        };
        let reply = cx.agent().await?.create_sandbox(request).await?.into_inner();
        warn_unconfirmed(&reply.unconfirmed);
        let sandbox = reply.sandbox.unwrap_or_default();
        let place = Place { netns: sandbox.netns, files_dir: reply.files_dir, hostname: sandbox.hostname };
        if let Some(signal) = signals.pending() {
            remove(cx, &sandbox.name).await;
            return Ok(Exit(u8::try_from(128 + signal as i32).unwrap_or(255)));
        }
        let log = self.log.unwrap_or_else(|| "/dev/null".into());
        let detach = self.detach.then_some(log);
        let attended = (self.detach && self.rm)
            .then(|| Attended { host: cx.host.socket().into(), sandbox: sandbox.name.clone() });
        let launch = Launch { place, options: self.options, detach, attended, command: self.command };
        let mut child = match launch.start().await {
            Ok(child) => child,
            Err(failure) => {
                remove(cx, &sandbox.name).await;
                return Err(failure);
            }
        };
        if self.detach {
            cx.out.line(&sandbox.name)?;
            return Ok(Exit::DONE);
        }
        let exit = wait(&mut child, &mut signals).await;
        if self.rm {
            remove(cx, &sandbox.name).await;
        }
        exit
    }
}

/// Removes a sandbox that `run` made, and tells it if that fails. Over a new connection: the agent may have been restarted meanwhile.
pub(super) async fn remove(cx: &Context, sandbox: &str) {
    let removed = async {
        let request = pb::RemoveSandboxRequest { sandbox: sandbox.to_owned(), force: true };
        match cx.agent().await?.remove_sandbox(request).await {
            // It is gone: somebody else removed it.
            Err(status) if status.code() == tonic::Code::NotFound => Ok(()),
            removed => removed.map(|_reply| ()).map_err(Failure::from),
        }
    };
    if let Err(failure) = removed.await {
        say(&format!(
            "ovctl: the sandbox {sandbox} is left: {}; remove it with ovctl sandbox rm -f {sandbox}",
            chain(&failure)
        ));
    }
}
