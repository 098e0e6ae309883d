//! Computes medians, and formats tables in Markdown.

use std::fmt::Write as _;

/// Returns the median; for an even count, the mean of the two middle values.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some((sorted.get(middle.checked_sub(1)?)? + upper) / 2.0)
}

/// Formats a median, or a dash if nothing was measured.
pub(super) fn shown(values: &[f64]) -> String {
    median(values).map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"))
}

/// Formats a median with the smallest and the largest value.
pub(super) fn with_range(values: &[f64]) -> String {
    let least = values.iter().copied().reduce(f64::min);
    let most = values.iter().copied().reduce(f64::max);
    match (median(values), least, most) {
        (Some(median), Some(least), Some(most)) => {
            format!("**{median:.0}** ({least:.0} to {most:.0})")
        }
        (_, _, _) => "-".to_owned(),
    }
}

/// Formats a table in Markdown: its header, and rows with the same number of cells.
pub(super) fn markdown(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n|{}\n", header.join(" | "), "---|".repeat(header.len()));
    for row in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(with_range(&[2.0, 1.0, 9.0]), "**2** (1 to 9)");
        assert_eq!(shown(&[]), "-");
    }

    #[test]
    fn tables_are_markdown() {
        let rows = [vec!["1".to_owned(), "2".to_owned()]];
        assert_eq!(markdown(&["a", "b"], &rows), "| a | b |\n|---|---|\n| 1 | 2 |\n");
    }
}
