//! `docs/contract.md` names, for each rule and scenario of the contract, tests that exist.

use std::collections::BTreeMap;

use super::{files, read, shown};
use crate::step;

const PAGE: &str = "docs/contract.md";

/// Rules N1 to N28.
const RULES: u32 = 28;

/// Scenarios 1 to 67.
const SCENARIOS: u32 = 67;

const NOT_YET: &str = "not yet: ";

pub(super) fn check() -> Result<Vec<String>, String> {
    let page = read(&step::root().join(PAGE))?;
    let mut tests = BTreeMap::new();
    for file in files(&step::root(), ".rs")? {
        tests.insert(shown(&file), tests_of(&read(&file)?));
    }
    Ok(complaints(&page, &tests))
}

type Tests = BTreeMap<String, Vec<String>>;

fn complaints(page: &str, tests: &Tests) -> Vec<String> {
    let rows: Vec<Vec<&str>> = page.lines().filter_map(row).collect();
    let mut found = Vec::new();
    let rules = (1..=RULES).map(|number| format!("N{number}"));
    let scenarios = (1..=SCENARIOS).map(|number| number.to_string());
    for (name, columns) in rules.map(|r| (r, 3)).chain(scenarios.map(|s| (s, 4))) {
        let mut named = rows.iter().filter(|row| row.first() == Some(&name.as_str()));
        match (named.next(), named.next()) {
            (None, _) => found.push(format!("{PAGE}: {name} is missing; add its line")),
            (Some(_), Some(_)) => found.push(format!("{PAGE}: {name} has more than one line")),
            (Some(row), None) if row.len() != columns => {
                found.push(format!("{PAGE}: the line of {name} needs {columns} cells"));
            }
            (Some(row), None) => {
                let cells = row.get(2..).unwrap_or_default();
                if cells.iter().all(|cell| *cell == "-") {
                    found.push(format!("{PAGE}: {name} names no test and no reason"));
                }
                // A rule is proven somewhere; a dash belongs to a scenario alone.
                let may_be_dash = columns == 4;
                for cell in cells.iter().filter(|cell| !(may_be_dash && **cell == "-")) {
                    found.extend(wrong(cell, tests).map(|why| format!("{PAGE}: {name}: {why}")));
                }
            }
        }
    }
    found
}

/// The cells of a table's line.
fn row(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

/// What is wrong with a cell: tests as `file::name`, then what is not yet shown, with its reason.
fn wrong<'a>(cell: &'a str, tests: &'a Tests) -> impl Iterator<Item = String> + 'a {
    cell.split("<br>").map(str::trim).filter_map(move |part| {
        if let Some(reason) = part.strip_prefix(NOT_YET) {
            let short = reason.trim().len() < 10;
            return short.then(|| "`not yet` needs a reason".to_owned());
        }
        let named = part.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
        let Some((file, name)) = named.and_then(|named| named.rsplit_once("::")) else {
            return Some(format!("expected `file::test` or `{NOT_YET}reason`, found {part:?}"));
        };
        let is_there = tests.get(file).is_some_and(|names| names.iter().any(|other| other == name));
        (!is_there).then(|| format!("there is no test {name} in {file}"))
    })
}

/// The names of the tests in a file: of the functions after a `#[test]`.
fn tests_of(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if is_test && !line.starts_with("#[") && !line.starts_with("//") {
            let name = line.split_once("fn ").and_then(|(_, rest)| rest.split('(').next());
            names.extend(name.map(str::to_owned));
            is_test = false;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
        #[test]\nfn one() {}\n\
        #[tokio::test(start_paused = true)]\nasync fn two() {}\n\
        #[test]\n#[ignore = \"run by one\"]\n// Why.\npub(crate) fn three() {}\n\
        fn helper() {}\n";

    fn whole() -> (String, Tests) {
        let rules = (1..=RULES).map(|n| format!("| N{n} | words | `a.rs::one` |\n"));
        let scenarios = (1..=SCENARIOS)
            .map(|n| format!("| {n} | name | `a.rs::two`<br>not yet: it is too far away | - |\n"));
        let tests = Tests::from([("a.rs".to_owned(), tests_of(FILE))]);
        (rules.chain(scenarios).collect(), tests)
    }

    #[test]
    fn tests_are_found_and_other_functions_are_not() {
        assert_eq!(tests_of(FILE), ["one", "two", "three"]);
    }

    #[test]
    fn a_whole_page_is_taken() {
        let (page, tests) = whole();
        assert_eq!(complaints(&page, &tests), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let (page, tests) = whole();
        let said = |from: &str, to: &str| {
            let changed = page.replacen(from, to, 1);
            assert_ne!(changed, page);
            complaints(&changed, &tests).join("\n")
        };
        assert!(said("| N28 |", "| N29 |").contains("N28 is missing"));
        assert!(said("| 67 |", "| 66 |").contains("66 has more than one line"));
        assert!(said("a.rs::one", "a.rs::helper").contains("no test helper in a.rs"));
        assert!(said("a.rs::two", "b.rs::two").contains("no test two in b.rs"));
        assert!(said("it is too far away", "later").contains("needs a reason"));
        assert!(said("`a.rs::one`", "-").contains("N1"));
        assert!(
            said("`a.rs::two`<br>not yet: it is too far away", "-").contains("1 names no test")
        );
        assert!(said("| words |", "|").contains("needs 3 cells"));
    }
}
