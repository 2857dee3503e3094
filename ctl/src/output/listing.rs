//! Lists: rows of named fields, printed as a table, as JSON or by a template, as `docker network ls` does.

use clap::Args;
use serde_json::{Map, Value};

use super::{ListFormat, Out, table::align, template::Template};
use crate::failure::Failure;

/// How a list is printed.
#[derive(Args, Clone, Debug)]
pub(crate) struct Presentation {
    /// Print as `table`, `table TEMPLATE`, `json` (one object a line) or by a Go template
    #[arg(long, value_name = "FORMAT", conflicts_with = "quiet")]
    pub(crate) format: Option<ListFormat>,
    /// Print identifiers only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Print whole identifiers
    #[arg(long)]
    pub(crate) no_trunc: bool,
}

impl Presentation {
    /// Whether people read it: the ordinary table.
    pub(crate) const fn is_table(&self) -> bool {
        !self.quiet && matches!(self.format, None | Some(ListFormat::Table(None)))
    }
}

/// A field of a list's rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// Its name in templates and JSON.
    pub(crate) field: &'static str,
    /// Its title in tables.
    pub(crate) title: &'static str,
    /// Whether the table shows it when no template says so.
    pub(crate) shown: bool,
}

impl Column {
    /// A column of the ordinary table.
    pub(crate) const fn shown(field: &'static str, title: &'static str) -> Self {
        Self { field, title, shown: true }
    }

    /// A field for templates and JSON.
    pub(crate) const fn extra(field: &'static str, title: &'static str) -> Self {
        Self { field, title, shown: false }
    }
}

/// A list of objects of one kind.
#[derive(Debug)]
pub(crate) struct Listing {
    columns: &'static [Column],
    /// The field that `--quiet` prints.
    key: &'static str,
    rows: Vec<Value>,
}

impl Listing {
    /// A list with no rows yet.
    pub(crate) fn new(columns: &'static [Column], key: &'static str) -> Self {
        Self { columns, key, rows: Vec::new() }
    }

    /// Adds an object by the values of its fields, in the order of the columns.
    pub(crate) fn push<const N: usize>(&mut self, values: [Value; N]) {
        let fields = self.columns.iter().map(|column| column.field.to_owned());
        self.rows.push(Value::Object(fields.zip(values).collect()));
    }

    /// Prints the list.
    ///
    /// # Errors
    /// The template meets a field that there is not, or standard output fails.
    pub(crate) fn print(&self, out: &mut Out, how: &Presentation) -> Result<(), Failure> {
        if how.quiet {
            return self.rows.iter().try_for_each(|row| out.line(&cell(row, self.key)));
        }
        match &how.format {
            None | Some(ListFormat::Table(None)) => out.bytes(self.table().as_bytes()),
            Some(ListFormat::Table(Some(template))) => out.bytes(self.table_by(template)?.as_bytes()),
            Some(ListFormat::Json) => self.rows.iter().try_for_each(|row| out.line(&row.to_string())),
            Some(ListFormat::Template(template)) => {
                self.rows.iter().try_for_each(|row| out.line(&template.render(row)?))
            }
        }
    }

    fn table(&self) -> String {
        let shown: Vec<&Column> = self.columns.iter().filter(|column| column.shown).collect();
        let titles = shown.iter().map(|column| column.title).collect::<Vec<_>>().join("\t");
        let line = |row: &Value| {
            let mut cells: Vec<String> = shown.iter().map(|column| cell(row, column.field)).collect();
            // As `docker node ls` marks the node that answers.
            if let Some(first) = cells.first_mut().filter(|_cell| row.get("Self") == Some(&Value::Bool(true)))
            {
                first.push_str(" *");
            }
            cells.join("\t")
        };
        let rows: Vec<String> = std::iter::once(titles).chain(self.rows.iter().map(line)).collect();
        align(rows.iter().map(String::as_str))
    }

    fn table_by(&self, template: &Template) -> Result<String, Failure> {
        let titles: Map<String, Value> =
            self.columns.iter().map(|column| (column.field.to_owned(), column.title.into())).collect();
        let mut text = template.render_heading(&Value::Object(titles))?;
        for row in &self.rows {
            text.push('\n');
            text.push_str(&template.render(row)?);
        }
        Ok(align(text.split('\n')))
    }
}

/// A field as tables show it.
fn cell(row: &Value, field: &str) -> String {
    match row.get(field) {
        Some(Value::String(text)) => text.replace('\t', " "),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}
