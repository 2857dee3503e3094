//! What can be wrong with a configuration, each with where it was said.

use std::{fmt, path::PathBuf};

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// On the command line.
    Flag,
    /// In the environment variable of this name.
    Variable(String),
    /// In a file, with the line, counted from 1.
    File(PathBuf, usize),
    /// Nowhere: the default.
    Default,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The setting, without dashes; empty: the file as a whole.
    pub key: String,
    /// Where it was given.
    pub source_of: Source,
    /// The value as it came; none if there is no value to quote.
    pub input: Option<String>,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let input = self.input.as_deref();
        match &self.source_of {
            Source::Flag | Source::Default => {
                write!(f, "--{}", self.key)?;
                input.map_or(Ok(()), |input| write!(f, " {input:?}"))?;
            }
            Source::Variable(name) => {
                f.write_str(name)?;
                input.map_or(Ok(()), |input| write!(f, "={input:?}"))?;
            }
            Source::File(path, line) => {
                write!(f, "{}:{line}", path.display())?;
                if !self.key.is_empty() {
                    write!(f, ": {}", self.key)?;
                }
                input.map_or(Ok(()), |input| write!(f, " = {input:?}"))?;
            }
        }
        write!(f, ": {}", self.reason)
    }
}

/// Everything that is wrong with a configuration; at least one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => write!(f, "invalid configuration: {one}"),
            all => {
                write!(f, "invalid configuration, {} mistakes:", all.len())?;
                all.iter().try_for_each(|one| write!(f, "\n  {one}"))
            }
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The command line, or a call for help: clap says it, and knows stream and exit code.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// Values that cannot be.
    #[error(transparent)]
    Mistakes(#[from] ConfigErrors),
}
