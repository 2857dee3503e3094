//! Inspected objects: a JSON array as `docker inspect` prints it, or one line each by a template.

use serde::Serialize;
use serde_json::{Value, ser::PrettyFormatter};

use super::{InspectFormat, Out};
use crate::failure::Failure;

/// The objects found so far.
#[derive(Debug)]
pub(crate) struct Inspection<'a> {
    format: Option<&'a InspectFormat>,
    /// Objects as JSON, in the order of their fields.
    objects: Vec<Vec<u8>>,
}

impl<'a> Inspection<'a> {
    /// No object yet.
    pub(crate) fn new(format: Option<&'a InspectFormat>) -> Self {
        Self { format, objects: Vec::new() }
    }

    /// Takes an object: a template prints it at once.
    ///
    /// # Errors
    /// The template meets a field that there is not, or standard output fails.
    pub(crate) fn push(&mut self, out: &mut Out, object: &impl Serialize) -> Result<(), Failure> {
        match self.format {
            Some(InspectFormat::Template(template)) => {
                let value: Value = serde_json::to_value(object).map_err(Failure::encode)?;
                out.line(&template.render(&value)?)
            }
            Some(InspectFormat::Json) => {
                self.objects.push(serde_json::to_vec(object).map_err(Failure::encode)?);
                Ok(())
            }
            None => {
                let mut text = Vec::new();
                let indent = PrettyFormatter::with_indent(b"    ");
                let mut serializer = serde_json::Serializer::with_formatter(&mut text, indent);
                object.serialize(&mut serializer).map_err(Failure::encode)?;
                self.objects.push(text);
                Ok(())
            }
        }
    }

    /// Prints the array, if that is what was asked for; it is empty when nothing was found.
    ///
    /// # Errors
    /// Standard output fails.
    pub(crate) fn finish(self, out: &mut Out) -> Result<(), Failure> {
        match self.format {
            Some(InspectFormat::Template(_)) => Ok(()),
            Some(InspectFormat::Json) => {
                let lines: Vec<_> =
                    self.objects.iter().map(|object| String::from_utf8_lossy(object)).collect();
                out.line(&format!("[{}]", lines.join(",")))
            }
            None if self.objects.is_empty() => out.line("[]"),
            None => {
                // No string in JSON holds a raw line feed, so each one starts a line of the object.
                let indented = |object: &Vec<u8>| {
                    format!("    {}", String::from_utf8_lossy(object).replace('\n', "\n    "))
                };
                let objects: Vec<String> = self.objects.iter().map(indented).collect();
                out.line(&format!("[\n{}\n]", objects.join(",\n")))
            }
        }
    }
}
