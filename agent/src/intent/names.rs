//! The names and addresses of a network's endpoints, for resolving names.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::model::{Endpoint, EndpointId, Name};

/// Digits of an identifier that are accepted for the whole.
const SHORT: usize = 12;
const FIRST: EndpointId = EndpointId::from_bytes([0; 32]);
const LAST: EndpointId = EndpointId::from_bytes([0xff; 32]);

/// The endpoints of a network by name and by address.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// Each by its name and its aliases, in lower case: names in DNS have none (RFC 4343).
    named: BTreeSet<(Name, EndpointId)>,
    addresses: BTreeMap<IpAddr, EndpointId>,
}

impl Names {
    pub(super) const fn new() -> Self {
        Self { named: BTreeSet::new(), addresses: BTreeMap::new() }
    }

    /// Those with this name or alias, by id.
    pub(super) fn by_name(&self, text: &str) -> impl Iterator<Item = EndpointId> {
        let name = text.parse().ok().map(lower);
        let range = name.map(|name: Name| self.named.range((name.clone(), FIRST)..=(name, LAST)));
        range.into_iter().flatten().map(|(_, id)| *id)
    }

    /// The one with this address.
    pub(super) fn by_address(&self, address: IpAddr) -> Option<EndpointId> {
        self.addresses.get(&address).copied()
    }

    /// An endpoint has changed.
    pub(super) fn replace(&mut self, id: EndpointId, before: Option<&Endpoint>, now: Option<&Endpoint>) {
        if let Some(endpoint) = before {
            for name in names(endpoint) {
                self.named.remove(&(name, id));
            }
            for address in &endpoint.addresses {
                // Another one may have it by now.
                if self.addresses.get(&address.addr()) == Some(&id) {
                    self.addresses.remove(&address.addr());
                }
            }
        }
        if let Some(endpoint) = now {
            self.named.extend(names(endpoint).map(|name| (name, id)));
            self.addresses.extend(endpoint.addresses.iter().map(|address| (address.addr(), id)));
        }
    }
}

/// The least identifier that `text` can be the short form of, if it is one.
pub(super) fn short_id(text: &str) -> Option<EndpointId> {
    if text.len() != SHORT {
        return None;
    }
    format!("{:0<64}", text.to_ascii_lowercase()).parse().ok()
}

fn names(endpoint: &Endpoint) -> impl Iterator<Item = Name> {
    [&endpoint.name].into_iter().chain(&endpoint.aliases).cloned().map(lower)
}

/// In lower case, which nearly all are already.
fn lower(name: Name) -> Name {
    if name.as_str().bytes().any(|byte| byte.is_ascii_uppercase()) {
        name.as_str().to_ascii_lowercase().parse().unwrap_or(name)
    } else {
        name
    }
}
