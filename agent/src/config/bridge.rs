//! The settings of the network `bridge`, which each host has from the start.

use std::{fmt::Display, net::IpAddr, str::FromStr};

use ipnet::IpNet;

use super::{
    key::{self, Key},
    settings::{Settings, parse_truth},
};
use crate::model::IfName;

/// Smallest and largest MTU of a bridge, in bytes: what every IPv4 host must take whole (RFC 791), and what the kernel
/// gives an Ethernet device at most.
const MTU: (u64, u64) = (576, 65_535);

/// What was chosen of the network `bridge`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeConfig {
    /// Which bridge it has.
    pub link: BridgeLink,
    /// The bridge's addresses with prefix length, at most one of each family. None of a family: chosen by the agent.
    pub addresses: Vec<IpNet>,
    /// Where its endpoints' addresses come from, at most one of each family.
    pub ranges: Vec<IpNet>,
    /// MTU of its endpoints in bytes.
    pub mtu: Option<u32>,
    /// The gateways that sandboxes get in place of the bridge's addresses, at most one of each family.
    pub gateways: Vec<IpAddr>,
    /// Its sandboxes may talk to each other.
    pub icc: bool,
    /// What leaves for the outside gets an address of the host as its source.
    pub masquerade: bool,
}

/// The bridge of the network `bridge`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BridgeLink {
    /// Our own, `ovnet0`.
    Own,
    /// An existing bridge, with the addresses that it has.
    Named(IfName),
    /// There is to be no such network.
    None,
}

pub(super) fn read(settings: &mut Settings) -> BridgeConfig {
    let config = BridgeConfig {
        link: settings.optional(key::BRIDGE, parse_link).unwrap_or(BridgeLink::Own),
        addresses: settings.list(key::BIP, parse_address),
        ranges: settings.list(key::FIXED_CIDR, parse_range),
        mtu: settings.optional_number(key::MTU, MTU.0, MTU.1),
        gateways: settings.list(key::DEFAULT_GATEWAY, parse_gateway),
        icc: settings.required(key::ICC, true, parse_truth),
        masquerade: settings.required(key::IP_MASQ, true, parse_truth),
    };
    let families = |v6: fn(&IpNet) -> bool, nets: &[IpNet]| nets.iter().filter(|net| v6(net)).count();
    let v6 = |net: &IpNet| net.addr().is_ipv6();
    let v4 = |net: &IpNet| net.addr().is_ipv4();
    let gateways: Vec<IpNet> = config.gateways.iter().copied().map(IpNet::from).collect();
    for (key, nets) in
        [(key::BIP, &config.addresses), (key::FIXED_CIDR, &config.ranges), (key::DEFAULT_GATEWAY, &gateways)]
    {
        if families(v4, nets) > 1 || families(v6, nets) > 1 {
            settings.mistake(
                key,
                "it is given twice for the same family; give at most one for IPv4 and one for IPv6",
            );
        }
    }
    refuse_outside(settings, key::FIXED_CIDR, &config, &config.ranges);
    refuse_outside(settings, key::DEFAULT_GATEWAY, &config, &gateways);
    refuse_idle(settings, &config);
    if let (Some(mtu), true) = (config.mtu, config.addresses.iter().chain(&config.ranges).any(v6))
        && mtu < 1280
    {
        settings.mistake(key::MTU, "a network with IPv6 needs an MTU from 1280 to 65535");
    }
    config
}

/// What lies in none of the subnets of `--bip`, where one of its family is given.
fn refuse_outside(settings: &mut Settings, key: Key, config: &BridgeConfig, nets: &[IpNet]) {
    for net in nets {
        let same = |own: &&IpNet| own.addr().is_ipv6() == net.addr().is_ipv6();
        if let Some(own) = config.addresses.iter().find(same)
            && !own.trunc().contains(net)
        {
            settings.mistake(key, &format!("{net} lies outside {}, the subnet of --bip", own.trunc()));
        }
    }
}

/// What has no meaning beside a bridge of somebody else's, or without one.
fn refuse_idle(settings: &mut Settings, config: &BridgeConfig) {
    let (keys, reason): (&[Key], _) = match config.link {
        BridgeLink::Own => return,
        BridgeLink::Named(name) => (
            &[key::BIP],
            format!("the bridge {name} of --bridge has addresses already; give only one of the two"),
        ),
        BridgeLink::None => (
            &[key::BIP, key::FIXED_CIDR, key::MTU, key::DEFAULT_GATEWAY],
            "--bridge none means no network bridge; give only one of the two".to_owned(),
        ),
    };
    for key in keys {
        if settings.given(*key) {
            settings.mistake(*key, &reason);
        }
    }
}

fn parse_link(text: &str) -> Result<BridgeLink, String> {
    match text {
        "none" => Ok(BridgeLink::None),
        _ => text.parse().map(BridgeLink::Named).map_err(|invalid: crate::model::Invalid| invalid.reason),
    }
}

fn parsed<T: FromStr>(text: &str, expected: &str) -> Result<T, String>
where
    T::Err: Display,
{
    text.parse().map_err(|_malformed| format!("expected {expected}"))
}

/// The bridge's own address, with the length of its subnet.
fn parse_address(text: &str) -> Result<IpNet, String> {
    let net: IpNet = parsed(text, "an address with prefix length such as 172.17.0.1/16")?;
    let longest = net.max_prefix_len() - 2;
    if net.prefix_len() > longest {
        return Err(format!("its subnet is too small for endpoints: /{longest} is the smallest"));
    }
    if net.addr() == net.network() || net.addr().is_ipv4() && net.addr() == net.broadcast() {
        return Err("it is the address of the subnet or its broadcast address: choose one in between".into());
    }
    if !is_unicast(net.addr()) {
        return Err("expected the address of a host".into());
    }
    Ok(net)
}

fn parse_range(text: &str) -> Result<IpNet, String> {
    let net: IpNet = parsed(text, "a prefix such as 172.17.128.0/17")?;
    if net.trunc() == net {
        Ok(net)
    } else {
        Err(format!("host bits are set; did you mean {}?", net.trunc()))
    }
}

fn parse_gateway(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = parsed(text, "an IPv4 or IPv6 address")?;
    if is_unicast(address) { Ok(address) } else { Err("expected the address of a host".into()) }
}

/// An address that a link of a host can have, loopback left out.
pub(super) fn is_unicast(address: IpAddr) -> bool {
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback())
}
