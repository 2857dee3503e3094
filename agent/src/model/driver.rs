//! Drivers: how a network is built, and the facts of all networks of a driver.

use std::{fmt, net::IpAddr, str::FromStr};

use super::{
    BridgeSettings, Invalid, IpvlanFlag, IpvlanMode, MacvlanMode, OverlaySettings, Parent, Publish, Scope,
};

/// How a network is built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Driver {
    /// VXLAN between the hosts; the default.
    #[default]
    Overlay,
    /// A bridge on one host.
    Bridge,
    /// Links with Ethernet addresses of their own on a link of the host.
    Macvlan,
    /// Links that share the Ethernet address of a link of the host.
    Ipvlan,
    /// A veth pair between two sandboxes.
    P2p,
}

impl Driver {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Overlay, Self::Bridge, Self::Macvlan, Self::Ipvlan, Self::P2p];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Bridge => "bridge",
            Self::Macvlan => "macvlan",
            Self::Ipvlan => "ipvlan",
            Self::P2p => "p2p",
        }
    }

    /// The facts of its networks that do not depend on their settings.
    pub const fn profile(self) -> &'static Profile {
        match self {
            Self::Overlay => &OVERLAY,
            Self::Bridge => &BRIDGE,
            Self::Macvlan => &MACVLAN,
            Self::Ipvlan => &IPVLAN,
            Self::P2p => &P2P,
        }
    }

    /// The scope of its networks.
    pub const fn scope(self) -> Scope {
        self.profile().scope
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Driver {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL.into_iter().find(|driver| driver.as_str() == text).ok_or_else(|| {
            let all: Vec<_> = Self::ALL.iter().map(|driver| driver.as_str()).collect();
            Invalid::new("driver", text, format!("this agent has: {}", all.join(", ")))
        })
    }
}

/// The settings of a network's driver, with their defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverSettings {
    /// Of an overlay.
    Overlay(OverlaySettings),
    /// Of a bridge.
    Bridge(BridgeSettings),
    /// Of macvlan.
    Macvlan(Parent, MacvlanMode),
    /// Of ipvlan.
    Ipvlan(Parent, IpvlanMode, IpvlanFlag),
    /// A pair has no settings.
    P2p,
}

impl DriverSettings {
    /// The driver that they belong to.
    pub const fn driver(&self) -> Driver {
        match self {
            Self::Overlay(_) => Driver::Overlay,
            Self::Bridge(_) => Driver::Bridge,
            Self::Macvlan(..) => Driver::Macvlan,
            Self::Ipvlan(..) => Driver::Ipvlan,
            Self::P2p => Driver::P2p,
        }
    }

    /// The facts of a network with these settings.
    pub const fn profile(&self) -> &'static Profile {
        match self {
            Self::Macvlan(_, MacvlanMode::Passthru) => &MACVLAN_PASSTHRU,
            Self::Ipvlan(_, IpvlanMode::L3 | IpvlanMode::L3s, _) => &IPVLAN_ROUTED,
            Self::Overlay(_) | Self::Bridge(_) | Self::Macvlan(..) | Self::Ipvlan(..) | Self::P2p => {
                self.driver().profile()
            }
        }
    }

    /// Those of an overlay.
    pub const fn overlay(&self) -> Option<&OverlaySettings> {
        match self {
            Self::Overlay(settings) => Some(settings),
            Self::Bridge(_) | Self::Macvlan(..) | Self::Ipvlan(..) | Self::P2p => None,
        }
    }

    /// Those of a bridge.
    pub const fn bridge(&self) -> Option<&BridgeSettings> {
        match self {
            Self::Bridge(settings) => Some(settings),
            Self::Overlay(_) | Self::Macvlan(..) | Self::Ipvlan(..) | Self::P2p => None,
        }
    }

    /// The link of the host that the network's links are made on.
    pub const fn parent(&self) -> Option<&Parent> {
        match self {
            Self::Macvlan(parent, _) | Self::Ipvlan(parent, ..) => Some(parent),
            Self::Overlay(_) | Self::Bridge(_) | Self::P2p => None,
        }
    }

    /// Whether the ports of an endpoint are published on every host that has endpoints of the network.
    pub fn is_mesh(&self) -> bool {
        self.overlay().is_some_and(|settings| settings.publish == Publish::Mesh)
    }

    /// The host's address that ports are published on by default; `None` is every address.
    pub fn host_binding(&self) -> Option<IpAddr> {
        self.bridge().and_then(|settings| settings.host_binding)
    }
}

