//! The agent and `ovctl` on a host: start, stop, kill -9, wait until ready, ask.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Child,
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::Host;
use crate::{
    api::Api,
    binaries::Binaries,
    program::{self, Done, Program},
    wait::{Poll, wait_for},
};

/// How long an agent may take to be ready, and the cluster to be whole.
const READY: Duration = Duration::from_secs(20);
/// How long an agent may take to end after SIGTERM.
const STOP: Duration = Duration::from_secs(10);
/// How much of an agent's log is shown on a failure, in bytes.
const TAIL: usize = 6000;

impl Host {
    /// Start the agent with the lab's arguments, if it does not run.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_agent(&self) -> Result<()> {
        self.start_agent_with(&[])
    }

    /// Start the agent with the lab's arguments and these.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_agent_with(&self, more: &[&str]) -> Result<()> {
        self.start_agent_as(more, &[])
    }

    /// Start the agent with the lab's arguments and these variables in its environment.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_agent_under(&self, environment: &[(&str, &str)]) -> Result<()> {
        self.start_agent_as(&[], environment)
    }

    /// Start the agent with the lab's arguments, but for the address that it advertises.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_agent_at(&self, address: &str) -> Result<()> {
        let mut args = self.args.clone();
        let place = args.iter().position(|arg| arg == "--advertise").and_then(|at| args.get_mut(at + 1));
        place.context("the lab's agents are told what to advertise")?.replace_range(.., address);
        self.spawn_agent(&args, &[])
    }

    fn start_agent_as(&self, more: &[&str], environment: &[(&str, &str)]) -> Result<()> {
        let all: Vec<String> =
            self.args.iter().cloned().chain(more.iter().map(ToString::to_string)).collect();
        self.spawn_agent(&all, environment)
    }

    fn spawn_agent(&self, args: &[String], environment: &[(&str, &str)]) -> Result<()> {
        let mut agent = self.lock_agent();
        if let Some(child) = agent.as_mut()
            && child.try_wait().context("look at the agent")?.is_none()
        {
            return Ok(());
        }
        let log =
            File::options().create(true).append(true).open(self.log()).context("open the agent's log")?;
        let program = environment.iter().fold(self.agent_program()?, |it, (key, value)| it.env(key, value));
        let mut command = program.args(args).into_command();
        command.stdout(log.try_clone().context("the agent's log")?).stderr(log);
        *agent = Some(command.spawn().with_context(|| format!("start ovagent on {}", self.name))?);
        Ok(())
    }

    /// `ovagent` on this host without arguments, for what is neither start nor stop: `cleanup`, wrong flags.
    ///
    /// # Errors
    /// There is no such program.
    pub fn agent_program(&self) -> Result<Program> {
        Ok(self.program(Binaries::find()?.ovagent))
    }

    /// The lab's arguments of the agent.
    pub fn agent_args(&self) -> &[String] {
        &self.args
    }

    /// Its process id, if it was started.
    pub fn agent_pid(&self) -> Option<u32> {
        self.lock_agent().as_ref().map(Child::id)
    }

    /// Resident memory of the agent in KiB (`VmRSS`).
    ///
    /// # Errors
    /// It does not run.
    pub fn agent_rss(&self) -> Result<u64> {
        let pid = self.agent_pid().with_context(|| format!("no agent on {}", self.name))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).context("read the agent's status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        line.trim().trim_end_matches(" kB").parse().with_context(|| format!("VmRSS {line:?}"))
    }

    /// kill -9, and take its end.
    pub fn kill9_agent(&self) {
        if let Some(mut child) = self.lock_agent().take() {
            program::end(&mut child);
        }
    }

    /// SIGTERM, and wait for its end.
    ///
    /// # Errors
    /// It does not end in time (and is killed), or ends with an exit status other than 0.
    pub fn stop_agent(&self) -> Result<()> {
        let Some(mut child) = self.lock_agent().take() else { return Ok(()) };
        let pid = i32::try_from(child.id()).context("a pid")?;
        kill(Pid::from_raw(pid), Signal::SIGTERM)
            .with_context(|| format!("stop the agent of {}", self.name))?;
        let status = wait_for("the agent to end after SIGTERM", STOP, || {
            Ok(child.try_wait()?.map_or_else(|| Poll::Pending("it runs".into()), Poll::Ready))
        });
        if status.is_err() {
            program::end(&mut child);
        }
        let status = status?;
        if status.success() { Ok(()) } else { bail!("the agent of {} ended with {status}", self.name) }
    }

    /// Freeze the agent: its sockets stay, nothing answers.
    ///
    /// # Errors
    /// It does not run.
    pub fn freeze_agent(&self) -> Result<()> {
        self.signal_agent(Signal::SIGSTOP)
    }

    /// Undo [`Host::freeze_agent`].
    ///
    /// # Errors
    /// It does not run.
    pub fn thaw_agent(&self) -> Result<()> {
        self.signal_agent(Signal::SIGCONT)
    }

    fn signal_agent(&self, signal: Signal) -> Result<()> {
        let pid = self.agent_pid().with_context(|| format!("no agent on {}", self.name))?;
        kill(Pid::from_raw(i32::try_from(pid).context("a pid")?), signal)
            .with_context(|| format!("send {signal}"))
    }

    /// kill -9 and start again, then wait until it is ready.
    ///
    /// # Errors
    /// It does not come up.
    pub fn restart_agent9(&self) -> Result<()> {
        self.kill9_agent();
        self.start_agent()?;
        self.wait_ready()
    }

    /// Wait until the agent answers and has read its store, or its copy of it.
    ///
    /// # Errors
    /// It does not in time, or has ended; with the end of its log.
    pub fn wait_ready(&self) -> Result<()> {
        let ready = wait_for(&format!("the agent of {} to answer", self.name), READY, || {
            if let Some(child) = self.lock_agent().as_mut()
                && let Some(status) = child.try_wait().context("look at the agent")?
            {
                bail!("the agent of {} ended with {status}", self.name);
            }
            match self.api().and_then(|api| api.nodes()) {
                Ok(_nodes) => Ok(Poll::Ready(())),
                Err(error) => Ok(Poll::Pending(format!("{error:#}"))),
            }
        });
        ready.map_err(|error| anyhow!("{error:#}; the end of its log:\n{}", self.log_tail()))
    }

    /// Wait until this host's agent sees `count` nodes alive.
    ///
    /// # Errors
    /// It does not in time; with what it saw.
    pub fn wait_nodes_alive(&self, count: usize) -> Result<()> {
        let api = self.api()?;
        wait_for(&format!("{count} nodes alive as {} sees them", self.name), READY, || {
            let nodes = match api.nodes() {
                Ok(nodes) => nodes,
                Err(error) => return Ok(Poll::Pending(format!("{error:#}"))),
            };
            let alive = nodes.iter().filter(|node| node.state == "alive").count();
            let seen = || {
                let name = |node: &ovnet_proto::v1::NodeDetail| {
                    let name = node.node.as_ref().map_or("?", |node| node.name.as_str());
                    format!("{name} {}", node.state)
                };
                nodes.iter().map(name).collect::<Vec<_>>().join(", ")
            };
            Ok(if alive == count { Poll::Ready(()) } else { Poll::Pending(seen()) })
        })
    }

    /// The agent's API, for data in its own types.
    ///
    /// # Errors
    /// The client cannot be made; it connects with the first call.
    pub fn api(&self) -> Result<Api> {
        Api::new(&self.socket())
    }

    /// Run `ovctl` on this host, whatever its exit status.
    ///
    /// # Errors
    /// There is no such program, or it does not end in time.
    pub fn ovctl(&self, args: &[&str]) -> Result<Done> {
        self.program(Binaries::find()?.ovctl).args(args).run()
    }

    /// [`Host::ovctl`], and an exit status other than 0 is an error.
    ///
    /// # Errors
    /// As [`Host::ovctl`]; it failed, with what it said.
    pub fn ovctl_ok(&self, args: &[&str]) -> Result<Done> {
        self.ovctl(args)?.ok().with_context(|| format!("on {}", self.name))
    }

    /// Where the agent's log is.
    pub fn log(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    /// The end of the agent's log.
    pub fn log_tail(&self) -> String {
        let bytes = fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL)..]).into_owned()
    }

    fn lock_agent(&self) -> MutexGuard<'_, Option<Child>> {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
