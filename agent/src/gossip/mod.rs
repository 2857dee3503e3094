//! SWIM membership and acknowledgements of applied revisions over one UDP socket.
//!
//! `Core` decides and is free of input and output, `pump` moves datagrams and time, and [`Gossip`] is
//! what the rest of the agent holds. Nothing here is the truth about intent: that is the store's.
//!
//! Nor is it here that a node is made: only those that the store has take part ([`Gossip::know`]), each from the address of
//! its record. What others send is neither answered nor taken in. Until the store has been read nobody can be told from a
//! stranger. The others know us, though, and would take our silence for our end: so whoever speaks is answered where he
//! speaks from, for himself alone and a few at most; he gets no answer to questions, and goes with the first look at the
//! store unless it has him.

mod admission;
mod codec;
mod confirm;
mod core;
mod counters;
mod handle;
mod identity;
mod letter;
mod protocol;
mod pump;
mod questions;
mod roster;
mod seeds;
mod strangers;
mod timers;
mod view;
mod wire;

use std::net::{IpAddr, SocketAddr};

pub use counters::Counters;
pub use handle::Gossip;
pub use roster::Nodes;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
pub use view::{Member, Members, State};

use crate::model::{Name, NodeId};

/// Who we are for the others.
#[derive(Clone, Debug)]
pub struct GossipConfig {
    /// This node.
    pub node: NodeId,
    /// Its name.
    pub name: Name,
    /// Where the others send their datagrams: the socket's address as they see it.
    pub advertise: SocketAddr,
    /// Where they send VXLAN.
    pub vtep: IpAddr,
    /// The agent's version; what is longer than 32 bytes is cut.
    pub version: String,
    /// Milliseconds since the Unix epoch at start, so that a restarted node replaces what is known of it. Also the
    /// beginning of the time that [`Member::since`] counts.
    pub generation: u64,
    /// Decides every random choice.
    pub seed: u64,
}

/// A node of the gossip on a bound socket: the handle, and the task that does all the work, which the caller spawns.
/// Until it runs, nothing happens.
///
/// The task ends when `stop` is cancelled or somebody calls [`Gossip::leave`], after it has told the others that this
/// node leaves.
pub fn new(
    socket: UdpSocket,
    config: GossipConfig,
    stop: CancellationToken,
) -> (Gossip, impl Future<Output = ()> + Send + 'static) {
    let stop = stop.child_token();
    let (gossip, ends) = handle::pair(stop.clone());
    let core = core::Core::new(config, gossip.counters(), tokio::time::Instant::now());
    (gossip, pump::run(socket, core, ends, stop))
}

#[cfg(test)]
mod tests;
