//! Sandboxes on a host: running programs in them, and pinging from them.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;

use super::Host;
use crate::{
    ping::{self, Background, Loss},
    probe::Prober,
    program::{Done, Program},
};

/// From where a packet is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From<'a> {
    /// The host itself.
    Host,
    /// The sandbox of this name.
    Sandbox(&'a str),
}

impl Host {
    /// A program that runs in a sandbox, as `ip netns exec` on this host does it.
    pub fn sandbox_program(&self, sandbox: &str, name: &str) -> Program {
        self.program("ip").args(["netns", "exec", sandbox, name])
    }

    /// Run a command in a sandbox to its end, whatever its exit status.
    ///
    /// # Errors
    /// There is no command; it does not start or does not end in time.
    pub fn ns_exec(&self, sandbox: &str, command: &[&str]) -> Result<Done> {
        let (name, args) = command.split_first().context("an empty command")?;
        self.sandbox_program(sandbox, name).args(args).run()
    }

    /// [`Host::ns_exec`], and an exit status other than 0 is an error.
    ///
    /// # Errors
    /// As [`Host::ns_exec`]; it failed.
    pub fn ns_exec_ok(&self, sandbox: &str, command: &[&str]) -> Result<Done> {
        self.ns_exec(sandbox, command)?.ok().with_context(|| format!("in {sandbox} on {}", self.name))
    }

    /// What `ip -j` says in a sandbox, as JSON.
    ///
    /// # Errors
    /// It fails, or says something else.
    pub fn ip_json(&self, from: From<'_>, args: &[&str]) -> Result<Vec<Value>> {
        let done = self.from(from, "ip").args(["-d", "-j"]).args(args).ok()?;
        // Of nothing ip prints nothing at all.
        if done.text().is_empty() {
            return Ok(Vec::new());
        }
        done.json()?.as_array().cloned().with_context(|| format!("not a list: {done}"))
    }

    /// The links of a sandbox, by name, `lo` left out.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn links(&self, from: From<'_>) -> Result<Vec<String>> {
        let links = self.ip_json(from, &["link"])?;
        let names = links.iter().filter_map(|link| link.get("ifname")?.as_str());
        Ok(names.filter(|name| *name != "lo").map(String::from).collect())
    }

    /// Send `count` pings, 50 ms apart, each with a second to be answered, and tell what was lost.
    ///
    /// # Errors
    /// ping does not run. A loss is no error.
    pub fn ping(&self, from: From<'_>, to: &str, count: u32) -> Result<Loss> {
        let args = ["-n", "-q", "-i", "0.05", "-W", "1", "-c", &count.to_string(), to].map(String::from);
        let done = self.from(from, "ping").args(args).limit(Duration::from_secs(30)).run()?;
        ping::summary(&done)
    }

    /// Ping once with `size` bytes of IP packet that may not be fragmented; true if it was answered.
    ///
    /// # Errors
    /// ping does not run.
    pub fn ping_df(&self, from: From<'_>, to: &str, size: u32) -> Result<bool> {
        let headers = if to.contains(':') { 40 + 8 } else { 20 + 8 };
        let payload = (size - headers).to_string();
        let args = ["-n", "-M", "do", "-s", &payload, "-W", "2", "-c", "1", to];
        Ok(self.from(from, "ping").args(args).run()?.status.success())
    }

    /// Ping every 10 ms until told to stop.
    ///
    /// # Errors
    /// ping does not start.
    pub fn ping_background(&self, from: From<'_>, to: &str) -> Result<Background> {
        Background::start(self.from(from, "ping"), to)
    }

    /// Sends single pings at once, without a program to start first.
    ///
    /// # Errors
    /// There is no such namespace; no raw socket.
    pub fn prober(&self, from: From<'_>) -> Result<Prober> {
        Prober::new(&self.netns_of(from))
    }

    /// The network namespace, to be entered by a thread.
    pub fn netns_of(&self, from: From<'_>) -> PathBuf {
        match from {
            From::Host => self.netns(),
            From::Sandbox(name) => self.path(&format!("/run/netns/{name}")),
        }
    }

    fn from(&self, from: From<'_>, name: &str) -> Program {
        match from {
            From::Host => self.program(name),
            From::Sandbox(sandbox) => self.sandbox_program(sandbox, name),
        }
    }
}
