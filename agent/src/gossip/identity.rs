//! What the membership protocol knows a node by. The address is the key; of two identities with one address the newer
//! stays.
//!
//! Generations are compared as serial numbers (RFC 1982): each has one above it. None that somebody makes up is the last
//! word on a node, which goes one above what it hears of itself ([`Identity::above`]).

use std::{
    cmp::Ordering,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::GossipConfig;
use crate::model::{Invalid, Name, NodeId};

/// Longest version, in bytes.
const MAX_VERSION: usize = 32;
/// How often a node renews itself before it stops for a while.
const MAX_RENEWALS: u8 = 60;
/// The largest step of a renewal is two to this, in milliseconds: 35 years.
const MAX_STEP: u8 = 40;

/// A node at one time of its life. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub(super) struct Identity {
    /// Where its datagrams go.
    pub(super) address: SocketAddr,
    /// The node; nil for one that only the address is known of.
    pub(super) node: NodeId,
    /// Milliseconds since the Unix epoch at its start, plus what renewals have added.
    pub(super) generation: u64,
    /// Renewals since its start.
    pub(super) renewals: u8,
    /// It goes on purpose.
    pub(super) leaving: bool,
    /// What it says of itself; none for one that only the address is known of.
    pub(super) profile: Option<Arc<Profile>>,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) name: Name,
    pub(super) vtep: IpAddr,
    pub(super) version: String,
}

impl Identity {
    /// Our own at start.
    pub(super) fn own(config: &GossipConfig) -> Self {
        let fits = |(at, c): &(usize, char)| at + c.len_utf8() <= MAX_VERSION;
        let version = config.version.char_indices().take_while(fits).map(|(_, c)| c).collect();
        let profile = Profile { name: config.name.clone(), vtep: config.vtep, version };
        Self {
            address: config.advertise,
            node: config.node,
            generation: config.generation,
            renewals: 0,
            leaving: false,
            profile: Some(Arc::new(profile)),
        }
    }

    /// A node of which only the address is known.
    pub(super) const fn unknown(address: SocketAddr) -> Self {
        let node = NodeId(uuid::Uuid::nil());
        Self { address, node, generation: 0, renewals: 0, leaving: false, profile: None }
    }

    /// The same node, newer by as little as possible, and counting its renewals anew.
    pub(super) fn refreshed(&self) -> Self {
        self.above(self)
    }

    /// The same node, newer than `other`, and counting its renewals anew.
    pub(super) fn above(&self, other: &Self) -> Self {
        Self { generation: other.generation.wrapping_add(1), renewals: 0, ..self.clone() }
    }

    /// The same node on its way out.
    pub(super) fn departing(&self) -> Self {
        Self { leaving: true, ..self.refreshed() }
    }
}

impl foca::Identity for Identity {
    type Addr = SocketAddr;

    /// The next identity after this one was declared down. The step doubles each time: a node that was started with its
    /// clock far behind passes its former self after a few rounds.
    fn renew(&self) -> Option<Self> {
        if self.renewals >= MAX_RENEWALS || self.leaving {
            return None;
        }
        let generation = self.generation.wrapping_add(1 << self.renewals.min(MAX_STEP));
        Some(Self { generation, renewals: self.renewals + 1, ..self.clone() })
    }

    fn addr(&self) -> SocketAddr {
        self.address
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        order(self.generation, adversary.generation).then_with(|| self.node.cmp(&adversary.node)).is_gt()
    }
}

/// Which of two generations is the newer: the one that fewer steps upwards lead to, past the greatest number to zero.
pub(super) const fn order(one: u64, other: u64) -> Ordering {
    match one.wrapping_sub(other).cast_signed() {
        0 => Ordering::Equal,
        1.. => Ordering::Greater,
        ..0 => Ordering::Less,
    }
}

impl Identity {
    /// What people call it: its name, or where only that is known, the start of its id.
    pub(super) fn called(&self) -> String {
        self.profile.as_ref().map_or_else(|| self.node.short(), |profile| profile.name.to_string())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}#{}", self.node.short(), self.address, self.generation)
    }
}

/// An identity in a message.
#[derive(Serialize, Deserialize)]
struct Wire {
    address: SocketAddr,
    node: [u8; 16],
    generation: u64,
    renewals: u8,
    leaving: bool,
    profile: Option<WireProfile>,
}

