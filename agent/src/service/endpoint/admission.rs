//! Admission of an endpoint to its network: checks the request against the network and its other endpoints.

use std::{collections::BTreeSet, net::IpAddr};

use super::{super::ServiceError, choice::Choice};
use crate::{
    intent::{Intent, NetworkView},
    model::{Endpoint, EndpointLink, IfName, Invalid, Name, Network},
};

/// Refuse what this network cannot have.
pub(in crate::service) fn check(
    intent: &Intent,
    network: &Network,
    view: &NetworkView,
    choice: &Choice<'_>,
) -> Result<(), ServiceError> {
    refuse_second(intent, network, view, choice)?;
    refuse_another(network, view)?;
    if let (Err(why), Some(mac)) = (network.profile().own_mac, choice.spec.mac) {
        let reason = format!("{why} {}", network.name);
        return Err(Invalid::new("MAC address", mac.to_string(), reason).into());
    }
    check_link_local(network, view, &choice.spec.link_local)?;
    check_priority(intent, choice)?;
    check_links(network, view, &choice.sandbox.name, &choice.spec.links)
}

fn refuse_second(
    intent: &Intent,
    network: &Network,
    view: &NetworkView,
    choice: &Choice<'_>,
) -> Result<(), ServiceError> {
    let name = &choice.sandbox.name;
    let Some(other) = view.endpoint_named(name) else { return Ok(()) };
    if other.node == choice.me {
        return Err(ServiceError::Exists(format!(
            "sandbox {name} is connected to network {} already",
            network.name
        )));
    }
    let node =
        intent.nodes().get(&other.node).map_or_else(|| other.node.to_string(), |node| node.name.to_string());
    Err(ServiceError::Exists(format!(
        "network {} has an endpoint named {name} already, on node {node}: names are unique in a network, so \
         choose a different name for the sandbox",
        network.name
    )))
}

/// Networks that can have only a limited number of endpoints.
fn refuse_another(network: &Network, view: &NetworkView) -> Result<(), ServiceError> {
    let Some(most) = network.profile().most.filter(|most| view.endpoints().len() >= most.count) else {
        return Ok(());
    };
    let parent = network.settings.parent().map(|parent| parent.link.to_string()).unwrap_or_default();
    let names: Vec<&str> = view.endpoints().values().map(|endpoint| endpoint.name.as_str()).collect();
    Err(ServiceError::InUse(format!(
        "network {} {} {}: disconnect one, or create a different network",
        network.name,
        most.full.replace("{parent}", &parent),
        names.join(" and ")
    )))
}

fn check_link_local(network: &Network, view: &NetworkView, wanted: &[IpAddr]) -> Result<(), ServiceError> {
    const WHAT: &str = "link-local address";
    if wanted.len() > Endpoint::MAX_LINK_LOCAL {
        let reason = format!("at most {} are allowed", Endpoint::MAX_LINK_LOCAL);
        return Err(Invalid::new(WHAT, format!("{} of them", wanted.len()), reason).into());
    }
    let mut seen = BTreeSet::new();
    for address in wanted {
        if !seen.insert(address) {
            return Err(Invalid::new(WHAT, address.to_string(), "it is given twice").into());
        }
        if let Some(other) = view.endpoints().values().find(|other| other.link_local.contains(address)) {
            return Err(ServiceError::Exists(format!(
                "link-local address {address} of network {} is taken by endpoint {}",
                network.name, other.name
            )));
        }
        if address.is_ipv6() && !network.has_ipv6() {
            let reason = format!("network {} has no IPv6 (--ipv6 of network create)", network.name);
            return Err(Invalid::new(WHAT, address.to_string(), reason).into());
        }
    }
    Ok(())
}

