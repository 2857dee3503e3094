//! The options of an attachment (`--driver-opt` of `network connect`), and the ports that it publishes.

use std::{collections::BTreeMap, net::IpAddr};

use super::{limits, nearest};
use crate::model::{Endpoint, IfName, Invalid};

const SYSCTLS: [&str; 2] = ["com.docker.network.endpoint.sysctls", "sysctls"];
const IFNAME: [&str; 2] = ["com.docker.network.endpoint.ifname", "ifname"];
/// The placeholder for the interface's name in a sysctl.
const PLACEHOLDER: &str = "IFNAME";
/// What the sysctls of interfaces start with.
const TREES: [&str; 3] = ["ipv4", "ipv6", "mpls"];

/// What the options of an attachment mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointOptions {
    /// The interface's name in the sandbox, if chosen.
    pub ifname: Option<IfName>,
    /// Sysctls of the interface.
    sysctls: Vec<Sysctl>,
}

/// A sysctl of an interface whose name is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sysctl {
    /// The parts of its key; [`PLACEHOLDER`] is one of them.
    key: Vec<String>,
    value: String,
}

impl EndpointOptions {
    /// The sysctls of the interface with this name, by key in slash form.
    pub fn sysctls(&self, name: IfName) -> BTreeMap<String, String> {
        let part = |part: &String| match part.as_str() {
            PLACEHOLDER => name.to_string(),
            other => other.to_owned(),
        };
        let key = |sysctl: &Sysctl| sysctl.key.iter().map(part).collect::<Vec<_>>().join("/");
        self.sysctls.iter().map(|sysctl| (key(sysctl), sysctl.value.clone())).collect()
    }
}

/// What `options` mean.
///
/// # Errors
/// An option that there is not (the error names the nearest), a value that cannot be, two values for one thing.
pub fn parse_endpoint_options(options: &BTreeMap<String, String>) -> Result<EndpointOptions, Invalid> {
    limits::check_map("option", options)?;
    let mut parsed = EndpointOptions::default();
    let mut given = [None, None];
    for (name, value) in options {
        let wrong = |reason: String| Invalid::new("option", format!("{name}={value}"), reason);
        let known = [SYSCTLS, IFNAME].iter().position(|names| names.contains(&name.as_str()));
        let Some(which) = known else { return Err(wrong(unknown(name))) };
        if let Some(other) = given.get_mut(which).and_then(|seen| seen.replace(name))
            && options.get(other) != Some(value)
        {
            return Err(wrong(format!("{other} has a different value; give only one of the two")));
        }
        if which == 0 {
            parsed.sysctls = sysctls(value).map_err(wrong)?;
        } else {
            parsed.ifname = Some(ifname(value).map_err(wrong)?);
        }
    }
    Ok(parsed)
}

fn unknown(name: &str) -> String {
    let all = || SYSCTLS.into_iter().chain(IFNAME);
    match nearest(name, all()) {
        Some(near) => format!("there is no such option of an endpoint; did you mean {near}?"),
        None => format!(
            "there is no such option of an endpoint; there are {}",
            all().collect::<Vec<_>>().join(", ")
        ),
    }
}

fn ifname(text: &str) -> Result<IfName, String> {
    if text == "lo" {
        return Err("every sandbox already has an interface lo; choose a different name".into());
    }
    if text.contains('%') {
        return Err("'%' is not allowed: the kernel would replace it with a number".into());
    }
    text.parse().map_err(|invalid: Invalid| invalid.reason)
}

/// `net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.IFNAME.accept_ra=0`
fn sysctls(text: &str) -> Result<Vec<Sysctl>, String> {
    let mut all: Vec<Sysctl> = Vec::new();
    for one in text.split(',') {
        let sysctl = sysctl(one.trim())?;
        if all.iter().any(|other| other.key == sysctl.key) {
            return Err(format!("{} is given twice", sysctl.key.join(".")));
        }
        all.push(sysctl);
    }
    if all.len() > Endpoint::MAX_SYSCTLS {
        return Err(format!("{} are given, at most {} are allowed", all.len(), Endpoint::MAX_SYSCTLS));
    }
    Ok(all)
}

fn sysctl(text: &str) -> Result<Sysctl, String> {
    let shape =
        || format!("expected KEY=VALUE such as net.ipv4.conf.{PLACEHOLDER}.log_martians=1, not {text:?}");
    let (key, value) = text.split_once('=').ok_or_else(shape)?;
    let value = value.trim();
    if value.is_empty() || value.contains(char::is_control) {
        return Err(shape());
    }
    let parts: Vec<String> = key.trim().split('.').map(str::to_owned).collect();
    let good = |part: &String| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    if !parts.iter().all(good) {
        return Err(shape());
    }
    let tree = |at: usize| parts.get(at).map(String::as_str).unwrap_or_default();
    if tree(0) != "net" || !TREES.contains(&tree(1)) {
        return Err(format!(
            "{key} is not a sysctl of an interface: expected one that starts with net.ipv4., net.ipv6. or \
             net.mpls."
        ));
    }
    if parts.iter().filter(|part| *part == PLACEHOLDER).count() != 1 {
        return Err(format!(
            "{key} is not a sysctl of an interface: expected {PLACEHOLDER} once, in place of the interface's \
             name"
        ));
    }
    Ok(Sysctl { key: parts, value: value.to_owned() })
}

