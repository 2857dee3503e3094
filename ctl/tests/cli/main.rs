//! ovctl as people meet it: the built program against an agent in memory that records what it is asked.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod agent;
mod fake;
mod files;
mod lists;
mod modes;
mod names;
mod network;
mod ports;
mod reach;
mod run;
mod scripts;
mod stream;
mod terminal;
