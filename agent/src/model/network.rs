//! Networks.

use std::{collections::BTreeMap, fmt, str::FromStr};

use super::{Invalid, Name, NetworkId, Subnet, Timestamp, Vni};

/// How a network is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Driver {
    /// VXLAN between the hosts.
    Overlay,
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overlay => "overlay",
        })
    }
}

impl FromStr for Driver {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "overlay" => Ok(Self::Overlay),
            _ => Err(Invalid::new("driver", text, "this agent has: overlay")),
        }
    }
}

/// Who knows a network: this host, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// This host alone.
    Local,
    /// Every host of the store.
    Global,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Global => "global",
        })
    }
}

impl FromStr for Scope {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "local" => Ok(Self::Local),
            "global" => Ok(Self::Global),
            _ => Err(Invalid::new("scope", text, "expected local or global")),
        }
    }
}

/// A network, as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its identifier.
    pub id: NetworkId,
    /// Its name, unique in its scope.
    pub name: Name,
    /// How it is built.
    pub driver: Driver,
    /// Who knows it.
    pub scope: Scope,
    /// Its VXLAN identifier, unique in the cluster.
    pub vni: Option<Vni>,
    /// At least one; prefixes do not overlap.
    pub subnets: Vec<Subnet>,
    /// No way to the host or the outside.
    pub internal: bool,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// The options as they were given with `-o`, checked.
    pub options: BTreeMap<String, String>,
    /// MTU of the endpoints in bytes, if it was chosen.
    pub mtu: Option<u32>,
    /// Broadcast and multicast are replicated to every host.
    pub multicast: bool,
    /// When it was made.
    pub created: Timestamp,
}

impl Network {
    /// Most subnets.
    pub const MAX_SUBNETS: usize = 16;

    /// Whether it has an IPv6 subnet.
    pub fn has_ipv6(&self) -> bool {
        self.subnets.iter().any(|subnet| subnet.prefix.addr().is_ipv6())
    }
}
