//! The desired state of a macvlan or ipvlan network: a link in each sandbox on a link of the host, and that
//! parent too, if it is a VLAN that we make.

use super::{
    DriverError, Env,
    interface::{LocalEndpoint, default_of, default_route, interface, put},
};
use crate::{
    model::{DriverSettings, Endpoint, IpvlanMode, Network, Parent},
    plan::{
        Features,
        ownership::{Mark, Unit},
        state::{Link, LinkKind, Netns, State},
    },
};

/// The shared part of a macvlan or ipvlan network: all inputs of its desired state except its endpoints. The
/// network's settings say which of the two it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentShared {
    /// The network.
    pub network: Network,
    /// The parent of its endpoints' links, ours or not.
    pub parent: Parent,
    /// The parent is a VLAN that does not exist or is ours: we make it.
    pub make_vlan: bool,
    /// MTU of its endpoints in bytes.
    pub mtu: u32,
    /// The features of this kernel.
    pub features: Features,
}

/// The shared part.
///
/// # Errors
/// The parent is gone, and we must not make it.
pub(super) fn shared(env: &Env, network: &Network, parent: &Parent) -> Result<ParentShared, DriverError> {
    let there = env.links.get(parent.link);
    let foreign = there.filter(|link| link.owner != Some(Unit::Network(network.id)));
    // What is missing, or ours, is made on the link below it, which must be there.
    let (below, make_vlan) = match (foreign, parent.vlan) {
        (Some(_), _) | (None, None) => (parent.link, false),
        (None, Some((below, _))) => (below, true),
    };
    let Some(below) = env.links.get(below) else {
        return Err(DriverError::NoParent { link: below, network: network.name.clone() });
    };
    Ok(ParentShared {
        network: network.clone(),
        parent: *parent,
        make_vlan,
        mtu: network.mtu.unwrap_or_else(|| foreign.unwrap_or(below).mtu),
        features: env.features,
    })
}

/// The desired state of the network with these endpoints; nothing for a network of another driver. An
/// endpoint's part does not depend on other endpoints.
pub fn parent(input: &ParentShared, local: &[LocalEndpoint<'_>]) -> State {
    let mut state = State::default();
    let parent = input.parent.link;
    let kind = if let DriverSettings::Macvlan(_, mode) = input.network.settings {
        LinkKind::Macvlan(parent, mode)
    } else if let DriverSettings::Ipvlan(_, mode, flag) = input.network.settings {
        LinkKind::Ipvlan(parent, mode, flag)
    } else {
        return state;
    };
    let unit = Unit::Network(input.network.id);
    if let Some(vlan) = vlan(input, unit) {
        state.netns.entry(Netns::Host).or_default().links.insert(parent, vlan);
    }
    for local in local {
        let mut link = interface(kind.clone(), unit, local.endpoint, input.mtu);
        if matches!(kind, LinkKind::Ipvlan(..)) {
            // It shares its parent's.
            link.mac = None;
        }
        if !input.network.internal {
            add_default_routes(&mut link, &input.network, local.endpoint);
        }
        put(&mut state, local, link, input.features);
    }
    state
}

fn vlan(input: &ParentShared, unit: Unit) -> Option<Link> {
    let (below, id) = input.parent.vlan.filter(|_| input.make_vlan)?;
    Some(Link::new(LinkKind::Vlan(below, id), Mark::new(unit, "vlan"), None, input.mtu))
}

/// The gateway is a router of the outside; an ipvlan link that routes by itself (l3, l3s) has none.
fn add_default_routes(link: &mut Link, network: &Network, endpoint: &Endpoint) {
    if let DriverSettings::Ipvlan(_, IpvlanMode::L3 | IpvlanMode::L3s, _) = network.settings {
        for net in &endpoint.addresses {
            link.routes.insert(default_of(net.addr()), default_route(endpoint, None));
        }
        return;
    }
    for subnet in &network.subnets {
        if let Some(gateway) = subnet.gateway
            && endpoint.addresses.iter().any(|net| subnet.prefix.contains(&net.addr()))
        {
            link.routes.insert(default_of(gateway), default_route(endpoint, Some(gateway)));
        }
    }
}
