//! This node among the others: its gossip, and where it learns of them.

use std::{net::IpAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::net::{UdpSocket, lookup_host};
use tokio_util::sync::CancellationToken;

use super::register::await_reason;
use crate::{
    config::HostPort,
    gossip::{Gossip, GossipConfig, Nodes},
    intent::Touched,
    kernel::Machine,
    model::{Node, NodeId, Protocol},
    reconcile::world::{Revisions, World},
    service,
};

/// The socket that gossip goes through.
pub(super) async fn bind(vtep: IpAddr, udp: u16, machine: &dyn Machine) -> Result<UdpSocket> {
    match UdpSocket::bind((vtep, udp)).await {
        Ok(socket) => Ok(socket),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!("cannot gossip: {}", machine.in_use(Protocol::Udp, udp, "--gossip-port"))
        }
        Err(error) => Err(error).with_context(|| format!("cannot gossip on {vtep} UDP port {udp}")),
    }
}

/// Who this node is in gossip.
pub(super) fn own(node: &Node) -> GossipConfig {
    GossipConfig {
        node: node.id,
        name: node.name.clone(),
        advertise: node.gossip,
        vtep: node.vtep,
        version: node.version.clone(),
        generation: service::now().0,
        seed: rand::random(),
    }
}

/// Gossip with those that `--join` names, resolving their names again until somebody answers.
pub(super) async fn join(gossip: Gossip, targets: Vec<HostPort>, stop: CancellationToken) {
    let mut pause = Duration::from_secs(1);
    loop {
        let alone = gossip.members().borrow().len() <= 1;
        let mut found = Vec::new();
        for target in targets.iter().filter(|_| alone) {
            match lookup_host((target.host.as_str(), target.port)).await {
                Ok(addresses) => found.extend(addresses),
                Err(error) => tracing::warn!(%target, %error, "cannot resolve the name of a node to join"),
            }
        }
        if !found.is_empty() {
            gossip.seed(found);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(30)),
        }
    }
}

/// Tell the gossip which nodes are registered, and where those are that it does not know as up, until stopped.
pub(super) async fn introduce(world: Arc<World>, gossip: Gossip, stop: CancellationToken) {
    let mut changes = world.changes();
    // What was not read yet is not "nobody".
    tokio::select! {
        () = stop.cancelled() => return,
        () = world.reached(Revisions::default()) => {}
    }
    let mut known = None;
    loop {
        let members = gossip.members().borrow().clone();
        let others: Nodes = world.read(|intent| {
            let others = intent.nodes().values().filter(|node| node.id != world.me);
            others.map(|node| (node.id, node.gossip)).collect()
        });
        let up = |node: &NodeId| members.get(node).is_some_and(|member| member.state.is_active());
        let missing: Vec<_> =
            others.iter().filter(|(node, _)| !up(node)).map(|(_, address)| *address).collect();
        if known.as_ref() != Some(&others) {
            gossip.know(others.clone());
            known = Some(others);
        }
        if !missing.is_empty() {
            gossip.seed(missing);
        }
        let concerns = |touched: &Touched| matches!(touched, Touched::Node(_) | Touched::Alive(_));
        if !await_reason(&mut changes, concerns, &stop).await {
            return;
        }
    }
}