/// If two endpoints of a sandbox had the same priority, it would be undefined which one has the default
/// route.
fn check_priority(intent: &Intent, choice: &Choice<'_>) -> Result<(), ServiceError> {
    let wanted = choice.spec.gateway_priority;
    if wanted <= 0 {
        return Ok(());
    }
    let all = intent.endpoints_in(choice.me, &choice.sandbox.name);
    let mine = all
        .filter(|other| other.gateway_priority == wanted)
        .filter_map(|other| intent.network(other.network)?.network());
    match mine.map(|network| network.name.clone()).next() {
        None => Ok(()),
        Some(other) => Err(ServiceError::Exists(format!(
            "sandbox {} has gateway priority {wanted} in network {other} already: choose a different one, so \
             that only one network has the default route",
            choice.sandbox.name
        ))),
    }
}

fn check_links(
    network: &Network,
    view: &NetworkView,
    own: &Name,
    links: &[EndpointLink],
) -> Result<(), ServiceError> {
    let wrong = |link: &EndpointLink, reason: String| {
        Err(Invalid::new("link", format!("{}:{}", link.endpoint, link.alias), reason).into())
    };
    if links.len() > Endpoint::MAX_LINKS {
        let reason = format!("at most {} are allowed", Endpoint::MAX_LINKS);
        return Err(Invalid::new("link", format!("{} of them", links.len()), reason).into());
    }
    for (at, link) in links.iter().enumerate() {
        if link.endpoint == *own {
            return wrong(link, "it leads to the sandbox itself".into());
        }
        if view.endpoint_named(&link.endpoint).is_none() {
            return wrong(link, format!("network {} has no endpoint of this name", network.name));
        }
        if link.alias == *own || link.alias != link.endpoint && view.endpoint_named(&link.alias).is_some() {
            return wrong(
                link,
                format!(
                    "the alias {} is the name of another endpoint of network {}",
                    link.alias, network.name
                ),
            );
        }
        if let Some(other) =
            links.iter().take(at).find(|other| other.alias == link.alias && other.endpoint != link.endpoint)
        {
            return wrong(link, format!("the alias {} is given to {} already", link.alias, other.endpoint));
        }
        if let Some(path) = way_back(view, own, &link.endpoint) {
            let names: Vec<&str> = [own].into_iter().chain(&path).map(Name::as_str).collect();
            return wrong(link, format!("links must not form a loop: {}", names.join(" -> ")));
        }
    }
    Ok(())
}

/// The chain of links from `from` to `to`, if there is one.
fn way_back(view: &NetworkView, to: &Name, from: &Name) -> Option<Vec<Name>> {
    let mut paths = vec![vec![from.clone()]];
    let mut seen = BTreeSet::new();
    while let Some(path) = paths.pop() {
        let last = path.last()?;
        if last == to {
            return Some(path);
        }
        if !seen.insert(last.clone()) {
            continue;
        }
        for link in view.endpoint_named(last).into_iter().flat_map(|endpoint| &endpoint.links) {
            paths.push(path.iter().cloned().chain([link.endpoint.clone()]).collect());
        }
    }
    None
}

/// The chosen name, or the network's prefix with the first number that is free in the sandbox.
pub(in crate::service) fn interface(
    intent: &Intent,
    network: &Network,
    choice: &Choice<'_>,
) -> Result<IfName, ServiceError> {
    let mut used = choice.interfaces.clone();
    used.extend(intent.endpoints_in(choice.me, &choice.sandbox.name).map(|endpoint| endpoint.ifname));
    if let Some(chosen) = choice.spec.options.ifname {
        return if used.contains(&chosen) {
            Err(ServiceError::Exists(format!(
                "sandbox {} has an interface named {chosen} already: choose a different name",
                choice.sandbox.name
            )))
        } else {
            Ok(chosen)
        };
    }
    let prefix = network.interface_prefix.as_deref().unwrap_or("eth");
    let names = (0..1_000).filter_map(|number| format!("{prefix}{number}").parse::<IfName>().ok());
    let mut free = names.filter(|name| !used.contains(name));
    free.next().ok_or_else(|| {
        ServiceError::Exhausted(format!("sandbox {} has 1000 interfaces already", choice.sandbox.name))
    })
}
