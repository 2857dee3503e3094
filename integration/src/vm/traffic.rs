//! A ping that runs on a machine while something else is done, as a unit of its systemd.

use anyhow::{Result, bail};

use super::Machine;
use crate::ping::Loss;

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
        let command = format!("exec ip netns exec {sandbox} ping -D -i 0.2 -O {to} >/run/{unit}.log");
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

    /// End it: how many were sent up to the last one that was answered, and how many of those were answered. One that is on
    /// its way at the end is neither.
    ///
    /// # Errors
    /// Nothing was answered.
    pub fn stop(self) -> Result<Loss> {
        let Self { machine, unit } = self;
        let answered =
            format!("sed -nE 's/.*bytes from.*icmp_seq=([0-9]+).*/\\1/p' /run/{unit}.log | sort -nu");
        let text =
            machine.run(&format!("systemctl stop {unit}; {answered} | wc -l; {answered} | tail -n 1"))?;
        let numbers: Option<Vec<u32>> = text.split_whitespace().map(|word| word.parse().ok()).collect();
        match numbers.as_deref() {
            Some([received, sent]) if received < sent => {
                // When it was, for whoever looks for what happened then.
                let when = machine.run(&format!("grep -B 1 -A 1 'no answer' /run/{unit}.log"))?;
                eprintln!("  packets lost, by {unit}:\n{when}");
                Ok(Loss { sent: *sent, received: *received })
            }
            Some([received, sent]) => Ok(Loss { sent: *sent, received: *received }),
            _ => bail!("no answer to a ping on {}: {text}", machine.name),
        }
    }
}
