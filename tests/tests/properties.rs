//! Properties that hold in every simulated run, each over thousands of generated plans.

#[path = "properties/cases.rs"]
mod cases;
#[path = "properties/directed.rs"]
mod directed;
#[path = "properties/harness.rs"]
mod harness;
#[path = "properties/host.rs"]
mod host;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use directed::directed;
use harness::{check, finished, reached};
use host::{Host, good};
use negotiation_core::*;
use negotiation_sim::strategy::{self, HostStep};
use negotiation_sim::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

const LONG: Duration = Duration::from_secs(4 * 3600);

fn start(plan: Plan) -> World {
    let mut world = World::new(plan);
    world.open();
    world
}

fn run(plan: Plan) -> World {
    let mut world = start(plan);
    world.run_until_quiet(LONG);
    world
}

/// Requires that no rule is broken, and counts how the session ended.
fn sound(world: &World) -> Result<(), String> {
    if let Some(outcome) = world.outcome() {
        reached(outcome.reason);
    }
    match world.violations().as_slice() {
        [] => Ok(()),
        broken => Err(format!("{broken:#?}\n{}", last_lines(world))),
    }
}

/// The last lines of the journal; all of them when one case runs alone.
fn last_lines(world: &World) -> String {
    let text = world.journal().to_string();
    let lines: Vec<_> = text.lines().collect();
    let shown = if std::env::var_os("SIM_SEED").is_some() { lines.len() } else { 40 };
    lines[lines.len().saturating_sub(shown)..].join("\n")
}

