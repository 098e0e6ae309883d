//! `cargo xtask contract`: lists the tests for each rule and each scenario of `docs/contract.md` in
//! `docs/contract-tests.md`, from the tests' names and comments.
//!
//! A test covers the number at the beginning of its name (`n18_`: rule N18; `s25_` and `w25_`:
//! scenario 25) and those listed in a comment above it: `// Shows: N16, 37.`

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::files::{files, read, shown};
use crate::step;

const CONTRACT: &str = "docs/contract.md";
const PAGE: &str = "docs/contract-tests.md";

/// The beginning of a comment above a test that lists what the test covers.
const SHOWS: &str = "// Shows: ";

/// Files with tests that run on virtual time, without a socket.
const SIMULATED: [&str; 6] = [
    "tests/tests/scenarios",
    "tests/tests/properties",
    "tests/tests/exhaustive",
    "tests/tests/journals",
    "crates/negotiation-core/",
    "crates/negotiation-sim/",
];

/// The number of a rule or a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    Rule(u32),
    Scenario(u32),
}

/// A scenario of the contract.
#[derive(Debug, PartialEq, Eq)]
struct Scenario {
    name: String,
    simulated: bool,
    wire: bool,
}

/// The rules and scenarios of the contract.
#[derive(Debug, Default)]
struct Contract {
    rules: BTreeSet<u32>,
    scenarios: BTreeMap<u32, Scenario>,
}

/// The tests of each claim, as `file::name`.
type Tests = BTreeMap<Claim, BTreeSet<String>>;

/// Writes the page.
pub(crate) fn write() -> Result<(), String> {
    let (page, complaints) = generate()?;
    complain(&complaints)?;
    fs::write(step::root().join(PAGE), page).map_err(|error| format!("{PAGE}: {error}"))
}

/// Checks that the page is up to date, and that every number has its tests.
pub(crate) fn check() -> Result<Vec<String>, String> {
    let (page, mut complaints) = generate()?;
    if read(&step::root().join(PAGE))? != page {
        complaints.push(format!("{PAGE}: is not up to date: run `cargo xtask contract`"));
    }
    Ok(complaints)
}

fn complain(complaints: &[String]) -> Result<(), String> {
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("\n")) }
}

fn generate() -> Result<(String, Vec<String>), String> {
    let contract = Contract::read(&read(&step::root().join(CONTRACT))?);
    let (mut tests, mut complaints) = (Tests::new(), Vec::new());
    for file in files(&step::root(), ".rs")? {
        let name = shown(&file);
        // The tests of xtask contain such comments as data.
        if name.starts_with("xtask/") {
            continue;
        }
        for (test, claims) in claims_of(&read(&file)?) {
            match claims {
                Ok(claims) => {
                    for claim in claims {
                        tests.entry(claim).or_default().insert(format!("{name}::{test}"));
                    }
                }
                Err(why) => complaints.push(format!("{name}: {test}: {why}")),
            }
        }
    }
    complaints.extend(contract.complaints(&tests));
    Ok((contract.page(&tests), complaints))
}

impl Contract {
    fn read(text: &str) -> Self {
        let mut contract = Self::default();
        for line in text.lines() {
            let rule = line.strip_prefix("- **N").and_then(|rest| rest.split_once(".**"));
            if let Some(number) = rule.and_then(|(number, _)| number.parse().ok()) {
                contract.rules.insert(number);
            }
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            if let [_, number, name, _, .., shown, _] = cells[..]
                && let Ok(number) = number.parse()
            {
                let places: Vec<&str> = shown.split(", ").collect();
                let name = name.to_owned();
                let (simulated, wire) = (places.contains(&"S"), places.contains(&"L"));
                contract.scenarios.insert(number, Scenario { name, simulated, wire });
            }
        }
        contract
    }

    fn complaints(&self, tests: &Tests) -> Vec<String> {
        let mut found = Vec::new();
        if self.rules.is_empty() || self.scenarios.is_empty() {
            found.push(format!("{CONTRACT}: has no rules or no scenarios that can be read"));
        }
        for (claim, tests) in tests {
            let is_known = match claim {
                Claim::Rule(number) => self.rules.contains(number),
                Claim::Scenario(number) => self.scenarios.contains_key(number),
            };
            if !is_known {
                found.push(format!("{CONTRACT} has no {claim}, which {tests:?} claim to show"));
            }
        }
        let none = BTreeSet::new();
        let of = |claim| tests.get(&claim).unwrap_or(&none);
        for rule in &self.rules {
            if of(Claim::Rule(*rule)).is_empty() {
                found.push(format!("{CONTRACT}: no test shows N{rule}"));
            }
        }
        for (number, scenario) in &self.scenarios {
            let (simulated, wire) = apart(of(Claim::Scenario(*number)));
            let is_missing = |wanted: bool, tests: &[&String]| wanted && tests.is_empty();
            if is_missing(scenario.simulated, &simulated) || is_missing(scenario.wire, &wire) {
                let name = &scenario.name;
                found.push(format!("{CONTRACT}: scenario {number}, {name}, lacks a test"));
            }
        }
        found
    }

    fn page(&self, tests: &Tests) -> String {
        let none = BTreeSet::new();
        let of = |claim| tests.get(&claim).unwrap_or(&none);
        let mut page = String::from(HEAD);
        for rule in &self.rules {
            let tests: Vec<&String> = of(Claim::Rule(*rule)).iter().collect();
            page += &format!("| N{rule} | {} |\n", cell(&tests));
        }
        page += SCENARIOS_HEAD;
        for (number, scenario) in &self.scenarios {
            let (simulated, wire) = apart(of(Claim::Scenario(*number)));
            let (simulated, wire) = (cell(&simulated), cell(&wire));
            page += &format!("| {number} | {} | {simulated} | {wire} |\n", scenario.name);
        }
        page
    }
}

