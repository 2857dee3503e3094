//! From what is wanted and what is seen to the steps between them: pure and total.
//!
//! [`state`] says what can be wanted, [`ownership`] what is ours, [`op`] what can be done; `overlay` and `host` say
//! what is wanted of the kernel, [`plan()`] how to get there. The `kernel` room looks and applies; `reconcile` brings
//! the two together.

mod host;
mod leg;
mod link;
pub mod op;
mod overlay;
pub mod ownership;
pub mod ruleset;
pub mod state;
mod steps;
#[cfg(test)]
mod tests;

pub use host::{Features, HostInput, host};
pub use leg::{Leg, outer_name};
pub use overlay::{LocalEndpoint, OverlayInput, Station, netns_of, overlay, port_of};
pub use steps::plan;
