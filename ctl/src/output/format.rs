//! The values of `--format`.

use std::str::FromStr;

use super::template::{Template, TemplateError};

/// How a list is printed.
#[derive(Clone, Debug)]
pub(crate) enum ListFormat {
    /// `table`, or `table TEMPLATE` for columns of one's own.
    Table(Option<Template>),
    /// `json`: one object a line.
    Json,
    /// The template once for each object, a line each.
    Template(Template),
}

impl FromStr for ListFormat {
    type Err = TemplateError;
    fn from_str(text: &str) -> Result<Self, TemplateError> {
        match text.split_once("table ").filter(|(before, _columns)| before.is_empty()) {
            Some((_before, columns)) => Ok(Self::Table(Some(columns.trim_start().parse()?))),
            None if text == "table" || text.is_empty() => Ok(Self::Table(None)),
            None if text == "json" => Ok(Self::Json),
            None => Ok(Self::Template(text.parse()?)),
        }
    }
}

/// How an inspected object is printed, if not as an indented JSON array.
#[derive(Clone, Debug)]
pub(crate) enum InspectFormat {
    /// `json`: an array on one line.
    Json,
    /// The template once for each object, a line each.
    Template(Template),
}

impl FromStr for InspectFormat {
    type Err = TemplateError;
    fn from_str(text: &str) -> Result<Self, TemplateError> {
        if text == "json" { Ok(Self::Json) } else { Ok(Self::Template(text.parse()?)) }
    }
}
