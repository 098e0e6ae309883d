//! The recovery of a live session: scenarios 21 to 28, 40, 45, 48, 52, 62 and 63.

use super::*;

/// The plan with a peer stack that keeps its pair through a restart, and with one that does not.
fn both(plan: &Plan) -> [Plan; 2] {
    [true, false].map(|keeps| {
        let mut plan = plan.clone();
        plan.stack.traits.restart_keeps_pair = keeps;
        plan
    })
}

// Shows: N1.
#[test]
fn s21_restart_requests_are_coalesced() {
    for plan in both(&renegotiating_master()) {
        let plan = plan
            .with(when(Phase::Live, secs(1), Action::Restart))
            .with(when(Phase::Live, ms(1_001), Action::Restart))
            .with(when(Phase::Live, ms(1_002), Action::Restart));
        let world = check(plan, Expected::Live(1));
        assert_eq!(commands(&world, is_restart).len(), 2, "one now, one remembered");
    }
}

// Shows: N18.
#[test]
fn s23_ice_disconnected_is_restarted() {
    for action in [Action::IceDisconnected, Action::IceFailed] {
        for plan in both(&renegotiating_master()) {
            let world = check(plan.with(when(Phase::Live, secs(10), action)), Expected::Live(1));
            assert_eq!(commands(&world, is_restart).len(), 1);
            assert_eq!(events(&world, |event| *event == Event::Recovered), 1);
            assert_eq!(commands(&world, is_peer).len(), 1, "the same peer connection");
        }
    }
}

// Shows: N18.
#[test]
fn s24_fruitless_restart_starts_new_attempt() {
    for plan in both(&renegotiating_master()) {
        let plan = plan
            .with(when(Phase::Live, secs(10), Action::IceFailed))
            .with(when(Phase::Recovering, ms(1), Action::NetworkDown))
            .with(Fault::At {
                trigger: Trigger::Entered(Phase::Connecting, 2),
                after: ms(1),
                action: Action::NetworkUp,
            });
        let world = check(plan, Expected::Live(2));
        let fired = Event::DeadlineFired(Timer::Restart);
        assert_eq!(events(&world, |event| *event == fired), 1);
    }
}

// Shows: N19.
#[test]
fn s25_ignored_restart_costs_one_deadline() {
    for plan in both(&Plan::default()) {
        let lost = |n| Fault::At {
            trigger: Trigger::Entered(Phase::Live, n),
            after: secs(40),
            action: Action::IceFailed,
        };
        let mut world = check(plan.with(lost(1)).with(lost(2)), Expected::Live(3));
        // Only one restart deadline passes: the session remembers that the master ignores restarts.
        let fired = Event::DeadlineFired(Timer::Restart);
        assert_eq!(events(&world, |event| *event == fired), 1);
        assert_eq!(events(&world, |event| *event == Event::RestartRefused), 1);
        assert_eq!(commands(&world, is_restart).len(), 1);
        world.perform(Action::Restart);
        assert!(was_ignored(&world, Ignored::OutOfPhase));
    }
}

// Shows: N18.
#[test]
fn s25_master_with_new_session_gets_new_attempt() {
    for plan in both(&Plan::default()) {
        let mut plan = plan.with(when(Phase::Live, secs(10), Action::IceFailed));
        plan.master.repeated_id = RepeatedId::Replaces;
        let world = check(plan, Expected::Live(2));
        assert!(was_ignored(&world, Ignored::RefusedRestart));
        let fired = Event::DeadlineFired(Timer::Restart);
        assert_eq!(events(&world, |event| *event == fired), 0, "it waits for no deadline");
    }
}

// Shows: N18.
#[test]
fn s25_ignored_restart_keeps_working_pair() {
    for plan in both(&Plan::default()) {
        let world =
            check(plan.with(when(Phase::Live, secs(10), Action::Restart)), Expected::Live(1));
        assert_eq!(events(&world, |event| *event == Event::RestartRefused), 1);
        assert_eq!(events(&world, |event| *event == Event::Recovered), 1);
    }
}

#[test]
fn s26_network_switch_is_recovered_by_restart() {
    for plan in both(&renegotiating_master()) {
        let plan = plan.with(when(Phase::Live, secs(10), Action::NetworkChanged));
        let world = check(plan, Expected::Live(1));
        let changed =
            world.events().iter().find(|(_, event)| matches!(event, Event::Recovering(_)));
        let back = world.events().iter().find(|(_, event)| *event == Event::Recovered);
        let (Some((from, _)), Some((to, _))) = (changed, back) else { panic!("not recovered") };
        assert!(to.saturating_since(*from) < secs(10), "within the restart's deadline");
        // The connection of the old network loses messages, so the restart goes out on another.
        assert_eq!(events(&world, |event| *event == Event::LinkReopened), 1);
    }
    // A master that ignores the restart costs its deadline and one set-up.
    let plan = Plan::default().with(when(Phase::Live, secs(10), Action::NetworkChanged));
    check(plan, Expected::Live(2));
}

