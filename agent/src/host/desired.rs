//! The part that all networks of this host share: forwarding, the host's own rules, and accept rules in the
//! FORWARD chains of others.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    firewall,
    inputs::{HostInput, HostNetwork},
};
use crate::plan::{
    FORWARDING_V4, FORWARDING_V6,
    ruleset::{Family, LinkMatch},
    state::{Netns, NetnsState, State},
};

/// The host's part. Without networks there are no accept rules; forwarding stays as it is, because another
/// program may need it by now, and traffic that it would open to others stays blocked. Overlays without a leg
/// do not count as networks here, but their tunnels are guarded.
pub fn host(input: &HostInput) -> State {
    let mut networks: Vec<&HostNetwork> = input.networks.iter().collect();
    networks.sort_by_key(|network| (network.link, network.id));
    let mut here = NetnsState { sysctls: sysctls(input, &networks), ..NetnsState::default() };
    here.table = firewall::table(input, &networks);
    here.forward_accepts = forward_accepts(&networks);
    State { netns: [(Netns::Host, here)].into() }
}

fn sysctls(input: &HostInput, networks: &[&HostNetwork]) -> BTreeMap<String, String> {
    let mut sysctls = BTreeMap::new();
    let routed = |family| networks.iter().any(|network| network.is_routed() && network.has(family));
    if input.ip_forward && routed(Family::V4) {
        sysctls.insert(FORWARDING_V4.to_owned(), "1".to_owned());
    }
    if input.ip_forward && input.ipv6 && routed(Family::V6) {
        sysctls.insert(FORWARDING_V6.to_owned(), "1".to_owned());
    }
    sysctls
}

/// The accept rules for FORWARD chains of other programs: they accept all that our own chain does.
fn forward_accepts(networks: &[&HostNetwork]) -> BTreeMap<Family, BTreeSet<LinkMatch>> {
    let mut forward_accepts: BTreeMap<Family, BTreeSet<LinkMatch>> = BTreeMap::new();
    for family in [Family::V4, Family::V6] {
        for network in networks.iter().filter(|network| network.has(family)) {
            forward_accepts.entry(family).or_default().insert(network.links());
        }
    }
    forward_accepts
}
