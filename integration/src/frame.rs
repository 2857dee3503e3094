//! The frame of the integration tests: a file's tests, each on a lab of its own, and the kernel's state if one fails.
//!
//! ```text
//! fn main() -> anyhow::Result<()> {
//!     frame::run([Test::new("two hosts ping each other", Lab::builder().hosts(2), two_hosts_ping)])
//! }
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::{
    binaries, enter,
    lab::{Builder, Lab},
};

/// What a test does on its lab.
type Body = fn(&Lab) -> Result<()>;

/// A test on a lab.
#[derive(Debug)]
pub struct Test {
    name: &'static str,
    lab: Stand,
    body: Body,
}

/// Where a test's lab comes from.
#[derive(Debug)]
enum Stand {
    Own(Builder),
    Shared(Arc<Shared>),
}

/// A lab that several tests have, one after the other.
#[derive(Debug)]
struct Shared {
    builder: Builder,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Tests that are still to come.
    left: usize,
    lab: Option<Lab>,
}

impl Test {
    /// A test: a sentence, the lab that it wants, what it does.
    pub fn new(name: &'static str, lab: Builder, body: Body) -> Self {
        Self { name, lab: Stand::Own(lab), body }
    }

    /// Tests that share a lab, which stands from the first to the last of them. Each has names of its own and leaves the
    /// hosts as it found them; after a failure the next one gets a fresh lab.
    pub fn on_one(lab: Builder, tests: impl IntoIterator<Item = (&'static str, Body)>) -> Vec<Self> {
        let tests: Vec<_> = tests.into_iter().collect();
        let state = State { left: tests.len(), lab: None };
        let shared = Arc::new(Shared { builder: lab, state: Mutex::new(state) });
        let test = |(name, body)| Self { name, lab: Stand::Shared(Arc::clone(&shared)), body };
        tests.into_iter().map(test).collect()
    }

    fn run(self) -> Result<(), Failed> {
        match self.lab {
            Stand::Own(lab) => on(&lab.build().map_err(|error| failed(&error, ""))?, self.body),
            Stand::Shared(shared) => shared.run(self.body),
        }
    }
}

impl Shared {
    fn run(&self, body: Body) -> Result<(), Failed> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.left -= 1;
        let lab = match state.lab.take() {
            Some(lab) => lab,
            None => self.builder.clone().build().map_err(|error| failed(&error, ""))?,
        };
        let result = on(&lab, body);
        // Kept only if it can be trusted and is needed again; else it goes here.
        state.lab = Some(lab).filter(|_lab| result.is_ok() && state.left > 0);
        result
    }
}

fn on(lab: &Lab, body: Body) -> Result<(), Failed> {
    body(lab).map_err(|error| failed(&error, &lab.report()))
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
