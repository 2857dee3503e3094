//! The `-o` options of a network: the names that we know, Docker's among them where they mean the same.
//!
//! The map stays in the record as it was given; [`Options`] is what it means.

use std::{collections::BTreeMap, net::IpAddr, str::FromStr};

use super::{limits, nearest};
use crate::model::{BridgeSettings, Driver, DriverSettings, IfName, Invalid, OverlaySettings, Parent, Vni};

/// Smallest MTU of an IPv4 network: what every host must take whole (RFC 791).
const MIN_MTU: u32 = 576;
/// Smallest MTU of a network with IPv6 (RFC 8200 section 5).
const MIN_MTU_IPV6: u32 = 1280;
/// Largest MTU that the kernel gives an Ethernet device (`ETH_MAX_MTU`).
const MAX_MTU: u32 = 65_535;
/// Longest beginning of an interface's name: a number of up to four digits follows.
const MAX_PREFIX: usize = IfName::MAX - 4;

/// An option: its names, Docker's first, and the drivers that have it.
type Known = (&'static [&'static str], &'static [Driver]);

use Driver::{Bridge, Ipvlan, Macvlan, Overlay};

const MTU: Known = (&["com.docker.network.driver.mtu", "mtu"], &Driver::ALL);
const PREFIX: Known = (&["com.docker.network.container_iface_prefix", "ifname-prefix"], &Driver::ALL);
const FORCE: Known = (&["ovnet.force"], &Driver::ALL);
const VNI: Known = (&["com.docker.network.driver.overlay.vxlanid_list", "vni"], &[Overlay]);
const MULTICAST: Known = (&["multicast"], &[Overlay]);
const PUBLISH: Known = (&["ovnet.publish"], &[Overlay]);
const MASQUERADE: Known =
    (&["com.docker.network.bridge.enable_ip_masquerade", "masquerade"], &[Overlay, Bridge]);
const ICC: Known = (&["com.docker.network.bridge.enable_icc", "icc"], &[Bridge]);
const NAME: Known = (&["com.docker.network.bridge.name", "bridge"], &[Bridge]);
const BINDING: Known = (&["com.docker.network.bridge.host_binding_ipv4", "host-binding"], &[Bridge]);
const PARENT: Known = (&["parent"], &[Macvlan, Ipvlan]);
const MACVLAN_MODE: Known = (&["macvlan_mode"], &[Macvlan]);
const IPVLAN_MODE: Known = (&["ipvlan_mode"], &[Ipvlan]);
const IPVLAN_FLAG: Known = (&["ipvlan_flag"], &[Ipvlan]);

const ALL: [Known; 14] = [
    MTU,
    VNI,
    MULTICAST,
    PUBLISH,
    NAME,
    ICC,
    MASQUERADE,
    BINDING,
    PARENT,
    MACVLAN_MODE,
    IPVLAN_MODE,
    IPVLAN_FLAG,
    PREFIX,
    FORCE,
];

/// What the options of a network mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// MTU of the endpoints in bytes, if chosen.
    pub mtu: Option<u32>,
    /// VXLAN identifier, if chosen.
    pub vni: Option<Vni>,
    /// What the names of interfaces begin with, if chosen.
    pub interface_prefix: Option<String>,
    /// Take a chosen subnet although it overlaps a route of the host.
    pub force: bool,
    /// What was chosen of the driver.
    pub settings: DriverSettings,
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

/// What `options` mean for a driver. The same thing may be said by two names if both say the same.
///
/// # Errors
/// An option that the driver does not know (the error names the nearest known one), a value that does not parse or is out
/// of range, two values for one thing, too many or too long ones, no parent where the driver needs one.
pub fn parse_options(driver: Driver, options: &BTreeMap<String, String>) -> Result<Options, Invalid> {
    limits::check_map("option", options)?;
    if let Some((name, value)) = options.iter().find(|(name, _)| !known(driver).any(|known| known == *name)) {
        return Err(unknown(driver, name, value));
    }
    let settings = match driver {
        Overlay => DriverSettings::Overlay(overlay(options)?),
        Bridge => DriverSettings::Bridge(bridge(options)?),
        Macvlan => DriverSettings::Macvlan(
            parent(driver, options)?,
            one(options, MACVLAN_MODE, parse_word)?.unwrap_or_default(),
        ),
        Ipvlan => DriverSettings::Ipvlan(
            parent(driver, options)?,
            one(options, IPVLAN_MODE, parse_word)?.unwrap_or_default(),
            one(options, IPVLAN_FLAG, parse_word)?.unwrap_or_default(),
        ),
        Driver::P2p => DriverSettings::P2p,
    };
    Ok(Options {
        mtu: one(options, MTU, parse_mtu)?,
        vni: one(options, VNI, parse_vni)?,
        interface_prefix: one(options, PREFIX, parse_prefix)?,
        force: one(options, FORCE, parse_bool)?.unwrap_or_default(),
        settings,
    })
}

