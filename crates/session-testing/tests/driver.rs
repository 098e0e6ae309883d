//! The real driver takes the roads that the simulator's worlds took.

use core::time::Duration;

use negotiation_core::{Phase, Settings};
use negotiation_sim::{Action, Answers, Fault, Plan, Trigger, World};
use session_testing::simulated::drive;

fn ran(plan: &Plan) -> World {
    let mut world = World::new(plan.clone());
    world.open();
    world.run_until_quiet(Duration::from_secs(4 * 3600));
    world
}

fn same(plan: &Plan) -> usize {
    let world = ran(plan);
    match drive(world.journal(), plan.config.clone(), plan.seed) {
        Ok(outputs) => outputs,
        Err(difference) => panic!("{difference}\n{}", world.journal()),
    }
}

#[test]
fn session_that_goes_live() {
    assert!(same(&Plan::default()) > 20);
}

#[test]
fn master_that_never_answers() {
    let mut plan = Plan::default();
    plan.master.answers = Answers::Never;
    assert!(same(&plan) > 40);
}

// Shows: 49.
#[test]
fn close_in_every_phase() {
    for phase in [Phase::Connecting, Phase::AwaitingAnswer, Phase::Establishing, Phase::Live] {
        let trigger = Trigger::Entered(phase, 1);
        let closes = Fault::At { trigger, after: Duration::from_millis(1), action: Action::Close };
        let plan = Plan { faults: vec![closes], ..Plan::default() };
        assert!(same(&plan) > 5, "{phase:?}");
    }
}

#[test]
fn another_seed_is_detected() {
    let mut plan = Plan::default();
    plan.master.answers = Answers::Never;
    plan.config = Settings::persistent().check().expect("valid");
    let world = ran(&plan);
    assert!(drive(world.journal(), plan.config.clone(), plan.seed).is_ok());
    let difference = drive(world.journal(), plan.config.clone(), plan.seed + 1);
    assert!(difference.is_err(), "the jitter of another seed goes unnoticed");
}
