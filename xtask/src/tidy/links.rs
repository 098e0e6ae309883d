//! Checks that relative links in the Markdown files lead to a file, and to a heading if they name
//! one.

use std::path::Path;

use crate::files::{files, read, shown};
use crate::step;

pub(super) fn check() -> Result<Vec<String>, String> {
    let mut findings = Vec::new();
    for file in files(&step::root(), ".md")? {
        let text = read(&file)?;
        for link in links(&text) {
            if let Some(why) = broken(&file, link)? {
                findings.push(format!("{}: the link ({link}) {why}", shown(&file)));
            }
        }
    }
    Ok(findings)
}

fn broken(file: &Path, link: &str) -> Result<Option<String>, String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return Ok(None);
    }
    let (path, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = match (path, file.parent()) {
        ("", _) | (_, None) => file.to_path_buf(),
        (_, Some(folder)) => folder.join(path),
    };
    if !target.exists() {
        return Ok(Some("leads nowhere: mend the path or remove the link".into()));
    }
    if heading.is_empty() || target.extension().is_none_or(|extension| extension != "md") {
        return Ok(None);
    }
    let known = headings(&read(&target)?).any(|known| known == heading);
    Ok((!known).then(|| format!("names no heading of {}", shown(&target))))
}

/// Returns the targets of `[text](target)`, outside fenced blocks and code spans.
fn links(text: &str) -> impl Iterator<Item = &str> {
    prose(text).flat_map(|line| {
        let outside_code = line.split('`').step_by(2);
        outside_code.flat_map(|part| {
            part.split("](").skip(1).filter_map(|after| after.split([')', ' ']).next())
        })
    })
}

/// Returns the link fragments of the headings: lower case, spaces as hyphens, no other punctuation.
fn headings(text: &str) -> impl Iterator<Item = String> + '_ {
    prose(text).filter(|line| line.starts_with('#')).map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_outside_code_alone() {
        let text = "See [a](a.md) and [b](../b.md#two).\n`[no](code)`\n```text\n[no](fence)\n```\n";
        assert_eq!(links(text).collect::<Vec<_>>(), ["a.md", "../b.md#two"]);
    }

    #[test]
    fn heading_fragments_match_browser_form() {
        let text = "# The one picture\n## May never: a list\n```\n# no heading\n```\n";
        assert_eq!(headings(text).collect::<Vec<_>>(), ["the-one-picture", "may-never-a-list"]);
    }

    #[test]
    fn broken_link_is_found() {
        let file = step::root().join("docs/architecture.md");
        assert!(broken(&file, "no-such-file.md").expect("readable").is_some());
        assert!(broken(&file, "architecture.md#no-such-heading").expect("readable").is_some());
        assert!(broken(&file, "ports.md").expect("readable").is_none());
        assert!(broken(&file, "https://example.com/x").expect("readable").is_none());
    }
}
