//! The master's offers: scenarios 20 and 64, and storage sessions.

use super::*;

/// Whether the newest peer connection and the master have the same last offer and answer.
fn agreed(world: &World) -> bool {
    let (viewer, master) = world.agreed();
    viewer.is_some() && viewer == master
}

fn joins(world: &World) -> Vec<Timestamp> {
    commands(world, |output| matches!(output, Output::Signaling(_, SignalingCommand::Join { .. })))
}

// Shows: N7.
#[test]
fn s20_glare_with_one_polite_side_ends_agreed() {
    for (polite, glare) in [(true, Glare::Impolite), (false, Glare::Polite)] {
        for after in [0, 1, 4, 6, 20, 30, 60] {
            let mut settings = Settings::one_retry();
            settings.polite = polite;
            let mut plan = Plan::new(settings);
            plan.master.glare = glare;
            plan.master.answers_after = ms(25);
            plan.master.repeated_id = RepeatedId::Renegotiates;
            let offers = Action::MasterOffers { anew: false };
            let plan = plan.with(when(Phase::Offering, ms(after), offers));
            let world = check(plan, Expected::Live(1));
            assert!(agreed(&world), "polite {polite}, {after} ms: {}", world.journal());
        }
    }
}

// Shows: N7.
#[test]
fn s20_glare_of_a_restart_ends_agreed() {
    for keeps in [true, false] {
        for after in [900, 985, 1_000, 1_020, 1_090, 1_100, 1_110, 1_120] {
            let mut plan = renegotiating_master()
                .with(when(Phase::Live, secs(1), Action::Restart))
                .with(when(Phase::Live, ms(after), Action::MasterOffers { anew: false }));
            plan.stack.traits.restart_keeps_pair = keeps;
            let world = check(plan, Expected::Live(1));
            assert!(agreed(&world), "keeps {keeps}, {after} ms: {}", world.journal());
        }
    }
}

// Shows: N7.
#[test]
fn s20_master_broken_by_glare_costs_one_attempt() {
    for polite in [true, false] {
        let mut settings = Settings::one_retry();
        settings.polite = polite;
        let mut plan = Plan::new(settings);
        plan.master.glare = Glare::Breaks;
        let offers = Action::MasterOffers { anew: false };
        let plan = plan.with(when(Phase::Offering, ms(0), offers));
        let mut world = World::new(plan);
        world.open();
        world.run_until_quiet(secs(300));
        assert_eq!(world.phase(), Phase::Live, "{}", world.journal());
        assert!(world.session().attempt() <= 2);
        assert_eq!(world.violations(), Vec::<String>::new());
    }
}

#[test]
fn s20_answer_is_resent_after_abandoned_restart() {
    // The restart's deadline passes while its offer is being sent and media flows; then the sending
    // fails. The answer to the master's next offer hangs on a connection that is replaced.
    let plan = renegotiating_master()
        .with(when(Phase::Live, secs(1), Action::Restart))
        .with(command(CommandKind::IceServers, 2, CommandFault::Late(secs(4))))
        .with(command(CommandKind::CreateOffer, 2, CommandFault::Late(secs(4))))
        .with(command(CommandKind::SendOffer, 2, CommandFault::Hang))
        .with(when(Phase::Live, secs(20), Action::MasterOffers { anew: false }))
        .with(command(CommandKind::SendAnswer, 1, CommandFault::Hang))
        .with(when(Phase::Live, secs(21), Action::GoAway));
    let world = check(plan, Expected::Live(1));
    assert_eq!(events(&world, |event| *event == Event::DeadlineFired(Timer::Restart)), 1);
    assert_eq!(events(&world, |event| *event == Event::RenegotiationFailed), 0);
    assert!(agreed(&world), "{}", world.journal());
}

// Shows: N7.
#[test]
fn s20_failed_rollback_ends_attempt() {
    let plan = Plan::default()
        .with(command(CommandKind::Rollback, 1, CommandFault::Fail(FailureCode::Port)))
        .with(when(Phase::AwaitingAnswer, ms(1), Action::MasterOffers { anew: false }));
    let mut plan = plan;
    plan.master.answers_after = secs(1);
    check(plan, Expected::Live(2));
}

// Shows: N8.
#[test]
fn s64_storage_session_goes_live() {
    let world = check(storage(), Expected::Live(1));
    assert!(agreed(&world));
    assert_eq!(joins(&world).len(), 1);
    assert!(commands(&world, is_offer).is_empty(), "this viewer answers");
}

// Shows: N8.
#[test]
fn s64_join_is_repeated_until_offer_arrives() {
    let mut plan = storage();
    plan.master.ignored_offers = 3;
    let world = check(plan, Expected::Live(1));
    let joins = joins(&world);
    assert_eq!(joins.len(), 4);
    assert!(joins.windows(2).all(|pair| pair[1].saturating_since(pair[0]) >= secs(6)));

    let mut plan = storage();
    plan.master.answers = Answers::Never;
    check(plan, Expected::Ended(EndReason::NoOffer, 2));
}

#[test]
fn s64_join_failure_after_offer_is_ignored() {
    let refused = CommandFault::Fail(FailureCode::ExpiredCredentials);
    let offers = Action::MasterOffers { anew: false };
    let plan = storage().with(command(CommandKind::Join, 1, refused));
    check(plan.clone(), Expected::Ended(EndReason::ExpiredCredentials, 1));
    // The service's offer can overtake the result of the join call.
    let plan = plan.with(when(Phase::AwaitingOffer, ms(10), offers));
    check(plan, Expected::Live(1));
}

/// A storage session that is full refuses at once, and is retried like a full channel.
#[test]
fn s46_full_storage_session_is_retried() {
    let full = CommandFault::Fail(FailureCode::ViewerLimit);
    check(
        storage().with(command(CommandKind::Join, 0, full)),
        Expected::Ended(EndReason::ViewerLimit, 2),
    );
    check(storage().with(command(CommandKind::Join, 1, full)), Expected::Live(2));
    // A throttled join does not end the attempt: the call is repeated in it.
    let throttled = CommandFault::Fail(FailureCode::Throttled);
    check(storage().with(command(CommandKind::Join, 1, throttled)), Expected::Live(1));
}

// Shows: N8.
#[test]
fn s64_new_remote_session_gets_new_peer_connection() {
    for phase in [Phase::Answering, Phase::Establishing, Phase::AwaitingMedia, Phase::Live] {
        let anew = Action::MasterOffers { anew: true };
        let plan = storage().with(when(phase, ms(3), anew));
        let world = check(plan, Expected::Live(1));
        assert!(agreed(&world), "{phase}: {}", world.journal());
        assert_eq!(commands(&world, is_peer).len(), 2, "{phase}: {}", world.journal());
    }
}

// Shows: N8.
#[test]
fn s64_renegotiation_keeps_peer_connection() {
    let plan = storage().with(when(Phase::Live, secs(5), Action::MasterOffers { anew: false }));
    let world = check(plan, Expected::Live(1));
    assert!(agreed(&world));
    assert_eq!(commands(&world, is_peer).len(), 1, "the same peer connection");
}

#[test]
fn s64_failed_answering_is_retried() {
    for what in [
        CommandKind::SetRemote,
        CommandKind::CreateAnswer,
        CommandKind::SetLocal,
        CommandKind::SendAnswer,
    ] {
        for how in
            [CommandFault::Fail(FailureCode::Port), CommandFault::Hang, CommandFault::Late(secs(7))]
        {
            check(storage().with(command(what, 1, how)), Expected::Live(2));
        }
    }
}