const HEAD: &str = "\
# Which test shows what

`cargo xtask contract` writes this page from [contract.md](contract.md) and the tests, and `cargo xtask tidy` checks it.
A test shows what its name begins with (`n18_`: N18; `s25_` and `w25_`: scenario 25) and what a comment `// Shows: N16, 37.` above it lists.

## Rules

| rule | tests |
|---|---|
";

const SCENARIOS_HEAD: &str = "
## Scenarios

*Simulated* is virtual time without a socket; *wire* is everything else, from one adapter to whole programs in network namespaces.

| # | name | simulated | wire |
|---|---|---|---|
";

impl std::fmt::Display for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rule(number) => write!(f, "N{number}"),
            Self::Scenario(number) => write!(f, "scenario {number}"),
        }
    }
}

/// Returns the tests on virtual time, and the others.
fn apart(tests: &BTreeSet<String>) -> (Vec<&String>, Vec<&String>) {
    let is_simulated = |test: &&String| SIMULATED.iter().any(|start| test.starts_with(start));
    tests.iter().partition(is_simulated)
}

fn cell(tests: &[&String]) -> String {
    if tests.is_empty() {
        return "-".to_owned();
    }
    let quoted: Vec<String> = tests.iter().map(|test| format!("`{test}`")).collect();
    quoted.join("<br>")
}

/// Returns the tests of a file, each with its claims, or the error in its comment.
fn claims_of(text: &str) -> Vec<(String, Result<BTreeSet<Claim>, String>)> {
    let mut found = Vec::new();
    let mut listed: Option<&str> = None;
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if let Some(list) = line.strip_prefix(SHOWS) {
            listed = Some(list);
        } else if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            let name = line.split_once("fn ").and_then(|(_, rest)| rest.split('(').next());
            if let (true, Some(name)) = (is_test, name) {
                let mut claims: BTreeSet<Claim> = by_name(name).into_iter().collect();
                let listed = listed.map_or(Ok(BTreeSet::new()), by_list);
                found.push((
                    name.to_owned(),
                    listed.map(|listed| {
                        claims.extend(listed);
                        claims
                    }),
                ));
            }
            (listed, is_test) = (None, false);
        }
    }
    found
}

/// Returns the claim at the beginning of a test's name.
fn by_name(name: &str) -> Option<Claim> {
    let (head, _) = name.split_once('_')?;
    let number = head.get(1..)?.parse().ok()?;
    match head.get(..1)? {
        "n" => Some(Claim::Rule(number)),
        "s" | "w" => Some(Claim::Scenario(number)),
        _ => None,
    }
}

/// Returns the claims that a comment lists: `N16, 37.`
fn by_list(list: &str) -> Result<BTreeSet<Claim>, String> {
    let wrong = || format!("expected `{SHOWS}N16, 37.`, found {list:?}");
    let list = list.trim().strip_suffix('.').ok_or_else(wrong)?;
    list.split(", ")
        .map(|claim| match claim.strip_prefix('N') {
            Some(rule) => rule.parse().map(Claim::Rule).map_err(|_| wrong()),
            None => claim.parse().map(Claim::Scenario).map_err(|_| wrong()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
        // Shows: N16, 37.\n#[test]\nfn one() {}\n\
        /// Why.\n// Shows: 2.\n#[tokio::test(start_paused = true)]\nasync fn n5_two() {}\n\
        #[test]\n#[ignore = \"run by one\"]\n// Why.\npub(crate) fn w04_three() {}\n\
        // Shows: N1 and N2\n#[test]\nfn four() {}\n\
        fn s05_helper() {}\n";

    const PAGE: &str = "- **N1.** One.\n- **N2.** Two.\n\
        | 1 | answer-never | the master is silent | RETRY | S, L |\n\
        | 2 | other | stimulus | outcome | S |\n";

    #[test]
    fn tests_are_mapped_by_name_and_comment() {
        let claims = claims_of(FILE);
        let names: Vec<&str> = claims.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["one", "n5_two", "w04_three", "four"]);
        let of = |at: usize| claims[at].1.clone().expect("valid").into_iter().collect::<Vec<_>>();
        assert_eq!(of(0), [Claim::Rule(16), Claim::Scenario(37)]);
        assert_eq!(of(1), [Claim::Rule(5), Claim::Scenario(2)]);
        assert_eq!(of(2), [Claim::Scenario(4)]);
        assert!(claims[3].1.is_err());
    }

    #[test]
    fn missing_and_unknown_numbers_are_reported() {
        let contract = Contract::read(PAGE);
        assert_eq!((contract.rules.len(), contract.scenarios.len()), (2, 2));
        let test = |file: &str| BTreeSet::from([format!("{file}::a")]);
        let mut tests = Tests::from([
            (Claim::Rule(1), test("a.rs")),
            (Claim::Rule(2), test("a.rs")),
            (Claim::Scenario(1), test("tests/tests/scenarios/a.rs")),
            (Claim::Scenario(2), test("tests/tests/scenarios/a.rs")),
        ]);
        let complaints = contract.complaints(&tests);
        assert!(complaints.len() == 1 && complaints[0].contains("scenario 1"), "{complaints:?}");
        tests.entry(Claim::Scenario(1)).or_default().extend(test("tests/tests/wire/a.rs"));
        assert_eq!(contract.complaints(&tests), Vec::<String>::new());
        tests.insert(Claim::Rule(9), test("a.rs"));
        assert!(contract.complaints(&tests)[0].contains("has no N9"));
        tests.remove(&Claim::Rule(9));
        tests.remove(&Claim::Rule(2));
        assert!(contract.complaints(&tests)[0].contains("no test shows N2"));
    }
}
