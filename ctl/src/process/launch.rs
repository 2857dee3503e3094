//! Starts a command in a sandbox and waits for its end.

use std::{
    ffi::OsString,
    fs::OpenOptions,
    os::unix::{fs::OpenOptionsExt as _, process::ExitStatusExt as _},
    path::PathBuf,
    process::{ExitStatus, Stdio},
};

use clap::Args;
use ovnet_proto::v1 as pb;
use tokio::process::{Child, Command};

use super::{
    report::{NotStarted, Outcome, Report},
    signals::{Signals, forward},
};
use crate::failure::{Exit, Failure};

/// How a command runs in a sandbox.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Set a variable of the environment, which is ovctl's own otherwise
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = parse_variable)]
    environment: Vec<(String, Option<String>)>,
    /// Start in this directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// Run as this user: NAME or UID, with :GROUP or :GID after it for a different group
    #[arg(short, long)]
    user: Option<String>,
    /// Accepted as in Docker: the command has ovctl's own standard input
    #[arg(short, long, hide = true)]
    interactive: bool,
    /// Accepted as in Docker: the command has ovctl's own terminal
    #[arg(short, long, hide = true)]
    tty: bool,
}

/// `NAME=VALUE`, or `NAME` for the variable as ovctl has it.
fn parse_variable(text: &str) -> Result<(String, Option<String>), String> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    if name.is_empty() {
        return Err("the variable's name is empty: expected NAME=VALUE".into());
    }
    Ok((name.to_owned(), value.map(str::to_owned)))
}

/// Where a sandbox is on this host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    /// Path of its network namespace; empty: the host's, which is no sandbox.
    pub(crate) netns: String,
    /// Where its hosts, resolv.conf and hostname lie; empty: nowhere.
    pub(crate) files_dir: String,
    /// Its hostname; empty: the host's.
    pub(crate) hostname: String,
    /// The domain of its hostname; empty: the host's.
    pub(crate) domain: String,
}

impl Place {
    /// Where a sandbox is, whose hosts, resolv.conf and hostname lie in `files_dir`.
    pub(crate) fn of(sandbox: pb::Sandbox, files_dir: String) -> Self {
        Self { netns: sandbox.netns, files_dir, hostname: sandbox.hostname, domain: sandbox.domain }
    }
}

/// A sandbox that goes when its command ends.
#[derive(Clone, Debug)]
pub(crate) struct Attended {
    /// Socket of the agent that has it.
    pub(crate) host: PathBuf,
    /// Its name.
    pub(crate) sandbox: String,
}

/// A command to start.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// In which sandbox.
    pub(crate) place: Place,
    /// How.
    pub(crate) options: Options,
    /// Away from the terminal, with this file for its output.
    pub(crate) detach: Option<PathBuf>,
    /// A further copy of ovctl stays, and removes this sandbox at the end.
    pub(crate) attended: Option<Attended>,
    /// The command and its arguments.
    pub(crate) command: Vec<OsString>,
}

impl Launch {
    /// Starts the command.
    ///
    /// # Errors
    /// [`Failure::NotStarted`] with the status that a shell would give; nothing runs then.
    pub(crate) async fn start(&self) -> Result<Child, Failure> {
        let mut report = Report::new().map_err(Failure::local("make a pipe"))?;
        let mut command = self.command(&report)?;
        let mut child = command.spawn().map_err(Failure::local("start a copy of ovctl"))?;
        let outcome = tokio::select! {
            // Both arms may be dropped: the report keeps what it has read, and a child can be waited for again.
            outcome = report.outcome() => outcome,
            _ended = child.wait() => {
                report.close();
                report.outcome().await
            }
        };
        let (status, message) = match outcome.map_err(Failure::local("read from a copy of ovctl"))? {
            Outcome::Started => return Ok(child),
            Outcome::NotStarted(NotStarted { status, message }) => (status, message),
            Outcome::Silent => (125, "cannot enter the sandbox: the copy of ovctl for it died".into()),
        };
        child.wait().await.map_err(Failure::local("wait for a copy of ovctl"))?;
        Err(Failure::NotStarted { status, message })
    }

    fn command(&self, report: &Report) -> Result<Command, Failure> {
        let mut command = copy();
        if let Some(Attended { host, sandbox }) = &self.attended {
            command.arg("--host").arg(host).args(["attend-sandbox", sandbox, "--"]);
        }
        command.arg("enter-sandbox");
        for (option, text) in [
            ("--netns", &self.place.netns),
            ("--files", &self.place.files_dir),
            ("--hostname", &self.place.hostname),
            ("--domain", &self.place.domain),
        ] {
            if !text.is_empty() {
                command.arg(option).arg(text);
            }
        }
        if let Some(dir) = &self.options.workdir {
            command.arg("--workdir").arg(dir);
        }
        if let Some(user) = &self.options.user {
            command.arg("--user").arg(user);
        }
        command.arg("--report").arg(report.address().to_string());
        if let Some(log) = &self.detach {
            let log = OpenOptions::new().create(true).append(true).mode(0o600).open(log);
            let what = || format!("open {} for the command's output", self.log_name());
            let log = log.map_err(Failure::local(what()))?;
            let errors = log.try_clone().map_err(Failure::local(what()))?;
            command.arg("--detach").stdin(Stdio::null()).stdout(log).stderr(errors);
        }
        let set = |(name, value): &(String, Option<String>)| value.clone().map(|value| (name.clone(), value));
        command.envs(self.options.environment.iter().filter_map(set));
        command.arg("--").args(&self.command);
        Ok(command)
    }

    fn log_name(&self) -> String {
        self.detach.as_ref().map(|log| log.display().to_string()).unwrap_or_default()
    }
}

/// This very program, even if an upgrade has replaced its file.
pub(crate) fn copy() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("ovctl");
    command
}

/// Waits for the command's end and hands signals on meanwhile; the status is the one that a shell would give.
///
/// # Errors
/// The kernel does not tell.
pub(crate) async fn wait(child: &mut Child, signals: &mut Signals) -> Result<Exit, Failure> {
    loop {
        // Both arms may be dropped: neither takes anything before it is ready.
        tokio::select! {
            status = child.wait() => {
                return status.map(exit).map_err(Failure::local("wait for the command"));
            }
            signal = signals.next() => {
                if let Some(pid) = child.id() {
                    forward(signal, pid);
                }
            }
        }
    }
}

fn exit(status: ExitStatus) -> Exit {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    Exit(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255))
}
