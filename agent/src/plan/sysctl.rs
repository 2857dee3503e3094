//! Keys below /proc/sys: the global ones of the host that may be changed, and those of one link.

use crate::model::IfName;

/// Forwarding of IPv4, of the host as a whole.
pub const FORWARDING_V4: &str = "net/ipv4/ip_forward";
/// Forwarding of IPv6, likewise.
pub const FORWARDING_V6: &str = "net/ipv6/conf/all/forwarding";
/// The global settings of the host that a plan may change, in slash form. Their original values are saved,
/// and no other settings are ever restored.
pub const HOST_SETTINGS: [&str; 2] = [FORWARDING_V4, FORWARDING_V6];

/// Whether this is one of [`HOST_SETTINGS`] with a possible original value, 0 or 1.
pub fn is_host_setting(key: &str, value: &str) -> bool {
    HOST_SETTINGS.contains(&key) && matches!(value, "0" | "1" | "2")
}

/// The key of a link's own setting: `net/ipv4/conf/eth0/forwarding`. A link's name never has a slash.
pub fn of_link(protocol: &str, link: IfName, setting: &str) -> String {
    format!("net/{protocol}/conf/{link}/{setting}")
}

/// The protocol, link and name of a key that [`of_link`] makes.
pub fn parts_of(key: &str) -> Option<(&str, IfName, &str)> {
    let link = link_of(key)?;
    let (protocol, rest) = key.strip_prefix("net/")?.split_once("/conf/")?;
    let (_, setting) = rest.split_once('/')?;
    Some((protocol, link, setting))
}

/// The link that a key belongs to. Such a key exists only while the link does, and starts from its default
/// when the link is made.
pub fn link_of(key: &str) -> Option<IfName> {
    let mut parts = key.split('/');
    let (net, _protocol, what, link) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_per_link = net == "net" && matches!(what, "conf" | "neigh") && !matches!(link, "all" | "default");
    if is_per_link && parts.next().is_some() { link.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_switches_of_forwarding_are_settings_of_the_host() {
        for (key, value) in [(FORWARDING_V4, "0"), (FORWARDING_V6, "1")] {
            assert!(is_host_setting(key, value), "{key}={value}");
        }
        for (key, value) in [
            ("kernel/core_pattern", "|/bin/sh"),
            ("kernel/core_pattern", "0"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/../../kernel/sysrq", "1"),
            (FORWARDING_V4, ""),
            (FORWARDING_V4, "|x"),
        ] {
            assert!(!is_host_setting(key, value), "{key}={value}");
        }
    }

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
