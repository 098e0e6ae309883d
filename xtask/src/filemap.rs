//! `cargo xtask filemap`: writes every source file with the first sentence of its documentation to
//! `docs/file-map.md`.

use std::collections::BTreeMap;
use std::fs;

use crate::files::{files, read, shown};
use crate::step;

const PAGE: &str = "docs/file-map.md";

const HEAD: &str = "\
# File map

`cargo xtask filemap` writes this page from the first sentence of each file, and `cargo xtask tidy` checks it.
[architecture.md](architecture.md) says how the crates belong together.
";

/// Writes the page.
pub(crate) fn write() -> Result<(), String> {
    fs::write(step::root().join(PAGE), page()?).map_err(|error| format!("{PAGE}: {error}"))
}

/// Checks that the page is up to date.
pub(crate) fn check() -> Result<Vec<String>, String> {
    let written = fs::read_to_string(step::root().join(PAGE)).unwrap_or_default();
    let is_current = written == page()?;
    Ok(if is_current {
        Vec::new()
    } else {
        vec![format!("{PAGE}: is not up to date: run `cargo xtask filemap`")]
    })
}

fn page() -> Result<String, String> {
    let mut crates: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for file in files(&step::root(), ".rs")? {
        let name = shown(&file);
        let Some((of, path)) = place(&name) else { continue };
        let sentence = first_sentence(&read(&file)?);
        crates.entry(of.to_owned()).or_default().push((path.to_owned(), sentence));
    }
    let mut page = HEAD.to_owned();
    for (of, files) in crates {
        page += &format!("\n## {of}\n\n| file | what it has |\n|---|---|\n");
        for (path, sentence) in files {
            page += &format!("| `{path}` | {sentence} |\n");
        }
    }
    Ok(page)
}

/// Returns the crate of a source file, and its path below the crate's `src`; `None` for tests.
fn place(name: &str) -> Option<(&str, &str)> {
    let (of, path) = name.split_once("/src/")?;
    let of = of.strip_prefix("crates/").or((of == "xtask").then_some(of))?;
    (!of.contains('/') && !path.ends_with("tests.rs")).then_some((of, path))
}

/// Returns the first sentence of a file's `//!` lines.
fn first_sentence(text: &str) -> String {
    let doc = text.lines().take_while(|line| line.starts_with("//!"));
    let doc: Vec<&str> = doc
        .map(|line| line.trim_start_matches("//!").trim())
        .take_while(|l| !l.is_empty())
        .collect();
    let doc = doc.join(" ");
    let end = doc.find(". ").map_or(doc.len(), |at| at + 1);
    // A bar would end the table's cell, and intra-doc links have no target in Markdown.
    doc[..end].replace('|', "/").replace("[`", "`").replace("`]", "`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sources_have_place_in_file_map() {
        assert_eq!(place("crates/a/src/b/c.rs"), Some(("a", "b/c.rs")));
        assert_eq!(place("xtask/src/main.rs"), Some(("xtask", "main.rs")));
        assert_eq!(place("crates/a/src/b/tests.rs"), None);
        assert_eq!(place("crates/a/tests/b.rs"), None);
        assert_eq!(place("tests/src/lib.rs"), None);
    }

    #[test]
    fn first_sentence_ends_at_its_full_stop() {
        let text =
            "//! Reads [`Frame`]s, and\n//! writes them. Not more.\n//!\n//! Later.\nuse a;\n";
        assert_eq!(first_sentence(text), "Reads `Frame`s, and writes them.");
        assert_eq!(first_sentence("//! A | B\n"), "A / B");
        assert_eq!(first_sentence("use a;\n"), "");
    }
}
