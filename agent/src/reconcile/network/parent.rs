//! What all pieces of a macvlan or ipvlan network share.

use super::Env;
use crate::{
    model::{Network, Parent},
    plan::{ParentShared, ownership::Unit},
};

/// The shared part.
///
/// # Errors
/// The parent is gone, and not ours to make.
pub(super) fn shared(env: &Env, network: &Network, parent: &Parent) -> Result<ParentShared, String> {
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
    Ok(ParentShared {
        network: network.clone(),
        parent: *parent,
        make_vlan,
        mtu: network.mtu.unwrap_or_else(|| foreign.unwrap_or(below).mtu),
        features: env.features,
    })
}
