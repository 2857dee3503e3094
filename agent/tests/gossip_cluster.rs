//! Gossiping nodes on real sockets of the loopback interface, each with its own task.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails where it is")]

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use ovagent::{
    gossip::{self, Gossip, GossipConfig, Members, State},
    model::{NetworkId, NodeId},
};
use tokio::{net::UdpSocket, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

/// Longest wait for anything here: failures take up to ten seconds, and the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(40);

/// A later start has a greater generation.
static GENERATION: AtomicU64 = AtomicU64::new(1_000_000);

struct Node {
    id: NodeId,
    address: SocketAddr,
    gossip: Gossip,
    task: JoinHandle<()>,
}

impl Node {
    async fn start(n: u16, seeds: &[SocketAddr]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        Self::start_on(socket, n, seeds)
    }

    fn start_on(socket: UdpSocket, n: u16, seeds: &[SocketAddr]) -> Self {
        let address = socket.local_addr().unwrap();
        let id = NodeId(uuid::Uuid::from_u128(u128::from(n)));
        let config = GossipConfig {
            node: id,
            name: format!("node{n}").parse().unwrap(),
            advertise: address,
            vtep: address.ip(),
            version: "1.2.3".into(),
            generation: GENERATION.fetch_add(1000, Ordering::Relaxed),
            seed: u64::from(n),
        };
        let (gossip, pump) = gossip::new(socket, config, CancellationToken::new());
        gossip.seed(seeds.to_vec());
        Self { id, address, gossip, task: tokio::spawn(pump) }
    }

    /// What the store would tell it: these nodes.
    fn knows<'a>(&self, nodes: impl IntoIterator<Item = &'a Self>) {
        self.gossip.know(nodes.into_iter().map(|node| (node.id, node.address)).collect());
    }

    /// Waits until this node sees the members so.
    async fn sees(&self, what: &str, wanted: impl Fn(&Members) -> bool) {
        let mut members = self.gossip.members();
        let waited = timeout(PATIENCE, members.wait_for(|members| wanted(members))).await;
        let seen = matches!(waited, Ok(Ok(_)));
        drop(waited);
        assert!(seen, "{:?} does not see {what}: {:?}", self.id, members.borrow());
    }

    async fn sees_state(&self, of: &Self, state: State) {
        let has = |members: &Members| members.get(&of.id).is_some_and(|member| member.state == state);
        self.sees(&format!("{} {state}", of.id), has).await;
    }
}

/// So many nodes that join by the first, and see each other.
async fn cluster(size: u16) -> Vec<Node> {
    let mut nodes = vec![Node::start(1, &[]).await];
    for n in 2..=size {
        let seeds = [nodes[0].address];
        nodes.push(Node::start(n, &seeds).await);
    }
    for node in &nodes {
        node.knows(&nodes);
    }
    for node in &nodes {
        node.sees("all alive", |members| {
            members.len() == usize::from(size) && members.values().all(|member| member.state == State::Alive)
        })
        .await;
    }
    nodes
}

fn network() -> NetworkId {
    NetworkId::from_bytes([7; 32])
}

#[tokio::test]
async fn three_nodes_join_by_one_seed_and_know_all_of_each_other() {
    let nodes = cluster(3).await;
    let members = nodes[2].gossip.members().borrow().clone();
    let second = &members[&nodes[1].id];
    assert_eq!((second.name.as_str(), second.version.as_str()), ("node2", "1.2.3"));
    assert_eq!((second.address, second.vtep), (nodes[1].address, nodes[1].address.ip()));
}

#[tokio::test]
async fn ten_nodes_join_by_one_seed() {
    cluster(10).await;
}

#[tokio::test]
async fn a_node_that_leaves_is_seen_as_left_and_can_come_back() {
    let mut nodes = cluster(3).await;
    let leaver = nodes.remove(1);
    leaver.gossip.leave();
    timeout(PATIENCE, leaver.task).await.expect("the task ends").unwrap();
    for node in &nodes {
        let left = |members: &Members| members.get(&leaver.id).is_some_and(|m| m.state == State::Left);
        node.sees("the leaver as left", left).await;
    }
    let socket = UdpSocket::bind(leaver.address).await.unwrap();
    let back = Node::start_on(socket, 2, &[nodes[0].address]);
    back.knows(&nodes);
    for node in &nodes {
        node.sees_state(&back, State::Alive).await;
    }
}

