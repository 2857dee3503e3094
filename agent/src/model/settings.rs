//! The settings of each driver.

use std::{fmt, net::IpAddr, str::FromStr};

use super::{IfName, Invalid};

/// On which hosts a published port of an overlay's endpoint is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Publish {
    /// On the endpoint's own.
    #[default]
    Local,
    /// On every host that has endpoints of the network.
    Mesh,
}

/// The settings of an overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverlaySettings {
    /// Broadcast and multicast are replicated to every host.
    pub multicast: bool,
    /// Where published ports can be reached.
    pub publish: Publish,
    /// Traffic to the outside is masqueraded: its source becomes an address of the host.
    pub masquerade: bool,
}

impl Default for OverlaySettings {
    fn default() -> Self {
        Self { multicast: false, publish: Publish::Local, masquerade: true }
    }
}

/// The settings of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgeSettings {
    /// The bridge's name. An existing bridge that is not ours is used as it is. `None` is a name made from
    /// the network's id.
    pub name: Option<IfName>,
    /// Its sandboxes may reach each other.
    pub icc: bool,
    /// Traffic to the outside is masqueraded: its source becomes an address of the host.
    pub masquerade: bool,
    /// The host's address that ports are published on by default; `None` is every address.
    pub host_binding: Option<IpAddr>,
}

impl Default for BridgeSettings {
    fn default() -> Self {
        Self { name: None, icc: true, masquerade: true, host_binding: None }
    }
}

/// The link of the host that a macvlan or ipvlan network is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The link itself: "eth0", or "eth0.10".
    pub link: IfName,
    /// For "eth0.10": the link and the VLAN identifier (1 to 4094) that it is made from if it is missing.
    pub vlan: Option<(IfName, u16)>,
}

/// Which of a parent's macvlan links reach each other (ip-link(8)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum MacvlanMode {
    /// All with all.
    #[default]
    Bridge,
    /// None with none.
    Private,
    /// By way of the switch that the parent is connected to.
    Vepa,
    /// There is only one link, and it uses the parent exclusively.
    Passthru,
}

/// How ipvlan links pass packets (Documentation/networking/ipvlan.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum IpvlanMode {
    /// As a switch.
    #[default]
    L2,
    /// As a router, without broadcast.
    L3,
    /// As a router whose packets also pass the host's firewall.
    L3s,
}

/// Which of a parent's ipvlan links reach each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum IpvlanFlag {
    /// All with all.
    #[default]
    Bridge,
    /// None with none.
    Private,
    /// By way of the switch that the parent is connected to.
    Vepa,
}

macro_rules! words {
    ($what:literal, $type:ident: $($word:literal => $value:ident),*) => {
        impl $type {
            /// Its name in ip-link(8) and Docker.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$value => $word),* }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                match text {
                    $($word => Ok(Self::$value),)*
                    _ => Err(Invalid::new($what, text, format!("expected one of {}", [$($word),*].join(", ")))),
                }
            }
        }
    };
}

words!("macvlan mode", MacvlanMode: "bridge" => Bridge, "private" => Private, "vepa" => Vepa, "passthru" => Passthru);
words!("ipvlan mode", IpvlanMode: "l2" => L2, "l3" => L3, "l3s" => L3s);
words!("ipvlan flag", IpvlanFlag: "bridge" => Bridge, "private" => Private, "vepa" => Vepa);
words!("place to publish ports at", Publish: "local" => Local, "mesh" => Mesh);
