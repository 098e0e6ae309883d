//! The scenarios of the contract's part 5 in the simulator, one short test for each number.
//!
//! A test states what goes wrong and how the session must end; [`check`] runs it, and requires that
//! no rule was broken and that every fault was hit.

#[path = "scenarios/answers.rs"]
mod answers;
#[path = "scenarios/by_hand.rs"]
#[expect(clippy::wildcard_enum_match_arm, reason = "events of other kinds do not matter here")]
mod by_hand;
#[path = "scenarios/candidates.rs"]
mod candidates;
#[path = "scenarios/channel.rs"]
mod channel;
#[path = "scenarios/closing.rs"]
mod closing;
#[path = "scenarios/glare.rs"]
mod glare;
#[path = "scenarios/links.rs"]
mod links;
#[path = "scenarios/media.rs"]
mod media;
#[path = "scenarios/numbers.rs"]
mod numbers;
#[path = "scenarios/recovery.rs"]
mod recovery;

use std::time::Duration;

use negotiation_core::*;
use negotiation_sim::*;

/// How a session must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// Live, in this attempt.
    Live(u32),
    /// Ended for this reason, after this number of attempts.
    Ended(EndReason, u32),
}

/// Runs a plan until no event is left, and compares the end.
#[track_caller]
fn check(plan: Plan, expected: Expected) -> World {
    let mut world = World::new(plan);
    world.open();
    rest(&mut world, expected);
    world
}

/// The same for a running world.
#[track_caller]
fn rest(world: &mut World, expected: Expected) {
    world.run_until_quiet(Duration::from_secs(4 * 3600));
    assert_eq!(world.violations(), Vec::<String>::new(), "{}", world.journal());
    let attempts = world.session().attempt();
    let found = match world.outcome() {
        Some(outcome) => Expected::Ended(outcome.reason, outcome.attempts_total),
        None => {
            assert_eq!(world.phase(), Phase::Live, "{}", world.journal());
            Expected::Live(attempts)
        }
    };
    assert_eq!(found, expected, "{}", world.journal());
    let unmet = world.fault_hits().iter().position(|hits| *hits == 0);
    assert_eq!(unmet, None, "a fault of the script was never met");
    assert_eq!(replay(world.journal()), Ok(()));
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A fault at the first entry of a phase.
fn when(phase: Phase, after: Duration, action: Action) -> Fault {
    Fault::At { trigger: Trigger::Entered(phase, 1), after, action }
}

fn message(what: MessageKind, nth: u32, how: Delivery) -> Fault {
    Fault::Message { what, nth, how }
}

fn command(what: CommandKind, nth: u32, how: CommandFault) -> Fault {
    Fault::Command { what, nth, how }
}

/// Whether the application was informed that an input was ignored for this reason.
fn was_ignored(world: &World, reason: Ignored) -> bool {
    events(world, |event| *event == Event::Ignored(reason)) > 0
}

/// The number of matching events.
fn events(world: &World, like: impl Fn(&Event) -> bool) -> usize {
    world.events().iter().filter(|(_, event)| like(event)).count()
}

/// The times of the matching commands.
fn commands(world: &World, like: impl Fn(&Output) -> bool) -> Vec<Timestamp> {
    world.journal().outputs().filter(|(_, output)| like(output)).map(|(at, _)| at).collect()
}

fn is_set_remote(output: &Output) -> bool {
    matches!(output, Output::Peer(_, PeerCommand::SetRemote { .. }))
}

fn is_offer(output: &Output) -> bool {
    let Output::Signaling(_, SignalingCommand::Send { message, .. }) = output else { return false };
    matches!(message, Message::Offer(_))
}

/// A master that answers a restart in its existing session.
fn renegotiating_master() -> Plan {
    let mut plan = Plan::default();
    plan.master.repeated_id = RepeatedId::Renegotiates;
    plan
}

/// A storage session, in which the service offers.
fn storage() -> Plan {
    let mut settings = Settings::one_retry();
    settings.mode = Mode::Answerer;
    let mut plan = Plan::new(settings);
    plan.master.repeated_id = RepeatedId::Renegotiates;
    plan
}

/// Whether an output creates a restart offer.
fn is_restart(output: &Output) -> bool {
    matches!(output, Output::Peer(_, PeerCommand::CreateOffer { restart: true, .. }))
}

fn is_peer(output: &Output) -> bool {
    matches!(output, Output::Peer(_, PeerCommand::Create { .. }))
}

fn is_connect(output: &Output) -> bool {
    matches!(output, Output::Signaling(_, SignalingCommand::Connect { .. }))
}
