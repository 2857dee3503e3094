//! Output templates: the part of Go's text/template that people use with `docker --format`, over JSON values.
//! `lex` cuts the text, `parse` builds the tree, `eval` walks it, `function` has the functions and `show` prints
//! values as Go does. Pure; a template never panics and never nests deeper than [`MAX_DEPTH`].

mod eval;
mod function;
mod lex;
mod parse;
mod show;
#[cfg(test)]
mod tests;

use std::str::FromStr;

use serde_json::Value;

/// Longest template, in bytes.
const MAX_LENGTH: usize = 64 * 1024;
/// Deepest nesting of blocks and parentheses.
const MAX_DEPTH: usize = 64;
/// Fields whose keys people choose: a missing key there has no value, while anywhere else it is an error.
const OPEN_FIELDS: &[&str] = &[
    "Labels",
    "Options",
    "AuxiliaryAddresses",
    "Containers",
    "Attributes",
    "Counters",
    "Networks",
    "Ports",
    "Sysctls",
];

/// What is wrong with a template, or with a template and the value that it met.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TemplateError(String);

impl TemplateError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// A parsed template.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    nodes: Vec<parse::Node>,
}

impl Template {
    /// The text of the template for `value`.
    ///
    /// # Errors
    /// A field that `value` does not have, or a function given what it cannot use.
    pub(crate) fn render(&self, value: &Value) -> Result<String, TemplateError> {
        eval::render(&self.nodes, value, eval::Mode::Value)
    }

    /// The heading of a table with this template: `headings` maps each field to its column's title, and functions
    /// that would change the form of a title leave it alone.
    ///
    /// # Errors
    /// As for [`Self::render`].
    pub(crate) fn render_heading(&self, headings: &Value) -> Result<String, TemplateError> {
        eval::render(&self.nodes, headings, eval::Mode::Heading)
    }
}

impl FromStr for Template {
    type Err = TemplateError;
    fn from_str(text: &str) -> Result<Self, TemplateError> {
        if text.len() > MAX_LENGTH {
            return Err(TemplateError::new(format!(
                "the template has {} bytes, at most {MAX_LENGTH} are allowed",
                text.len()
            )));
        }
        Ok(Self { nodes: parse::parse(lex::pieces(text)?)? })
    }
}