fn overlay(options: &BTreeMap<String, String>) -> Result<OverlaySettings, Invalid> {
    let usual = OverlaySettings::default();
    Ok(OverlaySettings {
        multicast: one(options, MULTICAST, parse_bool)?.unwrap_or(usual.multicast),
        publish: one(options, PUBLISH, parse_word)?.unwrap_or(usual.publish),
        masquerade: one(options, MASQUERADE, parse_bool)?.unwrap_or(usual.masquerade),
    })
}

fn bridge(options: &BTreeMap<String, String>) -> Result<BridgeSettings, Invalid> {
    let usual = BridgeSettings::default();
    Ok(BridgeSettings {
        name: one(options, NAME, parse_word)?,
        icc: one(options, ICC, parse_bool)?.unwrap_or(usual.icc),
        masquerade: one(options, MASQUERADE, parse_bool)?.unwrap_or(usual.masquerade),
        host_binding: one(options, BINDING, parse_binding)?.flatten(),
    })
}

fn parent(driver: Driver, options: &BTreeMap<String, String>) -> Result<Parent, Invalid> {
    one(options, PARENT, parse_parent)?.ok_or_else(|| {
        let reason = format!(
            "a {driver} network needs a link of the host: choose it with -o parent=LINK, such as parent=eth0 \
             or parent=eth0.10"
        );
        Invalid::new("option", "parent", reason)
    })
}

/// "eth0", or "eth0.10": VLAN 10 of eth0.
fn parse_parent(text: &str) -> Result<Parent, String> {
    let link: IfName = parse_word(text)?;
    let Some((on, id)) = text.rsplit_once('.') else { return Ok(Parent { link, vlan: None }) };
    match id.parse::<u16>() {
        Ok(id @ 1..=4094) => Ok(Parent { link, vlan: Some((parse_word(on)?, id)) }),
        Ok(_) => Err("a VLAN identifier is a number from 1 to 4094".into()),
        // A dot may be part of any name.
        Err(_no_number) => Ok(Parent { link, vlan: None }),
    }
}

fn known(driver: Driver) -> impl Iterator<Item = &'static str> {
    ALL.into_iter()
        .filter(move |(_, drivers)| drivers.contains(&driver))
        .flat_map(|(names, _)| names.iter().copied())
}

fn unknown(driver: Driver, name: &str, value: &str) -> Invalid {
    let quoted = format!("{name}={value}");
    if let Some((_, drivers)) = ALL.iter().find(|(names, _)| names.contains(&name)) {
        let drivers: Vec<_> = drivers.iter().map(ToString::to_string).collect();
        let reason = format!("it is an option of the driver {}, not of {driver}", drivers.join(" and "));
        return Invalid::new("option", quoted, reason);
    }
    let all = || format!("known options of {driver} are {}", known(driver).collect::<Vec<_>>().join(", "));
    let reason = match nearest(name, known(driver)) {
        Some(near) => format!("there is no such option; did you mean {near}?"),
        None => format!("there is no such option; {}", all()),
    };
    Invalid::new("option", quoted, reason)
}

/// The value that the names of an option agree on.
fn one<T: PartialEq>(
    options: &BTreeMap<String, String>,
    (names, _): Known,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, Invalid> {
    let mut found: Option<(&str, T)> = None;
    for name in names {
        let Some(text) = options.get(*name) else { continue };
        let quoted = || format!("{name}={text}");
        let value = parse(text).map_err(|reason| Invalid::new("option", quoted(), reason))?;
        match &found {
            Some((other, before)) if *before != value => {
                let reason = format!("{other} has a different value; give only one of the two");
                return Err(Invalid::new("option", quoted(), reason));
            }
            Some(_) | None => found = Some((name, value)),
        }
    }
    Ok(found.map(|(_, value)| value))
}

fn parse_word<T: FromStr<Err = Invalid>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|invalid: Invalid| invalid.reason)
}

/// `None` for the unspecified address, which means all addresses.
fn parse_binding(text: &str) -> Result<Option<IpAddr>, String> {
    let address: IpAddr = text.parse().map_err(|_parse| "expected an address of this host".to_owned())?;
    Ok(Some(address).filter(|address| !address.is_unspecified()))
}

fn parse_prefix(text: &str) -> Result<String, String> {
    if text.len() > MAX_PREFIX {
        return Err(format!("expected at most {MAX_PREFIX} characters, since a number follows"));
    }
    parse_word::<IfName>(text).map(|name| name.to_string())
}

fn parse_mtu(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|mtu| (MIN_MTU..=MAX_MTU).contains(mtu))
        .ok_or_else(|| format!("expected a number of bytes from {MIN_MTU} to {MAX_MTU}"))
}

