//! The kernel features that decide how objects are made.

/// The features of this kernel, read in the host's namespace; they decide which settings a namespace gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// br_netfilter is loaded: bridged frames pass the firewall by default.
    pub bridge_netfilter: bool,
    /// In the host's namespace bridged frames pass the firewall (bridge-nf-call-iptables and -ip6tables are 1).
    pub bridge_firewall: bool,
    /// The kernel has IPv6.
    pub ipv6: bool,
}
