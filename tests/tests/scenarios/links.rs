//! Signaling connections that follow one another: scenarios 18, 30, 31 and 32.

use super::*;

fn disconnects(world: &World) -> Vec<Timestamp> {
    commands(world, |output| {
        matches!(output, Output::Signaling(_, SignalingCommand::Disconnect { .. }))
    })
}

#[test]
fn s18_takeover_before_live_ends_session() {
    let mut plan = Plan::new(Settings::persistent());
    plan.master.answers = Answers::Never;
    for attempt in 1..=3 {
        plan.faults.push(Fault::At {
            trigger: Trigger::Entered(Phase::AwaitingAnswer, attempt),
            after: secs(1),
            action: Action::Takeover(1),
        });
    }
    check(plan, Expected::Ended(EndReason::Replaced, 3));
}

#[test]
fn s18_takeover_while_live_stops_reopening() {
    let plan = Plan::default().with(when(Phase::Live, secs(2), Action::Takeover(9)));
    let world = check(plan, Expected::Live(1));
    assert_eq!(events(&world, |event| matches!(event, Event::LinkGivenUp(_))), 1);
    assert_eq!(commands(&world, is_connect).len(), 3, "no fight");
}

// Shows: N20.
#[test]
fn s30_connection_lost_while_live_is_reopened() {
    for code in [FailureCode::Closed, FailureCode::Network, FailureCode::TimedOut] {
        let plan = Plan::default().with(when(Phase::Live, secs(600), Action::CutLink(code)));
        let world = check(plan, Expected::Live(1));
        assert_eq!(events(&world, |event| *event == Event::LinkReopened), 1);
        assert_eq!(commands(&world, is_connect).len(), 2);
        assert_eq!(world.links().0, 1);
    }
}

// Shows: N16.
#[test]
fn s30_reopening_backs_off_and_stops_on_permanent_failure() {
    let mut plan =
        Plan::default().with(when(Phase::Live, secs(60), Action::CutLink(FailureCode::Dns)));
    for nth in 2..12 {
        plan.faults.push(command(
            CommandKind::Connect,
            nth,
            CommandFault::Fail(FailureCode::Network),
        ));
    }
    let world = check(plan, Expected::Live(1));
    assert_eq!(events(&world, |event| *event == Event::LinkReopened), 1);

    let plan = Plan::default()
        .with(when(Phase::Live, secs(60), Action::CutLink(FailureCode::Network)))
        .with(command(CommandKind::Connect, 2, CommandFault::Fail(FailureCode::AccessDenied)));
    let world = check(plan, Expected::Live(1));
    assert_eq!(events(&world, |event| matches!(event, Event::LinkGivenUp(_))), 1);
    assert_eq!(commands(&world, is_connect).len(), 2);
}

// Shows: N21.
#[test]
fn s31_go_away_opens_new_connection_first() {
    let plan = Plan::default().with(when(Phase::Live, secs(1), Action::GoAway));
    let world = check(plan, Expected::Live(1));
    assert_eq!(events(&world, |event| *event == Event::LinkReopened), 1);
    assert_eq!(events(&world, |event| matches!(event, Event::LinkLost(_))), 0);
    let (opened, left) = (commands(&world, is_connect), disconnects(&world));
    assert_eq!((opened.len(), left.len()), (2, 1));
    assert!(left[0] > opened[1], "the new connection is ready before the old one is closed");
}

// Shows: N21.
#[test]
fn s31_go_away_is_spread_over_time_when_live() {
    let times = (0..40).map(|seed| {
        let mut plan = Plan::default().with(when(Phase::Live, secs(1), Action::GoAway));
        plan.seed = seed;
        let world = check(plan, Expected::Live(1));
        commands(&world, is_connect)[1]
    });
    let times: std::collections::BTreeSet<_> = times.collect();
    assert!(times.len() > 30, "{times:?}");
    let spread = times.last().zip(times.first()).map(|(a, b)| a.saturating_since(*b));
    assert!(spread > Some(secs(15)) && spread <= Some(secs(30)), "{spread:?}");
}

// Shows: N21.
#[test]
fn s31_go_away_during_exchange_is_followed_at_once() {
    let mut plan = Plan::default().with(when(Phase::AwaitingAnswer, ms(1), Action::GoAway));
    plan.master.answers_after = secs(5);
    let world = check(plan, Expected::Live(1));
    let opened = commands(&world, is_connect);
    assert!(opened[1].saturating_since(opened[0]) < secs(1), "at once");
}

// Shows: N12.
#[test]
fn s31_network_lost_before_offer_is_sent_ends_attempt() {
    // The first connection is closed for one that cannot be opened, so the offer cannot be sent.
    let plan = Plan::default()
        .with(command(CommandKind::IceServers, 1, CommandFault::Hang))
        .with(when(Phase::Offering, ms(0), Action::GoAway))
        .with(when(Phase::Offering, ms(10), Action::NetworkDown));
    check(plan, Expected::Ended(EndReason::Signaling, 2));
}

// Shows: N21.
#[test]
fn s31_refused_second_connection_closes_first() {
    let plan = Plan::default()
        .with(when(Phase::Live, ms(500), Action::RefuseSecondLink))
        .with(when(Phase::Live, secs(1), Action::GoAway));
    let world = check(plan, Expected::Live(1));
    assert_eq!(events(&world, |event| *event == Event::LinkReopened), 1);
    assert_eq!(world.links().0, 1);
}

#[test]
fn s31_offer_being_sent_survives_go_away() {
    let plan = Plan::default()
        .with(command(CommandKind::SendOffer, 1, CommandFault::Late(secs(2))))
        .with(when(Phase::Offering, ms(1), Action::GoAway));
    check(plan, Expected::Live(1));
}

// Shows: N21.
#[test]
fn s32_reconnect_ice_server_refreshes_servers() {
    for after in [ms(50), secs(30)] {
        let plan = renegotiating_master()
            .with(when(Phase::Live, after, Action::TurnExpires))
            .with(when(Phase::Live, after, Action::ReconnectIceServer));
        let world = check(plan, Expected::Live(1));
        assert_eq!(events(&world, |event| *event == Event::IceServersRefreshed), 1);
        assert_eq!(commands(&world, is_offer).len(), 1, "media is left alone");
    }
}
