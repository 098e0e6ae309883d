//! Checks that the files of a crate do not import each other in a circle.
//!
//! An import of a file is a `use crate::..` or `use super::..` path into it, or a path that begins
//! with `crate::` anywhere else. A module and its submodules count as one place, so imports between
//! them are ignored, as are those of tests.

use std::collections::{BTreeMap, BTreeSet};

use crate::files::{files, read, shown};
use crate::step;

pub(super) fn check() -> Result<Vec<String>, String> {
    let mut crates: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for file in files(&step::root(), ".rs")? {
        let name = shown(&file);
        if let Some((of, module)) = module(&name) {
            let of = of.to_owned();
            crates.entry(of).or_default().insert(module, read(&file)?);
        }
    }
    let mut found = Vec::new();
    for (of, modules) in &crates {
        for circle in circles(&imports(modules)) {
            let paths: Vec<String> = circle
                .iter()
                .map(|module| format!("{of}/src/{}.rs", module.replace("::", "/")))
                .collect();
            found.push(format!(
                "these import each other in a circle: {}; move what they share to a file below",
                paths.join(", ")
            ));
        }
    }
    Ok(found)
}

/// Returns the crate of a source file, and its module path; the root's is empty.
fn module(name: &str) -> Option<(&str, String)> {
    let (of, path) = name.split_once("/src/")?;
    let is_crate = of.starts_with("crates/") || of == "xtask";
    let path = path.strip_suffix(".rs")?;
    let is_test = path.ends_with("tests") || path.ends_with("stage");
    let module =
        if matches!(path, "lib" | "main") { String::new() } else { path.replace('/', "::") };
    (is_crate && !is_test).then_some((of, module))
}

type Graph = BTreeMap<String, BTreeSet<String>>;

/// Returns which module imports which, without imports of a parent or a submodule.
fn imports(modules: &BTreeMap<String, String>) -> Graph {
    let mut graph = Graph::new();
    for (module, text) in modules {
        let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let targets = uses(text).into_iter().filter_map(|path| target(module, &path, modules));
        let apart = |other: &String| {
            let is_below = |one: &str, other: &str| {
                one.strip_prefix(other)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
            };
            !module.is_empty() && !is_below(module, other) && !is_below(other, module)
        };
        graph.insert(module.clone(), targets.filter(apart).collect());
    }
    graph
}

/// Returns the paths of a file that stay in the crate, those of `use` items with expanded braces.
fn uses(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut found: Vec<String> = code.flat_map(paths_of_crate).collect();
    for item in text.split(';') {
        let Some((_, path)) = item.rsplit_once("use ") else { continue };
        let path: String = path.split_whitespace().collect();
        if ["crate::", "super::", "self::"].iter().any(|start| path.starts_with(start)) {
            expand(&path, &mut found);
        }
    }
    found
}

/// Returns the paths of a line that begin with `crate::`.
fn paths_of_crate(line: &str) -> Vec<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let starts = line.match_indices("crate::").filter(|(at, _)| {
        !line[..*at].ends_with(|c: char| is_word(c) || matches!(c, '$' | ':' | '"'))
    });
    let path = |at: usize| line[at..].split(|c: char| !is_word(c) && c != ':').next();
    starts
        .filter_map(|(at, _)| path(at))
        .map(|path| path.trim_end_matches(':').to_owned())
        .collect()
}

/// Expands `a::{b, c::{d}}` to `a::b` and `a::c::d`.
fn expand(path: &str, found: &mut Vec<String>) {
    let inner = path.rfind('{').and_then(|open| Some((open, open + path[open..].find('}')?)));
    let Some((open, close)) = inner else {
        found.push(path.to_owned());
        return;
    };
    for part in path[open + 1..close].split(',').filter(|part| !part.is_empty()) {
        expand(&format!("{}{part}{}", &path[..open], &path[close + 1..]), found);
    }
}

/// Returns the module of a path: the longest prefix of it that is a file's module.
fn target(module: &str, path: &str, modules: &BTreeMap<String, String>) -> Option<String> {
    let mut base: Vec<&str> = module.split("::").filter(|part| !part.is_empty()).collect();
    let mut parts = path.split("::").peekable();
    match parts.next()? {
        "crate" => base.clear(),
        "super" => {
            base.pop();
            while parts.next_if_eq(&"super").is_some() {
                base.pop();
            }
        }
        _ => {}
    }
    base.extend(parts);
    (1..=base.len()).rev().map(|length| base[..length].join("::")).find(|m| modules.contains_key(m))
}

/// Returns the sets of modules that import each other, each set once.
fn circles(graph: &Graph) -> BTreeSet<BTreeSet<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        graph.keys().map(|module| (module, reach(graph, module))).collect();
    let circle = |module: &String| -> BTreeSet<String> {
        let mutual = reached[module].iter().filter(|other| reached[**other].contains(module));
        mutual.map(|other| (*other).clone()).collect()
    };
    graph.keys().map(circle).filter(|circle| circle.len() > 1).collect()
}

/// Returns everything that a module imports, directly or indirectly.
fn reach<'a>(graph: &'a Graph, from: &String) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&String> = graph[from].iter().collect();
    while let Some(module) = open.pop() {
        if graph.contains_key(module) && reached.insert(module) {
            open.extend(&graph[module]);
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(modules: &[(&str, &str)]) -> Vec<Vec<String>> {
        let modules = modules.iter().map(|(m, text)| ((*m).to_owned(), (*text).to_owned()));
        let circles = circles(&imports(&modules.collect()));
        circles.into_iter().map(|circle| circle.into_iter().collect()).collect()
    }

    #[test]
    fn files_that_import_each_other_are_found() {
        let circle = [("a", "use crate::b::B;"), ("b", "use std::fmt;\nuse super::a::{A, c::D};")];
        assert_eq!(found(&circle), [["a", "b"]]);
        let three =
            [("a", "use crate::{b::B};"), ("b", "use crate::c::C;"), ("c", "use crate::a::A;")];
        assert_eq!(found(&three), [["a", "b", "c"]]);
    }

    #[test]
    fn path_without_a_use_counts_and_comment_does_not() {
        let inline = [("a", "use crate::b::B;"), ("b", "fn f() -> Arc<crate::a::A> {}")];
        assert_eq!(found(&inline), [["a", "b"]]);
        let comment = [("a", "use crate::b::B;"), ("b", "//! See [`crate::a`].")];
        assert_eq!(found(&comment), Vec::<Vec<String>>::new());
    }

    #[test]
    fn modules_below_and_tests_do_not_count() {
        let below = [("a", "use crate::a::b::B;"), ("a::b", "use super::A;")];
        assert_eq!(found(&below), Vec::<Vec<String>>::new());
        let test =
            [("a", "use crate::b::B;"), ("b", "#[cfg(test)]\nmod tests {\nuse crate::a::A;\n}")];
        assert_eq!(found(&test), Vec::<Vec<String>>::new());
        assert_eq!(found(&[("a", "use crate::b::B;"), ("b", "")]), Vec::<Vec<String>>::new());
    }
}
