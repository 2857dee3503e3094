//! What the demo prints: titles, commands as a user would type them, results. Colour on a terminal only.

use std::{
    env,
    io::{self, IsTerminal, Write},
};

use anyhow::{Context, Result, bail};
use ovnet_integration::{lab::Host, program::Done};

const BOLD: &str = "\x1b[1m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

/// Standard output, in colour or not.
#[derive(Debug)]
pub(crate) struct Show {
    colour: bool,
    step: u32,
}

impl Show {
    /// In colour if standard output is a terminal and NO_COLOR is not set (<https://no-color.org>).
    pub(crate) fn new() -> Self {
        let colour =
            io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { colour, step: 0 }
    }

    /// A new step.
    pub(crate) fn title(&mut self, text: &str) -> Result<()> {
        self.step += 1;
        let number = self.step;
        self.line(&format!("\n{}", self.paint(BOLD, &format!("{number}. {text}"))))
    }

    /// A line as it is.
    pub(crate) fn line(&self, text: &str) -> Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).context("write to standard output")
    }

    /// Run `ovctl` on a host and show it as its user sees it. It must succeed.
    pub(crate) fn ovctl(&self, host: &Host, args: &[&str]) -> Result<Done> {
        let typed: Vec<String> = args.iter().map(|arg| quote(arg)).collect();
        self.line(&format!("{} ovctl {}", self.paint(DIM, &format!("{}#", host.name)), typed.join(" ")))?;
        let done = host.ovctl_ok(args)?;
        for line in done.stdout.lines().chain(done.stderr.lines()) {
            self.line(&format!("   {line}"))?;
        }
        Ok(done)
    }

    /// Something that must be true: a tick if it is, the end of the demo if not.
    pub(crate) fn check(&self, holds: bool, what: &str) -> Result<()> {
        if holds {
            return self.line(&format!("   {} {what}", self.tick(true)));
        }
        self.line(&format!("   {} {what}", self.tick(false)))?;
        bail!("not true: {what}")
    }

    /// A coloured mark for a table.
    pub(crate) fn tick(&self, good: bool) -> String {
        if good { self.paint(GREEN, "ok") } else { self.paint(RED, "--") }
    }

    /// A mark for what is rightly absent.
    pub(crate) fn blank(&self) -> String {
        self.paint(DIM, " .")
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("{colour}{text}{RESET}") } else { text.to_string() }
    }
}

fn quote(arg: &str) -> String {
    if arg.contains(|c: char| c.is_whitespace() || "{}$\"*".contains(c)) {
        format!("'{arg}'")
    } else {
        arg.into()
    }
}