/// A link-local address of an interface: 169.254.0.0/16 (RFC 3927), its first and last 256 left out, or fe80::/64.
///
/// # Errors
/// Another address.
pub fn link_local_address(address: IpAddr) -> Result<IpAddr, Invalid> {
    let wrong = |reason: &str| Err(Invalid::new("link-local address", address.to_string(), reason));
    match address {
        IpAddr::V4(v4) if !v4.is_link_local() => wrong("expected one of 169.254.0.0/16 or fe80::/64"),
        IpAddr::V4(v4) if matches!(v4.octets(), [_, _, 0 | 255, _]) => {
            wrong("the first and the last 256 addresses of 169.254.0.0/16 are reserved (RFC 3927)")
        }
        IpAddr::V6(v6) if v6.segments()[..4] != [0xfe80, 0, 0, 0] => {
            wrong("expected one of 169.254.0.0/16 or fe80::/64")
        }
        IpAddr::V6(v6) if v6.segments()[4..] == [0; 4] => wrong("it is the link's router address"),
        IpAddr::V4(_) | IpAddr::V6(_) => Ok(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<EndpointOptions, Invalid> {
        parse_endpoint_options(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn sysctls_get_the_interfaces_name() {
        let text = "net.ipv4.conf.IFNAME.log_martians=1, net.ipv6.conf.IFNAME.accept_ra=0";
        for name in SYSCTLS {
            let options = parse(&[(name, text)]).unwrap();
            let expected = [("net/ipv4/conf/eth1/log_martians", "1"), ("net/ipv6/conf/eth1/accept_ra", "0")];
            let expected: BTreeMap<String, String> =
                expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
            assert_eq!(options.sysctls(IfName::literal("eth1")), expected);
        }
        // An interface's name may have a dot, which is none between the parts of a key.
        let options = parse(&[("sysctls", "net.mpls.conf.IFNAME.input=1")]).unwrap();
        assert!(options.sysctls(IfName::literal("a.b")).contains_key("net/mpls/conf/a.b/input"));
    }

    #[test]
    fn what_is_not_the_interfaces_is_refused() {
        for (text, part) in [
            ("net.ipv4.ip_forward=1", "expected IFNAME once"),
            ("net.ipv4.conf.eth0.log_martians=1", "expected IFNAME once"),
            ("net.ipv4.IFNAME.IFNAME.x=1", "expected IFNAME once"),
            ("kernel.IFNAME=1", "starts with net.ipv4."),
            ("net.core.IFNAME=1", "starts with net.ipv4."),
            ("net.ipv4.conf.IFNAME.log_martians", "expected KEY=VALUE"),
            ("net.ipv4.conf.IFNAME.log_martians=", "expected KEY=VALUE"),
            ("net.ipv4.conf.IFNAME/../../x=1", "expected KEY=VALUE"),
            ("net.ipv4..IFNAME=1", "expected KEY=VALUE"),
            ("", "expected KEY=VALUE"),
            ("net.ipv4.conf.IFNAME.a=1,net.ipv4.conf.IFNAME.a=2", "given twice"),
        ] {
            let error = parse(&[("sysctls", text)]).unwrap_err();
            assert!(error.reason.contains(part), "{text}: {error}");
            assert_eq!(error.input, format!("sysctls={text}"));
        }
        let many: Vec<String> = (0..33).map(|n| format!("net.ipv4.conf.IFNAME.a{n}=1")).collect();
        assert!(parse(&[("sysctls", &many.join(","))]).unwrap_err().reason.contains("at most 32"));
    }

    #[test]
    fn an_unknown_option_is_refused_with_the_nearest_known_one() {
        let error = parse(&[("com.docker.network.endpoint.sysctl", "x")]).unwrap_err();
        assert!(error.reason.ends_with("did you mean com.docker.network.endpoint.sysctls?"), "{error}");
        let error = parse(&[("encrypted", "")]).unwrap_err();
        assert!(error.reason.ends_with("sysctls, com.docker.network.endpoint.ifname, ifname"), "{error}");
    }

    #[test]
    fn an_interface_has_a_name_that_it_can_have() {
        assert_eq!(parse(&[("ifname", "lan0")]).unwrap().ifname, Some(IfName::literal("lan0")));
        for text in ["lo", "", "a b", "0123456789abcdef", "eth%d"] {
            assert!(parse(&[("ifname", text)]).is_err(), "{text}");
        }
        let both = [("com.docker.network.endpoint.ifname", "a0"), ("ifname", "b0")];
        assert!(parse(&both).unwrap_err().reason.contains("give only one of the two"));
    }

    #[test]
    fn link_local_addresses_are_told_from_others() {
        for good in ["169.254.7.8", "fe80::7"] {
            assert!(link_local_address(good.parse().unwrap()).is_ok(), "{good}");
        }
        for bad in ["10.0.0.1", "169.254.0.1", "169.254.255.1", "fe80:1::1", "fe80::", "fd00::1"] {
            assert!(link_local_address(bad.parse().unwrap()).is_err(), "{bad}");
        }
    }
}
