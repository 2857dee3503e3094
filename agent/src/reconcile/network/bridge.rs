//! What all pieces of a bridge network share.

use super::Env;
use crate::{
    model::{BridgeSettings, Network},
    plan::{BridgeShared, bridge_name, ownership::Unit},
};

/// The shared part.
///
/// # Errors
/// Its bridge's name is taken by what cannot be its bridge.
pub(super) fn shared(
    env: &Env,
    network: &Network,
    settings: &BridgeSettings,
) -> Result<BridgeShared, String> {
    let name = bridge_name(network, settings);
    let there = env.links.get(name).filter(|link| link.owner != Some(Unit::Network(network.id)));
    if let Some(link) = there {
        if !link.is_bridge {
            return Err(format!(
                "{name}, the bridge of network {}, is a link that is no bridge",
                network.name
            ));
        }
        if settings.name.is_none() {
            return Err(format!(
                "there is a bridge {name} already that is not network {}'s: remove it, or choose it by its name",
                network.name
            ));
        }
    }
    Ok(BridgeShared {
        network: network.clone(),
        settings: *settings,
        foreign: there.is_some(),
        // A port narrower than somebody's bridge would make that narrower too.
        mtu: network.mtu.unwrap_or_else(|| there.map_or(env.outside_mtu, |link| link.mtu)),
        features: env.features,
    })
}
