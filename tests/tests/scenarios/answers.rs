//! Offers and answers: scenarios 1 to 10, 16, 29 and 35.

use super::*;

// Shows: N3.
#[test]
fn s01_answer_never_ends_after_retry() {
    let mut plan = Plan::default();
    plan.master.answers = Answers::Never;
    let world = check(plan, Expected::Ended(EndReason::NoAnswer, 2));
    let deadline = Event::DeadlineFired(Timer::Answer);
    assert_eq!(events(&world, |event| *event == deadline), 2);
    let outcome = world.outcome().expect("it ended");
    assert!(outcome.likely_cause().contains("no master"), "{}", outcome.likely_cause());
    let ids: Vec<_> = outcome.attempts.iter().filter_map(|a| a.client_id.clone()).collect();
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1], "the next attempt has another id");
}

// Shows: N17.
#[test]
fn s01_answer_never_from_living_master_is_reported_as_such() {
    let mut plan = Plan::default().with(message(MessageKind::MasterAnswer, 0, Delivery::Drop));
    plan.master.candidates = 2;
    let world = check(plan, Expected::Ended(EndReason::NoAnswer, 2));
    let cause = world.outcome().expect("it ended").likely_cause();
    assert!(cause.contains("alive"), "{cause}");
}

// Shows: N5.
#[test]
fn s02_answer_at_deadline_is_late_and_before_it_is_not() {
    // The offer is sent 5 ms after the command, and the answer takes 20 ms each way.
    for (early, attempt) in [(ms(1), 1), (ms(0), 2)] {
        let late = secs(30) - ms(20) - ms(20) - early;
        let mut plan = Plan::default();
        plan.master.answers_after = late;
        plan.master.candidates = 0;
        let mut world = World::new(plan);
        world.open();
        world.run_for(secs(33));
        assert_eq!(world.violations(), Vec::<String>::new());
        let live = world.phase() == Phase::Live;
        assert_eq!(live, attempt == 1, "{}", world.journal());
    }
}

// Shows: N4.
#[test]
fn s03_stale_answer_in_next_attempt_is_ignored() {
    // The first answer is lost; a copy of it arrives on the second attempt's connection.
    let plan = Plan::default()
        .with(message(MessageKind::MasterAnswer, 1, Delivery::Drop))
        .with(when(Phase::BackingOff, secs(7), Action::OldAnswer));
    let world = check(plan, Expected::Live(2));
    assert!(was_ignored(&world, Ignored::SecondAnswer), "{}", world.journal());
    assert_eq!(commands(&world, is_set_remote).len(), 1);
}

// Shows: N4.
#[test]
fn s04_duplicate_answer_is_ignored() {
    let plan = Plan::default()
        .with(message(MessageKind::MasterAnswer, 1, Delivery::Duplicate(ms(3))))
        .with(when(Phase::Live, secs(100), Action::RepeatAnswer));
    let world = check(plan, Expected::Live(1));
    assert!(was_ignored(&world, Ignored::Duplicate));
    assert_eq!(commands(&world, is_set_remote).len(), 1);
}

#[test]
fn s05_second_answer_after_right_one_is_ignored() {
    let mut plan = Plan::default();
    plan.master.answers = Answers::ThenAnother;
    let world = check(plan, Expected::Live(1));
    assert!(was_ignored(&world, Ignored::SecondAnswer));
}

// Shows: N4.
#[test]
fn s05_stale_first_answer_costs_the_suspect_deadline() {
    // A stale answer costs the suspect deadline, not the whole establish deadline.
    let mut plan = Plan::default();
    plan.master.answers = Answers::AfterStale;
    plan.master.reaches_viewer = false;
    let mut world = World::new(plan.clone());
    world.open();
    assert!(world.run_until_phase(Phase::Closing, secs(5)), "{}", world.journal());
    // The next attempt gets the right answer first.
    let plan = Plan::default().with(when(
        Phase::AwaitingAnswer,
        ms(1),
        Action::StrayAnswer(Sender::Master),
    ));
    let world = check(plan, Expected::Live(2));
    assert!(was_ignored(&world, Ignored::SecondAnswer));
    assert!(world.events().iter().any(|(_, e)| *e == Event::DeadlineFired(Timer::Establish)));
}

#[test]
fn s06_answer_before_offer_is_ignored() {
    let plan =
        Plan::default().with(when(Phase::Offering, ms(1), Action::StrayAnswer(Sender::Master)));
    // Before the offer is created no exchange is open; while it is sent, its answer may arrive.
    let mut plan = plan;
    plan.faults.push(command(CommandKind::SetLocal, 1, CommandFault::Late(ms(300))));
    let world = check(plan, Expected::Live(1));
    assert!(was_ignored(&world, Ignored::Unsolicited));
}

