//! What a macvlan or ipvlan network wants: a link in each sandbox on a link of the host, and that link if it is a VLAN that
//! is ours to make.

use super::{
    host::Features,
    interface::{LocalEndpoint, default_of, default_route, interface, put},
    ownership::{Mark, Unit},
    state::{Link, LinkKind, Netns, State},
};
use crate::model::{DriverSettings, Endpoint, IpvlanMode, Network, Parent};

/// Everything that the wanted state of a macvlan or ipvlan network depends on. Its settings say which of the two it is.
#[derive(Clone, Debug)]
pub struct ParentInput<'a> {
    /// The network.
    pub network: &'a Network,
    /// The parent is a VLAN that is not there, or that is ours: it is made.
    pub make_vlan: bool,
    /// MTU of its endpoints in bytes.
    pub mtu: u32,
    /// Endpoints here.
    pub local: Vec<LocalEndpoint<'a>>,
    /// What this kernel has.
    pub features: Features,
}

/// The wanted state of the whole network; nothing for a network of another driver. An endpoint's part in it depends on no
/// other one.
pub fn parent(input: &ParentInput<'_>) -> State {
    let mut state = State::default();
    let (parent, kind) = match &input.network.settings {
        DriverSettings::Macvlan(parent, mode) => (parent, LinkKind::Macvlan(parent.link, *mode)),
        DriverSettings::Ipvlan(parent, mode, flag) => (parent, LinkKind::Ipvlan(parent.link, *mode, *flag)),
        DriverSettings::Overlay(_) | DriverSettings::Bridge(_) | DriverSettings::P2p => return state,
    };
    let unit = Unit::Network(input.network.id);
    if let Some(vlan) = vlan(input, unit, parent) {
        state.netns.entry(Netns::Host).or_default().links.insert(parent.link, vlan);
    }
    for local in &input.local {
        let mut link = interface(kind.clone(), unit, local.endpoint, input.mtu);
        if matches!(kind, LinkKind::Ipvlan(..)) {
            // It shares its parent's.
            link.mac = None;
        }
        if !input.network.internal {
            add_default_routes(&mut link, input.network, local.endpoint);
        }
        put(&mut state, local, link, input.features);
    }
    state
}

fn vlan(input: &ParentInput<'_>, unit: Unit, parent: &Parent) -> Option<Link> {
    let (below, id) = parent.vlan.filter(|_| input.make_vlan)?;
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
