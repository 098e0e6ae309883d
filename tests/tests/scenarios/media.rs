//! Media and the peer connection: scenarios 22 to 24, 47, 48, 51, 52, 56, 57 and 61.

use super::*;

fn path(ice: Ice, dtls: Dtls, media: Media) -> Plan {
    Plan { paths: vec![PathTraits { ice, dtls, media }], ..Plan::default() }
}

// Shows: N18.
#[test]
fn s22_short_ice_loss_sends_no_offer() {
    let plan = Plan::default()
        .with(when(Phase::Live, secs(10), Action::IceDisconnected))
        .with(when(Phase::Live, secs(12), Action::IceBack));
    let world = check(plan, Expected::Live(1));
    assert_eq!(commands(&world, is_offer).len(), 1, "no offer is sent");
    assert_eq!(events(&world, |event| *event == Event::Reconnected), 1);
}

// Shows: 24.
#[test]
fn s23_s24_ice_loss_starts_new_attempt_when_restart_is_ignored() {
    for action in [Action::IceDisconnected, Action::IceFailed] {
        let plan = Plan::default().with(when(Phase::Live, secs(10), action));
        let world = check(plan, Expected::Live(2));
        let report = world.events().iter().find_map(|(_, event)| {
            if let Event::AttemptEnded(report) = event { Some(report.clone()) } else { None }
        });
        assert!(report.is_some_and(|report| report.evidence.was_live));
    }
}

#[test]
fn s47_missing_media_ends_after_retry() {
    for media in [Media::Nothing, Media::NoKeyframe] {
        let world =
            check(path(Ice::Works, Dtls::Works, media), Expected::Ended(EndReason::NoMedia, 2));
        let requests = commands(&world, |output| {
            matches!(output, Output::Peer(_, PeerCommand::RequestKeyframe { .. }))
        });
        assert!(requests.len() >= 18, "at once and every second: {}", requests.len());
    }
    // The failure is retried: the second attempt has media.
    let mut plan = path(Ice::Works, Dtls::Works, Media::Nothing);
    plan.paths.push(PathTraits::default());
    check(plan, Expected::Live(2));
}

// Shows: N27.
#[test]
fn s48_stall_ends_attempt_after_give_up_time() {
    let short = Plan::default().with(when(Phase::Live, secs(10), Action::Stall)).with(when(
        Phase::Live,
        secs(20),
        Action::MediaBack,
    ));
    let world = check(short, Expected::Live(1));
    assert_eq!(events(&world, |event| *event == Event::MediaResumed), 1);

    let long = Plan::default().with(when(Phase::Live, secs(10), Action::Stall));
    check(long, Expected::Live(2));
}

// Shows: N27.
#[test]
fn s48_stall_burst_requests_one_keyframe_at_a_time() {
    let mut plan =
        Plan::default().with(command(CommandKind::RequestKeyframe, 0, CommandFault::Late(secs(1))));
    for _ in 0..500 {
        plan.faults.push(when(Phase::Live, secs(10), Action::Stall));
        plan.faults.push(when(Phase::Live, secs(10), Action::MediaBack));
    }
    let world = check(plan, Expected::Live(1));
    let requests = commands(&world, |output| {
        matches!(output, Output::Peer(_, PeerCommand::RequestKeyframe { .. }))
    });
    assert!(requests.len() < 10, "{}", requests.len());
}

// Shows: N13.
#[test]
fn s51_clock_jump_causes_one_transition() {
    for phase in [
        Phase::Connecting,
        Phase::Offering,
        Phase::AwaitingAnswer,
        Phase::Establishing,
        Phase::AwaitingMedia,
    ] {
        let plan = Plan::default().with(when(phase, ms(1), Action::ClockJump(secs(3600))));
        let mut world = World::new(plan);
        world.open();
        while world.elapsed() < secs(3600) && world.step() {}
        let changes = world
            .events()
            .iter()
            .filter(|(at, event)| *at == world.now() && matches!(event, Event::PhaseChanged { .. }))
            .count();
        assert_eq!(changes, 1, "one transition, in {phase}: {}", world.journal());
        rest(&mut world, Expected::Live(2));
    }
    let live = Plan::default().with(when(Phase::Live, secs(1), Action::ClockJump(secs(3600))));
    check(live, Expected::Live(1));
    let mut late = Plan::default().with(message(MessageKind::MasterAnswer, 1, Delivery::Drop));
    late.timer_late = secs(7);
    check(late, Expected::Live(2));
}