fn require(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

/// The commands without their tickets, in order.
fn commands(world: &World) -> Vec<String> {
    let outputs = world.journal().outputs();
    outputs
        .filter_map(|(_, output)| match output {
            Output::Signaling(_, command) => Some(format!("{command:?}")),
            Output::Peer(_, command) => Some(format!("{command:?}")),
            Output::Event(_) => None,
        })
        .collect()
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

// Shows: N12.
#[test]
fn p01_random_inputs_break_no_invariant() {
    let steps = (strategy::settings(), any::<bool>(), vec(strategy::host_step(), 1..150));
    let cases =
        check("p01_random_inputs_break_no_invariant", 4000, steps, |(settings, open, steps)| {
            let mut host = Host::new(settings);
            if open {
                host.feed(0, Input::Open)?;
            }
            steps.into_iter().try_for_each(|step| host.take(step))
        });
    finished("p01_random_inputs_break_no_invariant", cases, "");
}

// Shows: N1, N2.
#[test]
fn p02_peer_connection_is_used_as_jsep_allows() {
    let name = "p02_peer_connection_is_used_as_jsep_allows";
    let cases = check(name, 4000, strategy::plan(0..6), |plan| sound(&run(plan)));
    finished(name, cases, "");
}

fn of_answers() -> impl Strategy<Value = Fault> {
    strategy::fault().prop_filter("a fault of answers", |fault| match fault {
        Fault::Message { what, .. } => {
            *what == MessageKind::MasterAnswer || *what == MessageKind::ViewerOffer
        }
        Fault::Command { what, .. } => {
            matches!(what, CommandKind::SetRemote | CommandKind::SendOffer | CommandKind::SetLocal)
        }
        Fault::At { action, .. } => matches!(
            action,
            Action::RepeatAnswer | Action::StrayAnswer(_) | Action::OldAnswer | Action::Renegotiate
        ),
    })
}

// Shows: N4, N25.
#[test]
fn p03_at_most_one_answer_is_applied_per_offer() {
    let plans = (strategy::plan(0..1), vec(of_answers(), 1..5)).prop_map(|(mut plan, faults)| {
        plan.faults = faults;
        plan
    });
    let cases = check("p03_at_most_one_answer_is_applied_per_offer", 3000, plans, |plan| {
        let world = run(plan);
        // Counted apart from the oracle: sent offers and applied answers of each attempt.
        let mut counts: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
        for (_, output) in world.journal().outputs() {
            match output {
                Output::Signaling(
                    ticket,
                    SignalingCommand::Send { message: Message::Offer(_), .. },
                ) => counts.entry(ticket.attempt).or_default().0 += 1,
                Output::Peer(ticket, PeerCommand::SetRemote { kind: SdpKind::Answer, .. }) => {
                    let (offers, answers) = counts.entry(ticket.attempt).or_default();
                    *answers += 1;
                    require(answers <= offers, || {
                        format!("{answers} answers to {offers} offers\n{}", last_lines(&world))
                    })?;
                }
                Output::Signaling(..) | Output::Peer(..) | Output::Event(_) => {}
            }
        }
        sound(&world)
    });
    finished("p03_at_most_one_answer_is_applied_per_offer", cases, "");
}

// Shows: N9.
#[test]
fn p04_candidates_are_added_once_in_order_after_the_answer() {
    let name = "p04_candidates_are_added_once_in_order_after_the_answer";
    let faults = vec((0..6usize, 0..60u32, 0..3000u64), 0..5);
    let plans = (faults, 0..100u32, any::<bool>(), 0..90u32, any::<bool>()).prop_map(
        |(faults, candidates, first, local, early)| {
            let mut plan = Plan::default();
            plan.master.candidates = candidates;
            plan.master.candidates_first = first;
            plan.stack.candidates = local;
            if early {
                plan.stack.traits.candidates = CandidateRelease::AfterOffer;
            }
            for (kind, nth, ms) in faults {
                let how = [
                    Delivery::Hold,
                    Delivery::Delay(Duration::from_millis(ms)),
                    Delivery::Duplicate(Duration::from_millis(ms)),
                    Delivery::Drop,
                    Delivery::Corrupt,
                    Delivery::FromSender(Sender::Other),
                ][kind];
                plan.faults.push(Fault::Message { what: MessageKind::MasterCandidate, nth, how });
            }
            plan
        },
    );
    let cases = check(name, 3000, plans, |plan| {
        let world = run(plan);
        require(world.phase() == Phase::Live, || "not live".into())?;
        let mut seen = BTreeSet::new();
        let received: Vec<_> = world
            .journal()
            .inputs()
            .filter_map(|(_, input)| {
                let Input::Signaling(_, SignalingEvent::Candidate { sender, body }) = input else {
                    return None;
                };
                let candidate = body.as_ref().ok().filter(|_| *sender == Sender::Master)?;
                seen.insert(candidate.digest()).then(|| candidate.digest())
            })
            .collect();
        let added: Vec<_> = world
            .journal()
            .outputs()
            .filter_map(|(_, output)| {
                let Output::Peer(_, PeerCommand::AddCandidate { candidate, .. }) = output else {
                    return None;
                };
                Some(candidate.digest())
            })
            .collect();
        require(received == added, || format!("received {received:?}\nadded {added:?}"))?;
        sound(&world)
    });
    finished(name, cases, "");
}

fn permutations(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(count - 1);
    let insert = |p: &Vec<usize>, at: usize| {
        let mut longer = p.clone();
        longer.insert(at, count - 1);
        longer
    };
    shorter.iter().flat_map(|p| (0..count).map(move |at| insert(p, at))).collect()
}

// Shows: 35.
#[test]
fn p05_message_order_does_not_change_the_end() {
    let name = "p05_message_order_does_not_change_the_end";
    let link = ConnectionId(1);
    let mut cases = 0;
    for (gap, early, video) in
        [(0, false, true), (0, true, true), (7, false, true), (7, true, false), (40, true, true)]
    {
        let mut plan = Plan::default();
        plan.master.answers = Answers::Never;
        plan.master.video = video;
        if early {
            plan.stack.traits.candidates = CandidateRelease::AfterOffer;
        }
        let mut before = start(plan);
        assert!(before.run_until_phase(Phase::AwaitingAnswer, Duration::from_secs(5)));
        let candidate = |n: u32| Candidate {
            text: format!("candidate:{n}").into(),
            mid: None,
            mline_index: Some(0),
            ufrag: None,
        };
        let sender = Sender::Master;
        let section = |kind| MediaSection { kind, mid: None, accepted: true, sends: true };
        let kind = if video { MediaKind::Video } else { MediaKind::Audio };
        let answer = Description {
            sdp: Sdp::new("answer 1 to offer 1 of peer 1"),
            facts: SdpSummary {
                media: vec![section(kind)],
                fingerprints: vec!["sha-256 01".into()],
                ..SdpSummary::default()
            },
        };
        let failure = || Failure::new(FailureCode::Throttled, "too many candidates");
        let messages = [
            SignalingEvent::Answer { sender, body: Ok(answer) },
            SignalingEvent::Candidate { sender, body: Ok(candidate(1)) },
            SignalingEvent::Candidate { sender, body: Ok(candidate(2)) },
            SignalingEvent::Candidate { sender, body: Ok(candidate(1)) },
            SignalingEvent::Status { ticket: None, failure: failure() },
            SignalingEvent::Status {
                ticket: Some(Ticket { attempt: 1, seq: 2 }),
                failure: failure(),
            },
        ];
        let mut ends = BTreeSet::new();
        for order in permutations(messages.len()) {
            let mut world = before.clone();
            for index in order {
                world.inject(Input::Signaling(link, messages[index].clone()));
                world.run_for(Duration::from_millis(gap));
            }
            assert!(world.run_until_quiet(LONG));
            sound(&world).unwrap_or_else(|why| panic!("{why}"));
            ends.insert((world.phase(), sorted(commands(&world))));
            cases += 1;
        }
        assert_eq!(ends.len(), 1, "{ends:#?}");
        assert!(ends.iter().all(|(phase, _)| *phase == Phase::Live));
    }
    finished(name, cases, "");
}

#[test]
fn p06_duplicate_message_changes_nothing() {
    let name = "p06_duplicate_message_changes_nothing";
    let twice = vec((any::<bool>(), 0..40u32, 0..5000u64), 1..6);
    let cases = check(name, 3000, (strategy::harmless_plan(), twice), |(mut plan, twice)| {
        // A flood is bounded by number, so its duplicates may displace other candidates.
        plan.faults.retain(|fault| {
            !matches!(
                fault,
                Fault::At { action: Action::CandidateFlood(_) | Action::Renegotiate, .. }
            )
        });
        let once = run(plan.clone());
        for (answer, nth, ms) in twice {
            let what =
                if answer { MessageKind::MasterAnswer } else { MessageKind::MasterCandidate };
            let how = Delivery::Duplicate(Duration::from_millis(ms));
            plan.faults.push(Fault::Message { what, nth, how });
        }
        let doubled = run(plan);
        require(doubled.phase() == once.phase(), || "another phase".into())?;
        // A repeated answer must not count as a second one, which would make the first suspect.
        let suspects = |world: &World| {
            let second = Event::Ignored(Ignored::SecondAnswer);
            world.events().iter().any(|(_, event)| *event == second)
        };
        require(suspects(&doubled) == suspects(&once), || {
            "a duplicate made the first answer suspect".into()
        })?;
        require(sorted(commands(&doubled)) == sorted(commands(&once)), || {
            format!("{}\n{}", last_lines(&once), last_lines(&doubled))
        })?;
        sound(&doubled)
    });
    finished(name, cases, "");
}

#[test]
fn p07_glare_ends_with_one_agreed_description() {
    let name = "p07_glare_ends_with_one_agreed_description";
    let times = prop_oneof![
        2 => (Just(Phase::Offering), 0..250u64),
        1 => (Just(Phase::Establishing), 0..100u64),
        2 => (Just(Phase::Live), 900..1_400u64),
    ];
    let plans = (any::<bool>(), any::<bool>(), times, 0..120u64, 0..3u8, 1..60u64);
    let cases =
        check(name, 3000, plans, |(polite, keeps, (phase, after), answer_delay, request, way)| {
            let mut settings = Settings::one_retry();
            settings.polite = polite;
            let mut plan = Plan::new(settings);
            // Exactly one side is polite.
            plan.master.glare = if polite { Glare::Impolite } else { Glare::Polite };
            plan.master.repeated_id = RepeatedId::Renegotiates;
            plan.master.answers_after = Duration::from_millis(answer_delay);
            plan.service.one_way_delay = Duration::from_millis(way);
            plan.stack.traits.restart_keeps_pair = keeps;
            let offers = Action::MasterOffers { anew: false };
            for (phase, after, action) in [
                (phase, after, Some(offers)),
                (
                    Phase::Live,
                    1_000,
                    [None, Some(Action::Renegotiate), Some(Action::Restart)][request as usize],
                ),
            ] {
                let Some(action) = action else { continue };
                let after = Duration::from_millis(after);
                plan.faults.push(Fault::At { trigger: Trigger::Entered(phase, 1), after, action });
            }
            let world = run(plan);
            sound(&world)?;
            let attempts = world.session().attempt();
            require(world.phase() == Phase::Live && attempts == 1, || {
                format!("{} in attempt {attempts}\n{}", world.phase(), last_lines(&world))
            })?;
            let (viewer, master) = world.agreed();
            require(viewer.is_some() && viewer == master, || {
                format!("{viewer:?} is not {master:?}\n{}", last_lines(&world))
            })
        });
    finished(name, cases, "");
}

/// The events and commands of a run, without ignored inputs.
fn visible_outputs(world: &World) -> Vec<(Timestamp, Output)> {
    let outputs = world.journal().outputs();
    outputs
        .filter(|(_, output)| !matches!(output, Output::Event(Event::Ignored(_))))
        .map(|(at, output)| (at, without_counts(output)))
        .collect()
}

fn without_counts(output: &Output) -> Output {
    let mut output = output.clone();
    match &mut output {
        Output::Event(Event::AttemptEnded(report)) => report.evidence.ignored.clear(),
        Output::Event(Event::Ended(outcome)) => {
            outcome.attempts.iter_mut().for_each(|report| report.evidence.ignored.clear());
        }
        Output::Event(_) | Output::Signaling(..) | Output::Peer(..) => {}
    }
    output
}

// Shows: N10, N15.
#[test]
fn p08_late_input_of_older_attempt_changes_nothing() {
    let name = "p08_late_input_of_older_attempt_changes_nothing";
    let plans = (strategy::plan(0..3), 0..3000u64, any::<u64>());
    let cases = check(name, 2500, plans, |(mut plan, into_ms, pick)| {
        plan.faults.retain(|fault| {
            !matches!(fault, Fault::At { action: Action::Close | Action::TimersLate(_), .. })
        });
        // A late timer fires with the next input, so an injected input would move it.
        plan.timer_late = Duration::ZERO;
        plan.faults.push(Fault::Message {
            what: MessageKind::MasterAnswer,
            nth: 1,
            how: Delivery::Corrupt,
        });
        let mut world = start(plan);
        let limit = world.now() + LONG;
        while world.session().attempt() < 2 && world.phase() != Phase::Ended {
            if world.now() > limit || !world.step() {
                return Ok(());
            }
        }
        world.run_for(Duration::from_millis(into_ms));
        let attempt = world.session().attempt();
        if world.phase() == Phase::Ended || attempt < 2 {
            return sound(&world);
        }
        let mut visited = world.clone();
        let old: Vec<_> = world
            .journal()
            .outputs()
            .filter_map(|(_, output)| good(output))
            .filter(|(ticket, _)| ticket.attempt < attempt)
            .collect();
        for (index, (ticket, done)) in old.into_iter().enumerate() {
            let failure = Failure::new(FailureCode::AccessDenied, "late");
            let outcome = if (pick >> (index % 64)) & 1 == 0 { Ok(done) } else { Err(failure) };
            visited.inject(Input::Completed(Completion { ticket, outcome }));
        }
        let old_part = |output: &Output| match output {
            Output::Signaling(ticket, SignalingCommand::Connect { link, .. })
                if ticket.attempt < attempt =>
            {
                Some(*link)
            }
            Output::Signaling(..) | Output::Peer(..) | Output::Event(_) => None,
        };
        let link = world.journal().outputs().filter_map(|(_, output)| old_part(output)).last();
        let Some(link) = link else { return Err("no connection of the previous attempt".into()) };
        let old_peer = |output: &Output| match output {
            Output::Peer(ticket, PeerCommand::Create { peer }) if ticket.attempt < attempt => {
                Some(*peer)
            }
            Output::Signaling(..) | Output::Peer(..) | Output::Event(_) => None,
        };
        let peer = world.journal().outputs().filter_map(|(_, output)| old_peer(output)).last();
        let Some(peer) = peer else {
            return Err("no peer connection of the previous attempt".into());
        };
        let lost = Failure::new(FailureCode::Replaced, "late");
        visited.inject(Input::Signaling(link, SignalingEvent::Disconnected(lost)));
        let answer = Description { sdp: Sdp::new("old"), facts: SdpSummary::default() };
        let answer = SignalingEvent::Answer { sender: Sender::Master, body: Ok(answer) };
        visited.inject(Input::Signaling(link, answer));
        for state in [Connectivity::Connected, Connectivity::IceFailed, Connectivity::ClosedByPeer]
        {
            visited.inject(Input::Peer(peer, PeerEvent::ConnectivityChanged(state)));
        }
        world.run_until_quiet(LONG);
        visited.run_until_quiet(LONG);
        require(visible_outputs(&world) == visible_outputs(&visited), || {
            format!("without:\n{}\nwith:\n{}", last_lines(&world), last_lines(&visited))
        })?;
        sound(&visited)
    });
    finished(name, cases, "");
}

// Shows: N22, N23, 49.
#[test]
fn p09_close_wins_from_every_phase() {
    let name = "p09_close_wins_from_every_phase";
    let phases = std::sync::Mutex::new(BTreeSet::new());
    let late = strategy::host_step();
    let after = prop_oneof![2 => 0..800u64, 1 => 0..90_000u64];
    // The close comes at any time, or after the start of a phase: some last a few milliseconds.
    let when = (after, option::of(select(Phase::ALL.as_slice())));
    let plans = (strategy::any_plan(), when, vec(late, 0..20));
    let cases = check(name, 4000, plans, |(plan, (after_ms, phase), later)| {
        let mut bound = plan.config.settings().close_timeout + plan.timer_late * 5;
        for fault in &plan.faults {
            if let Fault::At {
                action: Action::Suspend(time) | Action::ClockJump(time) | Action::TimersLate(time),
                ..
            } = fault
            {
                bound += *time * 5;
            }
        }
        let mut world = World::new(plan);
        let after = Duration::from_millis(after_ms);
        match phase {
            Some(Phase::Idle) => {}
            Some(phase) => {
                world.open();
                world.run_until_phase(phase, Duration::from_secs(90));
            }
            None if after.is_zero() => {}
            None => {
                world.open();
                world.run_for(after);
            }
        }
        if let Ok(mut phases) = phases.lock() {
            phases.insert(world.phase());
        }
        let closed_at = world.now();
        world.inject(Input::Close);
        world.inject(Input::Close);
        world.run_until_phase(Phase::Ended, bound);
        require(world.phase() == Phase::Ended, || format!("not over\n{}", last_lines(&world)))?;
        let took = world.now().saturating_since(closed_at);
        require(took <= bound, || format!("took {took:?}"))?;
        let silent_from = world.journal().outputs().count();
        for step in later {
            if let HostStep::Input { input, .. } = step {
                world.inject(input);
            }
        }
        world.run_until_quiet(LONG);
        let outputs = world.journal().outputs().count();
        require(outputs == silent_from, || format!("not silent\n{}", last_lines(&world)))?;
        sound(&world)
    });
    let phases = phases.into_inner().expect("no panic").len();
    // A fraction of the cases, or a single seed, need not reach all phases.
    if cases >= 4000 {
        assert_eq!(phases, Phase::ALL.len(), "every phase was met");
    }
    finished(name, cases, &format!(", {phases} phases"));
}

// Shows: N12.
#[test]
fn p10_session_is_live_or_ended_in_bounded_time() {
    let name = "p10_session_is_live_or_ended_in_bounded_time";
    let cases = check(name, 3000, strategy::plan(0..5), |plan| {
        let moves_time = |fault: &Fault| {
            let Fault::At { action, .. } = fault else { return false };
            matches!(
                action,
                Action::Suspend(_)
                    | Action::ClockJump(_)
                    | Action::TimersLate(_)
                    | Action::NetworkChanged
                    | Action::LocalAddressGone
            )
        };
        let mut plan = plan;
        plan.faults.retain(|fault| !moves_time(fault));
        plan.timer_late = Duration::ZERO;
        let bound = plan.config.worst_case_duration();
        let mut world = start(plan);
        let began = world.now();
        while !matches!(world.phase(), Phase::Live | Phase::Ended) && world.step() {}
        let took = world.now().saturating_since(began);
        // Each attempt may be suspended for as long as the session may be offline.
        let offline = world.events().iter().any(|(_, event)| *event == Event::Offline);
        let away = world.session().config().settings().offline_limit * world.session().attempt();
        let bound = bound + if offline { away * 2 } else { Duration::ZERO };
        require(took <= bound, || format!("{took:?} of {bound:?}\n{}", last_lines(&world)))?;
        world.run_until_quiet(LONG);
        sound(&world)
    });
    finished(name, cases, "");
}

// Shows: N26.
#[test]
fn p11_same_plan_gives_same_journal_which_replays() {
    let name = "p11_same_plan_gives_same_journal_which_replays";
    let cases = check(name, 1500, strategy::plan(0..6), |plan| {
        let (first, second) = (run(plan.clone()), run(plan));
        let text = first.journal().to_string();
        require(text == second.journal().to_string(), || "two runs differ".into())?;
        require(!text.contains("canary"), || "a secret in the journal".into())?;
        replay(first.journal()).map_err(|mismatch| mismatch.to_string())?;
        sound(&first)
    });
    finished(name, cases, "");
}

// Shows: N17.
#[test]
fn p12_every_end_reason_is_reached() {
    let directed = directed();
    let all: BTreeSet<_> = EndReason::ALL.into_iter().collect();
    let planned: BTreeSet<_> = directed.iter().map(|(reason, _)| *reason).collect();
    assert_eq!(planned, all, "a plan for each");
    for (reason, plan) in directed {
        let world = run(plan);
        sound(&world).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(world.outcome().map(|outcome| outcome.reason), Some(reason));
    }
    let cases = check("p12_every_end_reason_is_reached", 3000, strategy::plan(0..8), |plan| {
        sound(&run(plan))
    });
    finished("p12_every_end_reason_is_reached", cases, " and one directed plan for each reason");
}
