//! The frame of the integration tests: a file's tests, each on a lab of its own, and the kernel's state if one fails.
//!
//! ```ignore
//! fn main() -> anyhow::Result<()> {
//!     frame::run([Test::new("two hosts ping each other", Lab::builder().hosts(2), two_hosts_ping)])
//! }
//! ```

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::{
    binaries, enter,
    lab::{Builder, Lab},
};

/// A test on a lab.
#[derive(Debug)]
pub struct Test {
    name: &'static str,
    lab: Builder,
    body: fn(&Lab) -> Result<()>,
}

impl Test {
    /// A test: a sentence, the lab that it wants, what it does.
    pub fn new(name: &'static str, lab: Builder, body: fn(&Lab) -> Result<()>) -> Self {
        Self { name, lab, body }
    }

    fn run(self) -> Result<(), Failed> {
        let lab = self.lab.build().map_err(|error| failed(&error, ""))?;
        (self.body)(&lab).map_err(|error| failed(&error, &lab.report()))
    }
}

/// Go into a world of our own, run the tests there as `cargo test` wants it, and end with their result.
///
/// # Errors
/// There is no world to be had; the agent cannot be built.
pub fn run(tests: impl IntoIterator<Item = Test>) -> Result<()> {
    if enter::is_outside() {
        binaries::build().context("build what is tested")?;
    }
    enter::enter()?;
    let mut arguments = Arguments::from_args();
    // One after the other: the tests measure losses, and a busy machine loses packets.
    arguments.test_threads.get_or_insert(1);
    let trials = tests.into_iter().map(|test| Trial::test(test.name, move || test.run())).collect();
    libtest_mimic::run(&arguments, trials).exit()
}

fn failed(error: &anyhow::Error, report: &str) -> Failed {
    let mut text = format!("{error:#}");
    if !report.is_empty() {
        text = format!("{report}\n==== failed: {text}");
    }
    text.into()
}