#[tokio::test]
async fn a_crash_is_noticed_and_the_node_can_come_back_at_another_address() {
    let mut nodes = cluster(3).await;
    let crashed = nodes.remove(2);
    crashed.task.abort();
    let start = Instant::now();
    for node in &nodes {
        node.sees_state(&crashed, State::Down).await;
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let back = Node::start(3, &[nodes[1].address]).await;
    assert_ne!(back.address, crashed.address);
    for node in nodes.iter().chain([&back]) {
        node.knows(nodes.iter().chain([&back]));
    }
    for node in &nodes {
        node.sees("the node alive at its new address", |members| {
            members.get(&back.id).is_some_and(|m| m.state == State::Alive && m.address == back.address)
        })
        .await;
    }
}

#[tokio::test]
async fn garbage_is_counted_and_does_no_harm() {
    let nodes = cluster(2).await;
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let before = nodes[0].gossip.counters().malformed();
    for garbage in [&b""[..], b"hello", b"ov\x01\x00garbage", b"ov\x01\x01", &[0xff; 3000]] {
        stranger.send_to(garbage, nodes[0].address).await.unwrap();
    }
    let counted = async {
        while nodes[0].gossip.counters().malformed() < before + 5 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, counted).await.expect("all are counted");
    assert!(nodes[0].gossip.members().borrow().values().all(|member| member.state == State::Alive));
}

/// Once as a node that nobody knows, once under the id of one that is known, which counts up to the end.
#[tokio::test]
async fn a_stranger_is_no_member_and_speaks_for_nobody() {
    let nodes = cluster(3).await;
    for n in [9, 2] {
        let before = nodes[0].gossip.counters().refused();
        let stranger = Node::start(n, &[nodes[0].address]).await;
        stranger.knows(&nodes);
        stranger.gossip.applied(network(), 99);
        let refused = async {
            while nodes[0].gossip.counters().refused() == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, refused).await.expect("it is refused");
        let members = nodes[0].gossip.members().borrow().clone();
        assert_eq!(members.len(), 3);
        assert_eq!(members[&nodes[1].id].address, nodes[1].address);
        assert_eq!(stranger.gossip.members().borrow().len(), 1, "it was answered");
        let asked = vec![(nodes[1].id, nodes[1].address)];
        let missing = nodes[0].gossip.confirm(network(), 42, asked, Duration::from_millis(200)).await;
        assert_eq!(missing.into_iter().collect::<Vec<_>>(), [nodes[1].id]);
        stranger.task.abort();
    }
}

#[tokio::test]
async fn a_confirmation_comes_as_soon_as_the_revision_is_applied() {
    let nodes = cluster(3).await;
    nodes[1].gossip.applied(network(), 41);
    nodes[2].gossip.applied(network(), 42);
    let others: Vec<_> = nodes[1..].iter().map(|node| (node.id, node.address)).collect();
    let start = Instant::now();
    let asking = nodes[0].gossip.confirm(network(), 42, others.clone(), Duration::from_secs(30));
    let applying = async {
        // As soon as it was asked, and not before.
        while nodes[1].gossip.counters().asked() == 0 {
            tokio::task::yield_now().await;
        }
        nodes[1].gossip.applied(network(), 42);
    };
    let (missing, ()) = tokio::join!(asking, applying);
    assert!(missing.is_empty(), "{missing:?}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let missing = nodes[0].gossip.confirm(network(), 40, others, Duration::from_secs(30)).await;
    assert!(missing.is_empty(), "an older revision is applied as well: {missing:?}");
}

#[tokio::test]
async fn a_node_that_does_not_confirm_is_named_at_the_deadline() {
    let nodes = cluster(3).await;
    nodes[1].gossip.applied(network(), 42);
    let others: Vec<_> = nodes[1..].iter().map(|node| (node.id, node.address)).collect();
    let deadline = Duration::from_millis(400);
    let start = Instant::now();
    let missing = nodes[0].gossip.confirm(network(), 42, others, deadline).await;
    assert_eq!(missing.into_iter().collect::<Vec<_>>(), [nodes[2].id]);
    assert!(start.elapsed() >= deadline);
}

#[tokio::test]
async fn without_its_task_the_handle_confirms_nothing_and_does_not_hang() {
    let node = Node::start(1, &[]).await;
    node.task.abort();
    drop(node.task.await);
    let other = NodeId(uuid::Uuid::from_u128(9));
    let asked = vec![(other, node.address)];
    let missing = node.gossip.confirm(network(), 1, asked, Duration::from_millis(50)).await;
    assert_eq!(missing.into_iter().collect::<Vec<_>>(), [other]);
    assert!(node.gossip.confirm(network(), 1, Vec::new(), PATIENCE).await.is_empty());
}