#[test]
fn s26_network_switch_during_set_up_starts_new_attempt() {
    let phases = [
        Phase::Connecting,
        Phase::Offering,
        Phase::AwaitingAnswer,
        Phase::Establishing,
        Phase::AwaitingMedia,
    ];
    for phase in phases {
        let plan = renegotiating_master().with(when(phase, ms(1), Action::NetworkChanged));
        check(plan, Expected::Live(2));
    }
}

#[test]
fn s27_offline_within_limit_spends_no_retry() {
    // Five minutes without a network, within the limit: no retry is spent.
    let mut settings = Settings::persistent();
    settings.retries = 1;
    let mut plan = Plan::new(settings);
    plan.master.repeated_id = RepeatedId::Renegotiates;
    let plan = plan.with(when(Phase::Live, secs(60), Action::Offline)).with(when(
        Phase::Live,
        secs(360),
        Action::Online,
    ));
    let world = check(plan, Expected::Live(1));
    let online = world.events().iter().find(|(_, event)| *event == Event::Online);
    let back = world.events().iter().find(|(_, event)| *event == Event::Recovered);
    let (Some((from, _)), Some((to, _))) = (online, back) else { panic!("not recovered") };
    assert!(to.saturating_since(*from) < secs(5), "at once when the network is back");
}

#[test]
fn s27_offline_during_set_up_starts_no_attempt() {
    let phases = [Phase::Connecting, Phase::Offering, Phase::AwaitingAnswer, Phase::BackingOff];
    for phase in phases {
        let mut plan = Plan::new(Settings::persistent());
        if phase == Phase::BackingOff {
            plan.faults.push(message(MessageKind::MasterAnswer, 1, Delivery::Corrupt));
        }
        let plan = plan.with(when(phase, ms(0), Action::Offline)).with(when(
            phase,
            secs(300),
            Action::Online,
        ));
        let mut world = World::new(plan);
        world.open();
        world.run_for(secs(299));
        assert!(world.session().attempt() == 1, "no attempt starts in {phase}");
        assert!(world.outcome().is_none());
        world.run_for(secs(120));
        assert_eq!(world.phase(), Phase::Live, "{phase}: {}", world.journal());
        assert_eq!(world.violations(), Vec::<String>::new());
    }
}

#[test]
fn s27_offline_longer_than_limit_ends_session() {
    let plan = Plan::default().with(when(Phase::AwaitingAnswer, ms(0), Action::Offline));
    let world = check(plan, Expected::Ended(EndReason::Signaling, 2));
    assert!(world.elapsed() < secs(60 + 30 + 6 + 40), "{:?}", world.elapsed());
}

#[test]
fn s27_flapping_network_does_not_delay_the_end_forever() {
    let mut plan = Plan::default();
    plan.master.answers = Answers::Never;
    let mut world = World::new(plan);
    world.open();
    for _ in 0..200 {
        world.perform(Action::Offline);
        world.run_for(secs(5));
        world.perform(Action::Online);
        world.run_for(ms(1));
        if world.outcome().is_some() {
            break;
        }
    }
    assert_eq!(world.phase(), Phase::Ended, "{}", world.journal());
    assert_eq!(world.violations(), Vec::<String>::new());
}

#[test]
fn s28_unsendable_restart_offers_cause_no_busy_loop() {
    for plan in both(&renegotiating_master()) {
        let mut plan = plan.with(when(Phase::Live, secs(10), Action::IceFailed));
        for nth in 2..40 {
            plan.faults.push(command(
                CommandKind::SendOffer,
                nth,
                CommandFault::Fail(FailureCode::Network),
            ));
        }
        let mut world = World::new(plan);
        world.open();
        world.run_for(secs(21));
        let tried = commands(&world, is_restart).len();
        assert!(tried <= 2, "no busy loop: {tried}");
        assert_eq!(world.violations(), Vec::<String>::new());
    }
}

// Shows: N20.
#[test]
fn s30_restart_waits_for_new_connection() {
    for plan in both(&renegotiating_master()) {
        let plan = plan
            .with(when(Phase::Live, secs(10), Action::CutLink(FailureCode::Network)))
            .with(when(Phase::Live, secs(10), Action::IceFailed));
        let world = check(plan, Expected::Live(1));
        assert_eq!(events(&world, |event| *event == Event::LinkReopened), 1);
        assert_eq!(events(&world, |event| *event == Event::Recovered), 1);
    }
}

#[test]
fn s36_status_for_restart_keeps_media() {
    for plan in both(&renegotiating_master()) {
        let plan = plan
            .with(when(Phase::Live, secs(10), Action::Restart))
            .with(message(MessageKind::ViewerOffer, 2, Delivery::Drop))
            .with(when(Phase::Live, ms(10_500), Action::OfferStatus(FailureCode::Throttled)));
        let world = check(plan, Expected::Live(1));
        assert!(commands(&world, is_restart).len() <= 2);
    }
}

