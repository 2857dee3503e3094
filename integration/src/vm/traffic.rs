//! A ping that runs on a machine while something else is done, as a unit of its systemd.

use anyhow::{Context, Result};

use super::Machine;
use crate::ping::{Loss, parse};

/// Five packets a second, from a sandbox.
#[derive(Debug)]
pub struct Traffic<'a> {
    machine: &'a Machine,
    unit: String,
}

impl<'a> Traffic<'a> {
    /// Begin, and wait until five packets were answered.
    ///
    /// # Errors
    /// It cannot be started, or nothing answers.
    pub fn start(machine: &'a Machine, sandbox: &str, to: &str) -> Result<Self> {
        let unit = format!("traffic-{sandbox}-{}", to.replace(['.', ':'], "-"));
        let command = format!("exec ip netns exec {sandbox} ping -i 0.2 -O {to} >/run/{unit}.log");
        machine.run(&format!(
            "systemd-run --quiet --collect --unit={unit} --property=KillSignal=SIGINT sh -c '{command}'"
        ))?;
        let traffic = Self { machine, unit };
        traffic.wait_answers(5)?;
        Ok(traffic)
    }

    /// Wait until `count` more packets were answered.
    ///
    /// # Errors
    /// They are not, within a minute.
    pub fn wait_answers(&self, count: u32) -> Result<()> {
        let log = format!("/run/{}.log", self.unit);
        let answers: u32 = self.machine.run(&format!("grep -c 'bytes from' {log} || true"))?.parse()?;
        let more = answers + count;
        let script = format!("test $(grep -c 'bytes from' {log}) -ge {more}");
        self.machine.wait("answers to a ping", std::time::Duration::from_secs(60), &script)
    }

    /// End it: what was sent and answered.
    ///
    /// # Errors
    /// It had ended before.
    pub fn stop(self) -> Result<Loss> {
        let Self { machine, unit } = self;
        let text = machine.run(&format!("systemctl stop {unit}; tail -n 5 /run/{unit}.log"))?;
        text.lines().find_map(parse).with_context(|| format!("no summary: {text}"))
    }
}
