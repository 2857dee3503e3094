//! The inputs of the host's part: the networks here that have a link in the host, and the ports that are
//! published.

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

/// The inputs of the host's part.
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
    /// The agent's ports and addresses on the underlay; `None` if they are not known, and then not guarded.
    pub underlay: Option<Underlay>,
    /// The families for which only we enabled forwarding and no other program has rules: traffic that neither
    /// comes from our links nor goes to them is not forwarded.
    pub closed: BTreeSet<Family>,
    /// Bridged frames pass the firewall as if they were forwarded, also those of foreign bridges.
    pub bridge_firewall: bool,
}

/// A network of this host, as the host's own rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostNetwork {
    /// Its identifier.
    pub id: NetworkId,
    /// Its link in the host.
    pub link: IfName,
    /// The kind of that link.
    pub side: HostSide,
    /// Its subnets.
    pub subnets: Vec<IpNet>,
    /// No traffic to or from the outside.
    pub internal: bool,
    /// Outgoing traffic is masqueraded.
    pub masquerade: bool,
    /// Its sandboxes may reach each other; always true of an overlay.
    pub icc: bool,
    /// The pairs of source and destination that are allowed even if they may not.
    pub allowed: Vec<(IpAddr, IpAddr)>,
}

/// The kind of a network's link in the host.
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
    /// The protocol of both ports.
    pub protocol: Protocol,
    /// The host's address; `None` is every address of the family of `to`.
    pub host: Option<IpAddr>,
    /// The host's port.
    pub host_port: u16,
    /// Its destination: the endpoint on a bridge, or the inner end of an overlay's leg.
    pub to: IpAddr,
    /// The destination port.
    pub port: u16,
}

impl HostNetwork {
    /// A match for this link; if the prefix of its name is ours, for all links with that prefix.
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
