//! The service and the channel: scenarios 17, 28, 30 to 32, 34, 36, 39, 42 to 46.

use super::*;

// Shows: N3.
#[test]
fn s17_session_goes_live_after_churn() {
    // Opened and closed 50 times in 10 s, sometimes after the offer was sent; the master keeps each
    // vanished id for 55 s and has at most ten sessions.
    let mut plan = Plan::new(Settings::persistent());
    plan.master.lingers = secs(55);
    plan.master.notices_close = false;
    let mut world = World::new(plan);
    for round in 0..50 {
        if round == 0 {
            world.open()
        } else {
            world.reopen()
        }
        world.run_for(ms(if round % 10 == 0 { 600 } else { 120 }));
        world.perform(Action::Close);
        assert!(world.run_until_phase(Phase::Ended, secs(1)));
        world.run_for(ms(10));
        assert_eq!(world.links().0, 0, "nothing is left open");
    }
    assert!(world.elapsed() < secs(12), "{:?}", world.elapsed());
    world.reopen();
    assert!(world.run_until_phase(Phase::Live, secs(120)), "{}", world.journal());
    assert!(world.links().1 <= 3 * 12 + 3, "within the quota of connects");
    assert_eq!(world.violations(), Vec::<String>::new());
}

// Shows: N3.
#[test]
fn s17_pooled_ids_avoid_lingering_sessions() {
    // Killed and reopened at once, five times: with ids from the pool each is live at once.
    for (ids, quick) in [(ClientIdPolicy::Pooled, true), (ClientIdPolicy::Fixed, false)] {
        let mut plan = Plan { ids, ..Plan::default() };
        plan.master.lingers = secs(55);
        plan.master.notices_close = false;
        let mut world = World::new(plan);
        world.open();
        assert!(world.run_until_phase(Phase::Live, secs(5)));
        let mut all_quick = true;
        for _ in 0..4 {
            world.perform(Action::Close);
            world.run_until_phase(Phase::Ended, secs(2));
            world.reopen();
            all_quick &= world.run_until_phase(Phase::Live, secs(5));
        }
        assert_eq!(all_quick, quick, "{ids:?}");
        assert_eq!(world.violations(), Vec::<String>::new());
    }
}

#[test]
fn s28_send_errors_cause_no_busy_loop() {
    let plan = Plan::default().with(command(
        CommandKind::SendCandidate,
        0,
        CommandFault::Fail(FailureCode::Network),
    ));
    let world = check(plan, Expected::Live(1));
    assert!(was_ignored(&world, Ignored::Unsent));
    assert!(world.journal().len() < 200, "no busy loop: {}", world.journal().len());
}

#[test]
fn s30_connection_lost_while_live_keeps_media() {
    for after in [secs(1), secs(600), secs(3600)] {
        let plan =
            Plan::default().with(when(Phase::Live, after, Action::CutLink(FailureCode::Closed)));
        let world = check(plan, Expected::Live(1));
        assert_eq!(events(&world, |event| matches!(event, Event::LinkLost(_))), 1);
    }
}

#[test]
fn s31_s32_service_messages_keep_media() {
    let plan = Plan::default()
        .with(when(Phase::Live, secs(1), Action::GoAway))
        .with(when(Phase::Live, secs(2), Action::ReconnectIceServer))
        .with(when(Phase::Live, secs(60), Action::CutLink(FailureCode::Closed)));
    let world = check(plan, Expected::Live(1));
    assert_eq!(events(&world, |event| *event == Event::GoAway), 1);
}

// Shows: N6.
#[test]
fn s34_garbage_is_ignored() {
    let phases = [Phase::Offering, Phase::AwaitingAnswer, Phase::Establishing, Phase::Live];
    let mut plan = Plan::default();
    plan.faults.extend(phases.map(|phase| when(phase, ms(1), Action::Garbage)));
    let world = check(plan, Expected::Live(1));
    assert!(was_ignored(&world, Ignored::Unknown));
}

