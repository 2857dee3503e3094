//! The `-o` options of a network: the names that we know, Docker's among them where they mean the same.
//!
//! The map stays in the record as it was given; [`Options`] is what it means.

use std::collections::BTreeMap;

use super::{limits, nearest};
use crate::model::{Invalid, Vni};

/// Smallest MTU of an IPv4 network: what every host must take whole (RFC 791).
const MIN_MTU: u32 = 576;
/// Smallest MTU of a network with IPv6 (RFC 8200 section 5).
const MIN_MTU_IPV6: u32 = 1280;
/// Largest MTU that the kernel gives an Ethernet device (`ETH_MAX_MTU`).
const MAX_MTU: u32 = 65_535;

/// Names of an option by what it means.
const MTU: [&str; 2] = ["com.docker.network.driver.mtu", "mtu"];
const VNI: [&str; 2] = ["com.docker.network.driver.overlay.vxlanid_list", "vni"];
const MULTICAST: [&str; 1] = ["multicast"];
const FORCE: [&str; 1] = ["ovnet.force"];

/// What the options of a network mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// MTU of the endpoints in bytes, if chosen.
    pub mtu: Option<u32>,
    /// VXLAN identifier, if chosen.
    pub vni: Option<Vni>,
    /// Broadcast and multicast are replicated to every host.
    pub multicast: bool,
    /// Take a chosen subnet although it overlaps a route of the host.
    pub force: bool,
}

impl Options {
    /// Whether a network with an IPv6 subnet can have these.
    ///
    /// # Errors
    /// An MTU below 1280.
    pub fn check_ipv6(&self) -> Result<(), Invalid> {
        match self.mtu {
            Some(mtu) if mtu < MIN_MTU_IPV6 => Err(Invalid::new(
                "option",
                format!("mtu={mtu}"),
                format!("a network with IPv6 needs an MTU from {MIN_MTU_IPV6} to {MAX_MTU}"),
            )),
            Some(_) | None => Ok(()),
        }
    }
}

/// What `options` mean. The same thing may be said by two names if both say the same.
///
/// # Errors
/// An unknown option (the error names the nearest known one), a value that does not parse or is out of range, two
/// values for one thing, too many or too long ones.
pub fn parse_options(options: &BTreeMap<String, String>) -> Result<Options, Invalid> {
    limits::check_map("option", options)?;
    if let Some((name, value)) = options.iter().find(|(name, _)| !known().any(|known| known == *name)) {
        return Err(unknown(name, value));
    }
    Ok(Options {
        mtu: one(options, &MTU, parse_mtu)?,
        vni: one(options, &VNI, parse_vni)?,
        multicast: one(options, &MULTICAST, parse_bool)?.unwrap_or_default(),
        force: one(options, &FORCE, parse_bool)?.unwrap_or_default(),
    })
}

fn known() -> impl Iterator<Item = &'static str> {
    MTU.into_iter().chain(VNI).chain(MULTICAST).chain(FORCE)
}

fn unknown(name: &str, value: &str) -> Invalid {
    let all = || format!("known options are {}", known().collect::<Vec<_>>().join(", "));
    let reason = match nearest(name, known()) {
        Some(near) => format!("there is no such option; did you mean {near}?"),
        None => format!("there is no such option; {}", all()),
    };
    Invalid::new("option", format!("{name}={value}"), reason)
}

/// The value that the options with these names agree on.
fn one<T: PartialEq>(
    options: &BTreeMap<String, String>,
    names: &[&str],
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, Invalid> {
    let mut found: Option<(&str, T)> = None;
    for name in names {
        let Some(text) = options.get(*name) else { continue };
        let quoted = || format!("{name}={text}");
        let value = parse(text).map_err(|reason| Invalid::new("option", quoted(), reason))?;
        match &found {
            Some((other, before)) if *before != value => {
                let reason = format!("{other} says something else; give one of the two");
                return Err(Invalid::new("option", quoted(), reason));
            }
            Some(_) | None => found = Some((name, value)),
        }
    }
    Ok(found.map(|(_, value)| value))
}

fn parse_mtu(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|mtu| (MIN_MTU..=MAX_MTU).contains(mtu))
        .ok_or_else(|| format!("expected a number of bytes from {MIN_MTU} to {MAX_MTU}"))
}

fn parse_vni(text: &str) -> Result<Vni, String> {
    if text.contains(',') {
        return Err("a network has one VNI here, for all its subnets: give a single number".into());
    }
    text.trim().parse().map_err(|invalid: Invalid| invalid.reason)
}

fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("expected true or false".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Options, Invalid> {
        parse_options(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn dockers_names_mean_the_same_as_ours() {
        let ours = parse(&[("mtu", "1400"), ("vni", "4097"), ("multicast", "true")]).unwrap();
        let dockers = parse(&[
            ("com.docker.network.driver.mtu", "1400"),
            ("com.docker.network.driver.overlay.vxlanid_list", "4097"),
            ("multicast", "1"),
        ]);
        assert_eq!(dockers, Ok(ours));
        let expected =
            Options { mtu: Some(1400), vni: Some(Vni::new(4097).unwrap()), multicast: true, force: false };
        assert_eq!(ours, expected);
    }

    #[test]
    fn no_options_mean_the_defaults() {
        assert_eq!(parse(&[]), Ok(Options::default()));
    }

    #[test]
    fn an_unknown_option_is_refused_with_the_nearest_known_one() {
        let error = parse(&[("multcast", "true")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"invalid option "multcast=true": there is no such option; did you mean multicast?"#
        );
        let error = parse(&[("encrypted", "")]).unwrap_err();
        assert!(error.reason.contains("known options are com.docker.network.driver.mtu, mtu"), "{error}");
    }

    #[test]
    fn values_that_cannot_be_are_refused() {
        for (name, value) in [
            ("mtu", "575"),
            ("mtu", "65536"),
            ("mtu", "-1"),
            ("mtu", "big"),
            ("vni", "0"),
            ("vni", "16777216"),
            ("vni", "1,2"),
            ("multicast", "maybe"),
            ("ovnet.force", ""),
        ] {
            let error = parse(&[(name, value)]).unwrap_err();
            assert_eq!(error.input, format!("{name}={value}"));
        }
    }

    #[test]
    fn two_names_for_one_thing_must_agree() {
        assert!(parse(&[("mtu", "1400"), ("com.docker.network.driver.mtu", "1400")]).is_ok());
        assert!(parse(&[("mtu", "1400"), ("com.docker.network.driver.mtu", "1401")]).is_err());
    }

    #[test]
    fn ipv6_needs_its_own_smallest_mtu() {
        assert!(parse(&[("mtu", "1279")]).unwrap().check_ipv6().is_err());
        assert!(parse(&[("mtu", "1280")]).unwrap().check_ipv6().is_ok());
        assert!(Options::default().check_ipv6().is_ok());
    }
}
