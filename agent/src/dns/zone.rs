//! The names that a sandbox can resolve: pure, from the intent.
//!
//! A sandbox knows the endpoints, on all hosts, of the networks that it is in; but for the network `bridge`, in which
//! nobody has names, as in Docker. Endpoints of dead hosts are known and not told. What is not known here is for the
//! upstreams, if the sandbox has a way out.

use std::net::IpAddr;

use hickory_proto::rr::RecordType;

use super::question::{Form, Question};
use crate::{
    intent::{Intent, NetworkView},
    model::{Endpoint, Name, Network, NodeId, Protocol},
};

/// How long an answer of ours may be kept, in seconds. Asking us again costs a client some microseconds, and what it keeps is
/// wrong from the moment at which an endpoint goes; a dead host is noticed in about ten seconds, so that this adds little.
pub(super) const TTL: u32 = 5;
/// Most records of an answer: the longest names fit a message by TCP.
const MOST: usize = 256;
/// Most targets of services whose addresses are told along.
const MOST_ALONG: usize = 16;

/// Who asks.
pub(super) struct Viewer<'a> {
    /// This node.
    pub(super) me: NodeId,
    /// The sandbox.
    pub(super) sandbox: &'a Name,
    /// Whether a node is dead, by gossip and its host's silence.
    pub(super) is_down: &'a dyn Fn(NodeId) -> bool,
}

/// What one of our records says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    /// A or AAAA.
    Address(IpAddr),
    /// PTR: a name.
    Pointer(String),
    /// SRV: a port at a name.
    Service(u16, String),
}

/// What comes of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// These records; none: the name is there, but not with such records.
    Records {
        /// Of the name that was asked for.
        answers: Vec<Data>,
        /// Of other names, that the client would ask for next.
        along: Vec<(String, IpAddr)>,
    },
    /// There is no such name.
    NoName,
    /// It is not known here.
    Foreign,
}

/// A network that the viewer is in, by an endpoint of its own.
struct Home<'a> {
    network: &'a Network,
    view: &'a NetworkView,
    own: &'a Endpoint,
}

/// Endpoints of one name in one network, those of dead hosts and those without a sandbox left out, and whether there were any of these.
struct Named<'a> {
    network: &'a Network,
    endpoints: Vec<&'a Endpoint>,
}

/// Answer a question. `turn` says which of several endpoints comes first.
pub(super) fn answer(intent: &Intent, viewer: &Viewer<'_>, question: &Question, turn: usize) -> Verdict {
    if question.text.is_empty() {
        return Verdict::Foreign;
    }
    let homes = homes(intent, viewer);
    match question.form() {
        Form::Name(text) => {
            let found = named(intent, viewer, &homes, text);
            by_name(&found, question.kind, turn)
        }
        Form::Reverse(address) => by_address(intent, viewer, &homes, address, question.kind),
        Form::Service(port, protocol, text) => {
            let found = named(intent, viewer, &homes, text);
            service(&found, (port, protocol), question.kind, turn)
        }
    }
}

/// The networks in which the viewer has a name, those first by which it goes to the outside.
fn homes<'a>(intent: &'a Intent, viewer: &Viewer<'_>) -> Vec<Home<'a>> {
    let mut own: Vec<&Endpoint> = intent.endpoints_in(viewer.me, viewer.sandbox).collect();
    own.sort_by_key(|endpoint| (-endpoint.gateway_priority, endpoint.ifname, endpoint.id));
    let home = |own: &'a Endpoint| {
        let view = intent.network(own.network)?;
        let network = view.network().filter(|network| !network.is_default())?;
        Some(Home { network, view, own })
    };
    own.into_iter().filter_map(home).collect()
}

/// Whatever goes by `text`, with or without a network's name, in each network that has something of that name.
fn named<'a>(intent: &Intent, viewer: &Viewer<'_>, homes: &[Home<'a>], text: &str) -> Vec<Named<'a>> {
    let mut all = Vec::new();
    for home in homes {
        let mut endpoints = home.known_by(text);
        if let Some(short) = without(text, home.network.name.as_str()) {
            endpoints.extend(home.known_by(short));
        }
        if !endpoints.is_empty() {
            endpoints.sort_by_key(|endpoint| endpoint.id);
            endpoints.dedup_by_key(|endpoint| endpoint.id);
            endpoints
                .retain(|endpoint| endpoint.sandbox.is_some() && !is_hidden(intent, viewer, endpoint.node));
            all.push(Named { network: home.network, endpoints });
        }
    }
    all
}

/// `text` without the suffix `.network`.
fn without<'t>(text: &'t str, network: &str) -> Option<&'t str> {
    let at = text.len().checked_sub(network.len())?;
    let (head, tail) = text.split_at_checked(at)?;
    tail.eq_ignore_ascii_case(network).then(|| head.strip_suffix('.')).flatten()
}

