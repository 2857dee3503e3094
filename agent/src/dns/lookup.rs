//! Where names and addresses are found in the intent.

use std::net::IpAddr;

use crate::{
    intent::{Intent, NetworkView},
    model::{Endpoint, EndpointId, Name, NodeId},
};

/// The endpoints of a sandbox of node `me`.
pub(super) fn endpoints_of<'a>(intent: &'a Intent, me: NodeId, sandbox: &Name) -> Vec<&'a Endpoint> {
    let mine = intent.networks().flat_map(|(_, view)| view.endpoints_on(me));
    mine.filter(|endpoint| endpoint.sandbox == *sandbox).collect()
}

/// The endpoints of a network that go by `text`, which is in lower case: their own name, an alias, their sandbox's name,
/// or the first twelve digits of their id.
pub(super) fn named<'a>(view: &'a NetworkView, text: &str) -> Vec<&'a Endpoint> {
    let fits = |endpoint: &&Endpoint| {
        let own = [&endpoint.name, &endpoint.sandbox];
        own.into_iter().chain(&endpoint.aliases).any(|name| name.as_str().eq_ignore_ascii_case(text))
    };
    let mut found: Vec<&Endpoint> = view.endpoints().values().filter(fits).collect();
    found.extend(by_short_id(view, text));
    found
}

/// The endpoint that has this address.
pub(super) fn with_address(view: &NetworkView, address: IpAddr) -> Option<&Endpoint> {
    if !view.used().contains(&address) {
        return None;
    }
    view.endpoints().values().find(|endpoint| endpoint.addresses.iter().any(|own| own.addr() == address))
}

/// The endpoint whose id begins with these twelve digits.
fn by_short_id<'a>(view: &'a NetworkView, text: &str) -> Option<&'a Endpoint> {
    if text.len() != 12 {
        return None;
    }
    // The rest of the digits does not matter: it is where to begin to look.
    let from: EndpointId = format!("{text:0<64}").parse().ok()?;
    let (id, endpoint) = view.endpoints().range(from..).next()?;
    (id.short() == text).then_some(endpoint)
}
