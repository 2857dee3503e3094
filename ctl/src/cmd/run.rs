//! `ovctl run`: a new sandbox and a process in it; if the process cannot start, the sandbox goes again. With `--network host`,
//! a process without a sandbox.

use std::{ffi::OsString, path::PathBuf};

use clap::Args;
use ovnet_proto::v1 as pb;

use crate::{
    attachment::{Given, Network},
    cli::Context,
    failure::{Exit, Failure, chain},
    output::{say, warn_unconfirmed},
    process::{Attended, Launch, Options, Place, Signals, check_privilege, wait},
    wanted::{Wanted, Where},
};

/// The network of a sandbox for which none is chosen.
const USUAL: &str = "bridge";

/// `run`
#[derive(Args, Debug)]
#[command(after_help = "The sandbox stays after the command's end, for ovctl exec, unless --rm is given.\n\
    --ip, --alias, --publish and similar options apply to the first network; other networks take choices \
    after their name.\nExit status: the command's own, 128+N if signal N ended it, 125 if the sandbox cannot \
    be entered, 126 if the command cannot be executed, 127 if it does not exist.")]
pub(crate) struct Run {
    /// Name of the sandbox; one is made up if absent
    #[arg(long)]
    name: Option<String>,
    /// Network to attach, with what is chosen there: NETWORK[:ip=A][,ip6=A][,mac=M][,alias=N][,ifname=NAME]…,
    /// or Docker's name=NETWORK,ip=A,…; put a choice with a comma in double quotes; may be given several
    /// times. Or one of: none, host (no sandbox: the command runs on the host's network), container:NAME to
    /// share the namespace of another sandbox. The network bridge if absent
    #[arg(long = "network", alias = "net", value_name = "NETWORK[:CHOICES]", hide_possible_values = true)]
    networks: Vec<Network>,
    /// Leave the command running and print the sandbox's name, or on the host's network the command's process
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
    // Last: it has headings of its own in the help.
    #[command(flatten)]
    wanted: Wanted,
}

/// How the command of `run` goes on, wherever it runs.
struct Manner {
    options: Options,
    detach: Option<PathBuf>,
    rm: bool,
    command: Vec<OsString>,
}

impl Run {
    /// # Errors
    /// What the agent refuses, that it cannot be reached, or that the command does not start.
    pub(crate) async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        let others: Vec<Given> = self.name.iter().map(|_name| Given::Sandbox("--name")).collect();
        let place = self.wanted.on(self.networks, Some(USUAL), &others)?;
        let log = self.log.unwrap_or_else(|| "/dev/null".into());
        let detach = self.detach.then_some(log);
        let manner = Manner { options: self.options, detach, rm: self.rm, command: self.command };
        match place {
            Where::Sandbox(mut request) => {
                request.name = self.name.unwrap_or_default();
                manner.in_sandbox(cx, *request).await
            }
            Where::Host { hostname, domain } => manner.on_host(cx, hostname, domain).await,
        }
    }
}

impl Manner {
    async fn in_sandbox(self, cx: &mut Context, request: pb::CreateSandboxRequest) -> Result<Exit, Failure> {
        check_privilege("run")?;
        let mut signals = Signals::listen()?;
        let reply = cx.agent().await?.create_sandbox(request).await?.into_inner();
        warn_unconfirmed(&reply.unconfirmed);
        let sandbox = reply.sandbox.unwrap_or_default();
        if let Some(signal) = signals.pending() {
            remove(cx, &sandbox.name).await;
            return Ok(Exit(u8::try_from(128 + signal as i32).unwrap_or(255)));
        }
        let name = sandbox.name.clone();
        let detached = self.detach.is_some();
        let attended =
            (detached && self.rm).then(|| Attended { host: cx.host.socket().into(), sandbox: name.clone() });
        let place = Place::of(sandbox, reply.files_dir);
        let launch =
            Launch { place, options: self.options, detach: self.detach, attended, command: self.command };
        let mut child = match launch.start().await {
            Ok(child) => child,
            Err(failure) => {
                remove(cx, &name).await;
                return Err(failure);
            }
        };
        if detached {
            cx.out.line(&name)?;
            return Ok(Exit::DONE);
        }
        let exit = wait(&mut child, &mut signals).await;
        if self.rm {
            remove(cx, &name).await;
        }
        exit
    }

    /// Without the agent: there is nothing to make.
    async fn on_host(self, cx: &mut Context, hostname: String, domain: String) -> Result<Exit, Failure> {
        if !hostname.is_empty() || !domain.is_empty() {
            check_privilege("run with --hostname or --domainname")?;
        }
        let mut signals = Signals::listen()?;
        let place = Place { hostname, domain, ..Place::default() };
        let detached = self.detach.is_some();
        let launch = Launch {
            place,
            options: self.options,
            detach: self.detach,
            attended: None,
            command: self.command,
        };
        let mut child = launch.start().await?;
        if detached {
            cx.out.line(&child.id().map(|pid| pid.to_string()).unwrap_or_default())?;
            return Ok(Exit::DONE);
        }
        wait(&mut child, &mut signals).await
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
            "ovctl: the sandbox {sandbox} was not removed: {}; remove it with ovctl sandbox rm -f {sandbox}",
            chain(&failure)
        ));
    }
}