#[derive(Serialize, Deserialize)]
struct WireProfile {
    name: String,
    vtep: IpAddr,
    version: String,
}

impl From<Identity> for Wire {
    fn from(identity: Identity) -> Self {
        let profile = identity.profile.map(|profile| WireProfile {
            name: profile.name.to_string(),
            vtep: profile.vtep,
            version: profile.version.clone(),
        });
        Self {
            address: identity.address,
            node: *identity.node.0.as_bytes(),
            generation: identity.generation,
            renewals: identity.renewals,
            leaving: identity.leaving,
            profile,
        }
    }
}

impl TryFrom<Wire> for Identity {
    type Error = Invalid;

    fn try_from(wire: Wire) -> Result<Self, Invalid> {
        let address = wire.address;
        let ip = address.ip();
        if address.port() == 0 || ip.is_unspecified() || ip.is_multicast() {
            let reason = "expected the unicast address of a host with its port";
            return Err(Invalid::new("gossip address", address.to_string(), reason));
        }
        Ok(Self {
            address,
            node: NodeId(uuid::Uuid::from_bytes(wire.node)),
            generation: wire.generation,
            renewals: wire.renewals,
            leaving: wire.leaving,
            profile: wire.profile.map(Profile::try_from).transpose()?.map(Arc::new),
        })
    }
}

impl TryFrom<WireProfile> for Profile {
    type Error = Invalid;

    fn try_from(wire: WireProfile) -> Result<Self, Invalid> {
        if wire.version.len() > MAX_VERSION || wire.version.contains(char::is_control) {
            return Err(Invalid::new("version", wire.version, "expected at most 32 printable bytes"));
        }
        if wire.vtep.is_unspecified() || wire.vtep.is_multicast() {
            return Err(Invalid::new(
                "VTEP",
                wire.vtep.to_string(),
                "expected the unicast address of a host",
            ));
        }
        Ok(Self { name: Name::parse("node name", &wire.name)?, vtep: wire.vtep, version: wire.version })
    }
}

#[cfg(test)]
mod tests {
    use foca::Identity as _;

    use super::*;

    fn identity(generation: u64) -> Identity {
        Identity::own(&GossipConfig {
            node: NodeId(uuid::Uuid::from_u128(7)),
            name: "n".repeat(63).parse().unwrap(),
            advertise: "[fd00::1]:7946".parse().unwrap(),
            vtep: "fd00::1".parse().unwrap(),
            version: "v".repeat(100),
            generation,
            seed: 0,
        })
    }

    #[test]
    fn an_identity_reads_back_and_stays_small() {
        let mut buffer = [0; 512];
        let bytes = postcard::to_slice(&identity(u64::MAX), &mut buffer).unwrap();
        assert!(bytes.len() <= 200, "{} bytes", bytes.len());
        assert_eq!(postcard::from_bytes::<Identity>(bytes).unwrap(), identity(u64::MAX));
    }

    #[test]
    fn a_node_whose_clock_went_back_ten_years_passes_its_former_self() {
        let former = identity(1_700_000_000_000);
        let mut now = identity(1_700_000_000_000 - 315_360_000_000);
        let mut renewals = 0;
        while !now.win_addr_conflict(&former) {
            now = now.renew().unwrap();
            renewals += 1;
        }
        assert!(renewals < 45, "{renewals} renewals");
    }

    #[test]
    fn no_generation_is_the_last_word() {
        for generation in [1, 1_700_000_000_000, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
            let forged = identity(generation);
            let real = identity(1_700_000_000_000).above(&forged);
            assert!(real.win_addr_conflict(&forged) && !forged.win_addr_conflict(&real), "{generation}");
        }
    }

    #[test]
    fn renewals_come_to_an_end_and_each_wins_over_the_last() {
        let mut now = identity(1);
        let mut renewals = 0;
        while let Some(next) = now.renew() {
            assert!(next.win_addr_conflict(&now) && !now.win_addr_conflict(&next));
            now = next;
            renewals += 1;
        }
        assert_eq!(renewals, MAX_RENEWALS);
        assert!(now.refreshed().renew().is_some());
        assert!(now.departing().renew().is_none());
    }
}
