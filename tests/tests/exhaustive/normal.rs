//! The normal form is sound: a session and its normal form behave the same from then on, so two
//! sessions with equal normal forms do too. The exhaustive check depends on this.

use std::collections::BTreeMap;

use negotiation_core::*;
use negotiation_sim::strategy::{self, HostStep};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, TestCaseError};

use super::cases::scaled;

/// A session, a second session made from its normal form at some step, and the mapping of names
/// between the two.
struct Twins {
    one: Session,
    two: Option<Session>,
    /// What the normal form may assume about later inputs.
    promise: Promise,
    gathered: u32,
    now: i64,
    latest: i64,
    /// The difference between the times of the two sessions.
    shift: i64,
    pending: Vec<(Ticket, Done)>,
    tickets: BTreeMap<Ticket, Ticket>,
    links: BTreeMap<ConnectionId, ConnectionId>,
    peers: BTreeMap<PeerId, PeerId>,
    seen: Vec<Ticket>,
    links_seen: u32,
    peers_seen: u32,
}

/// What is known about the inputs after the normal form is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Promise {
    Nothing,
    /// The master makes no offer, and few candidates are gathered.
    NoOffers,
}

/// The maximum number of candidates that are gathered under a promise.
const FEW: u32 = 2;

/// The start time, later than the horizon of every configuration.
const BEGIN: i64 = 3_600_000;

impl Twins {
    fn new(settings: Settings, promise: Promise) -> Result<Self, TestCaseError> {
        let config = settings.check().map_err(|e| TestCaseError::fail(e.to_string()))?;
        Ok(Self {
            one: Session::new(config, 7, Timestamp::from_millis(BEGIN.unsigned_abs())),
            two: None,
            promise,
            gathered: 0,
            now: BEGIN,
            latest: BEGIN,
            shift: 0,
            pending: Vec::new(),
            tickets: BTreeMap::new(),
            links: BTreeMap::new(),
            peers: BTreeMap::new(),
            seen: Vec::new(),
            links_seen: 0,
            peers_seen: 0,
        })
    }

    /// Makes the second session from the normal form of the first.
    fn part(&mut self) {
        let normal = self.form(&self.one);
        let now = i64::try_from(normal.now().since_origin().as_millis()).unwrap_or(i64::MAX);
        self.shift = now - self.latest;
        let named = |t: &Ticket| normal.ticket(*t).map(|new| (*t, new));
        self.tickets = self.seen.iter().filter_map(named).collect();
        let numbers = 1..200;
        self.links = numbers
            .clone()
            .filter_map(|n| Some((ConnectionId(n), normal.link(ConnectionId(n))?)))
            .collect();
        self.peers = numbers.filter_map(|n| Some((PeerId(n), normal.peer(PeerId(n))?))).collect();
        self.two = Some(normal.into_session());
    }

    fn form(&self, session: &Session) -> Normalised {
        let mut normal = session.normalised();
        match self.promise {
            Promise::Nothing => {}
            Promise::NoOffers => {
                normal.without_further_offers();
                normal.without_candidate_pacing();
            }
        }
        normal
    }

    /// Whether the promise excludes this input.
    fn is_excluded(&mut self, input: &Input) -> bool {
        if self.promise == Promise::Nothing {
            return false;
        }
        match input {
            Input::Signaling(_, SignalingEvent::Offer { .. }) => self.two.is_some(),
            Input::Peer(_, PeerEvent::CandidateGathered(_)) => {
                self.gathered += 1;
                self.gathered > FEW
            }
            _ => false,
        }
    }

    fn take(&mut self, step: HostStep) -> Result<(), TestCaseError> {
        match step {
            HostStep::Input { input, .. } if self.is_excluded(&input) => Ok(()),
            HostStep::Input { after_ms, input } => self.feed(after_ms, input),
            HostStep::CompletePending { index } if !self.pending.is_empty() => {
                let (ticket, done) = self.pending.remove(index % self.pending.len());
                self.feed(1, Input::Completed(Completion { ticket, outcome: Ok(done) }))
            }
            HostStep::CompletePending { .. } => Ok(()),
            HostStep::Wait => {
                let Some((at, _)) = self.one.poll_timeout() else { return Ok(()) };
                let at = i64::try_from(at.since_origin().as_millis()).unwrap_or(i64::MAX);
                self.feed((at + 1 - self.now).max(0), Input::Timeout)
            }
        }
    }

