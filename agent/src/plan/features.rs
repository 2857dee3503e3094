//! What of a kernel decides how things are made there.

/// What this kernel has, seen at the host; it decides which settings a namespace gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// br_netfilter is there: bridged frames pass the firewall unless it is told otherwise.
    pub bridge_netfilter: bool,
    /// In the host's namespace bridged frames pass the firewall (bridge-nf-call-iptables and -ip6tables are 1).
    pub bridge_firewall: bool,
    /// IPv6 is there.
    pub ipv6: bool,
}
