//! Where the model meets the wire: `ov.v1` messages to nouns and back, and the values of the store as bytes.
//!
//! Towards the wire nothing can fail; from the wire everything is parsed, with a limit on every size, or is an
//! [`Invalid`] that quotes what came. The messages live in `proto/`, the nouns in [`crate::model`].

mod endpoint;
mod limits;
mod nearest;
mod network;
mod node;
mod options;
mod record;
mod sandbox;
mod subnet;

pub use endpoint::port_number;
pub use limits::{
    MAX_ADDRESSES, MAX_ALIASES, MAX_LABEL_KEY, MAX_LABEL_VALUE, MAX_LABELS, MAX_RECORD, check_labels,
};
pub use nearest::nearest;
pub use options::{Options, parse_options};
pub use record::{Record, decode, encode};
pub use sandbox::HOST_GATEWAY;

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
