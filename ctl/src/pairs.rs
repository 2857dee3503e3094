//! `KEY=VALUE` pairs: labels and options.

use std::collections::BTreeMap;

use crate::failure::Failure;

/// `KEY=VALUE`, or `KEY` for an empty value, as Docker takes labels and options.
///
/// # Errors
/// The key is empty.
pub(crate) fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err("the key is empty: expected KEY=VALUE".into());
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// The pairs that `option` was given, as a map.
///
/// # Errors
/// One key has two values.
pub(crate) fn unique(
    option: &str,
    pairs: impl IntoIterator<Item = (String, String)>,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut map = BTreeMap::new();
    for (key, value) in pairs {
        if let Some(earlier) = map.insert(key.clone(), value.clone()).filter(|earlier| *earlier != value) {
            return Err(Failure::Usage(format!(
                "{option} {key} is given with two values, {earlier:?} and {value:?}: expected one"
            )));
        }
    }
    Ok(map)
}
