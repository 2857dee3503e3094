//! Networks.

use std::collections::BTreeMap;

use super::{Driver, DriverSettings, InHost, Name, NetworkId, Profile, Scope, Subnet, Timestamp, Vni};

/// Name of the default network, which every host has from the start.
pub const DEFAULT_NETWORK: &str = "bridge";
/// The driver of the default network.
pub const DEFAULT_DRIVER: Driver = Driver::Bridge;

/// A network, as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its identifier.
    pub id: NetworkId,
    /// Its name, unique in its scope.
    pub name: Name,
    /// Its driver with its settings.
    pub settings: DriverSettings,
    /// Its scope.
    pub scope: Scope,
    /// Its VXLAN identifier, unique in the cluster.
    pub vni: Option<Vni>,
    /// At least one; prefixes do not overlap.
    pub subnets: Vec<Subnet>,
    /// It has no route to the host or the outside.
    pub internal: bool,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// The options as they were given with `-o`, checked.
    pub options: BTreeMap<String, String>,
    /// MTU of the endpoints in bytes, if it was chosen.
    pub mtu: Option<u32>,
    /// Prefix of its interface names in sandboxes, if it was chosen; "eth" otherwise.
    pub interface_prefix: Option<String>,
    /// Creation time.
    pub created: Timestamp,
}

impl Network {
    /// Most subnets.
    pub const MAX_SUBNETS: usize = 16;

    /// Its driver.
    pub const fn driver(&self) -> Driver {
        self.settings.driver()
    }

    /// The facts that follow from its driver.
    pub const fn profile(&self) -> &'static Profile {
        self.settings.profile()
    }

    /// Whether it is the default network.
    pub fn is_default(&self) -> bool {
        self.scope == Scope::Local && self.driver() == DEFAULT_DRIVER && self.name.as_str() == DEFAULT_NETWORK
    }

    /// Whether it has a leg in the host: a link by which the host routes to it.
    pub fn has_leg(&self) -> bool {
        self.profile().in_host == InHost::Leg && !self.internal
    }

    /// Whether it has an IPv6 subnet.
    pub fn has_ipv6(&self) -> bool {
        self.subnets.iter().any(|subnet| subnet.prefix.addr().is_ipv6())
    }
}
