//! A requested network as text: parsed once, at the edge of the front.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{
    convert::{self, Options},
    ipam::{self, SubnetKind, SubnetRequest},
    model::{DEFAULT_NETWORK, Driver, DriverSettings, Invalid, Name, Subnet},
};

/// A requested network, as text.
#[derive(Clone, Debug, Default)]
pub struct NetworkRequest {
    /// Its name.
    pub name: String,
    /// Its driver; empty: overlay.
    pub driver: String,
    /// Chosen subnets, with their gateways and ranges.
    pub subnets: SubnetRequest,
    /// Also an IPv6 subnet.
    pub ipv6: bool,
    /// It has no route to the host or the outside.
    pub internal: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Options as given with `-o`.
    pub options: BTreeMap<String, String>,
    /// Take a chosen subnet although it overlaps a route of the host.
    pub force: bool,
}

/// A parsed request for a network; only [`NetworkRequest::parse`] makes one.
#[derive(Clone, Debug)]
pub struct NetworkSpec {
    pub(in crate::service) name: Name,
    pub(in crate::service) driver: Driver,
    /// Chosen subnets.
    pub(in crate::service) subnets: Vec<Subnet>,
    /// Requested gateways.
    pub(in crate::service) gateways: Vec<IpAddr>,
    /// Also an IPv6 subnet.
    pub(in crate::service) ipv6: bool,
    /// It has no route to the host or the outside.
    pub(in crate::service) internal: bool,
    pub(in crate::service) labels: BTreeMap<String, String>,
    /// Options as given; its record keeps them.
    pub(in crate::service) given: BTreeMap<String, String>,
    /// The parsed options.
    pub(in crate::service) options: Options,
}

/// Names that are modes of `run` and `sandbox create`.
const MODES: [(&str, &str); 2] =
    [("none", "the mode without a network"), ("host", "the mode that uses the host's own network")];

impl NetworkRequest {
    /// Parse it.
    ///
    /// # Errors
    /// The first invalid text: a reserved name, an unknown driver or option, a gateway for a driver without
    /// gateways, conflicting subnets, too many or too long labels.
    pub fn parse(self) -> Result<NetworkSpec, Invalid> {
        let name = parse_name(&self.name)?;
        let driver = if self.driver.is_empty() { Driver::default() } else { self.driver.parse()? };
        let mut given = self.options;
        if self.force {
            given.insert("ovnet.force".into(), "true".into());
        }
        let options = convert::parse_options(driver, &given)?;
        convert::check_labels(&self.labels)?;
        refuse_gateways(&options.settings, &self.subnets.gateways)?;
        let subnets = ipam::parse_subnets(&self.subnets, SubnetKind::of(&options.settings))?;
        if self.ipv6 || subnets.iter().any(|subnet| subnet.prefix.addr().is_ipv6()) {
            options.check_ipv6()?;
        }
        let gateways = self.subnets.gateways.iter().filter_map(|text| text.parse().ok()).collect();
        let Self { ipv6, internal, labels, .. } = self;
        Ok(NetworkSpec { name, driver, subnets, gateways, ipv6, internal, labels, given, options })
    }
}

fn parse_name(text: &str) -> Result<Name, Invalid> {
    if let Some((_, what)) = MODES.iter().find(|(mode, _)| *mode == text) {
        let reason = format!("it means {what}: choose a different name");
        return Err(Invalid::new("network name", text, reason));
    }
    if text == DEFAULT_NETWORK {
        let reason = "every host has its own network of this name, unless its agent runs with --bridge none: \
                      choose a different name";
        return Err(Invalid::new("network name", text, reason));
    }
    Name::parse("network name", text)
}

/// Refuse gateways for a driver that has none.
fn refuse_gateways(settings: &DriverSettings, asked: &[String]) -> Result<(), Invalid> {
    let Err(reason) = settings.profile().gateway else { return Ok(()) };
    asked.first().map_or(Ok(()), |text| Err(Invalid::new("gateway", text, reason)))
}
