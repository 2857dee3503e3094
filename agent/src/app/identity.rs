//! Who this node is for people and for other hosts: the host's name, the address that it advertises. `ids` has its
//! identifiers.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};

use crate::{
    config::Advertise,
    kernel::{FactLink, Facts},
    model::Name,
    plan::ownership::LEG_PREFIX,
};

/// The chosen name, or the host's.
pub(super) fn node_name(chosen: Option<Name>) -> Result<Name> {
    if let Some(name) = chosen {
        return Ok(name);
    }
    let host = nix::unistd::gethostname().context("cannot read the host's name")?;
    let host = host.to_string_lossy();
    Name::parse("node name", &host)
        .context("the host's name is not a valid node name: choose one with --node-name")
}

/// The address that other nodes reach this one at.
pub(super) fn advertised(advertise: Advertise, facts: &Facts) -> Result<IpAddr> {
    let addresses = |link: &FactLink| -> Vec<IpAddr> {
        let all = link.addresses.iter().map(ipnet::IpNet::addr);
        let mut usable: Vec<IpAddr> = all.filter(|address| is_reachable(*address)).collect();
        usable.sort_by_key(IpAddr::is_ipv6);
        usable
    };
    let foreign = || facts.links.iter().filter(|link| !link.name.as_str().starts_with(LEG_PREFIX));
    match advertise {
        Advertise::Address(address) => {
            if foreign().any(|link| link.addresses.iter().any(|own| own.addr() == address)) {
                return Ok(address);
            }
            let own: Vec<String> = foreign().flat_map(addresses).map(|address| address.to_string()).collect();
            bail!(
                "--advertise {address}: no interface of this host has that address; it has {}",
                if own.is_empty() { "no address that others can reach".into() } else { own.join(", ") }
            )
        }
        Advertise::Interface(name) => {
            let Some(link) = facts.links.iter().find(|link| link.name == name) else {
                let names: Vec<&str> = foreign().map(|link| link.name.as_str()).collect();
                bail!("--advertise {name}: there is no such interface; this host has {}", names.join(", "))
            };
            addresses(link).into_iter().next().with_context(|| {
                format!("--advertise {name}: the interface has no address that other hosts can reach: give \
                         it one first")
            })
        }
        Advertise::Auto => route_source().or_else(|| foreign().filter(|link| link.up).flat_map(addresses).next()).context(
            "this host has no address that other hosts can reach: give an interface one, or choose it with \
             --advertise",
        ),
    }
}

fn is_reachable(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(address.is_loopback() || address.is_unspecified() || address.is_multicast() || link_local)
}

/// The address that the default route leaves from: the kernel chooses it for a socket that is connected and sends
/// nothing.
fn route_source() -> Option<IpAddr> {
    // Addresses for documentation (RFC 5737, RFC 3849): nobody has them, so they take the default route.
    let tries = [("0.0.0.0:0", "198.51.100.1:9"), ("[::]:0", "[2001:db8::1]:9")];
    tries.into_iter().find_map(|(from, to)| {
        let socket = std::net::UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        let source = socket.local_addr().ok()?.ip();
        is_reachable(source).then_some(source)
    })
}
