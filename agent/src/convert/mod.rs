//! Where the model meets the wire: `ov.v1` messages to nouns and back, and the values of the store as bytes.
//!
//! Towards the wire nothing can fail; from the wire everything is parsed, with a limit on every size, or is an
//! [`Invalid`] that quotes what came. The messages live in `proto/`, the nouns in [`crate::model`].

mod endpoint;
mod endpoint_options;
mod limits;
mod nearest;
mod network;
mod node;
mod options;
mod record;
mod resolver;
mod sandbox;
mod subnet;

pub use endpoint::{gateway_priority, port_number};
pub use endpoint_options::{EndpointOptions, link_local_address, parse_endpoint_options};
pub use limits::{
    MAX_ADDRESSES, MAX_ALIASES, MAX_LABEL_KEY, MAX_LABEL_VALUE, MAX_LABELS, MAX_RECORD, check_labels,
};
pub use nearest::nearest;
#[cfg(test)]
pub(crate) use options::usual;
pub use options::{Options, parse_options};
pub use record::{Record, decode, encode};
pub use resolver::{dns_option, dns_server, domain, search_domain};
pub use sandbox::{HOST_GATEWAY, dns_choice, extra_hosts};

use crate::model::Invalid;

/// Parses each of `items`, of which there may be `most`; `what` names the noun of a list that is too long.
fn each<I, T>(
    what: &'static str,
    items: &[I],
    most: usize,
    parse: impl Fn(&I) -> Result<T, Invalid>,
) -> Result<Vec<T>, Invalid> {
    limits::count(what, items.len(), most)?;
    items.iter().map(parse).collect()
}

#[cfg(test)]
mod tests;
