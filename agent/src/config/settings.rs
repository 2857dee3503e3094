//! The texts of all settings, each from the source that goes first, and the mistakes found while they are read.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::ArgMatches;

use super::{
    ConfigError, ConfigErrors, DEFAULT_FILE, Source, file,
    key::{self, Key},
    text::Text,
};

/// Most values of a setting that can be given more than once.
const MAX_VALUES: usize = 64;

/// The texts, by setting.
#[derive(Debug, Default)]
pub(super) struct Settings {
    texts: BTreeMap<&'static str, Vec<Text>>,
    mistakes: Vec<ConfigError>,
}

impl Settings {
    /// What flags, environment and file say: for each setting, all of the first of them that says something.
    pub(super) fn collect(matches: &ArgMatches, environment: &impl Fn(&str) -> Option<OsString>) -> Self {
        let mut settings = Self::default();
        let file = settings.read_file(matches, environment);
        for key in &key::ALL {
            let texts = from_flags(matches, key)
                .or_else(|| settings.variable(key, environment))
                .or_else(|| file.get(key.name).cloned())
                .unwrap_or_default();
            if texts.len() > MAX_VALUES {
                settings
                    .mistake(*key, &format!("{} are given, at most {MAX_VALUES} are allowed", texts.len()));
            } else {
                settings.texts.insert(key.name, texts);
            }
        }
        settings
    }

    fn read_file(
        &mut self,
        matches: &ArgMatches,
        environment: &impl Fn(&str) -> Option<OsString>,
    ) -> BTreeMap<&'static str, Vec<Text>> {
        let variable = || environment("OVNET_CONFIG").filter(|text| !text.is_empty()).map(PathBuf::from);
        let (path, source) = match (matches.get_one::<PathBuf>("config"), variable()) {
            (Some(path), _) => (path.clone(), Source::Flag),
            (None, Some(path)) => (path, Source::Variable("OVNET_CONFIG".into())),
            (None, None) => (PathBuf::from(DEFAULT_FILE), Source::Default),
        };
        match file::read(&path) {
            Ok(Some(text)) => file::parse(&path, &text, &mut self.mistakes),
            Ok(None) if source == Source::Default => BTreeMap::new(),
            Ok(None) => self.file_mistake(&path, source, "there is no such file".into()),
            Err(reason) => self.file_mistake(&path, source, reason),
        }
    }

    fn file_mistake<T: Default>(&mut self, path: &Path, source: Source, reason: String) -> T {
        let input = Some(path.display().to_string());
        self.mistakes.push(ConfigError { key: "config".into(), source_of: source, input, reason });
        T::default()
    }

    fn variable(&mut self, key: &Key, environment: &impl Fn(&str) -> Option<OsString>) -> Option<Vec<Text>> {
        let value = environment(&key.variable()).filter(|value| !value.is_empty())?;
        let source = Source::Variable(key.variable());
        let Ok(text) = value.into_string() else {
            let reason = "it is not UTF-8".into();
            self.mistakes.push(ConfigError { key: key.name.into(), source_of: source, input: None, reason });
            return None;
        };
        if !key.many {
            return Some(vec![Text { text, source }]);
        }
        let parts = text.split_whitespace();
        Some(parts.map(|part| Text { text: part.into(), source: source.clone() }).collect())
    }

    /// All mistakes, if there are any: those of the file last, in its order.
    pub(super) fn mistakes(mut self) -> Result<(), ConfigErrors> {
        self.mistakes.sort_by_key(|mistake| match mistake.source_of {
            Source::File(_, line) => line,
            Source::Flag | Source::Variable(_) | Source::Default => 0,
        });
        if self.mistakes.is_empty() { Ok(()) } else { Err(ConfigErrors(self.mistakes)) }
    }

    /// Notes a mistake with what is given for a setting.
    pub(super) fn mistake(&mut self, key: Key, reason: &str) {
        let given = self.texts.get(key.name).and_then(|texts| texts.first()).cloned();
        let (input, source_of) = given.map_or((None, Source::Default), |text| (Some(text.text), text.source));
        self.mistakes.push(ConfigError { key: key.name.into(), source_of, input, reason: reason.into() });
    }

    /// Whether a setting is given at all.
    pub(super) fn given(&self, key: Key) -> bool {
        self.texts.get(key.name).is_some_and(|texts| !texts.is_empty())
    }

    /// A setting that need not be given.
    pub(super) fn optional<T>(&mut self, key: Key, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.texts.get(key.name).and_then(|texts| texts.first()).cloned()?;
        self.take(key, text, parse)
    }

    /// A setting that has a default; `instead` after a mistake, which is noted.
    pub(super) fn required<T>(
        &mut self,
        key: Key,
        instead: T,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        let given = self.texts.get(key.name).and_then(|texts| texts.first()).cloned();
        let text = given.or_else(|| defaults(key).next());
        text.and_then(|text| self.take(key, text, parse)).unwrap_or(instead)
    }

    /// A setting that can be given more than once: what was given, else its defaults.
    pub(super) fn list<T>(&mut self, key: Key, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let given = self.texts.get(key.name).cloned().unwrap_or_default();
        let texts = if given.is_empty() { defaults(key).collect() } else { given };
        texts.into_iter().filter_map(|text| self.take(key, text, &parse)).collect()
    }

    /// A number within bounds.
    pub(super) fn number(&mut self, key: Key, least: u64, most: u64) -> u64 {
        self.required(key, least, |text| {
            let number = text.parse().ok().filter(|number| (least..=most).contains(number));
            number.ok_or_else(|| format!("expected a number from {least} to {most}"))
        })
    }

    /// A number within bounds that need not be given.
    pub(super) fn optional_number(&mut self, key: Key, least: u64, most: u64) -> Option<u32> {
        self.optional(key, |text| {
            let number = text.parse().ok().filter(|number| (least..=most).contains(number));
            let number = number.and_then(|number| u32::try_from(number).ok());
            number.ok_or_else(|| format!("expected a number from {least} to {most}"))
        })
    }

    /// A UDP port.
    pub(super) fn port(&mut self, key: Key) -> u16 {
        self.required(key, 0, |text| {
            let port = text.parse().ok().filter(|port| *port != 0);
            port.ok_or_else(|| "expected a number from 1 to 65535".into())
        })
    }

    /// A directory that has a default.
    pub(super) fn path(&mut self, key: Key) -> PathBuf {
        self.required(key, PathBuf::new(), parse_path)
    }

    fn take<T>(&mut self, key: Key, text: Text, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        match parse(&text.text) {
            Ok(value) => Some(value),
            Err(reason) => {
                let input = Some(text.text);
                self.mistakes.push(ConfigError {
                    key: key.name.into(),
                    source_of: text.source,
                    input,
                    reason,
                });
                None
            }
        }
    }
}

/// An absolute path: the agent may be started anywhere.
pub(super) fn parse_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err("expected an absolute path, which begins with /".into()) }
}

/// True or false.
pub(super) fn parse_truth(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("expected true or false".into()),
    }
}

fn defaults(key: Key) -> impl Iterator<Item = Text> {
    let texts = key.default.into_iter().flat_map(str::split_whitespace);
    texts.map(|text| Text { text: text.into(), source: Source::Default })
}

fn from_flags(matches: &ArgMatches, key: &Key) -> Option<Vec<Text>> {
    let values = matches.get_many::<String>(key.name)?;
    Some(values.map(|text| Text { text: text.clone(), source: Source::Flag }).collect())
}
