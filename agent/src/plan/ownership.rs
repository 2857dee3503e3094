//! Ownership: an object is ours if it has our mark. Only this file decides that.
//!
//! Links and the namespaces that we make carry an ifalias (a namespace on its `lo`), routes a protocol
//! number, nftables the name of our tables. An object with none of these is foreign and never part of an
//! operation.

use std::{fmt, str::FromStr};

use crate::model::{Invalid, NetworkId, SandboxId};

/// Protocol number of our routes (rtnetlink(7), `rtm_protocol`; /etc/iproute2/rt_protos has none by this number).
pub const ROUTE_PROTOCOL: u8 = 79;
/// Name of our nftables tables: of family `inet` where networks are, `netdev` in sandboxes.
pub const TABLE: &str = "ovnet";
/// Start of the names of the namespaces that networks live in; the network id's first ten digits follow.
pub const NETNS_PREFIX: &str = "ov-";
/// Start of the names of the host ends of host legs.
pub const LEG_PREFIX: &str = "ovh-";
/// Start of the names of bridges in the host; the network id's first ten digits follow.
pub const BRIDGE_PREFIX: &str = "ovb-";
/// Start of the names of bridges' ports in the host; the endpoint id's first eleven digits follow.
pub const PORT_PREFIX: &str = "ovp-";
/// First word of every mark.
const WORD: &str = "ovnet";

/// The owner of an object: the unit that is looked at and planned as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// The part that all networks of this host share.
    Host,
    /// A network's namespace, its endpoints' veths and its host leg.
    Network(NetworkId),
    /// A sandbox's namespace.
    Sandbox(SandboxId),
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Network(id) => write!(f, "network {}", id.short()),
            Self::Sandbox(id) => write!(f, "sandbox {}", id.short()),
        }
    }
}

/// An ifalias of ours: `ovnet:network:<64 hex digits>:br0`. Both ends of a veth pair have the same mark.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// The owner.
    pub unit: Unit,
    /// The role: "netns", "br0", "vxlan0", "leg", "bridge", "vlan", "pair", "ep-<first 12 of the endpoint's
    /// id>".
    pub role: String,
}

impl Mark {
    /// The mark of `unit`'s object with this role.
    pub fn new(unit: Unit, role: impl Into<String>) -> Self {
        Self { unit, role: role.into() }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = &self.role;
        match self.unit {
            Unit::Host => write!(f, "{WORD}:host:-:{role}"),
            Unit::Network(id) => write!(f, "{WORD}:network:{id}:{role}"),
            Unit::Sandbox(id) => write!(f, "{WORD}:sandbox:{id}:{role}"),
        }
    }
}

impl FromStr for Mark {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid::new("mark", text, "not an ifalias of ours");
        let mut words = text.splitn(4, ':');
        let mut word = || words.next().ok_or_else(wrong);
        if word()? != WORD {
            return Err(wrong());
        }
        let (noun, id, role) = (word()?, word()?, word()?);
        let unit = match noun {
            "host" => Unit::Host,
            "network" => Unit::Network(id.parse()?),
            "sandbox" => Unit::Sandbox(id.parse()?),
            _ => return Err(wrong()),
        };
        Ok(Self::new(unit, role))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_what_it_prints_and_others_are_foreign() {
        for unit in [
            Unit::Host,
            Unit::Network(NetworkId::from_bytes([7; 32])),
            Unit::Sandbox(SandboxId::from_bytes([9; 32])),
        ] {
            let mark = Mark::new(unit, "ep-0123456789ab");
            assert_eq!(mark.to_string().parse::<Mark>().unwrap(), mark);
        }
        for foreign in ["", "eth0", "ovnet", "ovnet:network:12:br0", "other:host:-:x", "ovnet:cat:1:2"] {
            assert!(foreign.parse::<Mark>().is_err(), "{foreign}");
        }
    }
}
