//! The configuration file: flat TOML whose keys are the settings' names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read},
    path::Path,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    ConfigError, Source,
    key::{self, Key},
    text::Text,
};
use crate::convert::nearest;

/// Largest file, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// The text of the file; none if there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("it cannot be read: {error}")),
    };
    let mut text = String::new();
    file.take(MAX_FILE + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("it cannot be read: {error}"))?;
    if u64::try_from(text.len()).is_ok_and(|length| length <= MAX_FILE) {
        Ok(Some(text))
    } else {
        Err(format!("it has more than {MAX_FILE} bytes, which is the most that is allowed"))
    }
}

/// The texts in a file by setting; every mistake is noted.
pub(super) fn parse(
    path: &Path,
    text: &str,
    mistakes: &mut Vec<ConfigError>,
) -> BTreeMap<&'static str, Vec<Text>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let line = |at: usize| 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
    let mut unreadable = BTreeSet::new();
    for error in &errors {
        let at = line(error.span().map_or(0, |span| span.start));
        // What the parser makes of the rest of such a line helps nobody.
        if !unreadable.insert(at) {
            continue;
        }
        mistakes.push(mistake("", path, at, error.message().into()));
    }
    let mut texts = BTreeMap::new();
    for (name, value) in table.get_ref() {
        let at = line(name.span().start);
        if unreadable.contains(&at) {
            continue;
        }
        let Some(key) = key::ALL.iter().find(|key| key.name == name.get_ref()) else {
            mistakes.push(mistake(name.get_ref(), path, at, unknown(name.get_ref())));
            continue;
        };
        match written(key, value) {
            Ok(values) => {
                let text = |(text, at)| Text { text, source: Source::File(path.into(), line(at)) };
                texts.insert(key.name, values.into_iter().map(text).collect());
            }
            // A syntax error leaves odd values behind; the error itself has been noted.
            Err(reason) if errors.is_empty() => {
                mistakes.push(mistake(key.name, path, at, reason));
            }
            Err(_) => (),
        }
    }
    texts
}

fn mistake(key: &str, path: &Path, line: usize, reason: String) -> ConfigError {
    ConfigError { key: key.into(), source_of: Source::File(path.into(), line), input: None, reason }
}

fn unknown(name: &str) -> String {
    match nearest(name, key::ALL.iter().map(|key| key.name)) {
        Some(near) => format!("there is no such key; did you mean {near}?"),
        None => "there is no such key; `ovagent --help` lists them".into(),
    }
}

/// The values of a key with their places.
fn written(key: &Key, value: &Spanned<DeValue<'_>>) -> Result<Vec<(String, usize)>, String> {
    match value.get_ref() {
        DeValue::Array(items) if key.many => items.iter().map(scalar).collect(),
        DeValue::Array(_) => Err(format!("expected one value ({}), not an array", key.value)),
        DeValue::Boolean(truth) if key.truth => Ok(vec![(truth.to_string(), value.span().start)]),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Table(_) => scalar(value).map(|one| vec![one]),
    }
}

fn scalar(value: &Spanned<DeValue<'_>>) -> Result<(String, usize), String> {
    let at = value.span().start;
    match value.get_ref() {
        DeValue::String(text) => Ok((text.clone().into_owned(), at)),
        DeValue::Integer(number) => Ok((number.to_string(), at)),
        other @ (DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_)) => {
            Err(format!("expected a string or a number, not a value of type {}", other.type_str()))
        }
    }
}
