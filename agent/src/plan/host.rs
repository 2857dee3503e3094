//! What all networks of this host share: forwarding, and the host's own rules.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use super::{
    leg::{Leg, RANGE_V4, RANGE_V6},
    ownership::LEG_PREFIX,
    ruleset::{Action, Chain, Hook, LinkMatch, Match, Rule, Table},
    state::{Netns, NetnsState, State},
};
use crate::model::{IfName, NetworkId, Protocol};

/// What this kernel has, seen at the host; it decides which settings a namespace gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// br_netfilter is there: bridged frames pass the firewall unless it is told otherwise.
    pub bridge_netfilter: bool,
    /// IPv6 is there.
    pub ipv6: bool,
}

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
    /// Where they may not: who may talk to whom all the same, by source and destination.
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

/// The host's part. Without networks: no table; forwarding is left as it is, someone else may need it by now.
pub fn host(input: &HostInput) -> State {
    let mut here = NetnsState::default();
    if !input.networks.is_empty() {
        if input.ip_forward {
            here.sysctls.insert("net/ipv4/ip_forward".into(), "1".into());
            let v6 = |network: &HostNetwork| network.subnets.iter().any(|subnet| subnet.addr().is_ipv6());
            if input.ipv6 && input.networks.iter().any(v6) {
                here.sysctls.insert("net/ipv6/conf/all/forwarding".into(), "1".into());
            }
        }
        here.table = Some(table());
    }
    State { netns: [(Netns::Host, here)].into() }
}

fn table() -> Table {
    const LEGS: IfName = IfName::literal(LEG_PREFIX);
    let between_networks = Rule {
        matches: vec![Match::In(LinkMatch::StartsWith(LEGS)), Match::Out(LinkMatch::StartsWith(LEGS))],
        action: Action::Drop,
    };
    let outside = |range: ipnet::IpNet| Rule {
        matches: vec![
            Match::Source(range),
            Match::NotDestination(range),
            Match::Out(LinkMatch::StartsNotWith(LEGS)),
        ],
        action: Action::Masquerade,
    };
    Table {
        ports: BTreeMap::new(),
        chains: vec![
            Chain { hook: Hook::Forward, rules: vec![between_networks] },
            Chain {
                hook: Hook::Postrouting,
                rules: vec![outside(RANGE_V4.into()), outside(RANGE_V6.into())],
            },
        ],
    }
}
