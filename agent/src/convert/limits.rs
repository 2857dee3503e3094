//! How much of anything a record may have. The API and the store have the same limits, so that nothing is
//! accepted which cannot be read back.

use std::collections::BTreeMap;

use crate::model::{Invalid, Network};

/// Largest record, in bytes. etcd itself takes 1.5 MiB in a request.
pub const MAX_RECORD: usize = 256 * 1024;
/// Addresses of an endpoint, or of a node in a network: one of each subnet.
pub const MAX_ADDRESSES: usize = Network::MAX_SUBNETS;
/// Further names of an endpoint.
pub const MAX_ALIASES: usize = 32;
/// Labels of a network, and options of a network.
pub const MAX_LABELS: usize = 64;
/// Longest key of a label or option, in bytes.
pub const MAX_LABEL_KEY: usize = 255;
/// Longest value of a label or option, in bytes.
pub const MAX_LABEL_VALUE: usize = 2048;
/// Longest free text (a version, a host name, the name of a reserved address), in bytes.
pub(super) const MAX_TEXT: usize = 255;
/// Longest path, in bytes (PATH_MAX less the closing zero).
pub(super) const MAX_PATH: usize = 4095;

/// Labels that are not too many and not too long.
///
/// # Errors
/// More than [`MAX_LABELS`], an empty key, a key or value that is too long.
pub fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Invalid> {
    check_map("label", labels)
}

/// As [`check_labels`], for any map of texts; `what` names the noun.
pub(super) fn check_map(what: &'static str, map: &BTreeMap<String, String>) -> Result<(), Invalid> {
    count(what, map.len(), MAX_LABELS)?;
    for (key, value) in map {
        if key.is_empty() {
            return Err(Invalid::new(what, format!("={value}"), "the part before '=' is empty"));
        }
        text(what, key, MAX_LABEL_KEY)?;
        text(what, value, MAX_LABEL_VALUE)?;
    }
    Ok(())
}

/// A list that is not too long.
pub(super) fn count(what: &'static str, have: usize, most: usize) -> Result<(), Invalid> {
    if have <= most {
        return Ok(());
    }
    Err(Invalid::new(what, format!("{have} of them"), format!("at most {most} are allowed")))
}

/// A text that is not too long; the error quotes its beginning only.
pub(super) fn text(what: &'static str, text: &str, most: usize) -> Result<(), Invalid> {
    if text.len() <= most {
        return Ok(());
    }
    let start: String = text.chars().take(32).collect();
    let reason = format!("it has {} bytes, at most {most} are allowed", text.len());
    Err(Invalid::new(what, format!("{start}…"), reason))
}
