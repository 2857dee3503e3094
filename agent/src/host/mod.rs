//! The part that all networks of this host share: forwarding, the host's own rules, and accept rules in the
//! FORWARD chains of others. Pure.
//!
//! `gather` makes the `inputs` from the intent, and [`host()`] makes the desired state from them, with the
//! rules of `firewall` and those that guard the agent's own ports (`guard`).

mod desired;
mod firewall;
mod gather;
mod guard;
mod inputs;
#[cfg(test)]
mod tests;

pub use desired::host;
pub use gather::gather;
pub use guard::Underlay;
pub use inputs::{Forward, HostInput, HostNetwork, HostSide};
