//! The host's links that plans of bridges, macvlans and ipvlans depend on: their owners, kinds and MTUs.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    model::IfName,
    plan::{
        ownership::Unit,
        state::{LinkKind, NetnsState},
    },
};

/// A link of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostLink {
    /// The unit that it belongs to; `None` if it is not ours.
    pub owner: Option<Unit>,
    /// It is a bridge.
    pub is_bridge: bool,
    /// Its MTU in bytes.
    pub mtu: u32,
}

/// The host's links, as last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostLinks(BTreeMap<IfName, HostLink>);

impl HostLinks {
    /// Those of the host's namespace.
    pub fn of(host: &NetnsState) -> Self {
        let links = host.links.iter().map(|(name, link)| {
            let owner = link.mark.as_ref().map(|mark| mark.unit);
            (*name, HostLink { owner, is_bridge: link.kind == LinkKind::Bridge, mtu: link.mtu })
        });
        Self(links.collect())
    }

    /// The link of this name.
    pub fn get(&self, name: IfName) -> Option<HostLink> {
        self.0.get(&name).copied()
    }

    /// Those with a unit's mark.
    pub fn of_unit(&self, unit: Unit) -> impl Iterator<Item = IfName> {
        self.0.iter().filter(move |(_, link)| link.owner == Some(unit)).map(|(name, _)| *name)
    }

    /// The link of this name, if it is not the unit's.
    pub fn foreign(&self, name: IfName, unit: Unit) -> Option<HostLink> {
        self.get(name).filter(|link| link.owner != Some(unit))
    }

    /// Updates the links of these names from `now`.
    pub fn learn(&mut self, names: &BTreeSet<IfName>, now: &Self) {
        self.0.retain(|name, _| !names.contains(name));
        self.0.extend(now.0.iter().filter(|(name, _)| names.contains(*name)));
    }
}
