//! Which subnets of its networks the host itself has a route to.

use ipnet::IpNet;

use super::is_here;
use crate::{
    intent::Intent,
    model::{InHost, Name, Network, NodeId},
};

/// The subnets that the host reaches through `network`, and those that it does not, with the network that has
/// the route instead. If subnets of several overlays overlap, the oldest overlay has the host's route; a
/// bridge always wins, because the host is on it.
pub fn host_routes(intent: &Intent, me: NodeId, network: &Network) -> (Vec<IpNet>, Vec<(IpNet, Name)>) {
    let prefixes = || network.subnets.iter().map(|subnet| subnet.prefix);
    match network.profile().in_host {
        InHost::Leg => {}
        InHost::Bridge => return (prefixes().collect(), Vec::new()),
        InHost::Parent | InHost::Nothing => return (Vec::new(), Vec::new()),
    }
    let first_of_two = |other: &&Network| match other.profile().in_host {
        InHost::Leg => (other.created, other.id) < (network.created, network.id) && !other.internal,
        InHost::Bridge => true,
        InHost::Parent | InHost::Nothing => false,
    };
    let meets = |other: &Network, prefix: &IpNet| {
        let mut theirs = other.subnets.iter().map(|other| other.prefix);
        theirs.any(|other| other.contains(prefix) || prefix.contains(&other))
    };
    // Few of many meet it: whether those are here takes longer to say.
    let mut first: Vec<&Network> = Vec::new();
    for (_, view) in intent.networks() {
        let before =
            view.network().filter(first_of_two).filter(|other| prefixes().any(|it| meets(other, &it)));
        first.extend(before.filter(|_| is_here(view, me)));
    }
    let (mut routed, mut blocked) = (Vec::new(), Vec::new());
    for prefix in prefixes() {
        match first.iter().find(|other| meets(other, &prefix)) {
            None => routed.push(prefix),
            Some(other) => blocked.push((prefix, other.name.clone())),
        }
    }
    (routed, blocked)
}