// Shows: N21.
#[test]
fn s40_restart_uses_fresh_turn_credentials() {
    for plan in both(&renegotiating_master()) {
        let plan = plan.with(when(Phase::Live, secs(400), Action::TurnExpires)).with(when(
            Phase::Live,
            secs(401),
            Action::IceFailed,
        ));
        let world = check(plan, Expected::Live(1));
        assert_eq!(world.stale_turn(), 0, "fresh ones are used");
        assert_eq!(events(&world, |event| *event == Event::IceServersRefreshed), 1);
    }
}

#[test]
fn s40_failed_turn_refresh_does_not_stop_restart() {
    for how in [CommandFault::Hang, CommandFault::Fail(FailureCode::Service)] {
        let plan = renegotiating_master()
            .with(command(CommandKind::IceServers, 2, how))
            .with(when(Phase::Live, secs(401), Action::IceFailed));
        check(plan, Expected::Live(1));
    }
}

// Shows: N28.
#[test]
fn s45_rebooted_master_gets_new_attempt() {
    for plan in both(&renegotiating_master()) {
        let plan = plan.with(when(Phase::Live, secs(60), Action::MasterReboots(secs(8))));
        let world = check(plan, Expected::Live(2));
        assert!(events(&world, |event| matches!(event, Event::MasterSeen)) >= 2);
    }
}

// Shows: N27.
#[test]
fn s48_paused_camera_stays_live() {
    let mut plan = Plan::default().with(when(Phase::Live, secs(10), Action::Stall));
    for n in 0..30 {
        plan.faults.push(when(Phase::Live, secs(11 + n * 5), Action::SenderReport));
    }
    plan.faults.push(when(Phase::Live, secs(160), Action::MediaBack));
    let world = check(plan.clone(), Expected::Live(1));
    assert_eq!(events(&world, |event| *event == Event::MediaPaused), 1);
    let requests = commands(&world, |output| {
        matches!(output, Output::Peer(_, PeerCommand::RequestKeyframe { .. }))
    });
    assert!(requests.len() >= 140, "every second: {}", requests.len());
    assert!(commands(&world, is_restart).is_empty(), "a restart is no cure");

    // A restart that is requested meanwhile and ignored ends nothing.
    check(plan.with(when(Phase::Live, secs(30), Action::Restart)), Expected::Live(1));
}

// Shows: N27, N28.
#[test]
fn s48_silence_ends_attempt() {
    let plan = Plan::default().with(when(Phase::Live, secs(10), Action::Stall)).with(when(
        Phase::Live,
        secs(20),
        Action::SenderReport,
    ));
    let world = check(plan, Expected::Live(2));
    let gone = Event::MasterGone(RecoveryCause::Silent);
    assert_eq!(events(&world, |event| *event == gone), 1);
}

// Shows: N14.
#[test]
fn s52_time_in_recovery_does_not_refill_budget() {
    // Live for 29 s, recovering, live for 29 s: the budget is not refilled.
    let plan = renegotiating_master()
        .with(message(MessageKind::MasterAnswer, 1, Delivery::Drop))
        .with(when(Phase::Live, secs(25), Action::Restart))
        .with(when(Phase::Live, secs(50), Action::MasterCloses))
        .with(message(MessageKind::MasterAnswer, 4, Delivery::Drop));
    check(plan, Expected::Ended(EndReason::NoAnswer, 3));
}

// Shows: N4.
#[test]
fn s62_restart_answer_with_old_credentials_is_refused() {
    for repeated_id in [RepeatedId::OldCredentials, RepeatedId::RepeatsAnswer] {
        for plan in both(&Plan::default()) {
            let mut plan = plan.with(when(Phase::Live, secs(10), Action::Restart));
            plan.master.repeated_id = repeated_id;
            let world = check(plan, Expected::Live(1));
            assert_eq!(commands(&world, is_set_remote).len(), 1, "{repeated_id:?}");
            let old = repeated_id == RepeatedId::OldCredentials;
            let reason = if old { Ignored::RefusedRestart } else { Ignored::Duplicate };
            assert!(was_ignored(&world, reason), "{repeated_id:?}");
        }
    }
}

// Shows: N18.
#[test]
fn s63_late_media_is_kept_while_restart_is_open() {
    // Media is back before the master answers, which is late or never.
    for offer_lost in [true, false] {
        for plan in both(&renegotiating_master()) {
            let mut plan = plan
                .with(when(Phase::Live, secs(10), Action::IceDisconnected))
                .with(when(Phase::Live, ms(15_000), Action::IceBack));
            if offer_lost {
                plan.faults.push(message(MessageKind::ViewerOffer, 2, Delivery::Drop));
            } else {
                plan.faults.push(message(MessageKind::MasterAnswer, 2, Delivery::Delay(secs(4))));
            }
            let world = check(plan, Expected::Live(1));
            assert_eq!(commands(&world, is_peer).len(), 1);
            assert_eq!(events(&world, |event| *event == Event::Recovered), 1);
        }
    }
}