impl<'a> Home<'a> {
    /// The endpoints that the viewer knows by `text` here; its own links go first.
    fn known_by(&self, text: &str) -> Vec<&'a Endpoint> {
        let link = self.own.links.iter().find(|link| link.alias.as_str().eq_ignore_ascii_case(text));
        if let Some(link) = link {
            return self.view.endpoint_named(&link.endpoint).into_iter().collect();
        }
        self.view.endpoints_by_name(text).collect()
    }
}

fn is_hidden(intent: &Intent, viewer: &Viewer<'_>, node: NodeId) -> bool {
    node != viewer.me && !intent.is_alive(node) && (viewer.is_down)(node)
}

fn by_name(found: &[Named<'_>], kind: RecordType, turn: usize) -> Verdict {
    if found.is_empty() {
        return Verdict::Foreign;
    }
    if found.iter().all(|named| named.endpoints.is_empty()) {
        // They are known, and their hosts are dead: nobody else knows better.
        return Verdict::NoName;
    }
    // The first network that can say something says it: where both have the name, it is one or the other's.
    let mut addresses = found.iter().map(|named| addresses(&named.endpoints, kind, turn));
    let answers = addresses.find(|addresses| !addresses.is_empty()).unwrap_or_default();
    Verdict::Records { answers: answers.into_iter().map(Data::Address).collect(), along: Vec::new() }
}

fn addresses(endpoints: &[&Endpoint], kind: RecordType, turn: usize) -> Vec<IpAddr> {
    let fits = |address: &IpAddr| match address {
        IpAddr::V4(_) => matches!(kind, RecordType::A | RecordType::ANY),
        IpAddr::V6(_) => matches!(kind, RecordType::AAAA | RecordType::ANY),
    };
    let all = endpoints.iter().flat_map(|endpoint| endpoint.addresses.iter().map(ipnet::IpNet::addr));
    rotated(all.filter(fits).collect(), turn)
}

fn rotated<T>(mut all: Vec<T>, turn: usize) -> Vec<T> {
    if !all.is_empty() {
        let first = turn % all.len();
        all.rotate_left(first);
        all.truncate(MOST);
    }
    all
}

fn by_address(
    intent: &Intent,
    viewer: &Viewer<'_>,
    homes: &[Home<'_>],
    address: IpAddr,
    kind: RecordType,
) -> Verdict {
    let holder = homes.iter().find_map(|home| Some((home, home.view.endpoint_at(address)?)));
    let Some((home, endpoint)) = holder else {
        // Nobody outside knows the addresses of a network that lives behind ours; asking would only tell them. On a link of
        // the host, though, others have addresses too, and names for them.
        let ours =
            homes.iter().any(|home| home.network.profile().names_private && has(home.network, address));
        return if ours { Verdict::NoName } else { Verdict::Foreign };
    };
    if is_hidden(intent, viewer, endpoint.node) {
        return Verdict::NoName;
    }
    let wanted = matches!(kind, RecordType::PTR | RecordType::ANY);
    let name = wanted.then(|| Data::Pointer(full_name(endpoint, home.network)));
    Verdict::Records { answers: name.into_iter().collect(), along: Vec::new() }
}

fn full_name(endpoint: &Endpoint, network: &Network) -> String {
    format!("{}.{}", endpoint.name, network.name)
}

fn has(network: &Network, address: IpAddr) -> bool {
    network.subnets.iter().any(|subnet| subnet.prefix.contains(&address))
}

fn service(found: &[Named<'_>], (port, protocol): (u16, Protocol), kind: RecordType, turn: usize) -> Verdict {
    if found.is_empty() {
        return Verdict::Foreign;
    }
    let serves = |endpoint: &&Endpoint| {
        endpoint.ports.iter().any(|published| published.port == port && published.protocol == protocol)
    };
    let in_one = |named: &Named<'_>| {
        let serving: Vec<_> = named.endpoints.iter().copied().filter(serves).collect();
        let target = |endpoint: &Endpoint| (full_name(endpoint, named.network), endpoint.addresses.clone());
        (!serving.is_empty()).then(|| rotated(serving, turn).into_iter().map(target).collect::<Vec<_>>())
    };
    let Some(targets) = found.iter().find_map(in_one) else { return Verdict::NoName };
    if !matches!(kind, RecordType::SRV | RecordType::ANY) {
        return Verdict::Records { answers: Vec::new(), along: Vec::new() };
    }
    let along = targets.iter().take(MOST_ALONG);
    let along = along.flat_map(|(name, own)| own.iter().map(|address| (name.clone(), address.addr())));
    let along = along.collect();
    let answers = targets.iter().map(|(name, _)| Data::Service(port, name.clone())).collect();
    Verdict::Records { answers, along }
}

#[cfg(test)]
pub(super) mod tests;