// Shows: N13.
#[test]
fn s51_latest_time_fires_deadlines_once() {
    // A deadline that cannot be later than now would fire without end.
    let plan = Plan::default().with(when(Phase::Live, secs(10), Action::Stall));
    let mut world = World::new(plan);
    world.open();
    world.run_for(secs(15));
    let mut session = world.session().clone();
    assert_eq!(session.poll_timeout().map(|(_, timer)| timer), Some(Timer::KeyframeRequest));
    session.handle_input(Timestamp::new(Duration::MAX), Input::Timeout);
    assert_eq!(session.phase(), Phase::Closing);
}

// Shows: N5.
#[test]
fn s51_first_of_two_late_deadlines_is_reported() {
    let plan = Plan::new(Settings::never())
        .with(command(CommandKind::Create, 1, CommandFault::Hang))
        .with(command(CommandKind::Connect, 1, CommandFault::Hang))
        .with(when(Phase::Connecting, ms(1), Action::ClockJump(secs(3600))));
    let world = check(plan, Expected::Ended(EndReason::PeerFailed, 1));
    let fired = Event::DeadlineFired(Timer::Operation);
    assert_eq!(events(&world, |event| *event == fired), 1);
}

// Shows: N14.
#[test]
fn s52_budget_is_refilled_after_time_live() {
    // An attempt fails, the next is lost after an hour of media, and the third fails: the budget
    // is full again by then.
    let plan = Plan::default()
        .with(message(MessageKind::MasterAnswer, 1, Delivery::Drop))
        .with(when(Phase::Live, secs(3600), Action::MasterCloses))
        .with(message(MessageKind::MasterAnswer, 3, Delivery::Drop));
    check(plan, Expected::Live(4));

    // Without the hour the budget is not refilled: the free attempt fails, and the budget is spent.
    let plan = Plan::default()
        .with(message(MessageKind::MasterAnswer, 1, Delivery::Drop))
        .with(when(Phase::Live, secs(5), Action::MasterCloses))
        .with(message(MessageKind::MasterAnswer, 3, Delivery::Drop));
    check(plan, Expected::Ended(EndReason::NoAnswer, 3));
}

// Shows: N13.
#[test]
fn s56_suspend_starts_new_attempt_at_once() {
    let plan = Plan::default().with(when(Phase::Live, secs(10), Action::Suspend(secs(600))));
    let mut world = World::new(plan);
    world.open();
    while world.elapsed() < secs(600) && world.step() {}
    let woke = world.now();
    rest(&mut world, Expected::Live(2));
    let second = commands(&world, is_connect)[1];
    assert!(second.saturating_since(woke) < secs(1), "a new attempt at once");
}

#[test]
fn s56_suspend_while_closing_skips_the_pause() {
    let plan = Plan::default()
        .with(message(MessageKind::MasterAnswer, 1, Delivery::Corrupt))
        .with(when(Phase::Closing, ms(1), Action::Suspend(secs(600))));
    let world = check(plan, Expected::Live(2));
    let scheduled = events(&world, |event| matches!(event, Event::RetryScheduled { .. }));
    assert_eq!(scheduled, 0, "straight to a new attempt");
}

#[test]
fn s57_failed_dtls_ends_after_retry() {
    for dtls in [Dtls::Fails, Dtls::Silent] {
        let plan = path(Ice::Works, dtls, Media::Flows);
        check(plan, Expected::Ended(EndReason::Dtls, 2));
    }
    let mut plan = path(Ice::Works, Dtls::Fails, Media::Flows);
    plan.paths.push(PathTraits::default());
    check(plan, Expected::Live(2));
}

#[test]
fn s57_missing_route_ends_after_retry() {
    for ice in [Ice::Fails, Ice::Silent] {
        let plan = path(ice, Dtls::Works, Media::Flows);
        check(plan, Expected::Ended(EndReason::NoRoute, 2));
    }
}

// Shows: N24.
#[test]
fn s61_missing_local_media_ends_before_offer() {
    let denied = command(CommandKind::Create, 1, CommandFault::Fail(FailureCode::LocalMedia));
    let world = check(Plan::default().with(denied), Expected::Ended(EndReason::LocalMedia, 1));
    assert!(commands(&world, is_offer).is_empty(), "before any offer");
}

#[test]
fn live_condition_depends_on_media_in_the_answer() {
    for (video, audio) in [(true, false), (false, true), (false, false)] {
        let mut plan = Plan::default();
        (plan.master.video, plan.master.audio) = (video, audio);
        // Without any requested media the session cannot become live.
        let silent = Expected::Ended(EndReason::Codec, 1);
        let world = check(plan, if video || audio { Expected::Live(1) } else { silent });
        let frames = events(&world, |event| *event == Event::KeyframeReceived);
        assert_eq!(frames == 1, video);
    }
}
