//! Several nodes in one process: the agent's own verbs, loops, followers and gossip over kernels in memory and one store.
//!
//! `node` composes one node as the agent does, `nodes` several with their store, `invariants` says what must hold.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod attach;
mod cost;
mod invariants;
mod node;
mod nodes;
mod outage;
#[path = "../store_support/proxy.rs"]
#[allow(dead_code, reason = "not every way to fail is needed here")]
mod proxy;
mod random;
mod verbs;
