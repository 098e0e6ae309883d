//! Checks that facts of the protocol are cited by section, from the page in the repository.

use std::collections::BTreeSet;

use super::sources::TEXTS;
use crate::files::{files, read, shown};
use crate::step;

/// The name of the page, split, as below, so that this file does not match itself.
const PAGE: &str = concat!("kvs-", "protocol.md");

/// The former source of the page, which is not available to readers.
const ELSEWHERE: &str = concat!("kvs", ".md");

pub(super) fn check() -> Result<Vec<String>, String> {
    let page = read(&step::root().join("docs").join(PAGE))?;
    let known = sections(&page);
    let mut findings = Vec::new();
    for suffix in TEXTS {
        for file in files(&step::root(), suffix)? {
            findings.extend(complaints(&shown(&file), &read(&file)?, &known));
        }
    }
    Ok(findings)
}

/// Returns the numbers of the page's headings.
fn sections(page: &str) -> BTreeSet<&str> {
    let titles = page.lines().filter(|line| line.starts_with('#'));
    titles.filter_map(|line| number(line.trim_start_matches('#').trim())).map(|(n, _)| n).collect()
}

fn complaints(name: &str, text: &str, known: &BTreeSet<&str>) -> Vec<String> {
    let mut findings = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let place = format!("{name}:{}", at + 1);
        if line.contains(ELSEWHERE) {
            findings.push(format!("{place}: {ELSEWHERE} is not here; cite docs/{PAGE} by section"));
        }
        for after in line.split(PAGE).skip(1) {
            let cited = cited(after);
            if cited.is_empty() && name.ends_with(".rs") {
                findings.push(format!("{place}: say on the same line which section of {PAGE}"));
            }
            for section in cited.iter().filter(|section| !known.contains(*section)) {
                findings.push(format!(
                    "{place}: docs/{PAGE} has no section {section}; cite the right one or write it"
                ));
            }
        }
    }
    findings
}

/// Returns the sections after the page's name: ` 2.2`, ` 2.2 and 2.3`.
fn cited(after: &str) -> Vec<&str> {
    let mut sections = Vec::new();
    let mut rest = after.strip_prefix(' ');
    while let Some((section, after)) = rest.and_then(number) {
        sections.push(section);
        rest = after.strip_prefix(" and ");
    }
    sections
}

/// Returns the number at the beginning of a text, and the rest.
fn number(text: &str) -> Option<(&str, &str)> {
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    let (digits, rest) = text.split_at(text.find(|c| !is_part(c)).unwrap_or(text.len()));
    let digits = digits.trim_end_matches('.');
    digits.starts_with(|c: char| c.is_ascii_digit()).then_some((digits, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn citations(name: &str, text: &str) -> Vec<String> {
        let known = sections("# The page\n## 1 Calls\n### 1.3 Errors\n## 7 Doubts\nNo. 8\n");
        complaints(name, text, &known)
    }

    #[test]
    fn existing_sections_may_be_cited() {
        for cites in ["1.3", "1.3 and 7", "7).", "1.3: each of 8", "1.3."] {
            let text = format!("/// A fact (docs/{PAGE} {cites}\n");
            assert_eq!(citations("a.rs", &text), Vec::<String>::new(), "{text}");
        }
        assert!(citations("a.md", &format!("See [{PAGE}]({PAGE}).\n")).is_empty());
    }

    #[test]
    fn missing_citation_targets_are_reported() {
        for (name, text) in [
            ("a.rs", format!("// {PAGE} 1.4\n")),
            ("a.rs", format!("// {PAGE} 1.3 and 8\n")),
            ("a.md", format!("`{PAGE} 1.4`\n")),
            ("a.rs", format!("// (docs/{PAGE}\n// 1.3)\n")),
            ("a.rs", format!("// ({ELSEWHERE} 1.3)\n")),
        ] {
            assert_eq!(citations(name, &text).len(), 1, "{text}");
        }
    }
}
