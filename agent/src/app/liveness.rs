//! Which nodes are dead: gossip has them down, their lease has run out, and their host does not answer either.
//!
//! An agent that is stopped or being upgraded must not cost its host's endpoints their traffic. Its gossip port tells
//! the two apart: a host that is up answers a datagram to a closed port with ICMP port unreachable, a dead one does not.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use tokio::{net::UdpSocket, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{gossip::Gossip, model::NodeId, reconcile::world::World};

/// After the start gossip may simply not have met the others yet.
const SETTLE: Duration = Duration::from_secs(20);
/// Time between two checks.
const EVERY: Duration = Duration::from_secs(1);
/// How many checks in a row a host must be silent. A datagram may be lost, and an agent that is starting has the port for a moment
/// before it gossips: neither refuses nor answers.
const SILENT: u32 = 3;
/// Most hosts that are asked at a time.
const AT_ONCE: usize = 64;
/// How long a host has to refuse a datagram.
const PROBE: Duration = Duration::from_secs(1);

/// The nodes that are dead, shared between the watcher and the reconcile loop.
#[derive(Clone, Debug, Default)]
pub(super) struct Dead(Arc<Mutex<BTreeSet<NodeId>>>);

impl Dead {
    /// Whether a node is dead.
    pub(super) fn contains(&self, node: NodeId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&node)
    }
}

/// Keep `dead` up to date until stopped, and have the networks of a node that changed looked at.
pub(super) async fn watch(dead: Dead, world: Arc<World>, gossip: Gossip, stop: CancellationToken) {
    let start = Instant::now();
    let mut silence = Silence::default();
    loop {
        // Nothing is lost when the pause is cut short.
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        if start.elapsed() < SETTLE {
            continue;
        }
        let probes = suspects(&world, &gossip)
            .into_iter()
            .map(async |(node, address)| (node, host_answers(address).await));
        let answers = futures_util::stream::iter(probes).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
        let now = silence.note(answers);
        let before = {
            let mut dead = dead.0.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *dead, now.clone())
        };
        for node in before.symmetric_difference(&now) {
            tracing::info!(%node, dead = now.contains(node), "node");
            world.look_at_node(*node);
        }
    }
}

/// Suspects that have been silent, by how many checks in a row.
#[derive(Debug, Default)]
struct Silence(BTreeMap<NodeId, u32>);

impl Silence {
    /// With a check's suspects and whether they answered; those that are dead.
    fn note(&mut self, answers: Vec<(NodeId, bool)>) -> BTreeSet<NodeId> {
        let before = std::mem::take(&mut self.0);
        let silent = answers.into_iter().filter(|(_, answers)| !answers).map(|(node, _)| node);
        self.0 =
            silent.map(|node| (node, before.get(&node).copied().unwrap_or(0).saturating_add(1))).collect();
        self.0.iter().filter(|(_, checks)| **checks >= SILENT).map(|(node, _)| *node).collect()
    }
}

/// Nodes without a lease that gossip does not have up.
fn suspects(world: &World, gossip: &Gossip) -> BTreeMap<NodeId, SocketAddr> {
    let members = gossip.members().borrow().clone();
    world.read(|intent| {
        let nodes = intent.nodes().values().filter(|node| node.id != world.me && !intent.is_alive(node.id));
        let down = nodes.filter(|node| !members.get(&node.id).is_some_and(|member| member.state.is_active()));
        down.map(|node| (node.id, node.gossip)).collect()
    })
}

/// Whether a host shows a sign of life: any answer, or a refusal.
async fn host_answers(address: SocketAddr) -> bool {
    let local = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let probe = async {
        let socket = UdpSocket::bind(local).await?;
        socket.connect(address).await?;
        socket.send(&[]).await?;
        let mut buffer = [0; 16];
        socket.recv(&mut buffer).await
    };
    match tokio::time::timeout(PROBE, probe).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        Err(_elapsed) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_in_three_checks_is_life() {
        let node = NodeId(uuid::Uuid::from_u128(1));
        let mut silence = Silence::default();
        let mut check = |answers: &[bool]| {
            answers
                .iter()
                .map(|answers| silence.note(vec![(node, *answers)]).contains(&node))
                .collect::<Vec<_>>()
        };
        assert_eq!(check(&[false, false, true, false, false]), [false; 5]);
        assert_eq!(check(&[false, false, true]), [true, true, false]);
        assert_eq!(check(&[false, false]), [false, false]);
        assert!(silence.note(Vec::new()).is_empty(), "it is no suspect any more");
        assert!(silence.note(vec![(node, false)]).is_empty(), "what was before does not count");
    }

    #[tokio::test]
    async fn a_host_whose_port_is_closed_is_alive() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        drop(socket);
        assert!(host_answers(address).await);
    }
}
