//! ovctl as people meet it: the built program against an agent in memory that records what it is asked.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod agent;
mod fake;
mod lists;
mod network;
mod reach;
mod run;
mod scripts;
mod stream;
mod terminal;