#[test]
fn s06_answer_after_close_is_ignored() {
    let plan = Plan::default().with(when(Phase::Live, secs(1), Action::Close)).with(when(
        Phase::Live,
        secs(1),
        Action::RepeatAnswer,
    ));
    check(plan, Expected::Ended(EndReason::Closed, 1));
}

// Shows: N6.
#[test]
fn s07_undecodable_answer_ends_attempt_at_once() {
    let mut plan = Plan::default().with(message(MessageKind::MasterAnswer, 1, Delivery::Corrupt));
    plan.master.candidates = 0;
    let world = check(plan, Expected::Live(2));
    let fired = Event::DeadlineFired(Timer::Answer);
    assert_eq!(events(&world, |event| *event == fired), 0, "it does not wait for the timer");

    let mut plan = Plan::default();
    plan.master.answers = Answers::Undecodable;
    check(plan, Expected::Ended(EndReason::BadAnswer, 2));
}

// Shows: N6.
#[test]
fn s08_rejected_answer_ends_session_after_one_retry() {
    let mut plan = Plan::new(Settings::persistent());
    plan.master.answers = Answers::Refused;
    let world = check(plan, Expected::Ended(EndReason::IncompatibleSdp, 2));
    let outcome = world.outcome().expect("it ended");
    assert!(outcome.sentence().contains("a=line 7"), "{}", outcome.sentence());
}

#[test]
fn s09_answer_without_codec_ends_session() {
    let mut plan = Plan::new(Settings::persistent());
    plan.master.answers = Answers::RejectsMedia;
    check(plan, Expected::Ended(EndReason::Codec, 1));
}

// Shows: N10.
#[test]
fn s10_messages_of_wrong_sender_are_ignored() {
    let plan = Plan::default()
        .with(when(Phase::AwaitingAnswer, ms(1), Action::StrayAnswer(Sender::Other)))
        .with(when(Phase::AwaitingAnswer, ms(2), Action::ForeignCandidate))
        .with(when(Phase::AwaitingAnswer, ms(3), Action::StrayOffer(Sender::Other)));
    let world = check(plan, Expected::Live(1));
    assert!(was_ignored(&world, Ignored::Foreign));
    assert_eq!(commands(&world, is_set_remote).len(), 1);
}

// Shows: N1.
#[test]
fn s16_requests_during_exchange_become_one_exchange() {
    // Opened twice: one exchange. Three requests while it is open: one more exchange.
    let plan = Plan::default()
        .with(Fault::At { trigger: Trigger::Opened, after: ms(1), action: Action::Open })
        .with(when(Phase::AwaitingAnswer, ms(1), Action::Renegotiate))
        .with(when(Phase::AwaitingAnswer, ms(2), Action::Renegotiate))
        .with(when(Phase::AwaitingAnswer, ms(3), Action::Renegotiate));
    let world = check(plan, Expected::Live(1));
    assert!(was_ignored(&world, Ignored::AlreadyOpen));
    assert_eq!(commands(&world, is_offer).len(), 2);
    // This master ignores a repeated id, so the renegotiation fails, and media is untouched.
    assert_eq!(events(&world, |event| *event == Event::RenegotiationFailed), 1);
}

#[test]
fn s16_renegotiation_is_answered() {
    let mut plan = Plan::default().with(when(Phase::Live, secs(1), Action::Renegotiate));
    plan.master.repeated_id = RepeatedId::Renegotiates;
    let world = check(plan, Expected::Live(1));
    assert_eq!(commands(&world, is_set_remote).len(), 2);
}

#[test]
fn s16_timed_out_set_local_stops_renegotiation() {
    // It is unknown whether a set-local that missed its deadline was carried out.
    let plan = Plan::default()
        .with(when(Phase::Live, secs(1), Action::Renegotiate))
        .with(command(CommandKind::SetLocal, 2, CommandFault::Late(secs(6))))
        .with(when(Phase::Live, secs(20), Action::Renegotiate));
    let world = check(plan, Expected::Live(1));
    assert!(was_ignored(&world, Ignored::OutOfPhase));
    assert_eq!(events(&world, |event| *event == Event::RenegotiationFailed), 1);
}

#[test]
fn s29_connection_lost_before_answer_is_retried() {
    let plan = Plan::default().with(when(
        Phase::AwaitingAnswer,
        ms(10),
        Action::CutLink(FailureCode::Network),
    ));
    check(plan, Expected::Live(2));
}

#[test]
fn s35_reordered_answer_and_candidates_end_live() {
    for nth in 1..=3 {
        let plan = Plan::default()
            .with(message(MessageKind::MasterAnswer, 1, Delivery::Delay(ms(200))))
            .with(message(MessageKind::MasterCandidate, nth, Delivery::Hold));
        check(plan, Expected::Live(1));
    }
}
