//! Running a journal's inputs through the core again, and comparing what comes out.

use std::collections::VecDeque;
use std::fmt;
use std::io::BufRead;
use std::time::Duration;

use negotiation_core::{Event, Output, Session, Timestamp};

use super::reader::{JournalError, Reader};
use super::{Entry, LeftOut, What};

/// The result of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Every output is the same.
    Identical(Replayed),
    /// The first output that is not.
    Differs(Difference),
}

/// How much was replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Inputs that went in.
    pub inputs: u64,
    /// Outputs that came out the same.
    pub outputs: u64,
    /// The journal goes on to the session's end. One that stops before, as with the process, may
    /// lack the last outputs.
    pub ended: bool,
    /// The journal's last line was cut off, and left out.
    pub is_cut: bool,
    /// What a full journal does not have. From there on nothing is compared.
    pub left_out: Option<LeftOut>,
}

/// Where a replay goes another way. The texts are in their journal form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The journal's line, from 1; one more than it has when an output is missing at its end.
    pub line: u64,
    /// When.
    pub at: Timestamp,
    /// The output that the journal has here.
    pub recorded: Option<String>,
    /// The output that came here.
    pub replayed: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "nothing".to_owned());
        write!(
            f,
            "line {}, at {}:\n  the journal has {}\n  the replay has {}",
            self.line,
            self.at,
            or_none(&self.recorded),
            or_none(&self.replayed)
        )
    }
}

/// Feeds the journal's inputs to a fresh session and compares the outputs, one by one, in their
/// journal form. `show` sees each line of the journal before it is judged.
///
/// # Errors
/// The journal cannot be read to its end.
pub fn replay<R: BufRead>(
    mut reader: Reader<R>,
    mut show: impl FnMut(&Entry),
) -> Result<Comparison, JournalError> {
    let header = reader.header();
    let mut session = Session::new(header.config.clone(), header.seed, header.began);
    let mut now = header.began;
    let mut came: VecDeque<Output> = VecDeque::new();
    let mut done = Replayed::default();
    while let Some(entry) = reader.next_entry()? {
        show(&entry);
        if let What::LeftOut(more) = entry.what {
            let all = done.left_out.get_or_insert_default();
            all.inputs = all.inputs.saturating_add(more.inputs);
            all.outputs = all.outputs.saturating_add(more.outputs);
        }
        if done.left_out.is_some() {
            // Without all inputs the session is another; the rest is there to be read.
            done.ended |= matches!(entry.what, What::Output(Output::Event(Event::Ended(_))));
            continue;
        }
        let differs = |at, recorded: Option<&Output>, replayed: Option<&Output>| {
            let (recorded, replayed) = (recorded.map(form), replayed.map(form));
            Ok(Comparison::Differs(Difference { line: reader.line(), at, recorded, replayed }))
        };
        match entry.what {
            What::LeftOut(_) => {}
            What::Input(input) => {
                let times = entry.repeated.map_or(1, |repeated| repeated.times);
                let until = entry.repeated.map_or(entry.at, |repeated| repeated.until);
                let span = until.saturating_since(entry.at);
                for i in 0..times {
                    if let Some(more) = came.front() {
                        return differs(now, None, Some(more));
                    }
                    now = entry.at + share(span, i, times);
                    session.handle_input(now, input.clone());
                    came.extend(std::iter::from_fn(|| session.poll_output()));
                    done.inputs += 1;
                }
            }
            What::Output(recorded) => {
                let replayed = came.pop_front();
                let same = replayed.as_ref().is_some_and(|replayed| {
                    // Only what was recorded of it is compared: the replay has no other text.
                    *replayed == recorded || form(replayed) == form(&recorded)
                });
                if !same || entry.at != now {
                    return differs(entry.at, Some(&recorded), replayed.as_ref());
                }
                done.outputs += 1;
                done.ended |= matches!(recorded, Output::Event(Event::Ended(_)));
            }
        }
    }
    let is_whole = done.ended && done.left_out.is_none();
    if let (true, Some(more)) = (is_whole, came.front()) {
        let (line, replayed) = (reader.line() + 1, Some(form(more)));
        return Ok(Comparison::Differs(Difference { line, at: now, recorded: None, replayed }));
    }
    done.is_cut = reader.is_cut();
    Ok(Comparison::Identical(done))
}

