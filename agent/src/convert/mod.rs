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

pub use limits::{
    MAX_ADDRESSES, MAX_ALIASES, MAX_LABEL_KEY, MAX_LABEL_VALUE, MAX_LABELS, MAX_RECORD, check_labels,
};
pub use nearest::nearest;
pub use options::{Options, parse_options};
pub use record::{Record, decode, encode};

use crate::model::Invalid;

/// Parses each of `texts`, of which there may be `most`; `what` names the noun of a list that is too long.
fn each<T>(
    what: &'static str,
    texts: &[String],
    most: usize,
    parse: impl Fn(&str) -> Result<T, Invalid>,
) -> Result<Vec<T>, Invalid> {
    limits::count(what, texts.len(), most)?;
    texts.iter().map(|text| parse(text)).collect()
}

#[cfg(test)]
mod tests;