/// The facts of all networks of a driver. There are no defaults: a new driver must set every field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The scope of its networks.
    pub scope: Scope,
    /// Frames go from host to host in VXLAN, by the network's identifier.
    pub vxlan: bool,
    /// The network's part in the host's namespace, besides the links of its endpoints.
    pub in_host: InHost,
    /// Its subnets have gateways, or the reason why not.
    pub gateway: Result<(), &'static str>,
    /// The most endpoints that it can have, if there is a limit.
    pub most: Option<Most>,
    /// Its endpoints may publish ports on the host, or the reason why not.
    pub publishes: Result<(), &'static str>,
    /// A network that is not internal leads outside.
    pub leads_outside: bool,
    /// Only ovnet knows the names and addresses in its subnets.
    pub names_private: bool,
    /// The host reaches its endpoints, or the reason why not.
    pub host_reaches: Result<(), &'static str>,
    /// Its endpoints have their own Ethernet addresses, or the reason why none can be chosen; the network's
    /// name follows.
    pub own_mac: Result<(), &'static str>,
    /// What is programmed for one endpoint does not depend on the others.
    pub rows_alone: bool,
    /// Its links in sandboxes have no other end, so they cannot be found once their sandbox is forgotten.
    pub lone_links: bool,
}

/// The part of a network in the host's namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InHost {
    /// Nothing.
    Nothing,
    /// The outer end of its leg, unless it is internal. The host routes to it, and connections are tracked on
    /// both sides.
    Leg,
    /// A bridge. The host is on the network, and its connections are tracked in the host.
    Bridge,
    /// A parent link of the host; traffic of the links on it does not pass the host.
    Parent,
}

/// The most endpoints that a network can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most {
    /// The number.
    pub count: usize,
    /// The error text for a full network, between its name and those of its endpoints; `{parent}` is replaced
    /// with its parent.
    pub full: &'static str,
}

const OVERLAY: Profile = Profile {
    scope: Scope::Global,
    vxlan: true,
    in_host: InHost::Leg,
    gateway: Ok(()),
    most: None,
    publishes: Ok(()),
    leads_outside: true,
    names_private: true,
    host_reaches: Ok(()),
    own_mac: Ok(()),
    rows_alone: true,
    lone_links: false,
};

const BRIDGE: Profile = Profile {
    scope: Scope::Local,
    vxlan: false,
    in_host: InHost::Bridge,
    gateway: Ok(()),
    most: None,
    publishes: Ok(()),
    leads_outside: true,
    names_private: true,
    host_reaches: Ok(()),
    own_mac: Ok(()),
    rows_alone: true,
    lone_links: false,
};

const MACVLAN: Profile = Profile {
    scope: Scope::Local,
    vxlan: false,
    in_host: InHost::Parent,
    gateway: Ok(()),
    most: None,
    publishes: Err(
        "its endpoints have addresses on the outside network, where all their ports can be reached already",
    ),
    leads_outside: true,
    names_private: false,
    host_reaches: Err("the kernel does not let a host reach links on its own parent; other hosts reach them"),
    own_mac: Ok(()),
    rows_alone: true,
    lone_links: true,
};

/// macvlan in the mode passthru.
const MACVLAN_PASSTHRU: Profile = Profile {
    most: Some(Most {
        count: 1,
        full: "gives its parent {parent} to one endpoint only (passthru), and that is",
    }),
    ..MACVLAN
};

const IPVLAN: Profile = Profile {
    own_mac: Err(
        "the links of an ipvlan network share the Ethernet address of their parent: leave it out, or use a \
         macvlan network instead of",
    ),
    ..MACVLAN
};

/// ipvlan in the modes l3 and l3s.
const IPVLAN_ROUTED: Profile = Profile {
    gateway: Err(
        "in the modes l3 and l3s of ipvlan the link itself is the way out, so it has no gateway: leave it out",
    ),
    ..IPVLAN
};

const P2P: Profile = Profile {
    scope: Scope::Local,
    vxlan: false,
    in_host: InHost::Nothing,
    gateway: Err(
        "a p2p network joins two sandboxes and leads nowhere else, so it has no gateway: leave it out",
    ),
    most: Some(Most { count: 2, full: "is a pair (p2p), and joins already" }),
    publishes: Err("it joins two sandboxes and leads nowhere else"),
    leads_outside: false,
    names_private: true,
    host_reaches: Err("it joins only two sandboxes"),
    own_mac: Ok(()),
    // Each end is the other's.
    rows_alone: false,
    lone_links: true,
};
