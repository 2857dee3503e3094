//! The desired state of a p2p network: a veth pair between two sandboxes. While there is only one sandbox,
//! the other end waits in the network's own namespace.

use super::{
    USUAL_MTU,
    interface::{LocalEndpoint, interface, put},
};
use crate::{
    model::{IfName, Mac, Network},
    plan::{
        Features, netns_of,
        ownership::{Mark, Unit},
        state::{Link, LinkKind, NetnsState, State},
    },
};

/// The end that waits for the second sandbox.
const WAITING: IfName = IfName::literal("waiting");
/// Most endpoints of such a network.
const ENDS: usize = 2;

/// The shared part of a p2p network: all inputs of its desired state except its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct P2pShared {
    /// The network.
    pub network: Network,
    /// MTU of its endpoints in bytes.
    pub mtu: u32,
    /// The features of this kernel.
    pub features: Features,
}

/// The shared part.
pub(super) fn shared(features: Features, network: &Network) -> P2pShared {
    P2pShared { network: network.clone(), mtu: network.mtu.unwrap_or(USUAL_MTU), features }
}

/// The desired state of the network with these endpoints, one or two. It has no pieces: the place of one end
/// depends on the other endpoint. If there are more than two endpoints, the oldest two are joined.
pub fn p2p(input: &P2pShared, local: &[LocalEndpoint<'_>]) -> State {
    let mut state = State::default();
    let mut ends: Vec<_> = local.iter().collect();
    ends.sort_by_key(|end| (end.endpoint.created, end.endpoint.id));
    ends.truncate(ENDS);
    let unit = Unit::Network(input.network.id);
    for end in &ends {
        let link =
            Link { mark: Some(pair(unit)), ..interface(LinkKind::Veth, unit, end.endpoint, input.mtu) };
        put(&mut state, end, link, input.features);
    }
    if ends.len() == 1 {
        state.netns.insert(netns_of(input.network.id), waiting(input, unit));
    }
    state
}

fn pair(unit: Unit) -> Mark {
    Mark::new(unit, "pair")
}

/// The namespace that replaces a missing second sandbox: its end is up, so that the first sandbox has a
/// carrier.
fn waiting(input: &P2pShared, unit: Unit) -> NetnsState {
    let mac = Mac::internal(0x47, input.network.id.as_bytes());
    let mut inside = NetnsState { mark: Some(Mark::new(unit, "netns")), ..NetnsState::default() };
    inside.links.insert(WAITING, Link::new(LinkKind::Veth, pair(unit), mac, input.mtu));
    if input.features.ipv6 {
        // It says nothing by itself.
        inside.sysctls.insert("net/ipv6/conf/default/disable_ipv6".into(), "1".into());
    }
    inside
}
