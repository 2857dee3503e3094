//! What is shown when a test fails: every host's kernel state, its namespaces', and the end of its agent's log.

use std::fmt::Write as _;

use anyhow::Result;

use super::{Host, Lab};

/// Longest report in bytes: the terminal of whoever reads it has a limit too.
const LIMIT: usize = 200_000;

impl Lab {
    /// The state of every host, for the message of a failure.
    pub fn report(&self) -> String {
        let mut text = String::new();
        for host in &self.hosts {
            if let Err(error) = describe(host, &mut text) {
                // Writing to a String cannot fail.
                writeln!(text, "the rest of {} cannot be shown: {error:#}", host.name).ok();
            }
        }
        if text.len() > LIMIT {
            let cut = (0..=LIMIT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(cut);
            text.push_str("\n... cut here\n");
        }
        text
    }
}

fn describe(host: &Host, text: &mut String) -> Result<()> {
    let name = &host.name;
    writeln!(text, "==== {name}: agent\n{}", host.log_tail())?;
    writeln!(text, "==== {name}: ovctl diff\n{}", host.ovctl(&["diff"])?)?;
    writeln!(text, "==== {name}: host\n{}", host.kernel_state()?)?;
    for netns in host.netns_names()? {
        writeln!(text, "==== {name}: namespace {netns}\n{}", host.netns_state(&netns)?)?;
    }
    Ok(())
}
