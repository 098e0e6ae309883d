//! Journals of simulated sessions in the format of `watch --journal`: each replays to the same
//! outputs, although it contains no description or candidate text (contract, N26).

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use negotiation_core::{Completion, Done, Event, Input, Output, PeerEvent, Session};
use negotiation_sim::{Answers, Plan, World, strategy};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use viewer_session::Observer as _;
use viewer_session::journal::{Comparison, Reader, Recorder, Replayed, replay};

const LONG: Duration = Duration::from_secs(4 * 3600);

/// Keeps what a recorder writes.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs the plan, then its inputs once more with a recorder; returns the journal and how the
/// session ended.
fn recorded(plan: Plan) -> (String, &'static str, World) {
    let (config, seed) = (plan.config.clone(), plan.seed);
    let mut world = World::new(plan);
    let began = world.now();
    world.open();
    world.run_until_quiet(LONG);
    let kept = Kept::default();
    let mut recorder = Recorder::new(kept.clone());
    recorder.began(&config, seed, began);
    let mut session = Session::new(config, seed, began);
    let mut end = "(quiet)";
    for (at, input) in world.journal().inputs() {
        recorder.input(at, input);
        session.handle_input(at, input.clone());
        while let Some(output) = session.poll_output() {
            recorder.output(at, &output);
            if let Output::Event(Event::Ended(outcome)) = &output {
                end = outcome.reason.code();
            }
        }
    }
    assert_eq!(recorder.trouble().get(), None);
    let bytes = kept.0.lock().expect("not poisoned").clone();
    (String::from_utf8(bytes).expect("JSON is text"), end, world)
}

/// Texts that no journal may contain: descriptions, candidates, and the TURN credentials.
#[expect(clippy::wildcard_enum_match_arm, reason = "these inputs alone have such texts")]
fn texts(world: &World) -> Vec<String> {
    let mut texts = Vec::new();
    for (_, input) in world.journal().inputs() {
        match input {
            Input::Peer(_, PeerEvent::CandidateGathered(candidate)) if !candidate.is_end() => {
                texts.push(candidate.text.to_string());
            }
            Input::Completed(Completion { outcome: Ok(Done::Description(made)), .. }) => {
                texts.push(made.sdp.as_str().to_owned());
            }
            Input::Completed(Completion { outcome: Ok(Done::IceServers(servers)), .. }) => {
                let secrets = servers.iter().flat_map(|s| [&s.username, &s.password]).flatten();
                texts.extend(secrets.map(|secret| secret.expose().to_owned()));
            }
            _ => {}
        }
    }
    texts
}

fn identical(journal: &str) -> Replayed {
    let reader = Reader::new(journal.as_bytes()).expect("a journal");
    match replay(reader, |_| {}).expect("readable") {
        Comparison::Identical(replayed) => replayed,
        Comparison::Differs(difference) => panic!("{difference}"),
    }
}

#[test]
fn n26_journal_of_failed_session_replays() {
    let mut plan = Plan::default();
    plan.master.answers = Answers::Never;
    let (journal, end, world) = recorded(plan);
    assert_eq!(end, "no-answer");
    let replayed = identical(&journal);
    assert!(replayed.ended && !replayed.is_cut, "{replayed:?}");
    let texts = texts(&world);
    assert!(texts.len() > 4, "{texts:?}");
    for text in texts {
        assert!(!journal.contains(&text), "{text} is in the journal");
    }
}

#[test]
fn n26_journals_of_generated_sessions_replay() {
    const CASES: u64 = 400;
    let plans = strategy::plan(0..6);
    let (mut ends, mut lines) = (BTreeMap::<&str, u32>::new(), 0);
    for case in 0..CASES {
        let mut bytes = [26; 32];
        bytes[..8].copy_from_slice(&case.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let plan = plans.new_tree(&mut runner).expect("a plan").current();
        let (journal, end, _) = recorded(plan);
        let replayed = identical(&journal);
        assert_eq!(replayed.inputs + replayed.outputs + 1, journal.lines().count() as u64);
        *ends.entry(end).or_default() += 1;
        lines += journal.lines().count();
    }
    // Written to stderr directly, because the test harness hides the output of tests that pass.
    let _ = writeln!(
        std::io::stderr(),
        "journals: {CASES} of generated sessions, {lines} lines, replayed the same; ends: {ends:?}"
    );
    assert!(ends.len() > 3, "{ends:?}");
}

/// A journal of version 1 of the format can still be read and replayed.
// Shows: N26.
#[test]
fn journal_of_version_1_can_be_read() {
    let old = include_str!("../fuzz/corpus/journal/failed-session");
    assert!(old.starts_with("{\"journal\":1,"));
    let mut reader = Reader::new(old.as_bytes()).expect("a journal");
    let mut lines = 1;
    while reader.next_entry().expect("every line").is_some() {
        lines += 1;
    }
    assert_eq!(lines, old.lines().count());
    let reader = Reader::new(old.as_bytes()).expect("a journal");
    assert!(replay(reader, |_| {}).is_ok());
}

/// Reading and replaying a file of any bytes ends with a result or an error.
#[test]
fn damaged_journal_ends_with_result_or_error() {
    let (journal, ..) = recorded(Plan::default());
    assert!(identical(&journal).inputs > 10);
    let (mut refused, mut replayed) = (0, 0);
    for step in 0..1500_usize {
        let mut bytes = journal.clone().into_bytes();
        let at = step.wrapping_mul(7919) % bytes.len();
        match step % 4 {
            0 => bytes[at] ^= 1 << (step % 7),
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at..(at + step % 90).min(journal.len()))),
            _ => bytes[at] = b'0' + (step % 10) as u8,
        }
        match Reader::new(bytes.as_slice()).and_then(|reader| replay(reader, |_| {})) {
            Ok(_) => replayed += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 100 && replayed > 100, "{refused} {replayed}");
}
