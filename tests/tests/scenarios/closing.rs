//! Closing: scenarios 49, 50 and 66.

use super::*;

fn leads_to(phase: Phase) -> Plan {
    if matches!(phase, Phase::AwaitingOffer | Phase::Answering) {
        storage()
    } else if phase == Phase::Recovering {
        Plan::default().with(when(Phase::Live, secs(1), Action::IceFailed))
    } else {
        Plan::default()
    }
}

// Shows: N22.
#[test]
fn s49_close_in_any_phase_ends_session() {
    let phases =
        Phase::ALL.into_iter().filter(|phase| !matches!(phase, Phase::Idle | Phase::Ended));
    for phase in phases {
        // The close comes twice: inside the callback that reports the phase, or 2 ms later.
        for after in [ms(0), ms(2)] {
            let mut plan = leads_to(phase).with(when(phase, after, Action::Close)).with(when(
                phase,
                after,
                Action::Close,
            ));
            if matches!(phase, Phase::Closing | Phase::BackingOff) {
                plan.master.answers = Answers::Undecodable;
            }
            check(plan, Expected::Ended(EndReason::Closed, 1));
        }
    }
    // A session can be closed before it was opened.
    let mut world = World::new(Plan::default());
    world.perform(Action::Close);
    assert_eq!(world.phase(), Phase::Ended);
}

// Shows: N22.
#[test]
fn s49_hanging_close_step_stops_no_other_step() {
    let steps = [
        CommandKind::Disconnect,
        CommandKind::StopTransceivers,
        CommandKind::RemoveTracks,
        CommandKind::Close,
    ];
    for what in steps {
        for how in [
            CommandFault::Hang,
            CommandFault::Fail(FailureCode::Port),
            CommandFault::Late(secs(60)),
        ] {
            let plan = Plan::default()
                .with(when(Phase::Live, secs(1), Action::Close))
                .with(command(what, 1, how));
            let mut world = World::new(plan);
            world.open();
            world.run_until_phase(Phase::Closing, secs(5));
            let closed_at = world.now();
            assert!(world.run_until_phase(Phase::Ended, secs(2)), "{what:?} {how:?}");
            assert!(world.now().saturating_since(closed_at) <= ms(600));
            assert_eq!(world.violations(), Vec::<String>::new(), "{what:?} {how:?}");
            for step in steps {
                let times = commands(&world, |output| closes(output) == Some(step)).len();
                assert_eq!(times, 1, "{step:?} exactly once");
            }
        }
    }
}

// Shows: N22, N23.
#[test]
fn s49_close_during_replacement_closes_each_part_once() {
    // The service begins a new session, and the old peer connection is at one of its closing steps.
    for what in [CommandKind::StopTransceivers, CommandKind::RemoveTracks, CommandKind::Close] {
        for how in [CommandFault::Hang, CommandFault::Late(ms(300)), CommandFault::Late(ms(110))] {
            let plan = storage()
                .with(when(Phase::Live, secs(1), Action::MasterOffers { anew: true }))
                .with(command(what, 1, how))
                .with(Fault::At {
                    trigger: Trigger::Entered(Phase::Answering, 2),
                    after: ms(100),
                    action: Action::Close,
                });
            let world = check(plan, Expected::Ended(EndReason::Closed, 1));
            for step in [
                CommandKind::Disconnect,
                CommandKind::StopTransceivers,
                CommandKind::RemoveTracks,
                CommandKind::Close,
            ] {
                let times = commands(&world, |output| closes(output) == Some(step)).len();
                assert_eq!(times, 1, "{what:?} {how:?}: {step:?}: {}", world.journal());
            }
        }
    }
}

/// N15, N22: closes that the attempt began before it ended are waited for as well.
#[test]
fn n15_next_attempt_waits_for_pending_disconnect() {
    let plan = Plan::default()
        .with(when(Phase::Live, secs(1), Action::GoAway))
        .with(command(CommandKind::Disconnect, 1, CommandFault::Late(ms(300))))
        .with(when(Phase::Live, ms(1_200), Action::MasterCloses));
    let mut world = World::new(plan);
    world.open();
    assert!(world.run_until_phase(Phase::Closing, secs(5)));
    let closing_from = world.now();
    assert!(world.run_until_phase(Phase::Connecting, secs(5)));
    assert!(world.now().saturating_since(closing_from) > ms(200), "{}", world.journal());
    world.run_until_quiet(secs(600));
    assert_eq!(world.violations(), Vec::<String>::new());
}

fn closes(output: &Output) -> Option<CommandKind> {
    match output {
        Output::Signaling(_, SignalingCommand::Disconnect { .. }) => Some(CommandKind::Disconnect),
        Output::Peer(_, PeerCommand::StopTransceivers { .. }) => {
            Some(CommandKind::StopTransceivers)
        }
        Output::Peer(_, PeerCommand::RemoveTracks { .. }) => Some(CommandKind::RemoveTracks),
        Output::Peer(_, PeerCommand::Close { .. }) => Some(CommandKind::Close),
        Output::Signaling(..) | Output::Peer(..) | Output::Event(_) => None,
    }
}

// Shows: N22.
#[test]
fn s50_close_wins_race_with_answer() {
    let mut plan = Plan::default();
    plan.master.answers = Answers::Never;
    for close_first in [true, false] {
        let mut world = World::new(plan.clone());
        world.open();
        assert!(world.run_until_phase(Phase::AwaitingAnswer, secs(5)));
        let video = MediaSection { kind: MediaKind::Video, mid: None, accepted: true, sends: true };
        let answer = Description {
            sdp: Sdp::new("answer 1 to offer 1 of peer 1"),
            facts: SdpSummary { media: vec![video], ..SdpSummary::default() },
        };
        let body = Ok(answer);
        let answer = SignalingEvent::Answer { sender: Sender::Master, body };
        let mut inputs = [Input::Close, Input::Signaling(ConnectionId(1), answer)];
        if !close_first {
            inputs.reverse();
        }
        inputs.into_iter().for_each(|input| world.inject(input));
        rest(&mut world, Expected::Ended(EndReason::Closed, 1));
        assert_eq!(was_ignored(&world, Ignored::Stale), close_first);
    }
}

#[test]
fn s66_dropped_handle_closes_session() {
    // The driver turns a dropped handle into a close; nothing may be left open.
    let plan = Plan::default().with(when(Phase::Live, secs(1), Action::Close));
    let world = check(plan, Expected::Ended(EndReason::Closed, 1));
    assert_eq!(world.links().0, 0);
}
