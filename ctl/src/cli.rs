//! The command line: global options, and the commands with the rooms that do them.

use clap::{Parser, Subcommand};

use crate::{
    client::{self, Agent, DEFAULT_HOST, HostAddress},
    cmd,
    failure::{Exit, Failure},
    output::Out,
    process::Enter,
};

/// Networks across plain Linux hosts: drives the ovagent of this host
#[derive(Debug, Parser)]
#[command(
    name = "ovctl",
    version,
    arg_required_else_help = true,
    after_help = "Exit status: 0 done, 1 refused, 2 bad usage, 3 the agent cannot be reached or does not \
                  answer; run and exec exit with the status of their command."
)]
pub(crate) struct Cli {
    /// The agent's socket, as unix:///path or a path
    #[arg(short = 'H', long, env = "OVCTL_HOST", global = true, value_name = "ADDRESS", default_value = DEFAULT_HOST)]
    host: HostAddress,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Asking(Box<Asking>),
    #[command(flatten)]
    Local(Local),
}

/// What the agent is asked for.
#[derive(Debug, Subcommand)]
enum Asking {
    /// Create, show and remove networks, and connect sandboxes to them
    #[command(subcommand)]
    Network(cmd::network::Command),
    /// Create, show and remove sandboxes: network namespaces with endpoints
    #[command(subcommand)]
    Sandbox(cmd::sandbox::Command),
    /// Run a process in a new sandbox
    Run(Box<cmd::run::Run>),
    /// Run a process in a sandbox that exists
    Exec(cmd::exec::Exec),
    /// Show where a sandbox's published ports are reached
    Port(cmd::port::Show),
    /// Show endpoints
    #[command(subcommand)]
    Endpoint(cmd::endpoint::Command),
    /// Show nodes, and forget dead ones
    #[command(subcommand)]
    Node(cmd::node::Command),
    /// Decide for the cluster as a whole
    #[command(subcommand)]
    Cluster(cmd::cluster::Command),
    /// Show how the kernel differs from what it should be, and have the agent repair it: nothing when in sync
    Diff(cmd::diff::Diff),
    /// Print what happens, as it happens
    Events(cmd::events::Events),
    /// Look into the store
    #[command(subcommand)]
    Store(cmd::store::Command),
    /// Print the versions of ovctl and of the agent
    Version(cmd::version::Version),
    /// What is left of run -d --rm: wait for the command's end and remove the sandbox
    #[command(name = "attend-sandbox", hide = true)]
    Attend(cmd::attend::Attend),
}

/// What ovctl does alone.
#[derive(Debug, Subcommand)]
enum Local {
    /// Print a script that completes ovctl's commands in a shell
    Completion(cmd::completion::Completion),
    /// Write a man page for each command
    #[command(hide = true)]
    Man(cmd::man::Man),
    /// The last step of run and exec: enter a sandbox and become the command
    #[command(name = "enter-sandbox", hide = true)]
    Enter(Enter),
}

/// What a command works with.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where the agent is.
    pub(crate) host: HostAddress,
    /// Standard output.
    pub(crate) out: Out,
}

impl Context {
    /// A connection to the agent.
    ///
    /// # Errors
    /// The agent cannot be reached.
    pub(crate) async fn agent(&self) -> Result<Agent, Failure> {
        client::connect(&self.host).await
    }
}

impl Cli {
    /// Does what the command line asks for.
    ///
    /// # Errors
    /// Whatever stood in the way.
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let mut cx = Context { host: self.host, out: Out::stdout() };
        let result = match self.command {
            // Entering namespaces takes a process of one thread: no runtime here.
            Command::Local(Local::Enter(enter)) => return enter.run(),
            Command::Local(Local::Man(man)) => man.run(),
            Command::Local(Local::Completion(completion)) => completion.run(&mut cx),
            Command::Asking(asking) => tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(Failure::local("start the runtime"))?
                .block_on(asking.run(&mut cx)),
        };
        // What was printed before a failure is printed, too; the failure tells more than this one would.
        let flushed = cx.out.flush();
        result.and_then(|exit| flushed.map(|()| exit))
    }
}

impl Asking {
    async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        match self {
            Self::Network(network) => network.run(cx).await,
            Self::Sandbox(sandbox) => sandbox.run(cx).await,
            Self::Run(run) => run.run(cx).await,
            Self::Exec(exec) => exec.run(cx).await,
            Self::Port(port) => port.run(cx).await,
            Self::Endpoint(endpoint) => endpoint.run(cx).await,
            Self::Node(node) => node.run(cx).await,
            Self::Cluster(cluster) => cluster.run(cx).await,
            Self::Diff(diff) => diff.run(cx).await,
            Self::Events(events) => events.run(cx).await,
            Self::Store(store) => store.run(cx).await,
            Self::Version(version) => version.run(cx).await,
            Self::Attend(attend) => attend.run(cx).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_command_after_run_and_exec_keeps_its_own_options() {
        for line in [
            "ovctl run --network n ping -c 1 --help",
            "ovctl run --network n -- ping -c 1",
            "ovctl exec s ping -d",
            "ovctl exec s -w /tmp -- ping -d",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }
}
