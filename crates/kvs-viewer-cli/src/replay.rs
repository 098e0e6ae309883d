//! `kvs-viewer replay`: prints a journal's timeline, and checks that the core's outputs are
//! unchanged.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::PathBuf;

use negotiation_core::{EndReason, Event, Input, Mode, Output, SignalingEvent, Timestamp};
use viewer_session::journal::{Comparison, Entry, Header, JournalError, Reader, What, replay};
use viewer_session::redact;

use super::complain;
use super::exit::Exit;
use super::spans::span;
use super::trace;

/// The table for `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0   every output is the same
  1   an output differs: the core behaves in another way than the one that wrote the journal
  2   the file cannot be read, or is no journal of this version";

/// Run a journal again.
#[derive(Clone, Debug, clap::Args)]
pub struct ReplayArgs {
    /// Journal to read, as written by `watch --journal`
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print the result only
    #[arg(long)]
    quiet: bool,
    /// Print every command and completion too
    #[arg(long, conflicts_with = "quiet")]
    all: bool,
}

pub(crate) fn run(args: &ReplayArgs) -> Exit {
    let reported = File::open(&args.file).map_err(JournalError::Io).and_then(|file| {
        tell(BufReader::new(file), args.quiet, args.all, &mut io::stdout().lock())
    });
    match reported {
        Ok(exit) => exit,
        Err(error) => complain(Exit::Usage, &format!("{}: {error}", args.file.display())),
    }
}

/// Prints the timeline and the result.
fn tell(
    journal: impl io::BufRead,
    quiet: bool,
    all: bool,
    to: &mut impl Write,
) -> Result<Exit, JournalError> {
    // A closed standard output does not change the result.
    let mut say = |text: &str| drop(writeln!(to, "{text}"));
    let reader = Reader::new(journal)?;
    let header = reader.header();
    let began = header.began;
    say(&format!(
        "A journal of version {} of the viewer. {}",
        printable(&header.written_by),
        patience(header)
    ));
    let mut phase = "idle";
    let comparison = replay(reader, |entry| {
        if quiet {
            return;
        }
        if let Some(text) = line(entry, began, all) {
            say(&format!("{:>12}  {phase:<15}  {text}", since(began, entry.at)));
        }
        for address in &entry.addresses {
            say(&format!("{:>12}  {phase:<15}    {}", "", printable(address)));
        }
        if let What::Output(Output::Event(Event::PhaseChanged { to, .. })) = &entry.what {
            phase = to.as_str();
        }
    })?;
    Ok(match comparison {
        Comparison::Identical(replayed) => {
            if !replayed.ended {
                let how = if replayed.is_cut { ", in the middle of a line" } else { "" };
                say(&format!("The journal stops before the session's end{how}."));
            }
            if let Some(left_out) = replayed.left_out {
                say(&format!(
                    "The journal was full: it leaves out {} inputs and {} outputs. What follows \
                     them is not compared.",
                    left_out.inputs, left_out.outputs
                ));
            }
            say(&format!(
                "Replayed {} inputs: all {} outputs are the same.",
                replayed.inputs, replayed.outputs
            ));
            Exit::Ok
        }
        Comparison::Differs(difference) => {
            say("Replay diverged at:");
            difference.to_string().lines().for_each(|line| say(&printable(line)));
            Exit::Internal
        }
    })
}

/// Describes the recorded session's configuration.
fn patience(header: &Header) -> String {
    let config = &header.config;
    let mode = match config.settings().mode {
        Mode::Offerer => "the viewer offers",
        Mode::Answerer => "the service offers (storage session)",
    };
    format!(
        "Seed {}, {mode}, {} retries; a silent camera is given up after {}; connects or fails \
         within {}.",
        header.seed,
        config.settings().retries,
        span(config.max_time_without_answer()),
        span(config.worst_case_duration())
    )
}

/// Formats an entry of the journal; `None` for entries that only `--all` shows.
fn line(entry: &Entry, began: Timestamp, all: bool) -> Option<String> {
    let mut text = match &entry.what {
        What::LeftOut(left_out) => Some(format!(
            "({} inputs and {} outputs are left out: the journal was full.)",
            left_out.inputs, left_out.outputs
        )),
        What::Output(Output::Event(event)) => Some(reported(event, began)),
        What::Output(output @ (Output::Signaling(..) | Output::Peer(..))) => {
            all.then(|| format!("< {}", trace::command(output)))
        }
        What::Input(input) => requested(input)
            .map(str::to_owned)
            .or_else(|| all.then(|| format!("> {}", trace::input(input)))),
    };
    if let (Some(text), Some(repeated)) = (&mut text, entry.repeated) {
        text.push_str(&format!(" ({} times)", repeated.times));
    }
    text.map(|text| printable(&text))
}

