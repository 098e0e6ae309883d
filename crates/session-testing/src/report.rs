//! What a suite found: one line for each promise.

use core::fmt;

/// What became of one promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It was kept.
    Kept,
    /// It was broken, and how.
    Broken(String),
    /// The stage cannot bring about what it takes to see it.
    NotShown(&'static str),
}

/// One promise of the ports' contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The promise, as a sentence with underscores.
    pub name: &'static str,
    /// What became of it.
    pub finding: Finding,
}

/// All promises of one port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order they were checked.
    pub checks: Vec<Check>,
}

impl Report {
    pub(crate) fn add(&mut self, name: &'static str, found: Result<(), Trouble>) {
        let finding = match found {
            Ok(()) => Finding::Kept,
            Err(Trouble::Broken(how)) => Finding::Broken(how),
            Err(Trouble::Cannot(what)) => Finding::NotShown(what),
        };
        self.checks.push(Check { name, finding });
    }

    /// How many promises were kept.
    pub fn kept(&self) -> usize {
        self.checks.iter().filter(|check| check.finding == Finding::Kept).count()
    }

    /// The broken ones.
    pub fn broken(&self) -> Vec<&Check> {
        self.checks.iter().filter(|check| matches!(check.finding, Finding::Broken(_))).collect()
    }

    /// The names of those that the stage could not show.
    pub fn not_shown(&self) -> Vec<&'static str> {
        let unseen = |check: &&Check| matches!(check.finding, Finding::NotShown(_));
        self.checks.iter().filter(unseen).map(|check| check.name).collect()
    }

    /// For tests.
    ///
    /// # Panics
    /// With the whole report, when a promise was broken.
    #[track_caller]
    pub fn assert_kept(&self) {
        assert!(self.broken().is_empty(), "the port breaks its contract:\n{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Check { name, finding } in &self.checks {
            let name = name.replace('_', " ");
            match finding {
                Finding::Kept => writeln!(f, "kept       {name}")?,
                Finding::Broken(how) => writeln!(f, "BROKEN     {name}: {how}")?,
                Finding::NotShown(what) => writeln!(f, "not shown  {name}: {what}")?,
            }
        }
        Ok(())
    }
}

/// Why a check did not come to a good end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The promise is broken.
    Broken(String),
    /// The stage cannot do this.
    Cannot(&'static str),
}

impl Trouble {
    pub(crate) fn broken(how: impl Into<String>) -> Self {
        Self::Broken(how.into())
    }
}

pub(crate) type Found<T = ()> = Result<T, Trouble>;

pub(crate) fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Found {
    if holds { Ok(()) } else { Err(Trouble::Broken(otherwise())) }
}
