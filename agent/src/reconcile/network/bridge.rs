//! What all pieces of a bridge network share.

use super::Env;
use crate::{
    model::{BridgeSettings, IfName, Network},
    plan::{BridgeInput, Features, LocalEndpoint, bridge, bridge_name, ownership::Unit, state::State},
};

/// What all pieces of a bridge network share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::reconcile) struct Base {
    network: Network,
    settings: BridgeSettings,
    /// The bridge is somebody else's.
    foreign: bool,
    /// MTU of its endpoints in bytes.
    pub(super) mtu: u32,
    features: Features,
}

impl Base {
    pub(super) fn wanted(&self, local: Vec<LocalEndpoint<'_>>) -> State {
        bridge(&BridgeInput {
            network: &self.network,
            settings: &self.settings,
            foreign: self.foreign,
            mtu: self.mtu,
            local,
            features: self.features,
        })
    }

    /// Its bridge, whoever made it.
    pub(super) fn link(&self) -> IfName {
        bridge_name(&self.network, &self.settings)
    }
}

/// The shared part.
///
/// # Errors
/// Its bridge's name is taken by what cannot be its bridge.
pub(super) fn base(env: &Env, network: &Network, settings: &BridgeSettings) -> Result<Base, String> {
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
    Ok(Base {
        network: network.clone(),
        settings: *settings,
        foreign: there.is_some(),
        // A port narrower than somebody's bridge would make that narrower too.
        mtu: network.mtu.unwrap_or_else(|| there.map_or(env.outside_mtu, |link| link.mtu)),
        features: env.features,
    })
}