    fn feed(&mut self, after: i64, input: Input) -> Result<(), TestCaseError> {
        self.now = self.now.saturating_add(after).max(0);
        self.latest = self.latest.max(self.now);
        let input = self.possible(input);
        let other = self.renamed(input.clone());
        self.one.handle_input(Timestamp::from_millis(self.now.unsigned_abs()), input);
        let outputs: Vec<_> = std::iter::from_fn(|| self.one.poll_output()).collect();
        for output in &outputs {
            if let Some((ticket, done)) = good(output) {
                self.seen.push(ticket);
                self.pending.push((ticket, done));
            }
            match output {
                Output::Signaling(_, command) => {
                    self.links_seen = self.links_seen.max(command.link().0);
                }
                Output::Peer(_, command) => self.peers_seen = self.peers_seen.max(command.peer().0),
                Output::Event(_) => {}
            }
        }
        let Some(two) = &mut self.two else { return Ok(()) };
        let now = (self.now + self.shift).max(0).unsigned_abs();
        two.handle_input(Timestamp::from_millis(now), other);
        let others: Vec<_> = std::iter::from_fn(|| two.poll_output()).collect();
        let shown = |outputs: &[Output], shift: i64| -> Vec<String> {
            outputs.iter().filter_map(|output| shape(output, shift)).collect()
        };
        prop_assert_eq!(shown(&outputs, self.shift), shown(&others, 0));
        let commands = |outputs: &[Output]| -> Vec<Output> {
            outputs.iter().filter(|o| !matches!(o, Output::Event(_))).cloned().collect()
        };
        for (a, b) in commands(&outputs).iter().zip(&commands(&others)) {
            self.learn(a, b);
        }
        let two = self.two.as_ref().map(|two| self.form(two).into_session());
        prop_assert_eq!(Some(self.form(&self.one).into_session()), two);
        Ok(())
    }

    /// Replaces names that the session has not used yet: no host could know them.
    fn possible(&self, input: Input) -> Input {
        let known = |ticket: Ticket| {
            let never = Ticket { attempt: u32::MAX, seq: u32::MAX };
            if self.seen.contains(&ticket) { ticket } else { never }
        };
        match input {
            Input::Completed(Completion { ticket, outcome }) => {
                Input::Completed(Completion { ticket: known(ticket), outcome })
            }
            Input::Signaling(link, _) if link.0 > self.links_seen => Input::Timeout,
            Input::Signaling(link, SignalingEvent::Status { ticket: Some(ticket), failure }) => {
                let ticket = Some(known(ticket));
                Input::Signaling(link, SignalingEvent::Status { ticket, failure })
            }
            Input::Peer(peer, _) if peer.0 > self.peers_seen => Input::Timeout,
            other => other,
        }
    }

    /// Records the names that the two sessions use in the same command.
    fn learn(&mut self, one: &Output, two: &Output) {
        match (one, two) {
            (Output::Signaling(a, one), Output::Signaling(b, two)) => {
                self.tickets.insert(*a, *b);
                self.links.insert(one.link(), two.link());
            }
            (Output::Peer(a, one), Output::Peer(b, two)) => {
                self.tickets.insert(*a, *b);
                self.peers.insert(one.peer(), two.peer());
            }
            _ => {}
        }
    }

    /// Returns the input with the names of the normal form; a name that it does not have becomes a
    /// stale one.
    fn renamed(&self, input: Input) -> Input {
        let ticket = |t: Ticket| {
            let stale = Ticket { attempt: u32::MAX, seq: u32::MAX };
            self.tickets.get(&t).copied().unwrap_or(stale)
        };
        match input {
            Input::Completed(Completion { ticket: t, outcome }) => {
                Input::Completed(Completion { ticket: ticket(t), outcome })
            }
            Input::Signaling(link, event) => {
                let link = self.links.get(&link).copied().unwrap_or(ConnectionId(u32::MAX));
                let event = match event {
                    SignalingEvent::Status { ticket: Some(t), failure } => {
                        SignalingEvent::Status { ticket: Some(ticket(t)), failure }
                    }
                    other => other,
                };
                Input::Signaling(link, event)
            }
            Input::Peer(peer, event) => {
                Input::Peer(self.peers.get(&peer).copied().unwrap_or(PeerId(u32::MAX)), event)
            }
            other => other,
        }
    }
}

