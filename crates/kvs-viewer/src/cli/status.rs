//! What a person sees on standard error: lines that stay, and one that is drawn anew.

use std::io::{self, IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The people's side of the output.
#[derive(Debug)]
pub(crate) struct Status {
    /// The line that is drawn anew; only where there is a terminal.
    bar: Option<ProgressBar>,
}

impl Status {
    pub(crate) fn start() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}");
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            style.map(|style| bar.clone().with_style(style)).unwrap_or(bar)
        });
        Self { bar }
    }

    /// A line that stays.
    pub(crate) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) if !bar.is_finished() => bar.println(text),
            // A log that nobody reads is no reason to stop.
            Some(_) | None => drop(writeln!(io::stderr(), "{text}")),
        }
    }

    /// The line that is drawn anew.
    pub(crate) fn line(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
            bar.tick();
        }
    }

    /// No more is drawn; what stays is written plainly.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
