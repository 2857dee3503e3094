//! What a sandbox may ask of others, and whom: pure, from the intent and the host's resolv.conf.

use std::net::{IpAddr, SocketAddr};

use super::{
    question::Question,
    resolv::{RESOLVER, ResolvConf, Server},
};
use crate::{
    intent::Intent,
    model::{DnsChoice, Endpoint, Name, Network, NodeId, Sandbox},
};

/// The port of DNS.
const PORT: u16 = 53;

/// What is done with a question that none of our names answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Others are asked. With `unsure`, a name that they do not know may yet be one of ours.
    Ask {
        /// Not all of our names are known yet.
        unsure: bool,
    },
    /// Nobody else could know.
    NoName,
    /// The sandbox has no way out, and its questions do not either.
    Refuse,
    /// It cannot be said yet.
    NotYet,
}

/// Where a server is asked from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// From the host.
    Host,
    /// From the sandbox that wants to know.
    Sandbox,
}

/// What is to be done with a question of this sandbox that is not ours to answer. Before all is known, `copy` may have what was
/// known before.
pub(super) fn way(
    intent: &Intent,
    copy: Option<&Intent>,
    me: NodeId,
    sandbox: &Sandbox,
    question: &Question,
) -> Way {
    if intent.loaded() && question.is_dotless() && chosen_ndots(&sandbox.dns) > 0 {
        // As Docker does: the client comes again with a domain that it searches.
        return Way::NoName;
    }
    let out = has_way_out(intent, me, &sandbox.name)
        || copy.is_some_and(|copy| has_way_out(copy, me, &sandbox.name));
    match (intent.loaded(), out, question.is_dotless()) {
        (true, true, _) => Way::Ask { unsure: false },
        (true, false, true) => Way::NoName,
        (true, false, false) => Way::Refuse,
        // What its networks are is not known: whether it may ask cannot be said, nor whether the name is one of ours.
        (false, true, false) => Way::Ask { unsure: true },
        (false, true, true) | (false, false, _) => Way::NotYet,
    }
}

/// Whether one of a sandbox's networks leads to the outside.
fn has_way_out(intent: &Intent, me: NodeId, sandbox: &Name) -> bool {
    let leads_out = |network: &Network| network.profile().leads_outside && !network.internal;
    let own = intent.endpoints_in(me, sandbox);
    own.filter_map(|endpoint| intent.network(endpoint.network)?.network()).any(leads_out)
}

/// The `ndots` that was chosen for the sandbox; 0, as resolv.conf says there, if none was.
fn chosen_ndots(choice: &DnsChoice) -> u32 {
    let mut values = choice.options.iter().filter_map(|option| option.strip_prefix("ndots:")?.parse().ok());
    values.next_back().unwrap_or(0)
}

/// Who is asked for a sandbox: its own servers, else those that the agent was told, else the host's. The loopback of the agent's
/// is the host's.
pub(super) fn servers(
    sandbox: &DnsChoice,
    defaults: &DnsChoice,
    host: &ResolvConf,
    link_index: &dyn Fn(&str) -> Option<u32>,
) -> Vec<(SocketAddr, From)> {
    let not_us = |address: &&IpAddr| **address != IpAddr::V4(RESOLVER);
    let (chosen, own) = match (sandbox.servers.is_empty(), defaults.servers.is_empty()) {
        (false, _) => (&sandbox.servers, true),
        (true, false) => (&defaults.servers, false),
        (true, true) => {
            return host.targets(link_index).into_iter().map(|target| (target, From::Host)).collect();
        }
    };
    let from = |address: &IpAddr| if address.is_loopback() && !own { From::Host } else { From::Sandbox };
    let chosen = chosen.iter().filter(not_us);
    chosen.map(|address| (SocketAddr::new(*address, PORT), from(address))).collect()
}

/// The servers for a sandbox's resolv.conf. None: it needs our resolver, since it is in a network where it has a name, or since
/// the host's servers do not work for others.
pub fn direct_servers(
    intent: &Intent,
    me: NodeId,
    sandbox: &Sandbox,
    defaults: &DnsChoice,
    host: &ResolvConf,
) -> Option<Vec<Server>> {
    let own: Vec<&Endpoint> = intent.endpoints_in(me, &sandbox.name).collect();
    let nameless = |network: Option<&Network>| network.is_some_and(Network::is_default);
    if !own.iter().all(|it| nameless(intent.network(it.network).and_then(|view| view.network()))) {
        return None;
    }
    let chosen = if sandbox.dns.servers.is_empty() { &defaults.servers } else { &sandbox.dns.servers };
    if !chosen.is_empty() {
        return Some(chosen.iter().copied().map(Server::from).collect());
    }
    if own.is_empty() {
        return Some(host.servers.clone());
    }
    let has = |v6: bool| {
        own.iter().flat_map(|endpoint| &endpoint.addresses).any(|address| address.addr().is_ipv6() == v6)
    };
    let fits = |server: &&Server| server.is_reachable() && has(server.address.is_ipv6());
    let usable: Vec<Server> = host.servers.iter().filter(fits).cloned().collect();
    (!usable.is_empty()).then_some(usable)
}

/// Whether a sandbox is to have a resolver of ours.
pub(super) fn needs_resolver(
    intent: &Intent,
    me: NodeId,
    sandbox: &Sandbox,
    defaults: &DnsChoice,
    host: &ResolvConf,
) -> bool {
    // Those that share its namespace share its resolver. Before all is known, a socket too many does no harm.
    sandbox.shares.is_none()
        && (!intent.loaded() || direct_servers(intent, me, sandbox, defaults, host).is_none())
}

#[cfg(test)]
pub(super) mod tests;