#[test]
fn s36_error_status_ends_or_retries_attempt() {
    let status = |code| {
        let action = Action::OfferStatus(code);
        Plan::default().with(when(Phase::AwaitingAnswer, ms(5), action))
    };
    check(status(FailureCode::AccessDenied), Expected::Ended(EndReason::AccessDenied, 1));
    let world = check(status(FailureCode::Throttled), Expected::Live(2));
    let starts = commands(&world, is_connect);
    assert!(starts[1].saturating_since(starts[0]) >= secs(5), "a throttle backs off");
    let stray = when(Phase::AwaitingAnswer, ms(5), Action::StrayStatus(FailureCode::Service));
    let world = check(Plan::default().with(stray), Expected::Live(1));
    assert!(was_ignored(&world, Ignored::Status));
}

#[test]
fn s39_expired_credentials_end_session() {
    let plan = Plan::default().with(message(MessageKind::MasterAnswer, 1, Delivery::Drop)).with(
        command(CommandKind::Connect, 2, CommandFault::Fail(FailureCode::ExpiredCredentials)),
    );
    check(plan, Expected::Ended(EndReason::ExpiredCredentials, 2));
}

#[test]
fn s42_control_plane_errors_are_retried() {
    // A failure that the adapter's own retries did not cure costs an attempt.
    let fails =
        |code| Plan::default().with(command(CommandKind::Connect, 1, CommandFault::Fail(code)));
    for code in [FailureCode::Service, FailureCode::Throttled, FailureCode::Dns] {
        check(fails(code), Expected::Live(2));
    }
    // Without TURN the session continues with STUN.
    let no_turn = command(CommandKind::IceServers, 0, CommandFault::Fail(FailureCode::Service));
    check(Plan::default().with(no_turn.clone()), Expected::Live(1));
    let hangs = command(CommandKind::IceServers, 0, CommandFault::Hang);
    check(Plan::default().with(hangs), Expected::Live(1));
    // In a relay-only session the failure ends the attempt.
    let mut settings = Settings::one_retry();
    settings.relay_only = true;
    check(Plan::new(settings).with(no_turn), Expected::Ended(EndReason::NoRoute, 2));
}

// Shows: N16.
#[test]
fn s43_permanent_failure_ends_session_at_once() {
    for (code, reason) in [
        (FailureCode::NoChannel, EndReason::NoChannel),
        (FailureCode::AccessDenied, EndReason::AccessDenied),
        (FailureCode::InvalidArgument, EndReason::InvalidArgument),
        (FailureCode::InvalidClientId, EndReason::InvalidClientId),
        (FailureCode::StorageMode, EndReason::StorageMode),
    ] {
        let plan = Plan::new(Settings::persistent()).with(command(
            CommandKind::Connect,
            1,
            CommandFault::Fail(code),
        ));
        let world = check(plan, Expected::Ended(reason, 1));
        let sentence = world.outcome().expect("it ended").sentence();
        assert!(sentence.contains("PlannedException"), "the API's own name: {sentence}");
    }
}

#[test]
fn s44_later_master_gets_stored_offer() {
    let mut plan = Plan::default();
    plan.master.arrives_after = Some(secs(20));
    let world = check(plan, Expected::Live(1));
    assert_eq!(commands(&world, is_set_remote).len(), 1, "answered once");
}

#[test]
fn s44_master_later_than_message_ttl_is_retried() {
    let mut plan = Plan::default();
    plan.service.message_ttl = secs(10);
    plan.master.arrives_after = Some(secs(20));
    check(plan, Expected::Live(2));
}

// Shows: N15.
#[test]
fn s45_master_close_starts_new_attempt() {
    let plan = Plan::default().with(when(Phase::Live, secs(60), Action::MasterCloses));
    check(plan, Expected::Live(2));
}

// Shows: N16.
#[test]
fn s46_full_channel_is_retried_with_backoff() {
    for (code, reason) in [
        (FailureCode::ViewerLimit, EndReason::ViewerLimit),
        (FailureCode::Throttled, EndReason::Throttled),
    ] {
        let mut settings = Settings::persistent();
        settings.retries = 4;
        let plan =
            Plan::new(settings).with(command(CommandKind::Connect, 0, CommandFault::Fail(code)));
        let world = check(plan, Expected::Ended(reason, 5));
        for pair in commands(&world, is_connect).windows(2) {
            assert!(pair[1].saturating_since(pair[0]) >= secs(5), "{pair:?}");
        }
    }
}
