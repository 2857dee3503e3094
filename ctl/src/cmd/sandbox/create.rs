//! `ovctl sandbox create`.

use std::{num::NonZeroU32, path::PathBuf};

use clap::Args;

use crate::{
    attachment::{Given, Network},
    cli::Context,
    failure::{Exit, Failure},
    output::warn_unconfirmed,
    wanted::{Wanted, Where},
};

/// `sandbox create`
#[derive(Args, Debug)]
pub(crate) struct Create {
    /// Network to attach, with what is chosen there: NETWORK[:ip=A][,ip6=A][,mac=M][,alias=N][,ifname=NAME]…,
    /// or Docker's name=NETWORK,ip=A,…; put a choice with a comma in double quotes; may be given several
    /// times. Or one of: none (the default), container:NAME to share the namespace of another sandbox
    #[arg(long = "network", alias = "net", value_name = "NETWORK[:CHOICES]", hide_possible_values = true)]
    networks: Vec<Network>,
    /// Adopt the network namespace of this process; the sandbox is removed when the process ends
    #[arg(long, conflicts_with = "netns", value_parser = parse_pid)]
    pid: Option<NonZeroU32>,
    /// Adopt the network namespace at this path, such as /run/netns/NAME
    #[arg(long, value_name = "PATH")]
    netns: Option<PathBuf>,
    /// Name of the sandbox; one is made up if absent
    name: Option<String>,
    // Last: it has headings of its own in the help.
    #[command(flatten)]
    wanted: Wanted,
}

/// The number of a process.
fn parse_pid(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_reason| "expected the number of a process, such as 4711".to_owned())
}

impl Create {
    /// # Errors
    /// What the agent refuses, or that it cannot be reached.
    pub(super) async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        let adopted = [self.pid.map(|_pid| "--pid"), self.netns.as_ref().map(|_path| "--netns")];
        let others: Vec<Given> = adopted.into_iter().flatten().map(Given::Sandbox).collect();
        let mut request = match self.wanted.on(self.networks, None, &others)? {
            Where::Sandbox(request) => *request,
            Where::Host { .. } => {
                return Err(Failure::Usage(
                    "--network host: a sandbox is a network namespace of its own, and the host's cannot be \
                     used for it: start the process with ovctl run --network host, or choose a network"
                        .into(),
                ));
            }
        };
        let netns = self.netns.map(std::path::absolute).transpose();
        let netns = netns.map_err(Failure::local("make the path of --netns absolute"))?;
        let netns = netns.unwrap_or_default().into_os_string().into_string();
        request.netns = netns.map_err(|path| Failure::Usage(format!("--netns {path:?} is not UTF-8")))?;
        request.pid = self.pid.map_or(0, NonZeroU32::get);
        request.name = self.name.unwrap_or_default();
        let reply = cx.agent().await?.create_sandbox(request).await?.into_inner();
        warn_unconfirmed(&reply.unconfirmed);
        cx.out.line(&reply.sandbox.unwrap_or_default().name)?;
        Ok(Exit::DONE)
    }
}
