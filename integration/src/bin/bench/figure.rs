//! A figure with its bar, the table of them, and their JSON.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::readme::Environment;

/// What a figure must be.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bar {
    /// Not above this.
    AtMost(f64),
    /// Not below this.
    AtLeast(f64),
    /// For information.
    None,
}

/// Something measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    /// Of what.
    pub(crate) name: String,
    /// How much.
    pub(crate) value: f64,
    /// In what: "ms", "MB", "x baseline".
    pub(crate) unit: &'static str,
    /// What it must be.
    pub(crate) bar: Bar,
    /// How it came about: range, counts.
    pub(crate) note: String,
}

impl Figure {
    /// Whether the bar is met; none without a bar.
    pub(crate) fn met(&self) -> Option<bool> {
        match self.bar {
            Bar::AtMost(most) => Some(self.value <= most),
            Bar::AtLeast(least) => Some(self.value >= least),
            Bar::None => None,
        }
    }
}

/// The middle of `values`, or the mean of the two in the middle; 0 of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
    match (sorted.get(low), sorted.get(high)) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        _ => 0.0,
    }
}

/// "0.97 to 1.03": the smallest and the largest.
pub(crate) fn range(values: &[f64]) -> String {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{low:.2} to {high:.2}")
}

/// Print the table to standard output.
pub(crate) fn print(figures: &[Figure]) -> Result<()> {
    let mut out = io::stdout().lock();
    let mut rows = vec![["what", "figure", "bar", "", "how"].map(String::from)];
    rows.extend(figures.iter().map(|figure| {
        let bar = match figure.bar {
            Bar::AtMost(most) => format!("<= {most}"),
            Bar::AtLeast(least) => format!(">= {least}"),
            Bar::None => String::new(),
        };
        let met = match figure.met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        let value = format!("{:.2} {}", figure.value, figure.unit);
        [figure.name.clone(), value, bar, met.into(), figure.note.clone()]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2), width(3)];
    for row in &rows {
        let [name, value, bar, met, note] = row;
        let [a, b, c, d] = widths;
        writeln!(out, "{name:<a$}   {value:>b$}   {bar:<c$}   {met:<d$}   {note}")
            .context("print the table")?;
    }
    Ok(())
}

/// Write the figures as JSON.
pub(crate) fn write(figures: &[Figure], around: &Environment, path: &Path) -> Result<()> {
    let met: Vec<Option<bool>> = figures.iter().map(Figure::met).collect();
    let json = serde_json::json!({ "environment": around, "figures": figures, "met": met });
    let text = serde_json::to_string_pretty(&json).context("write JSON")?;
    fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(&[]).abs() < 1e-9);
    }
}
