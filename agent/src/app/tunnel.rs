//! Whether what goes through the tunnel to another host arrives there, and anything comes back.
//!
//! A datagram from this node's own address in an overlay network to the other's, on a port where nobody listens: the other
//! host's kernel refuses it (ICMP port unreachable), and that refusal has come through the tunnel both ways. It takes no
//! agent over there, and no privilege.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt;
use tokio::{net::UdpSocket, time::Instant};

use crate::{
    intent::Intent,
    kernel::Sockets,
    model::{Name, NodeId},
    plan::{netns_of, state::Netns},
};

/// Pause after an answer.
const CONTENT: Duration = Duration::from_secs(30);
/// How many times in a row nothing comes back before it is trouble: rows of a new host may take a moment.
const TRIES: u32 = 3;
/// How long an answer may take. The namespace is held open that long at most.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most hosts that are tried in one round; the others have their turn in the next one.
const AT_ONCE: usize = 64;
/// Where nobody listens: in the namespaces of networks nobody does anywhere.
const PORT: u16 = 9;

/// A way through the tunnel: a network that both hosts are in, and their own addresses there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// The network's name.
    pub(super) network: Name,
    netns: Netns,
    from: IpAddr,
    to: IpAddr,
}

/// What came of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Came,
    Missing,
    /// It could not be tried: the network is not (or no longer) made here.
    Untried,
}

/// What is known of a way.
#[derive(Clone, Copy, Debug)]
struct Known {
    next: Instant,
    failures: u32,
}

/// The hosts that are tried, and how it went.
#[derive(Debug, Default)]
pub(super) struct Tunnels(BTreeMap<NodeId, Known>);

/// The ways from `me` to other nodes that live: one for each node that has a network in common.
pub(super) fn ways(intent: &Intent, me: NodeId) -> BTreeMap<NodeId, Way> {
    let mut ways = BTreeMap::new();
    for (id, view) in intent.networks() {
        let (Some(network), Some(own)) = (view.network(), view.members().get(&me)) else { continue };
        if !network.profile().vxlan || view.endpoints_on(me).next().is_none() {
            continue;
        }
        let others = view.members().iter().filter(|(node, _)| **node != me && intent.is_alive(**node));
        for (node, member) in others {
            let pairs = own.addresses.iter().zip(&member.addresses);
            let mut same = pairs.filter(|(from, to)| from.addr().is_ipv4() == to.addr().is_ipv4());
            if let Some((from, to)) = same.next() {
                let way = || Way {
                    network: network.name.clone(),
                    netns: netns_of(*id),
                    from: from.addr(),
                    to: to.addr(),
                };
                ways.entry(*node).or_insert_with(way);
            }
        }
    }
    ways
}

impl Tunnels {
    /// Try the ways whose turn it is.
    pub(super) async fn round(
        &mut self,
        ways: &BTreeMap<NodeId, Way>,
        sockets: &Arc<dyn Sockets>,
        pause: Duration,
    ) {
        let now = Instant::now();
        self.0.retain(|node, _| ways.contains_key(node));
        for node in ways.keys() {
            self.0.entry(*node).or_insert(Known { next: now, failures: 0 });
        }
        let mut due: Vec<(Instant, NodeId)> = self
            .0
            .iter()
            .filter(|(_, known)| known.next <= now)
            .map(|(node, known)| (known.next, *node))
            .collect();
        due.sort_unstable();
        due.truncate(AT_ONCE);
        let tries = due.into_iter().filter_map(|(_, node)| {
            let (way, sockets) = (ways.get(&node)?.clone(), Arc::clone(sockets));
            Some(async move { (node, try_way(way, sockets).await) })
        });
        let answers: Vec<_> = futures_util::stream::iter(tries).buffer_unordered(AT_ONCE).collect().await;
        for (node, answer) in answers {
            if let Some(known) = self.0.get_mut(&node) {
                known.note(answer, now, pause);
            }
        }
    }

    /// The hosts from which nothing comes back.
    pub(super) fn silent(&self) -> impl Iterator<Item = NodeId> {
        self.0.iter().filter(|(_, known)| known.failures >= TRIES).map(|(node, _)| *node)
    }
}

impl Known {
    fn note(&mut self, answer: Answer, now: Instant, pause: Duration) {
        (self.failures, self.next) = match answer {
            Answer::Came => (0, now + CONTENT),
            Answer::Missing => (self.failures.saturating_add(1), now + pause),
            Answer::Untried => (self.failures, now + pause),
        };
    }
}

async fn try_way(way: Way, sockets: Arc<dyn Sockets>) -> Answer {
    let (netns, from) = (way.netns, way.from);
    let opened = tokio::task::spawn_blocking(move || sockets.udp_in(&netns, from)).await;
    let Ok(Ok(socket)) = opened else { return Answer::Untried };
    let Ok(socket) = UdpSocket::from_std(socket) else { return Answer::Untried };
    if socket.connect(SocketAddr::new(way.to, PORT)).await.is_err() {
        return Answer::Untried;
    }
    // A datagram may be lost, and an answer held back by the other kernel's limit on refusals.
    for _ in 0..2 {
        let refused = async {
            socket.send(&[]).await?;
            socket.recv(&mut [0; 1]).await
        };
        match tokio::time::timeout(PATIENCE / 2, refused).await {
            Ok(Ok(_)) => return Answer::Came,
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => return Answer::Came,
            // No route, no neighbour.
            Ok(Err(_)) | Err(_) => {}
        }
    }
    Answer::Missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lost_answer_is_no_trouble_and_one_answer_ends_it() {
        let (now, pause) = (Instant::now(), Duration::from_secs(5));
        let node = NodeId(uuid::Uuid::from_u128(1));
        let mut tunnels = Tunnels::default();
        tunnels.0.insert(node, Known { next: now, failures: 0 });
        let mut note = |answer| {
            tunnels.0.get_mut(&node).unwrap().note(answer, now, pause);
            (tunnels.silent().count(), tunnels.0[&node].next - now)
        };
        assert_eq!(note(Answer::Missing), (0, pause));
        assert_eq!(note(Answer::Missing), (0, pause));
        assert_eq!(note(Answer::Untried), (0, pause), "what was not tried says nothing");
        assert_eq!(note(Answer::Missing), (1, pause));
        assert_eq!(note(Answer::Untried), (1, pause));
        assert_eq!(note(Answer::Came), (0, CONTENT));
    }
}
