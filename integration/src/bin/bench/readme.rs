//! The figures as docs/COMPARISON.md has them, with where they were measured.

use std::{fmt::Write, fs, path::Path, thread};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::figure::{Bar, Figure};

/// The lines that the table is between.
const BEGIN: &str = "<!-- bench:begin (figures of `make bench`) -->\n";
const END: &str = "<!-- bench:end -->";

/// Where figures come from: those of one machine compare with each other alone, those of a busy one with nothing.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Environment {
    kernel: String,
    cpus: usize,
    /// Programs that waited for a CPU, in the mean of the minute before (proc(5), loadavg).
    load: String,
}

impl Environment {
    /// As they are now.
    pub(crate) fn read() -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).with_context(|| format!("read {path}"));
        let load = read("/proc/loadavg")?.split_whitespace().next().unwrap_or_default().to_owned();
        let cpus = thread::available_parallelism().context("count the CPUs")?.get();
        Ok(Self { kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(), cpus, load })
    }
}

/// Write the table into a file, in place of the one that is there.
pub(crate) fn write(figures: &[Figure], how: &str, around: &Environment, path: &Path) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let text = replace(&text, &table(figures, how, around))
        .with_context(|| format!("{} has no lines bench:begin and bench:end", path.display()))?;
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

fn replace(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{table}{END}{after}"))
}

fn table(figures: &[Figure], how: &str, around: &Environment) -> String {
    let mut text = format!(
        "| ovnet, by `make bench` ({how}; {} CPUs, load {} before) | measured | should be |\n|---|---|---|\n",
        around.cpus, around.load
    );
    for figure in figures {
        let Figure { name, value, unit, bar, note } = figure;
        let bar = match bar {
            Bar::AtMost(most) => format!("at most {}", amount(*most, unit)),
            Bar::AtLeast(least) => format!("at least {}", amount(*least, unit)),
            Bar::None => String::new(),
        };
        // Text cannot fail to be written to.
        writeln!(text, "| {name} | {} ({note}) | {bar} |", amount(*value, unit)).ok();
    }
    text
}

/// Three digits of a number, and its unit.
fn amount(value: f64, unit: &str) -> String {
    let digits = match value {
        value if value.fract() == 0.0 || value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$} {unit}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_takes_the_place_of_the_one_before() {
        let figure =
            |name: &str, value, unit, bar| Figure { name: name.into(), value, unit, bar, note: "n".into() };
        let figures = [
            figure("a", 6.123, "ms", Bar::AtMost(15.0)),
            figure("b", 0.987, "x", Bar::AtLeast(0.97)),
            figure("c", 0.0, "", Bar::None),
        ];
        let around = Environment { kernel: "6.1".into(), cpus: 2, load: "0.10".into() };
        let text = format!("before\n{BEGIN}| old |\n{END}\nafter\n");
        let now = replace(&text, &table(&figures, "2 rounds", &around)).unwrap();
        let rows = "| ovnet, by `make bench` (2 rounds; 2 CPUs, load 0.10 before) | measured | should be |\n|---|---|---|\n\
            | a | 6.12 ms (n) | at most 15 ms |\n| b | 0.99 x (n) | at least 0.97 x |\n| c | 0 (n) |  |\n";
        assert_eq!(now, format!("before\n{BEGIN}{rows}{END}\nafter\n"));
        assert_eq!(replace("nothing", "table"), None);
    }

    #[test]
    fn the_page_has_the_lines() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/COMPARISON.md");
        assert!(replace(&fs::read_to_string(page).unwrap(), "").is_some());
    }
}
