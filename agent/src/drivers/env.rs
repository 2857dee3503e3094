//! The facts of this host that its networks depend on.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::HostLinks;
use crate::{
    model::{Leg, Name, NetworkId, NodeId},
    plan::{Features, state::Netns},
};

/// The facts of this host that a network depends on.
#[derive(Clone, Debug)]
pub struct Env {
    /// This node.
    pub me: NodeId,
    /// Its VTEP.
    pub vtep: IpAddr,
    /// UDP port of VXLAN.
    pub vxlan_port: u16,
    /// MTU of the link that the VTEP is on, in bytes.
    pub underlay_mtu: u32,
    /// MTU of the path to the outside, in bytes.
    pub outside_mtu: u32,
    /// MTU of the paths to other VTEPs, where they are known.
    pub paths: BTreeMap<IpAddr, u32>,
    /// The features of the kernel.
    pub features: Features,
    /// The host's links.
    pub links: Arc<HostLinks>,
    /// Nodes whose records are hidden: their lease has run out and gossip has them down.
    pub hidden: BTreeSet<NodeId>,
    /// Namespaces of the sandboxes that exist.
    pub sandboxes: BTreeMap<Name, Netns>,
    /// Host legs of networks.
    pub legs: BTreeMap<NetworkId, Leg>,
}
