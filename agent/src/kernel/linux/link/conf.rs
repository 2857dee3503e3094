//! A link's own settings of IPv4 and IPv6, as the kernel tells them with the link: without opening a file for each.

use nix::libc;

use crate::kernel::linux::rtnl::attributes::{Attributes, u32_at};

/// Within IFLA_AF_SPEC, below AF_INET (linux/if_link.h): one number for each setting, in the order of linux/ip.h.
const INET_CONF: u16 = 1;
/// Below AF_INET6: likewise, in the order of linux/ipv6.h.
const INET6_CONF: u16 = 2;

/// Settings by protocol and name, with their places: IPV4_DEVCONF_* less one, DEVCONF_* of IPv6.
const SETTINGS: [(&str, &str, usize); 12] = [
    ("ipv4", "forwarding", 0),
    ("ipv4", "proxy_arp", 2),
    ("ipv4", "accept_redirects", 3),
    ("ipv4", "send_redirects", 5),
    ("ipv4", "rp_filter", 7),
    ("ipv4", "arp_announce", 17),
    ("ipv4", "arp_ignore", 18),
    ("ipv4", "route_localnet", 25),
    ("ipv6", "accept_ra", 3),
    ("ipv6", "accept_redirects", 4),
    ("ipv6", "disable_ipv6", 26),
    ("ipv6", "accept_dad", 27),
];

/// The values of [`SETTINGS`].
#[derive(Clone, Copy, Debug)]
pub(in crate::kernel::linux) struct Conf([Option<u32>; SETTINGS.len()]);

impl Conf {
    /// As these attributes of a link have them.
    pub(super) fn parse(link: Attributes<'_>) -> Self {
        let families = Attributes::nested(link.find(libc::IFLA_AF_SPEC).unwrap_or_default());
        let values = |family: libc::c_int, kind| {
            let family = u16::try_from(family).ok().and_then(|family| families.find(family));
            Attributes::nested(family.unwrap_or_default()).find(kind).unwrap_or_default()
        };
        let (ipv4, ipv6) = (values(libc::AF_INET, INET_CONF), values(libc::AF_INET6, INET6_CONF));
        Self(
            SETTINGS
                .map(|(protocol, _, place)| u32_at(if protocol == "ipv4" { ipv4 } else { ipv6 }, place * 4)),
        )
    }

    /// The value of a setting as its file below /proc/sys has it, or `None` if the message does not contain
    /// it.
    pub(in crate::kernel::linux) fn get(&self, protocol: &str, setting: &str) -> Option<String> {
        let at = SETTINGS.iter().position(|(of, name, _)| (*of, *name) == (protocol, setting))?;
        // They are signed numbers (struct ctl_table of each).
        self.0[at].map(|value| value.cast_signed().to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::kernel::linux::{
        link::find,
        netns::{namespace::Namespace, test_netns},
    };

    #[test]
    fn a_link_tells_the_same_as_its_files() {
        test_netns::run(|| {
            let file = |protocol: &str, setting: &str| format!("/proc/sys/net/{protocol}/conf/lo/{setting}");
            let told = || {
                let mut namespace = Namespace::here().unwrap();
                find::all(&mut namespace).unwrap().pop().unwrap().conf
            };
            for (protocol, setting, _) in SETTINGS {
                let mut observed = Vec::new();
                // What is there first: -1 for some.
                for value in ["", "1", "0"] {
                    if !value.is_empty() {
                        fs::write(file(protocol, setting), value).unwrap();
                    }
                    let is = fs::read_to_string(file(protocol, setting)).unwrap();
                    assert_eq!(
                        told().get(protocol, setting).as_deref(),
                        Some(is.trim()),
                        "{protocol} {setting}"
                    );
                    observed.push(is);
                }
                assert_ne!(observed[1], observed[2], "{protocol} {setting} was not changed");
            }
            assert_eq!(told().get("ipv4", "tag"), None);
        });
    }
}
