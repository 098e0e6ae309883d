//! Checks that the phrases of `plain-words.txt` do not occur in sources and docs.

use crate::files::{files, read, shown};
use crate::step;

const LIST: &str = include_str!("plain-words.txt");

/// The files that are not searched: the history, and this file, which contains the phrases in its
/// tests.
const LEFT_OUT: [&str; 3] = ["CHANGELOG.md", "docs/decisions/", "xtask/src/tidy/words.rs"];

pub(super) fn check() -> Result<Vec<String>, String> {
    let phrases = phrases();
    let mut found = Vec::new();
    for suffix in [".rs", ".md"] {
        for file in files(&step::root(), suffix)? {
            let name = shown(&file);
            if !LEFT_OUT.iter().any(|start| name.starts_with(start)) {
                found.extend(hits(&read(&file)?, &phrases).map(|hit| format!("{name}:{hit}")));
            }
        }
    }
    Ok(found)
}

/// Returns the phrases, each with its replacement.
fn phrases() -> Vec<(&'static str, &'static str)> {
    LIST.lines().filter(|line| !line.starts_with('#')).filter_map(|l| l.split_once(" = ")).collect()
}

/// Returns the lines with a phrase, by number.
fn hits<'a>(
    text: &'a str,
    phrases: &'a [(&'static str, &'static str)],
) -> impl Iterator<Item = String> + 'a {
    text.lines().enumerate().flat_map(move |(number, line)| {
        let line = line.to_ascii_lowercase();
        phrases
            .iter()
            .filter(move |(phrase, _)| contains(&line, phrase))
            .map(move |(phrase, plain)| format!("{}: {phrase:?}; write: {plain}", number + 1))
    })
}

/// Whether a line contains a phrase as whole words, not as a part of an identifier.
fn contains(line: &str, phrase: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(phrase).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + phrase.len()..]);
        !before.ends_with(is_word) && !after.starts_with(is_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_are_found_as_whole_words() {
        let phrases = [("nobody", "no one"), ("is told", "is reported")];
        let found = |text| hits(text, &phrases).count();
        assert_eq!(found("// Nobody waits.\nlet nobody_waits = 1;"), 1);
        assert_eq!(found("/// It is told once.\n/// This tolder is."), 1);
        assert_eq!(found("// A reader waits."), 0);
    }

    #[test]
    fn list_has_a_plain_word_for_each_phrase() {
        let phrases = phrases();
        assert!(phrases.len() > 10);
        assert!(phrases.iter().all(|(phrase, plain)| !phrase.is_empty() && plain.len() > 3));
    }
}