/// The successful result of a command.
fn good(output: &Output) -> Option<(Ticket, Done)> {
    let description = |text| {
        let facts = SdpSummary::default();
        Done::Description(Description { sdp: Sdp::new(text), facts })
    };
    match output {
        Output::Signaling(ticket, SignalingCommand::Connect { .. }) => {
            Some((*ticket, Done::Connected(ClientId::new("v").ok()?)))
        }
        Output::Signaling(ticket, SignalingCommand::FetchIceServers { .. }) => {
            Some((*ticket, Done::IceServers(Vec::new())))
        }
        Output::Peer(ticket, PeerCommand::Create { .. }) => {
            let traits = PeerTraits {
                candidates: CandidateRelease::AfterOffer,
                restart_keeps_pair: ticket.seq % 2 == 0,
            };
            Some((*ticket, Done::Created(traits)))
        }
        Output::Peer(ticket, PeerCommand::CreateOffer { .. }) => {
            Some((*ticket, description("offer")))
        }
        Output::Peer(ticket, PeerCommand::CreateAnswer { .. }) => {
            Some((*ticket, description("answer")))
        }
        Output::Signaling(ticket, _) | Output::Peer(ticket, _) => Some((*ticket, Done::Ok)),
        Output::Event(_) => None,
    }
}

/// The text of an output without names and without what is only reported.
fn shape(output: &Output, shift: i64) -> Option<String> {
    let moved = |at: Timestamp| {
        i64::try_from(at.since_origin().as_millis()).unwrap_or(i64::MAX).saturating_add(shift)
    };
    Some(match output {
        Output::Signaling(_, command) => nameless(&format!("{command:?}")),
        Output::Peer(_, command) => nameless(&format!("{command:?}")),
        Output::Event(event) => match event {
            // These events only report something, so they may differ.
            Event::Ignored(_) | Event::MasterLearned(_) => return None,
            Event::AttemptStarted { .. } => "attempt".into(),
            Event::OfferSent { .. } => "offer".into(),
            Event::AnswerReceived { .. } => "answer".into(),
            Event::AttemptEnded(_) => "over".into(),
            Event::RetryScheduled { at, .. } => format!("retry {}", moved(*at)),
            Event::DeadlineArmed { timer, at } => format!("{timer} {}", moved(*at)),
            Event::Ended(outcome) => format!("ended {}", outcome.reason),
            other => format!("{other:?}"),
        },
    })
}

/// Removes the numbers of connections, peer connections and attempts.
fn nameless(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) =
        ["ConnectionId(", "PeerId(", "attempt: "].iter().filter_map(|n| rest.find(n)).min()
    {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let digits = from.find(|c: char| c.is_ascii_digit()).unwrap_or(from.len());
        rest = from[digits..].trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out + rest
}

#[test]
fn session_and_its_normal_form_behave_the_same() {
    compare_twins(Promise::Nothing);
}

#[test]
fn session_and_normal_form_without_offers_behave_the_same() {
    compare_twins(Promise::NoOffers);
}

fn compare_twins(promise: Promise) {
    let steps =
        (strategy::settings(), any::<bool>(), 0..60usize, vec(strategy::host_step(), 1..120));
    let runs = Runs {
        cases: u32::try_from(scaled(3000)).unwrap_or(u32::MAX),
        failure_persistence: None,
        ..Runs::default()
    };
    let result = proptest::test_runner::TestRunner::new(runs).run(
        &steps,
        |(mut settings, answerer, parting, steps)| {
            if answerer {
                settings.mode = Mode::Answerer;
            }
            if promise == Promise::NoOffers {
                settings.candidates_per_second = 20;
            }
            let mut twins = Twins::new(settings, promise)?;
            twins.feed(0, Input::Open)?;
            for (number, step) in steps.into_iter().enumerate() {
                if number == parting {
                    twins.part();
                }
                twins.take(step)?;
            }
            Ok(())
        },
    );
    if let Err(broken) = result {
        panic!("{broken}");
    }
}
