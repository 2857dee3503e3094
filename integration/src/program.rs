//! A program that is run to its end, with a limit on its time, and what it said.
//!
//! The lab drives `ip`, `nft`, `nsenter`, `ovctl` with it; what stays in the background is a [`std::process::Child`]
//! of its owner.

use std::{
    ffi::OsStr,
    fmt,
    io::{Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::wait::{Poll, wait_for};

/// Longest time that a program gets unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to run.
#[derive(Debug)]
pub struct Program {
    command: Command,
    input: Option<String>,
    limit: Duration,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Done {
    /// The command line, for messages.
    pub line: String,
    /// How it ended.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

impl Program {
    /// `name`, found in PATH, with the environment cleared of what would steer the agent or `ovctl`.
    pub fn new(name: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(name);
        command.stdin(Stdio::null()).env("LC_ALL", "C");
        for (key, _value) in std::env::vars_os() {
            if key.to_str().is_some_and(|key| key.starts_with("OVNET_") || key.starts_with("OVCTL_")) {
                command.env_remove(key);
            }
        }
        Self { command, input: None, limit: PATIENCE }
    }

    /// Add arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Set an environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Write `text` to its standard input.
    #[must_use]
    pub fn input(mut self, text: impl Into<String>) -> Self {
        self.input = Some(text.into());
        self
    }

    /// Kill it after this time.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The command as it is, to be started by its owner.
    pub fn into_command(self) -> Command {
        self.command
    }

    /// Run it to its end, whatever its exit status.
    ///
    /// # Errors
    /// It cannot be started, or was killed at the limit.
    pub fn run(mut self) -> Result<Done> {
        let line = line(&self.command);
        if self.input.is_some() {
            self.command.stdin(Stdio::piped());
        }
        let start = Instant::now();
        let mut child = self
            .command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {line}"))?;
        let stdout = drain(child.stdout.take());
        let stderr = drain(child.stderr.take());
        if let (Some(text), Some(mut stdin)) = (self.input.take(), child.stdin.take()) {
            stdin.write_all(text.as_bytes()).with_context(|| format!("write to {line}"))?;
        }
        let collected = collect(&mut child, &stdout, &stderr, self.limit);
        match collected {
            Some((status, stdout, stderr)) => {
                Ok(Done { line, status, stdout, stderr, took: start.elapsed() })
            }
            None => {
                end(&mut child);
                let said = stderr.try_recv().unwrap_or_default();
                bail!("{line} did not end within {:?} and was killed; it said: {said}", self.limit)
            }
        }
    }

    /// Run it and take an exit status other than 0 for an error.
    ///
    /// # Errors
    /// As [`Program::run`]; it failed, with what it said.
    pub fn ok(self) -> Result<Done> {
        self.run()?.ok()
    }
}

impl Done {
    /// An exit status other than 0 becomes an error.
    ///
    /// # Errors
    /// It failed, with what it said.
    pub fn ok(self) -> Result<Self> {
        if self.status.success() { Ok(self) } else { bail!("{self}") }
    }

    /// The exit status as a shell has it: 128 and the signal's number for one that was killed.
    pub fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Standard output without the white space around it.
    pub fn text(&self) -> &str {
        self.stdout.trim()
    }

    /// Standard output as JSON.
    ///
    /// # Errors
    /// It is not JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("{} did not print JSON: {}", self.line, self.stdout))
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ended with {}", self.line, self.status)?;
        for (name, text) in [("stdout", self.stdout.trim()), ("stderr", self.stderr.trim())] {
            if !text.is_empty() {
                write!(f, "\n  {name}: {text}")?;
            }
        }
        Ok(())
    }
}

/// Kill a process and take its exit status, so that it is gone when this returns.
pub fn end(child: &mut Child) {
    // Both fail only for a process that has ended and was waited for.
    if child.kill().is_ok() {
        child.wait().ok();
    }
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (send, receive) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // A pipe that breaks ends the text; what was read counts.
            pipe.read_to_end(&mut bytes).ok();
        }
        send.send(String::from_utf8_lossy(&bytes).into_owned()).ok();
    });
    receive
}

fn collect(
    child: &mut Child,
    stdout: &Receiver<String>,
    stderr: &Receiver<String>,
    limit: Duration,
) -> Option<(ExitStatus, String, String)> {
    let end = Instant::now() + limit;
    let left = || end.saturating_duration_since(Instant::now());
    let out = stdout.recv_timeout(left()).ok()?;
    let err = stderr.recv_timeout(left()).ok()?;
    let mut status = None;
    wait_for("the end of a program", left().max(Duration::from_millis(100)), || {
        status = child.try_wait()?;
        Ok(if status.is_some() { Poll::Ready(()) } else { Poll::Pending("running".into()) })
    })
    .ok()?;
    Some((status?, out, err))
}

fn line(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        let arg = arg.to_string_lossy();
        let plain = !arg.is_empty() && !arg.contains(|c: char| c.is_whitespace() || "\"'{}$;|<>".contains(c));
        text.push(' ');
        text.push_str(&if plain { arg.into_owned() } else { format!("'{arg}'") });
    }
    text
}
