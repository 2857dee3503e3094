//! Several nodes with one store.

use std::{
    future::Future,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ovagent::{
    ipam::SubnetRequest,
    service::{NetworkRequest, NetworkSpec},
    store::{Commit, Embedded, Key, Store},
};

use crate::node::{Host, Node, PATIENCE};

/// The nodes, and the store that they share.
pub(crate) struct Cluster {
    pub(crate) store: Store,
    pub(crate) server: Embedded,
    pub(crate) nodes: Vec<Node>,
}

impl Cluster {
    /// Nodes that know each other.
    pub(crate) async fn of(count: u8) -> Self {
        let server = Embedded::open(None).unwrap();
        let store = Store::embedded(&server);
        let mut cluster = Self { store: store.clone(), server, nodes: Vec::new() };
        for number in 1..=count {
            cluster.nodes.push(Node::start(Host::new(number), store.clone(), generation()).await);
        }
        cluster.meet().await;
        cluster
    }

    /// Wait until every node knows every other one by the store and by gossip.
    pub(crate) async fn meet(&self) {
        let addresses: Vec<_> = self.nodes.iter().map(|node| node.address).collect();
        for node in &self.nodes {
            node.gossip.know(self.nodes.iter().map(|it| (it.host.id, it.address)).collect());
            node.gossip.seed(addresses.iter().copied().filter(|it| *it != node.address).collect());
        }
        for node in &self.nodes {
            let met = || {
                let members = node.gossip.members().borrow().clone();
                self.nodes.iter().all(|other| {
                    let up = members.get(&other.host.id);
                    up.is_some_and(|it| it.state.is_active() && it.address == other.address)
                        && node.world.read(|intent| {
                            intent.nodes().get(&other.host.id).is_some_and(|it| it.gossip == other.address)
                        })
                })
            };
            eventually(&format!("{} knows all nodes", node.host.name), async || met().then_some(())).await;
        }
    }

    /// Make a network, and wait until every node knows it.
    pub(crate) async fn network(&self, name: &str, subnet: &str) {
        let network = self.nodes[0].service.create_network(spec(name, subnet)).await.unwrap();
        for node in &self.nodes {
            let known = || node.world.read(|intent| intent.network(network.id).map(drop));
            eventually("the network is known", async || known()).await;
        }
    }

    /// Wait until every node has done all that the store says now.
    pub(crate) async fn quiet(&self) -> i64 {
        // A key that all follow, and that is of no consequence to anybody.
        let marker = Key::Alive(ovagent::model::NodeId(uuid::Uuid::max()));
        let revision = self.store.commit(Commit::new().put(marker.clone(), "quiet")).await.unwrap();
        for node in &self.nodes {
            node.caught_up(revision).await;
        }
        self.store.commit(Commit::new().delete(marker)).await.unwrap()
    }

    /// Nothing is left to do on any node, without a full look having been needed for it.
    pub(crate) async fn check_in_step(&self) {
        self.quiet().await;
        for node in &self.nodes {
            let diff = node.diff().await;
            assert!(diff.is_empty(), "{} would still do {diff:#?}", node.host.name);
        }
    }
}

/// A start that is later than any before.
pub(crate) fn generation() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

/// A network as most tests want it.
pub(crate) fn spec(name: &str, subnet: &str) -> NetworkSpec {
    let request = NetworkRequest {
        name: name.into(),
        subnets: SubnetRequest { subnets: vec![subnet.into()], ..SubnetRequest::default() },
        ..NetworkRequest::default()
    };
    request.parse().unwrap()
}

/// Wait until `found` gives something.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut found: impl FnMut() -> F,
) -> T {
    let look = async {
        loop {
            if let Some(found) = found().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_elapsed| panic!("waited in vain: {what}"))
}
