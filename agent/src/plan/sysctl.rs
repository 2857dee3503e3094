//! Keys below /proc/sys that belong to one link.

use crate::model::IfName;

/// The key of a link's own setting: `net/ipv4/conf/eth0/forwarding`. A link's name never has a slash.
pub(super) fn of_link(protocol: &str, link: IfName, setting: &str) -> String {
    format!("net/{protocol}/conf/{link}/{setting}")
}

/// The link that a key belongs to: such a key is there only while the link is, and starts afresh with it.
pub(super) fn link_of(key: &str) -> Option<IfName> {
    let mut parts = key.split('/');
    let (net, _protocol, what, link) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_per_link = net == "net" && matches!(what, "conf" | "neigh") && !matches!(link, "all" | "default");
    if is_per_link && parts.next().is_some() { link.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_the_link_that_it_belongs_to() {
        let vlan = IfName::literal("eth0.10");
        assert_eq!(link_of(&of_link("ipv4", vlan, "rp_filter")), Some(vlan));
        assert_eq!(link_of("net/ipv6/neigh/eth0/retrans_time_ms"), Some(IfName::literal("eth0")));
        for whole in [
            "net/ipv4/ip_forward",
            "net/ipv4/conf/all/forwarding",
            "net/ipv6/conf/default/accept_dad",
            "net/ipv4/neigh/default/gc_thresh1",
            "net/ipv4/conf/eth0",
            "net/core/somaxconn",
            "",
        ] {
            assert_eq!(link_of(whole), None, "{whole}");
        }
    }
}
