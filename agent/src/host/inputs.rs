//! What the host's part depends on: the networks here that have a link in the host, and the ports that are published.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;

use super::guard::Underlay;
use crate::{
    model::{IfName, Leg, NetworkId, Protocol},
    plan::{
        ownership::{BRIDGE_PREFIX, LEG_PREFIX},
        ruleset::{Family, LinkMatch},
    },
};

/// What the host's part depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostInput {
    /// The networks here that have a link in the host: overlays with a leg, and bridges.
    pub networks: Vec<HostNetwork>,
    /// Ports that are published on this host.
    pub ports: Vec<Forward>,
    /// Set forwarding where it is needed.
    pub ip_forward: bool,
    /// The kernel has IPv6.
    pub ipv6: bool,
    /// What of the agent is reached over the underlay; None: nothing is known of it, nor guarded.
    pub underlay: Option<Underlay>,
    /// The families that this host would not route if it were not for us, and that nobody else has rules for: what neither
    /// comes from our links nor goes to them is not forwarded.
    pub closed: BTreeSet<Family>,
    /// Bridged frames pass the firewall as if they were forwarded, those of bridges that are not ours too.
    pub bridge_firewall: bool,
}

/// A network of this host, as the host's own rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostNetwork {
    /// Its identifier.
    pub id: NetworkId,
    /// Its link in the host.
    pub link: IfName,
    /// What that is.
    pub side: HostSide,
    /// Its subnets.
    pub subnets: Vec<IpNet>,
    /// No way out and in.
    pub internal: bool,
    /// What leaves gets an address of the host as its source.
    pub masquerade: bool,
    /// Its sandboxes may talk to each other; of an overlay always.
    pub icc: bool,
    /// Where they may not: who may talk to whom anyway, by source and destination.
    pub allowed: Vec<(IpAddr, IpAddr)>,
}

/// What a network's link in the host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostSide {
    /// The outer end of a leg.
    Leg(Leg),
    /// A bridge that has the gateway addresses.
    Bridge,
}

/// A port that is published on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forward {
    /// The network.
    pub network: NetworkId,
    /// Of both ports.
    pub protocol: Protocol,
    /// The host's address; None: every one of the family of `to`.
    pub host: Option<IpAddr>,
    /// The host's port.
    pub host_port: u16,
    /// Where it goes: the endpoint on a bridge, the inner end of the leg of an overlay.
    pub to: IpAddr,
    /// The port there.
    pub port: u16,
}

impl HostNetwork {
    /// It and other links of ours, by the beginning of their names where that is ours.
    pub(super) fn links(&self) -> LinkMatch {
        const LEGS: IfName = IfName::literal(LEG_PREFIX);
        const BRIDGES: IfName = IfName::literal(BRIDGE_PREFIX);
        match self.side {
            HostSide::Leg(_) => LinkMatch::StartsWith(LEGS),
            HostSide::Bridge if self.link.as_str().starts_with(BRIDGE_PREFIX) => {
                LinkMatch::StartsWith(BRIDGES)
            }
            HostSide::Bridge => LinkMatch::Is(self.link),
        }
    }

    /// Whether packets of this family go through its link.
    pub(super) fn has(&self, family: Family) -> bool {
        let subnet = self.subnets.iter().any(|subnet| Family::of(subnet.addr()) == family);
        // A leg has IPv4 addresses whatever is behind it.
        subnet || (family == Family::V4 && matches!(self.side, HostSide::Leg(_)))
    }

    /// Whether this host routes for it: to the outside, or between its sandboxes.
    pub(super) const fn is_routed(&self) -> bool {
        !self.internal || !self.icc
    }
}
