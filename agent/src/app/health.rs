//! What is wrong around this host, said once when it begins and once when it ends, and kept for `node ls`: names that are
//! used twice, ports that a firewall closes between hosts that live, drivers that this kernel lacks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::tunnel::{self, Tunnels, Way};
use crate::{
    gossip::Gossip,
    intent::Intent,
    kernel::{Kernel, Sockets},
    model::{Node, NodeId, chain},
    reconcile::world::{Revisions, World},
    service::{Condition, Conditions},
};

/// Time between two rounds.
const EVERY: Duration = Duration::from_secs(5);
/// How much longer than its lease a node that gossip does not reach is waited for: it may just have died.
const SETTLE: Duration = Duration::from_secs(5);
/// Most nodes that one line of the log names.
const NAMED: usize = 8;

/// The inputs of the watch.
pub(super) struct Watch<K> {
    pub(super) world: Arc<World>,
    pub(super) gossip: Gossip,
    pub(super) notices: Conditions,
    /// This node, as it registers.
    pub(super) node: Node,
    pub(super) kernel: Arc<K>,
    pub(super) lease_ttl: Duration,
}

impl<K: Kernel + Sockets> Watch<K> {
    /// Look around again and again, until stopped.
    pub(super) async fn run(self, stop: CancellationToken) {
        // What is tried leaves nothing, whenever it is cut short.
        let mut lacks = tokio::select! {
            () = stop.cancelled() => return,
            lacks = self.drivers() => lacks,
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = self.world.reached(Revisions::default()) => {}
        }
        let sockets: Arc<dyn Sockets> = Arc::<K>::clone(&self.kernel);
        let mut vxlan_fdb = Tunnels::default();
        let mut unheard = BTreeMap::new();
        loop {
            // A module may come later; one that is there stays, or is told of when it is needed.
            if lacks {
                lacks = tokio::select! {
                    () = stop.cancelled() => return,
                    lacks = self.drivers() => lacks,
                };
            }
            self.names();
            self.unheard(&mut unheard);
            let ways = self.world.read(|intent| tunnel::ways(intent, self.world.me));
            // A round that is cut short has told nothing.
            tokio::select! {
                () = stop.cancelled() => return,
                () = vxlan_fdb.round(&ways, &sockets, EVERY) => {}
            }
            self.silent(&vxlan_fdb, &ways);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    /// What this kernel lacks; whether it lacks something.
    async fn drivers(&self) -> bool {
        let lacking = match self.kernel.lacking().await {
            Ok(lacking) => lacking,
            Err(error) => {
                tracing::debug!(error = chain(&error), "cannot see what this kernel has");
                return false;
            }
        };
        let texts: Vec<String> = lacking.iter().map(ToString::to_string).collect();
        let text = (!texts.is_empty()).then(|| (self.world.me, format!("on this host {}", texts.join("; "))));
        let news = self.notices.replace(Condition::Kernel, text.into_iter().collect());
        news.fresh.values().for_each(|text| tracing::warn!("{text}"));
        if !news.over.is_empty() {
            tracing::info!("this kernel has everything that networks need");
        }
        !texts.is_empty()
    }

    /// Nodes that share a name. All hosts show it; those that are concerned log it.
    fn names(&self) {
        let me = self.world.me;
        let (shared, concerned) =
            self.world.read(|intent| (namesakes(intent, me), own_namesakes(intent, me)));
        let news = self.notices.replace(Condition::Namesake, shared);
        if let Some(text) = news.fresh.iter().find(|(node, _)| concerned.contains(node)).map(|(_, text)| text)
        {
            tracing::warn!("{text}");
        }
        if news.over.contains(&me) {
            tracing::info!(name = %self.node.name, "no other node uses this node's name any more");
        }
    }

    /// Nodes that live by their lease, and that gossip does not reach.
    fn unheard(&self, since: &mut BTreeMap<NodeId, Instant>) {
        let members = self.gossip.members().borrow().clone();
        let now = Instant::now();
        let down: BTreeSet<NodeId> = self.world.read(|intent| {
            let alive =
                intent.nodes().keys().filter(|node| **node != self.world.me && intent.is_alive(**node));
            // One that has left and keeps its lease is there again, and is not heard.
            let heard = |node: &NodeId| members.get(node).is_some_and(|member| member.state.is_active());
            alive.filter(|node| !heard(node)).copied().collect()
        });
        since.retain(|node, _| down.contains(node));
        for node in &down {
            since.entry(*node).or_insert(now);
        }
        let patience = self.lease_ttl + SETTLE;
        let lasting = since.iter().filter(|(_, since)| now.duration_since(**since) >= patience);
        let own = self.node.gossip;
        let texts = self.world.read(|intent| {
            let text = |node: &NodeId| {
                let gossip = intent.nodes().get(node)?.gossip;
                let text = format!(
                    "node {} is alive, but gossip does not reach it: allow UDP port {} between {own} and \
                     {gossip}, in both directions; until then changes are confirmed late",
                    intent.called(*node),
                    own.port()
                );
                Some((*node, text))
            };
            lasting.filter_map(|(node, _)| text(node)).collect()
        });
        self.tell(Condition::Gossip, texts, "gossip reaches it again");
    }

    /// Nodes from which nothing comes back through the tunnel.
    fn silent(&self, vxlan_fdb: &Tunnels, ways: &BTreeMap<NodeId, Way>) {
        let Node { vtep, vxlan_port, .. } = &self.node;
        let texts = self.world.read(|intent| {
            let text = |node: NodeId| {
                let (other, way) = (intent.nodes().get(&node)?, ways.get(&node)?);
                let text = format!(
                    "no answer from node {} through the tunnel (tried in network {}): its endpoints cannot \
                     be reached; allow UDP port {vxlan_port} between {vtep} and {}, in both directions, and \
                     check the log of that node's agent",
                    intent.called(node),
                    way.network,
                    other.vtep
                );
                Some((node, text))
            };
            vxlan_fdb.silent().filter_map(text).collect()
        });
        self.tell(Condition::Tunnel, texts, "the tunnel to it works again");
    }

    /// Keep what there is to say, and log what is new of it and what is over.
    fn tell(&self, trouble: Condition, texts: BTreeMap<NodeId, String>, over: &str) {
        let news = self.notices.replace(trouble, texts);
        news.fresh.values().take(NAMED).for_each(|text| tracing::warn!("{text}"));
        if news.fresh.len() > NAMED {
            tracing::warn!(
                "{} more nodes have the same problem: see ovctl node ls",
                news.fresh.len() - NAMED
            );
        }
        let called = |node: &NodeId| self.world.read(|intent| intent.called(*node));
        if !news.over.is_empty() {
            let nodes: Vec<String> = news.over.iter().take(NAMED).map(called).collect();
            tracing::info!(nodes = nodes.join(", "), count = news.over.len(), "{over}");
        }
    }
}

/// Every node that shares its name with another node, with what to do about it.
fn namesakes(intent: &Intent, me: NodeId) -> BTreeMap<NodeId, String> {
    let mut by_name: BTreeMap<_, Vec<&Node>> = BTreeMap::new();
    intent.nodes().values().for_each(|node| by_name.entry(&node.name).or_default().push(node));
    let groups = by_name.into_iter().filter(|(_, nodes)| nodes.len() > 1);
    groups
        .flat_map(|(name, nodes)| {
            let told = |node: &&Node| {
                let whose = if node.id == me { ", this one" } else { "" };
                let gone = if intent.is_alive(node.id) { "" } else { ", its agent does not run" };
                format!("{} at {}{whose}{gone}", node.id.0, node.vtep)
            };
            let all: Vec<String> = nodes.iter().take(NAMED).map(told).collect();
            let text = format!(
                "more than one node is named {name}: {}; give each a different name with --node-name, or \
                 remove a node that is gone with ovctl node rm ID",
                all.join(" and ")
            );
            nodes.into_iter().map(|node| (node.id, text.clone())).collect::<Vec<_>>()
        })
        .collect()
}

/// This node and those that have its name.
fn own_namesakes(intent: &Intent, me: NodeId) -> BTreeSet<NodeId> {
    let name = intent.nodes().get(&me).map(|node| &node.name);
    intent.nodes().values().filter(|node| Some(&node.name) == name).map(|node| node.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        intent::{Fact, Source},
        model::Timestamp,
    };

    fn node(number: u8, name: &str) -> Node {
        Node {
            id: NodeId(uuid::Uuid::from_u128(number.into())),
            name: name.parse().unwrap(),
            vtep: [192, 0, 2, number].into(),
            gossip: ([192, 0, 2, number], 7946).into(),
            version: "1".into(),
            underlay_mtu: 1500,
            vxlan_port: 4789,
            created: Timestamp(1),
        }
    }

    #[test]
    fn nodes_of_one_name_are_told_apart_by_address_and_one_that_is_gone_is_said_to_be() {
        let (one, two, three) = (node(1, "web"), node(2, "web"), node(3, "db"));
        let mut intent = Intent::default();
        let facts = [&one, &two, &three].map(|node| Fact::Node(node.id, Some(node.clone())));
        intent.apply(Source::Global, 1, facts.into());
        intent.apply(Source::Global, 2, vec![Fact::Alive(one.id, true), Fact::Alive(three.id, true)]);
        let told = namesakes(&intent, one.id);
        assert_eq!(told.keys().copied().collect::<Vec<_>>(), [one.id, two.id]);
        let text = &told[&one.id];
        assert!(
            text.contains("more than one node is named web: ") && text.contains("192.0.2.1, this one and"),
            "{text}"
        );
        assert!(text.contains("192.0.2.2, its agent does not run"), "{text}");
        assert_eq!(own_namesakes(&intent, one.id), [one.id, two.id].into());
        assert_eq!(own_namesakes(&intent, three.id), [three.id].into());
        assert_eq!((intent.called(one.id), intent.called(three.id)), ("web (192.0.2.1)".into(), "db".into()));
    }
}
