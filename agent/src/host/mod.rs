//! What all networks of this host want of it together: forwarding, the host's own rules, and accept rules in the FORWARD chains of
//! others. Pure.
//!
//! `gather` makes the `inputs` of what the stores say, [`host()`] makes of them what is desired, with the rules of `firewall` and
//! those that guard the agent's own ports (`guard`).

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