fn parse_vni(text: &str) -> Result<Vni, String> {
    if text.contains(',') {
        return Err("a network has a single VNI for all its subnets: give one number".into());
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

/// What a network of a driver has where nothing is chosen; on this link, if it is on one.
#[cfg(test)]
pub(crate) fn usual(driver: Driver, parent: &str) -> DriverSettings {
    let on_parent = known(driver).any(|name| PARENT.0.contains(&name));
    let options = on_parent.then(|| (PARENT.0[0].to_owned(), parent.to_owned())).into_iter().collect();
    parse_options(driver, &options).unwrap().settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Options, Invalid> {
        parse_for(Driver::Overlay, pairs)
    }

    fn parse_for(driver: Driver, pairs: &[(&str, &str)]) -> Result<Options, Invalid> {
        parse_options(driver, &pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn dockers_names_mean_the_same_as_ours() {
        let ours = parse(&[("mtu", "1400"), ("vni", "4097"), ("multicast", "true")]).unwrap();
        let dockers = parse(&[
            ("com.docker.network.driver.mtu", "1400"),
            ("com.docker.network.driver.overlay.vxlanid_list", "4097"),
            ("multicast", "1"),
        ]);
        assert_eq!(dockers, Ok(ours.clone()));
        let settings = OverlaySettings { multicast: true, ..OverlaySettings::default() };
        let expected = Options {
            mtu: Some(1400),
            vni: Some(Vni::new(4097).unwrap()),
            interface_prefix: None,
            force: false,
            settings: DriverSettings::Overlay(settings),
        };
        assert_eq!(ours, expected);
    }

    #[test]
    fn no_options_mean_the_defaults() {
        let options = parse(&[]).unwrap();
        assert_eq!(options.settings, DriverSettings::Overlay(OverlaySettings::default()));
        assert_eq!((options.mtu, options.vni, options.force), (None, None, false));
        let bridge = parse_for(Driver::Bridge, &[]).unwrap();
        assert_eq!(bridge.settings, DriverSettings::Bridge(BridgeSettings::default()));
    }

    #[test]
    fn an_unknown_option_is_refused_with_the_nearest_known_one() {
        let error = parse(&[("multcast", "true")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"invalid option "multcast=true": there is no such option; did you mean multicast?"#
        );
        let error = parse(&[("encrypted", "")]).unwrap_err();
        assert!(
            error.reason.contains("known options of overlay are com.docker.network.driver.mtu, mtu"),
            "{error}"
        );
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
        assert!(parse(&[]).unwrap().check_ipv6().is_ok());
    }

    #[test]
    fn an_option_of_another_driver_is_refused_with_that_driver() {
        let error = parse(&[("icc", "false")]).unwrap_err();
        assert_eq!(error.reason, "it is an option of the driver bridge, not of overlay");
        let error = parse_for(Driver::Bridge, &[("vni", "300")]).unwrap_err();
        assert_eq!(error.reason, "it is an option of the driver overlay, not of bridge");
        let error = parse_for(Driver::Bridge, &[("mastquerade", "false")]).unwrap_err();
        assert!(error.reason.ends_with("did you mean masquerade?"), "{error}");
    }

    #[test]
    fn a_bridge_has_dockers_options() {
        let options = parse_for(
            Driver::Bridge,
            &[
                ("com.docker.network.bridge.name", "br7"),
                ("com.docker.network.bridge.enable_icc", "false"),
                ("com.docker.network.bridge.enable_ip_masquerade", "false"),
                ("com.docker.network.bridge.host_binding_ipv4", "192.0.2.1"),
            ],
        );
        let expected = BridgeSettings {
            name: Some(IfName::literal("br7")),
            icc: false,
            masquerade: false,
            host_binding: Some("192.0.2.1".parse().unwrap()),
        };
        assert_eq!(options.unwrap().settings, DriverSettings::Bridge(expected));
    }

    #[test]
    fn a_parent_is_a_link_or_a_vlan_on_one() {
        let parent = |text| {
            let options = parse_for(Driver::Macvlan, &[("parent", text)]).unwrap();
            let DriverSettings::Macvlan(parent, _) = options.settings else { panic!("{options:?}") };
            parent
        };
        let eth0 = IfName::literal("eth0");
        assert_eq!(parent("eth0"), Parent { link: eth0, vlan: None });
        assert_eq!(parent("eth0.10"), Parent { link: IfName::literal("eth0.10"), vlan: Some((eth0, 10)) });
        assert_eq!(parent("wan.a"), Parent { link: IfName::literal("wan.a"), vlan: None });
        for wrong in ["eth0.0", "eth0.4095", "a b", ""] {
            assert!(parse_for(Driver::Macvlan, &[("parent", wrong)]).is_err(), "{wrong}");
        }
        let missing = parse_for(Driver::Ipvlan, &[]).unwrap_err();
        assert!(missing.reason.contains("-o parent=LINK"), "{missing}");
    }
}
