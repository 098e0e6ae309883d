//! Candidates: scenarios 11 to 15 and 58.

use super::*;

fn added(world: &World) -> Vec<Candidate> {
    let outputs = world.journal().outputs();
    outputs
        .filter_map(|(_, output)| {
            let Output::Peer(_, PeerCommand::AddCandidate { candidate, .. }) = output else {
                return None;
            };
            Some(candidate.clone())
        })
        .collect()
}

// Shows: N9.
#[test]
fn s11_candidates_before_answer_are_added_in_order() {
    for count in [1, 2, 100] {
        let mut plan = Plan::default();
        plan.master.candidates = count;
        plan.master.candidates_first = true;
        plan.master.answers_after = ms(500);
        let world = check(plan, Expected::Live(1));
        let numbers: Vec<u32> = added(&world)
            .iter()
            .filter_map(|candidate| candidate.text.split(' ').nth(1)?.parse().ok())
            .collect();
        assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "all, in order");
        let set = commands(&world, is_set_remote)[0];
        let is_add = |o: &Output| matches!(o, Output::Peer(_, PeerCommand::AddCandidate { .. }));
        assert!(commands(&world, is_add).iter().all(|at| *at > set));
    }
}

// Shows: N25.
#[test]
fn s12_candidate_flood_is_bounded() {
    let plan =
        Plan::default().with(when(Phase::AwaitingAnswer, ms(1), Action::CandidateFlood(10_000)));
    let world = check(plan, Expected::Live(1));
    assert!(was_ignored(&world, Ignored::OverLimit));
    // The oldest 128 are kept; the others are counted.
    let flood = added(&world).iter().filter(|c| c.text.starts_with("candidate:0 ")).count();
    assert_eq!(flood, 128);
}

// Shows: N10.
#[test]
fn s13_candidate_of_old_generation_is_ignored() {
    for phase in [Phase::AwaitingAnswer, Phase::Live] {
        let plan = Plan::default().with(when(phase, ms(1), Action::OldCandidate));
        let world = check(plan, Expected::Live(1));
        assert!(was_ignored(&world, Ignored::OldGeneration), "{phase}");
        assert!(added(&world).iter().all(|c| c.ufrag.as_deref() != Some("older")));
    }
}

#[test]
fn s14_end_of_candidates_is_accepted_in_every_form() {
    for phase in [Phase::AwaitingAnswer, Phase::Establishing, Phase::Live] {
        let plan = Plan::default().with(when(phase, ms(1), Action::EndOfCandidates));
        check(plan, Expected::Live(1));
    }
}

// Shows: N11.
#[test]
fn s15_local_candidate_burst_is_paced() {
    let plan = Plan::default().with(when(Phase::Establishing, ms(10), Action::LocalBurst(40)));
    let world = check(plan, Expected::Live(1));
    let sent = commands(&world, |output| {
        matches!(
            output,
            Output::Signaling(_, SignalingCommand::Send { message: Message::Candidate(_), .. })
        )
    });
    assert_eq!(sent.len(), 44, "none is lost");
    for window in sent.windows(21) {
        assert!(window[20].saturating_since(window[0]) > secs(1), "{window:?}");
    }
}

// Shows: N17.
#[test]
fn s58_answer_without_candidates_needs_a_reachable_viewer() {
    let mut plan = Plan::default();
    plan.master.candidates = 0;
    plan.master.candidates_inside = 0;
    check(plan.clone(), Expected::Live(1));

    plan.master.reaches_viewer = false;
    let world = check(plan, Expected::Ended(EndReason::NoRoute, 2));
    let cause = world.outcome().expect("it ended").likely_cause();
    assert!(cause.contains("named no address"), "{cause}");
}
