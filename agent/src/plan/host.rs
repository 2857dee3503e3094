//! What all networks of this host share: forwarding, and the host's own rules.

use super::{
    leg::{RANGE_V4, RANGE_V6},
    ownership::LEG_PREFIX,
    ruleset::{Action, Chain, Hook, LinkMatch, Match, Rule, Table},
    state::{Netns, NetnsState, State},
};
use crate::model::IfName;

/// What this kernel has, seen at the host; it decides which settings a namespace gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// br_netfilter is there: bridged frames pass the firewall unless it is told otherwise.
    pub bridge_netfilter: bool,
    /// IPv6 is there.
    pub ipv6: bool,
}

/// What the host's part depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostInput {
    /// At least one network here has a host leg.
    pub legs: bool,
    /// At least one of them has an IPv6 subnet.
    pub ipv6: bool,
}

/// The host's part. Without a leg: no table; forwarding is left as it is, someone else may need it by now.
pub fn host(input: HostInput) -> State {
    let mut here = NetnsState::default();
    if input.legs {
        here.sysctls.insert("net/ipv4/ip_forward".into(), "1".into());
        if input.ipv6 {
            here.sysctls.insert("net/ipv6/conf/all/forwarding".into(), "1".into());
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
        chains: vec![
            Chain { hook: Hook::Forward, rules: vec![between_networks] },
            Chain {
                hook: Hook::Postrouting,
                rules: vec![outside(RANGE_V4.into()), outside(RANGE_V6.into())],
            },
        ],
    }
}
