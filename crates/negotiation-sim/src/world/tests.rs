//! Tests of the world.

use super::*;
use crate::{Answers, CommandFault, CommandKind, Fault, replay};

#[test]
fn same_plan_gives_same_run() {
    let run = || {
        let mut world = World::new(Plan::default());
        world.open();
        assert!(world.run_until_quiet(Duration::from_secs(600)));
        world.journal().to_string()
    };
    assert_eq!(run(), run());
}

#[test]
fn session_goes_live_and_its_journal_replays() {
    let mut world = World::new(Plan::default());
    world.open();
    assert!(world.run_until_phase(Phase::Live, Duration::from_secs(5)));
    world.perform(Action::Close);
    assert!(world.run_until_quiet(Duration::from_secs(5)));
    assert_eq!(world.violations(), Vec::<String>::new());
    assert_eq!(replay(world.journal()), Ok(()));
    assert!(!world.journal().to_string().contains("canary"));
}

#[test]
fn hit_fault_is_counted() {
    let fault = Fault::Command { what: CommandKind::SetRemote, nth: 1, how: CommandFault::Hang };
    let mut world = World::new(Plan::default().with(fault));
    world.open();
    world.run_until_quiet(Duration::from_secs(600));
    assert_eq!(world.fault_hits(), [1]);
    assert_eq!(world.violations(), Vec::<String>::new());
    assert_eq!(world.phase(), Phase::Live, "the second attempt is");
}

#[test]
fn silent_master_ends_session_after_two_attempts() {
    let mut plan = Plan::default();
    plan.master.answers = Answers::Never;
    let mut world = World::new(plan);
    world.open();
    world.run_until_quiet(Duration::from_secs(600));
    let outcome = world.outcome().expect("it ended");
    assert_eq!(outcome.attempts_total, 2);
    assert_eq!(world.violations(), Vec::<String>::new());
}
