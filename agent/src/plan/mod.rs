//! From what is desired and what is seen to the steps between them: pure and total.
//!
//! [`state`] says what can be desired, [`ownership`] what is ours, [`op`] what can be done, [`plan()`] how to get there. What
//! is desired is said by the rooms `drivers` and `host`. The `kernel` room looks and applies; `reconcile` brings them together.

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
