//! Aligns columns as Docker does: no borders, three spaces between, no column narrower than ten.

/// Spaces between columns.
const GAP: usize = 3;
/// Narrowest column, gap included.
const NARROWEST: usize = 10;

/// The `rows` of tab-separated cells as aligned lines, each with a line feed.
pub(super) fn align<'a>(rows: impl IntoIterator<Item = &'a str>) -> String {
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|row| row.split('\t').map(printable).collect()).collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        // The last cell of a row ends it, and makes no column.
        for (at, cell) in row.iter().take(row.len() - 1).enumerate() {
            let width = (cell.chars().count() + GAP).max(NARROWEST);
            match widths.get_mut(at) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    let mut out = String::new();
    for row in &rows {
        let (last, padded) =
            row.split_last().map_or(("", &row[..]), |(last, padded)| (last.as_str(), padded));
        for (cell, width) in padded.iter().zip(&widths) {
            out.push_str(&format!("{cell:<width$}"));
        }
        out.push_str(last);
        out.push('\n');
    }
    out
}

/// The cell without what would move a terminal's cursor.
fn printable(cell: &str) -> String {
    cell.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn columns_are_three_spaces_apart_and_at_least_ten_wide() {
        let aligned = align(["NETWORK ID\tNAME\tDRIVER\tSCOPE", "4f1d0a2b3c4d\tov_net1\toverlay\tglobal"]);
        assert_eq!(
            aligned,
            "NETWORK ID     NAME      DRIVER    SCOPE\n4f1d0a2b3c4d   ov_net1   overlay   global\n"
        );
    }

    #[test]
    fn rows_may_differ_in_length() {
        assert_eq!(align(["a", "b\tc", ""]), "a\nb         c\n\n");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(align(["a\u{1b}[2Jb"]), "a\u{fffd}[2Jb\n");
    }

    proptest! {
        #[test]
        fn each_cell_starts_in_its_column(rows in prop::collection::vec(prop::collection::vec("[a-z]{0,14}", 3), 1..6)) {
            let lines: Vec<String> = rows.iter().map(|row| row.join("\t")).collect();
            let aligned = align(lines.iter().map(String::as_str));
            let width = |at: usize| rows.iter().map(|row| row[at].len() + GAP).max().unwrap().max(NARROWEST);
            for (row, line) in rows.iter().zip(aligned.lines()) {
                prop_assert!(line[width(0)..].starts_with(&row[1]));
                prop_assert_eq!(&line[width(0) + width(1)..], &row[2]);
            }
        }
    }
}