/// Formats an event, with the sentence that `watch` prints if there is one.
fn reported(event: &Event, began: Timestamp) -> String {
    match event {
        Event::PhaseChanged { from, to } => format!("Phase: {from} -> {to}."),
        Event::DeadlineArmed { timer, at } => {
            format!("Deadline {timer} is at {}.", since(began, *at))
        }
        Event::Ended(outcome) if outcome.reason == EndReason::Closed => {
            format!("Ended: {}", outcome.sentence())
        }
        Event::Ended(outcome) => {
            format!("Ended: {} Likely cause: {}.", outcome.sentence(), outcome.likely_cause())
        }
        Event::RetryScheduled { attempt, at } => {
            format!("Attempt {attempt} begins at {}.", since(began, *at))
        }
        Event::AttemptStarted { .. }
        | Event::LinkOpened { .. }
        | Event::OfferSent { .. }
        | Event::AnswerReceived { .. }
        | Event::MasterSeen
        | Event::Connected
        | Event::TrackAdded(_)
        | Event::KeyframeReceived
        | Event::Live
        | Event::Disconnected
        | Event::Reconnected
        | Event::Recovering(_)
        | Event::Recovered
        | Event::RestartRefused
        | Event::MasterLearned(_)
        | Event::LinkNotReopened(_)
        | Event::MasterGone(_)
        | Event::Offline
        | Event::Online
        | Event::MediaPaused
        | Event::MediaStalled
        | Event::MediaResumed
        | Event::LinkLost(_)
        | Event::LinkReopened
        | Event::LinkGivenUp(_)
        | Event::IceServersRefreshed
        | Event::GoAway
        | Event::RenegotiationFailed
        | Event::DeadlineFired(_)
        | Event::AttemptEnded(_)
        | Event::Ignored(_)
        | Event::CloseStepFailed(_) => event.to_string(),
    }
}

/// Formats the inputs that are printed without `--all`.
fn requested(input: &Input) -> Option<&'static str> {
    Some(match input {
        Input::Open => "> The application opens the session.",
        Input::Close => "> The application closes the session.",
        Input::Resumed => "> The device slept.",
        Input::NetworkChanged => "> The network changed.",
        Input::LocalAddressGone => "> The network changed; the address in use is gone.",
        Input::MasterKnown(_) => "> What earlier sessions learned about the camera.",
        Input::Online(true) => "> There is a network.",
        Input::Online(false) => "> There is no network.",
        Input::Restart => "> The application requests an ICE restart.",
        Input::Renegotiate => "> The application requests a new exchange.",
        Input::Signaling(_, SignalingEvent::Offer { .. }) => "> An offer comes.",
        Input::Signaling(_, SignalingEvent::Answer { .. }) => "> An answer comes.",
        Input::Signaling(_, SignalingEvent::Disconnected(_)) => "> The link is gone.",
        Input::Peer(..) | Input::Signaling(..) | Input::Completed(_) | Input::Timeout => {
            return None;
        }
    })
}

fn since(began: Timestamp, at: Timestamp) -> String {
    Timestamp::new(at.saturating_since(began)).to_string()
}

/// Escapes text from a journal, which may come from an untrusted source: it must not control the
/// terminal or deceive the reader.
fn printable(text: &str) -> String {
    redact::printable(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use negotiation_core::{Session, Settings};
    use std::sync::{Arc, Mutex};
    use viewer_session::Observer as _;
    use viewer_session::journal::Recorder;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns the journal of a session with ports that never respond.
    fn journal() -> String {
        let config = Settings::never().check().expect("valid");
        let mut now = Timestamp::from_millis(7_200_000);
        let mut session = Session::new(config.clone(), 1, now);
        let kept = Kept::default();
        let mut recorder = Recorder::new(kept.clone());
        recorder.began(&config, 1, now);
        let mut next = Some(Input::Open);
        while let Some(input) = next.take() {
            recorder.input(now, &input);
            session.handle_input(now, input);
            while let Some(output) = session.poll_output() {
                recorder.output(now, &output);
            }
            if let Some((at, _)) = session.poll_timeout() {
                (now, next) = (at, Some(Input::Timeout));
            }
        }
        let bytes = kept.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("JSON is text")
    }

    fn tell_of(journal: &str, quiet: bool) -> (Exit, String) {
        let mut printed = Vec::new();
        let exit = tell(journal.as_bytes(), quiet, false, &mut printed).expect("readable");
        (exit, String::from_utf8(printed).expect("text"))
    }

    #[test]
    fn timeline_shows_phases_deadlines_and_the_end() {
        let (exit, printed) = tell_of(&journal(), false);
        assert_eq!(exit, Exit::Ok, "{printed}");
        for line in [
            "0.000s  idle             > The application opens the session.",
            "connecting -> closing.",
            "The operation deadline passed.",
            "Ended: Not live after 1 attempt",
            "outputs are the same.",
        ] {
            assert!(printed.contains(line), "{line:?} is missing in\n{printed}");
        }
        assert_eq!(tell_of(&journal(), true).1.lines().count(), 2);
    }

    #[test]
    fn replay_difference_is_printed_and_changes_the_exit_code() {
        let forged = journal().replacen("\"to\":\"Closing\"", "\"to\":\"Live\"", 1);
        let (exit, printed) = tell_of(&forged, true);
        assert_eq!(exit.code(), 1);
        assert!(printed.contains("\"Live\"") && printed.contains("\"Closing\""), "{printed}");
    }

    #[test]
    fn invalid_journal_is_usage_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("text");
        std::fs::write(&file, [0xff; 300]).expect("written");
        let exit = |file: PathBuf| run(&ReplayArgs { file, quiet: true, all: false }).code();
        assert_eq!(exit(file), 2);
        assert_eq!(exit(folder.path().join("absent")), 2);
        assert_eq!(exit(folder.path().to_owned()), 2);
    }

    #[test]
    fn control_characters_in_journal_are_escaped() {
        let hostile = journal().replacen("\"written_by\":\"", "\"written_by\":\"\\u001b[2J", 1);
        let (_, printed) = tell_of(&hostile, false);
        assert!(!printed.contains('\u{1b}'), "{printed:?}");
    }
}