/// When the repetition `i` of so many comes, evenly spread from the first to the last.
fn share(span: Duration, i: u64, times: u64) -> Duration {
    let nanos = span.as_nanos() * u128::from(i) / u128::from(times.saturating_sub(1).max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// An output as a journal has it.
fn form(output: &Output) -> String {
    // Every part of an output has a journal form, so this does not fail; if it did, it would
    // differ from whatever the journal has.
    serde_json::to_string(output).unwrap_or_else(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Observer as _;
    use crate::journal::{JOURNAL_BYTES_MAX, LINE_BYTES_MAX, Recorder};
    use crate::redact::{Origin, remember};
    use negotiation_core::{
        Candidate, Completion, ConnectionId, Description, Done, EndReason, Failure, FailureCode,
        IceServer, Input, PeerEvent, PeerId, Sdp, SdpSummary, Secret, Sender, Settings,
        SignalingEvent,
    };
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    /// What a recorder writes to, kept.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    const CANARY: &str = "canary";

    /// Registered, and repeated by a service.
    const ECHOED: &str = "echoed\"canary-0123456789";

    /// A session that gets its servers, candidates and an answer, each with a secret or an address
    /// in it, and that fails in the end.
    fn failing(addresses: bool) -> String {
        remember(Origin::Account, ECHOED);
        let config = Settings::never().check().expect("valid");
        let mut now = Timestamp::from_millis(3_600_000);
        let mut session = Session::new(config.clone(), 9, now);
        let kept = Kept::default();
        let mut recorder = Recorder::new(kept.clone()).with_addresses(addresses);
        recorder.began(&config, 9, now);
        let candidate = |host: &str| Candidate {
            text: format!("candidate:1 1 udp 9 {host} 4242 typ host").into(),
            mid: Some("0".into()),
            mline_index: Some(0),
            ufrag: None,
        };
        let mut inputs = VecDeque::from([
            Input::Open,
            Input::Signaling(
                ConnectionId(1),
                SignalingEvent::Candidate {
                    sender: Sender::Master,
                    body: Ok(candidate("10.20.30.40")),
                },
            ),
            Input::Peer(PeerId(1), PeerEvent::CandidateGathered(candidate("10.20.30.41"))),
        ]);
        let mut outcome = None;
        while outcome.is_none() {
            let input = inputs.pop_front().unwrap_or_else(|| {
                now = session.poll_timeout().expect("it waits for something").0;
                Input::Timeout
            });
            now = now + Duration::from_nanos(1_234_567);
            recorder.input(now, &input);
            session.handle_input(now, input);
            while let Some(output) = session.poll_output() {
                recorder.output(now, &output);
                let completion = match &output {
                    Output::Signaling(ticket, command) => complete(command).map(|o| (*ticket, o)),
                    Output::Peer(ticket, command) => Some((*ticket, made(command))),
                    Output::Event(Event::Ended(ended)) => {
                        outcome = Some(ended.reason);
                        None
                    }
                    Output::Event(_) => None,
                };
                inputs.extend(
                    completion
                        .map(|(ticket, outcome)| Input::Completed(Completion { ticket, outcome })),
                );
            }
        }
        assert_eq!(outcome, Some(EndReason::NoAnswer));
        let bytes = kept.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("JSON is text")
    }

    fn complete(command: &negotiation_core::SignalingCommand) -> Option<Result<Done, Failure>> {
        use negotiation_core::{ClientId, SignalingCommand as Command};
        Some(match command {
            Command::Connect { .. } => Ok(Done::Connected(ClientId::new("me").expect("valid"))),
            Command::FetchIceServers { .. } => Ok(Done::IceServers(vec![IceServer {
                uris: vec!["turn:10.20.30.42:443?transport=udp".into()],
                username: Some(Secret::new(CANARY)),
                password: Some(Secret::new(CANARY)),
            }])),
            Command::Disconnect { .. } => Err(Failure::new(
                FailureCode::Network,
                format!("wss://h/?X-Amz-Security-Token=canary at 10.20.30.43:443, {ECHOED} \"x\""),
            )),
            Command::Join { .. } | Command::Send { .. } => Ok(Done::Ok),
        })
    }

    fn made(command: &negotiation_core::PeerCommand) -> Result<Done, Failure> {
        use negotiation_core::{CandidateRelease, PeerCommand as Command, PeerTraits};
        Ok(match command {
            Command::Create { .. } => Done::Created(PeerTraits {
                candidates: CandidateRelease::AfterOffer,
                restart_keeps_pair: false,
            }),
            Command::CreateOffer { .. } | Command::CreateAnswer { .. } => {
                let text = format!("v=0\r\na=ice-pwd:{CANARY}\r\nc=IN IP4 10.20.30.44\r\n");
                Done::Description(Description {
                    sdp: Sdp::new(&text),
                    facts: SdpSummary::default(),
                })
            }
            Command::SetIceServers { .. }
            | Command::SetLocal { .. }
            | Command::SetRemote { .. }
            | Command::Rollback { .. }
            | Command::AddCandidate { .. }
            | Command::RequestKeyframe { .. }
            | Command::StopTransceivers { .. }
            | Command::RemoveTracks { .. }
            | Command::Close { .. } => Done::Ok,
        })
    }

    fn run(journal: &str) -> Result<Comparison, JournalError> {
        replay(Reader::new(journal.as_bytes())?, |_| {})
    }

    fn difference(journal: &str) -> Difference {
        match run(journal).expect("readable") {
            Comparison::Differs(difference) => difference,
            Comparison::Identical(replayed) => panic!("identical: {replayed:?}"),
        }
    }

    #[test]
    fn n26_failed_session_replays_to_the_same_outputs() {
        for addresses in [false, true] {
            let comparison = run(&failing(addresses)).expect("readable");
            let Comparison::Identical(replayed) = comparison else { panic!("{comparison:?}") };
            assert!(replayed.inputs > 10 && replayed.outputs > 20, "{replayed:?}");
            assert!(replayed.ended && !replayed.is_cut);
        }
    }

    #[test]
    fn n26_journal_holds_no_secret_and_addresses_only_when_requested() {
        let masked = failing(false);
        assert!(!masked.contains("10.20.30."), "{masked}");
        let with_addresses = failing(true);
        for shown in ["10.20.30.40 4242", "10.20.30.41 4242", "turn:10.20.30.42:443"] {
            assert!(with_addresses.contains(shown), "{shown}");
        }
        assert!(!with_addresses.contains("10.20.30.44"), "the description's text is not there");
        for journal in [masked, with_addresses] {
            assert!(!journal.contains(CANARY), "{journal}");
            assert!(!journal.contains("X-Amz"), "{journal}");
        }
    }

    #[test]
    fn output_that_is_missing_changed_or_new_is_found() {
        let journal = failing(false);
        let lines: Vec<&str> = journal.lines().collect();
        let outputs = |text: &&str| text.contains("\"out\":");
        let at = lines.iter().position(outputs).expect("there are outputs");
        let edited = |edit: &dyn Fn(&mut Vec<String>)| {
            let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            edit(&mut lines);
            difference(&(lines.join("\n") + "\n"))
        };
        let missing = edited(&|lines| drop(lines.remove(at)));
        assert_eq!(missing.line, at as u64 + 1);
        let doubled = edited(&|lines| lines.insert(at, lines[at].clone()));
        assert_eq!(doubled.line, at as u64 + 2);
        let phase = lines.iter().position(|l| l.contains("\"from\":\"Idle\"")).expect("it opens");
        let changed = edited(&|lines| lines[phase] = lines[phase].replace("Idle", "Live"));
        assert_eq!(changed.line, phase as u64 + 1);
        assert!(changed.recorded.is_some() && changed.replayed.is_some(), "{changed}");
        let early = edited(&|lines| lines.swap(1, at));
        assert_eq!(early.replayed, None, "an output before every input");
    }

    #[test]
    fn journal_that_stops_early_is_identical_as_far_as_it_goes() {
        let journal = failing(false);
        let half = &journal[..journal.len() / 2];
        let Comparison::Identical(replayed) = run(half).expect("readable") else {
            panic!("the half that is there is the same")
        };
        assert!(!replayed.ended && replayed.is_cut != half.ends_with('\n'));
    }

    #[test]
    fn what_is_no_journal_is_refused_with_its_reason() {
        let journal = failing(false);
        let printed = |text: &str| run(text).expect_err("refused").to_string();
        assert_eq!(printed(""), "it is empty");
        assert_eq!(printed("\n"), "it is empty");
        assert!(printed("hello\n").starts_with("its first line is no journal's header"));
        assert!(printed(&journal[..40]).starts_with("its first line is no journal's header"));
        assert!(
            printed(&journal.replacen("\"journal\":2", "\"journal\":7", 1)).contains("version 7")
        );
        assert!(
            printed(&journal.replacen("\"retries\":0", "\"retries\":5000", 1)).contains("retries")
        );
        // A window that no arithmetic survives.
        let window = format!("\"retry_window\":{{\"secs\":{},\"nanos\":0}}", u64::MAX);
        let hostile = journal.replacen("\"retry_window\":null", &window, 1);
        assert_ne!(hostile, journal);
        assert!(printed(&hostile).contains("retry_window"), "{}", printed(&hostile));
        let header = journal.lines().next().expect("a header").to_owned() + "\n";
        assert!(printed(&format!("{header}{{}}\n")).starts_with("line 2 cannot be read"));
        let both = "{\"at\":\"0.000000000\",\"in\":\"Open\",\"out\":{\"Event\":\"Live\"}}\n";
        assert_eq!(
            printed(&(header.clone() + both)),
            "line 2 cannot be read: expected one of `in`, `out` and `left_out`"
        );
        // A terminal would obey what is quoted.
        let steering = format!("{header}{{\"\\u001b[31m{}\":1}}\n", "x".repeat(5000));
        assert!(!printed(&steering).chars().any(char::is_control), "{}", printed(&steering));
        assert!(printed(&steering).len() < 500, "{}", printed(&steering));
        let long = " ".repeat(LINE_BYTES_MAX) + "\n";
        assert!(printed(&(header.clone() + &long)).starts_with("line 2 is longer"));
        let deep = format!("{header}{{\"at\":{}\n", "[".repeat(5000));
        assert!(printed(&deep).starts_with("line 2 cannot be read"));
        let padding = "x".repeat(LINE_BYTES_MAX - 100);
        let full = format!(
            "{{\"at\":\"0.000000000\",\"in\":\"Timeout\",\"addresses\":[\"{padding}\"]}}\n"
        );
        let lines = JOURNAL_BYTES_MAX as usize / full.len() + 1;
        assert!(printed(&(header + &full.repeat(lines))).starts_with("it is longer than"));
    }

    /// A session in which the service floods the connection with frames that are no messages.
    fn flooded(frames: u64, bytes_max: u64) -> (String, Option<String>) {
        let config = Settings::never().check().expect("valid");
        let mut now = Timestamp::from_millis(1000);
        let mut session = Session::new(config.clone(), 9, now);
        let kept = Kept::default();
        let mut recorder = Recorder::new(kept.clone()).with_bytes_max(bytes_max);
        let trouble = recorder.trouble();
        recorder.began(&config, 9, now);
        let garbage = || Input::Signaling(ConnectionId(1), SignalingEvent::Garbage);
        let closes = [Input::Close, Input::Timeout, Input::Timeout, Input::Timeout, Input::Timeout];
        let inputs =
            std::iter::once(Input::Open).chain((0..frames).map(|_| garbage())).chain(closes);
        for input in inputs {
            let due = session.poll_timeout().map_or(now, |(at, _)| at);
            now = if input == Input::Timeout { due } else { now + Duration::from_micros(3) };
            recorder.input(now, &input);
            session.handle_input(now, input);
            while let Some(output) = session.poll_output() {
                recorder.output(now, &output);
            }
        }
        drop(recorder);
        let bytes = kept.0.lock().expect("not poisoned").clone();
        (String::from_utf8(bytes).expect("JSON is text"), trouble.get().cloned())
    }

    #[test]
    fn repeated_inputs_take_one_line_and_replay_as_often_as_they_came() {
        let (journal, trouble) = flooded(200_000, JOURNAL_BYTES_MAX);
        assert_eq!(trouble, None);
        assert!(journal.len() < 10_000, "{} bytes", journal.len());
        let Comparison::Identical(replayed) = run(&journal).expect("readable") else {
            panic!("another end")
        };
        assert!(replayed.inputs >= 200_000 && replayed.ended, "{replayed:?}");
        // The number of ignored frames is part of the session's end.
        let fewer = journal.replacen("\"times\":", "\"times\":1", 1);
        assert!(matches!(run(&fewer), Ok(Comparison::Differs(_)) | Err(_)));
    }

    #[test]
    fn full_journal_keeps_the_end() {
        // Room for the header alone, beside what is kept free for the end.
        let room = 8 * 1024;
        let kept_free = 4 * 1024 * 1024;
        let (mut journal, trouble) = flooded(3, kept_free + 600);
        assert!(trouble.is_some_and(|why| why.contains("left out")));
        let Comparison::Identical(replayed) = run(&journal).expect("readable") else {
            panic!("nothing is compared after the gap: {journal}")
        };
        assert!(replayed.ended, "the end is there: {journal}");
        let left_out = replayed.left_out.expect("something is missing");
        assert!(left_out.inputs >= 4 && left_out.outputs > 0, "{left_out:?}");
        assert!(journal.len() < room, "{} bytes", journal.len());
        // Hostile numbers of what was left out.
        let most = format!("\"left_out\":{{\"inputs\":{0},\"outputs\":{0}}}", u64::MAX);
        let at = journal.find("\"left_out\"").expect("it is there");
        let end = at + journal[at..].find('}').expect("an object") + 1;
        journal.replace_range(at..end, &most);
        assert!(run(&journal).is_ok());
    }

    #[test]
    fn journal_of_the_first_version_is_read() {
        let first = failing(false).replacen("\"journal\":2", "\"journal\":1", 1);
        assert!(matches!(run(&first), Ok(Comparison::Identical(_))));
    }

    #[test]
    fn full_disk_ends_the_journal_and_nothing_else() {
        struct Full(usize);
        impl std::io::Write for Full {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0 = self.0.checked_sub(1).ok_or_else(|| std::io::Error::other("disk full"))?;
                Ok(bytes.len())
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let config = Settings::never().check().expect("valid");
        let mut recorder = Recorder::new(Full(1));
        recorder.began(&config, 1, Timestamp::ZERO);
        for _ in 0..3 {
            recorder.input(Timestamp::ZERO, &Input::Open);
        }
        assert_eq!(recorder.trouble().get().map(String::as_str), Some("disk full"));
    }
}
