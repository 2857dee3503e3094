//! Compares the desired and the observed state and returns the steps between them: pure and total.
//!
//! [`state`] has what can be desired, [`ownership`] what is ours, [`op`] the possible steps, and [`plan()`]
//! chooses them. The rooms `drivers` and `host` produce the desired state. The room `kernel` observes and
//! applies; `reconcile` connects them.

mod connections;
mod features;
mod link;
mod netns;
pub mod op;
pub mod ownership;
pub mod ruleset;
mod settings;
pub mod state;
mod steps;
pub mod sysctl;
#[cfg(test)]
pub(crate) mod tests;

pub use connections::{Connection, Outdated};
pub use features::Features;
pub use netns::netns_of;
pub use steps::plan;
pub use sysctl::{FORWARDING_V4, FORWARDING_V6, HOST_SETTINGS, is_host_setting};
