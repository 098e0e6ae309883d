//! Prints for people on standard error: permanent lines, and on a terminal a status line that is
//! redrawn.

use super::output::{self, Lines};

/// How much is printed for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Errors.
    Quiet,
    /// The messages that a user can act on.
    #[default]
    Normal,
    /// All events.
    Verbose,
}

/// The output for people. No call waits.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    to: Lines,
    verbosity: Verbosity,
    is_terminal: bool,
}

impl Status {
    pub(crate) fn start(verbosity: Verbosity) -> Self {
        Self { to: output::stderr().clone(), verbosity, is_terminal: output::is_terminal() }
    }

    /// Whether verbose output is enabled.
    pub(crate) fn is_verbose(&self) -> bool {
        self.verbosity == Verbosity::Verbose
    }

    /// Prints an error, at every verbosity.
    pub(crate) fn error(&self, text: &str) {
        self.to.line(text.to_owned());
    }

    /// Prints a line, except with `--quiet`.
    pub(crate) fn say(&self, text: &str) {
        if self.verbosity >= Verbosity::Normal {
            self.to.line(text.to_owned());
        }
    }

    /// Prints a line with `--verbose`.
    pub(crate) fn detail(&self, text: &str) {
        if self.is_verbose() {
            self.to.line(text.to_owned());
        }
    }

    /// Prints a line that is unnecessary on a terminal, where the status line shows it.
    pub(crate) fn progress(&self, text: &str) {
        if !self.is_terminal {
            self.say(text);
        }
    }

    /// Redraws the status line, if there is one.
    pub(crate) fn line(&self, text: impl FnOnce() -> String) {
        if self.is_terminal && self.verbosity >= Verbosity::Normal {
            self.to.status(Some(text()));
        }
    }

    /// Removes the status line.
    pub(crate) fn finish(&self) {
        if self.is_terminal {
            self.to.status(None);
        }
    }
}
