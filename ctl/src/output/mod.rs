//! What reaches standard output: tables, JSON and templates, as Docker's commands print them. Everything else that
//! ovctl has to say goes to standard error, by [`say`].

mod format;
mod inspect;
mod listing;
mod table;
pub(crate) mod template;
mod time;

use std::io::{self, BufWriter, Stdout, Write};

pub(crate) use format::{InspectFormat, ListFormat};
pub(crate) use inspect::Inspection;
pub(crate) use listing::{Column, Listing, Presentation};
pub(crate) use time::rfc3339;

use crate::failure::Failure;

/// Standard output, buffered; [`Out::flush`] it before the process ends or waits.
#[derive(Debug)]
pub(crate) struct Out {
    writer: BufWriter<Stdout>,
}

impl Out {
    /// Standard output.
    pub(crate) fn stdout() -> Self {
        Self { writer: BufWriter::new(io::stdout()) }
    }

    /// Prints `text` and a line feed.
    ///
    /// # Errors
    /// Nobody reads on, or the disk is full.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.writer, "{text}").map_err(Failure::Output)
    }

    /// Prints `text` as it is.
    ///
    /// # Errors
    /// As for [`Self::line`].
    pub(crate) fn bytes(&mut self, text: &[u8]) -> Result<(), Failure> {
        self.writer.write_all(text).map_err(Failure::Output)
    }

    /// Hands on what is buffered.
    ///
    /// # Errors
    /// As for [`Self::line`].
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.writer.flush().map_err(Failure::Output)
    }
}

/// Tells people something on standard error; if nobody listens there, there is nobody to tell.
pub(crate) fn say(text: &str) {
    writeln!(io::stderr(), "{text}").ok();
}

/// Warns of nodes that did not confirm an attachment in time: it stands, but they may not reach it yet.
pub(crate) fn warn_unconfirmed(nodes: &[String]) {
    if !nodes.is_empty() {
        say(&format!(
            "warning: not confirmed by: {} (they may not reach the new endpoint yet; see ovctl node ls)",
            nodes.join(", ")
        ));
    }
}

/// An identifier as lists show it: the first 12 digits, or the first two groups of a UUID; whole with `--no-trunc`.
pub(crate) fn shown_id(id: &str, whole: bool) -> String {
    let length = if id.as_bytes().get(8) == Some(&b'-') { 13 } else { 12 };
    if whole { id.to_owned() } else { id.chars().take(length).collect() }
}

/// `a=1,b=2`
pub(crate) fn pairs(map: &std::collections::BTreeMap<String, String>) -> String {
    map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}
