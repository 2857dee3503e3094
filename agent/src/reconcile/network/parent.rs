//! What all pieces of a macvlan or ipvlan network share.

use super::Env;
use crate::{
    model::{Driver, IfName, Network, Parent},
    plan::{Features, LocalEndpoint, ParentInput, ownership::Unit, parent, state::State},
};

/// What all pieces of a macvlan or ipvlan network share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::reconcile) struct Base {
    network: Network,
    parent: Parent,
    /// The parent is a VLAN that is ours to make.
    make_vlan: bool,
    /// MTU of its endpoints in bytes.
    pub(super) mtu: u32,
    features: Features,
}

impl Base {
    /// Which of the two it is.
    pub(super) fn driver(&self) -> Driver {
        self.network.driver()
    }

    pub(super) fn wanted(&self, local: Vec<LocalEndpoint<'_>>) -> State {
        parent(&ParentInput {
            network: &self.network,
            make_vlan: self.make_vlan,
            mtu: self.mtu,
            local,
            features: self.features,
        })
    }

    /// The link that its endpoints are on, whoever made it.
    pub(super) fn link(&self) -> IfName {
        self.parent.link
    }
}

/// The shared part.
///
/// # Errors
/// The parent is gone, and not ours to make.
pub(super) fn base(env: &Env, network: &Network, parent: &Parent) -> Result<Base, String> {
    let there = env.links.get(parent.link);
    let foreign = there.filter(|link| link.owner != Some(Unit::Network(network.id)));
    // What is missing, or ours, is made on the link below it, which must be there.
    let (below, make_vlan) = match (foreign, parent.vlan) {
        (Some(_), _) | (None, None) => (parent.link, false),
        (None, Some((below, _))) => (below, true),
    };
    let Some(below) = env.links.get(below) else {
        return Err(format!("the parent {below} of network {} is gone: there is no such link", network.name));
    };
    Ok(Base {
        network: network.clone(),
        parent: *parent,
        make_vlan,
        mtu: network.mtu.unwrap_or_else(|| foreign.unwrap_or(below).mtu),
        features: env.features,
    })
}
