//! ping(8), and what it says: how many were sent and how many answered.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    program::{self, Done, Program},
    wait::{Poll, wait_for},
};

/// How long ping may take to sum up after SIGINT.
const SUM_UP: Duration = Duration::from_secs(5);

/// Sent and answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Packets sent.
    pub sent: u32,
    /// Packets answered.
    pub received: u32,
}

impl Loss {
    /// Packets lost.
    pub fn lost(self) -> u32 {
        self.sent.saturating_sub(self.received)
    }

    /// True if every packet came back.
    pub fn none(self) -> bool {
        self.sent > 0 && self.lost() == 0
    }

    /// True if no packet came back.
    pub fn all(self) -> bool {
        self.received == 0
    }
}

/// Read ping's summary.
///
/// # Errors
/// There is none: ping did not run.
pub fn summary(done: &Done) -> Result<Loss> {
    // An unreachable network ends ping with an error before anything is sent.
    if done.stderr.contains("Network is unreachable") || done.stderr.contains("Network unreachable") {
        return Ok(Loss { sent: 1, received: 0 });
    }
    done.stdout.lines().find_map(parse).with_context(|| format!("no summary: {done}"))
}

/// "5 packets transmitted, 5 received, 0% packet loss", also with ", 1 duplicates" or "+1 errors" in it.
fn parse(line: &str) -> Option<Loss> {
    let (sent, rest) = line.split_once(" packets transmitted, ")?;
    let received = rest.split_once(" received")?.0;
    Some(Loss { sent: sent.trim().parse().ok()?, received: received.parse().ok()? })
}

/// Several that run at once, each with a name.
#[derive(Debug)]
pub struct Pings(Vec<(&'static str, Background)>);

impl Pings {
    /// Those that run; all of them are answered.
    ///
    /// # Errors
    /// One is not.
    pub fn answered(pings: Vec<(&'static str, Background)>) -> Result<Self> {
        let mut pings = Self(pings);
        pings.go_on()?;
        Ok(pings)
    }

    /// Wait until each was answered 20 times more.
    ///
    /// # Errors
    /// One is not.
    pub fn go_on(&mut self) -> Result<()> {
        self.0
            .iter_mut()
            .try_for_each(|(name, ping)| ping.wait_answers(20).with_context(|| String::from(*name)))
    }

    /// End them; nothing may have been lost.
    ///
    /// # Errors
    /// Something was, or ping does not sum up.
    pub fn without_loss(self) -> Result<()> {
        for (name, ping) in self.0 {
            let loss = ping.stop()?;
            ensure!(loss.none(), "{name}: {} of {} packets lost", loss.lost(), loss.sent);
        }
        Ok(())
    }
}

/// A ping every 10 ms in the background.
#[derive(Debug)]
pub struct Background {
    child: Child,
    lines: Receiver<String>,
    /// Sequence numbers that were answered.
    answered: BTreeSet<u32>,
}

impl Background {
    /// Start it with `ping`, a program that runs where it should.
    pub(crate) fn start(ping: Program, to: &str) -> Result<Self> {
        let mut child = ping
            .args(["-n", "-i", "0.01", "-W", "2", "-D", to])
            .into_command()
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start ping")?;
        let stdout = child.stdout.take().context("ping's output")?;
        let (send, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, lines, answered: BTreeSet::new() })
    }

    /// Wait until `count` more pings were answered.
    ///
    /// # Errors
    /// They are not in time.
    pub fn wait_answers(&mut self, count: usize) -> Result<()> {
        self.answered.extend(self.lines.try_iter().filter_map(|line| sequence(&line)));
        let wanted = self.answered.len() + count;
        wait_for(&format!("{count} answers to the running ping"), Duration::from_secs(20), || {
            self.answered.extend(self.lines.try_iter().filter_map(|line| sequence(&line)));
            let seen = self.answered.len();
            Ok(if seen >= wanted { Poll::Ready(()) } else { Poll::Pending(format!("{seen} of {wanted}")) })
        })
    }

    /// End it and tell what was lost. The packet that was on its way at the end does not count.
    ///
    /// # Errors
    /// ping does not sum up.
    pub fn stop(mut self) -> Result<Loss> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).context("a pid")?);
        kill(pid, Signal::SIGINT).context("stop ping")?;
        loop {
            let Ok(line) = self.lines.recv_timeout(SUM_UP) else { bail!("ping has ended without a summary") };
            self.answered.extend(sequence(&line));
            if let Some(loss) = parse(&line) {
                let on_its_way = loss.sent > 0 && !self.answered.contains(&loss.sent);
                let sent = loss.sent - u32::from(on_its_way);
                let received = self.answered.range(..=sent).count();
                return Ok(Loss { sent, received: u32::try_from(received).context("a count")? });
            }
        }
    }
}

/// The sequence number of an answer: "64 bytes from 10.0.0.2: icmp_seq=7 ttl=64 time=0.05 ms".
fn sequence(line: &str) -> Option<u32> {
    let (_from, rest) = line.split_once("bytes from")?;
    let digits = rest.split_once("icmp_seq=")?.1;
    digits.split_once(' ').map_or(digits, |(digits, _rest)| digits).parse().ok()
}

impl Drop for Background {
    fn drop(&mut self) {
        program::end(&mut self.child);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_read_in_all_its_forms() {
        let loss = |sent, received| Some(Loss { sent, received });
        assert_eq!(parse("3 packets transmitted, 3 received, 0% packet loss, time 2ms"), loss(3, 3));
        assert_eq!(parse("9 packets transmitted, 0 received, +3 errors, 100% packet loss"), loss(9, 0));
        assert_eq!(parse("4 packets transmitted, 4 received, +8 duplicates, 0% packet loss"), loss(4, 4));
        assert_eq!(parse("PING 10.0.0.1"), None);
    }

    #[test]
    fn an_answer_has_a_number_and_an_error_has_none() {
        assert_eq!(sequence("[1.5] 64 bytes from 10.0.0.2: icmp_seq=7 ttl=64 time=0.05 ms"), Some(7));
        assert_eq!(sequence("From 10.0.0.2 icmp_seq=7 Destination Host Unreachable"), None);
    }
}
