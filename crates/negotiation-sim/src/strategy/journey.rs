//! Journeys: a way into one phase, and an action that happens there. Plans of random faults alone
//! seldom reach a restart or a second offer, and then seldom hit anything.

use core::time::Duration;

use negotiation_core::{FailureCode, Mode, Phase};
use proptest::option;
use proptest::prelude::*;

use super::portable::{select, vec};
use super::{action, command_fault, command_that_fails, millis, plan};
use crate::{Action, Answers, CommandFault, CommandKind, Fault, Ice, PathTraits, Plan, Trigger};

/// Upper bound of the number of additional faults.
const FAULTS: usize = 3;

/// A plan of any kind, as `cargo xtask sim` runs it.
pub fn any_plan() -> impl Strategy<Value = Plan> {
    prop_oneof![1 => plan(0..6), 1 => journey_plan()]
}

/// A plan with a journey.
pub fn journey_plan() -> impl Strategy<Value = Plan> {
    (journey(), plan(0..FAULTS)).prop_map(|(journey, plan)| journey.planned_on(plan))
}

#[derive(Clone, Debug)]
struct Journey {
    to: Phase,
    way: Way,
    after: Duration,
    actions: Vec<Action>,
    command: Option<Fault>,
    before: Before,
}

/// How the session reaches the phase, where there is a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Without a fault, or because the application requests it.
    Plain,
    /// Because something fails.
    Rough,
    /// Because the master offers while the viewer's offer is open.
    Glare,
}

/// What happens before the attempt that reaches the phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nothing,
    /// An attempt fails, so something was closed.
    Attempt,
    /// An attempt fails, and its peer connection cannot be closed.
    Unclosed,
}

fn journey() -> impl Strategy<Value = Journey> {
    let after = prop_oneof![1 => Just(Duration::ZERO), 3 => millis(0..12), 2 => millis(0..400)];
    let before = prop_oneof![
        3 => Just(Before::Nothing),
        2 => Just(Before::Attempt),
        1 => Just(Before::Unclosed),
    ];
    // Commands in flight on a connection end with it, or with the connection that replaces it.
    let link_ends = vec![Action::LocalBurst(5), Action::CutLink(FailureCode::Closed)];
    let hangs =
        select(vec![CommandKind::IceServers, CommandKind::Join, CommandKind::SendCandidate])
            .prop_map(|what| Some(Fault::Command { what, nth: 1, how: CommandFault::Hang }));
    let rollback = command_fault()
        .prop_map(|how| Some(Fault::Command { what: CommandKind::Rollback, nth: 1, how }));
    let actions = prop_oneof![
        6 => (vec(action(), 1..3), option::weighted(0.3, command_that_fails())),
        1 => (Just(link_ends), Just(None)),
        1 => (Just(vec![Action::GoAway]), hangs),
        1 => (vec(action(), 0..2), rollback),
    ];
    let phases = select(Phase::ALL.as_slice());
    let ways = select(vec![Way::Plain, Way::Rough, Way::Glare]);
    (phases, ways, after, actions, before).prop_map(
        |(to, way, after, (actions, command), before)| Journey {
            to,
            way,
            after,
            actions,
            command,
            before,
        },
    )
}

impl Journey {
    /// Removes obstacles on the way from a plan, and adds the journey's faults.
    fn planned_on(self, mut plan: Plan) -> Plan {
        let mut settings = plan.config.settings().clone();
        if self.to == Phase::AwaitingOffer {
            settings.mode = Mode::Answerer;
        }
        settings.relay_only = false;
        settings.polite |= self.way == Way::Glare;
        settings.retries = settings.retries.max(2);
        let mut clear = Plan::new(settings);
        core::mem::swap(&mut plan.config, &mut clear.config);
        let master = &mut plan.master;
        master.arrives_after = Some(Duration::ZERO);
        (master.answers, master.ignored_offers, master.video) = (Answers::Correctly, 0, true);
        master.answers_after = master.answers_after.min(Duration::from_millis(400));
        plan.paths = vec![PathTraits::default()];
        if self.to == Phase::Establishing && self.way == Way::Rough {
            plan.paths = vec![PathTraits { ice: Ice::Silent, ..PathTraits::default() }];
        }
        self.add_to(&mut plan.faults);
        plan
    }

    fn add_to(&self, faults: &mut Vec<Fault>) {
        let mut at = |phase, after, action| {
            faults.push(Fault::At { trigger: Trigger::Entered(phase, 1), after, action });
        };
        let soon = Duration::from_millis(150);
        let cut = Action::CutLink(FailureCode::Closed);
        match (self.to, self.way) {
            (Phase::Recovering, Way::Plain) => at(Phase::Live, soon, Action::Restart),
            (Phase::Recovering, _) => at(Phase::Live, soon, Action::IceFailed),
            (Phase::Answering, Way::Glare) => {
                at(Phase::AwaitingAnswer, Duration::ZERO, Action::MasterOffers { anew: false });
            }
            (Phase::Answering, way) => {
                at(Phase::Live, soon, Action::MasterOffers { anew: way == Way::Rough });
            }
            (Phase::Closing | Phase::Ended, Way::Plain) => at(Phase::Live, soon, Action::Close),
            (Phase::Closing | Phase::BackingOff, _) => {
                at(Phase::AwaitingAnswer, Duration::ZERO, cut);
            }
            (Phase::Ended, _) => at(Phase::AwaitingAnswer, soon, Action::Close),
            (
                Phase::Idle
                | Phase::Connecting
                | Phase::Offering
                | Phase::AwaitingAnswer
                | Phase::AwaitingOffer
                | Phase::Establishing
                | Phase::AwaitingMedia
                | Phase::Live,
                _,
            ) => {}
        }
        let entered = if self.is_met_before_it_fails() { 2 } else { 1 };
        faults.extend(self.actions.iter().map(|action| Fault::At {
            trigger: Trigger::Entered(self.to, entered),
            after: self.after,
            action: *action,
        }));
        faults.extend(self.command.clone());
        let mut first = |what, how| faults.push(Fault::Command { what, nth: 1, how });
        let over = matches!(self.to, Phase::Closing | Phase::BackingOff | Phase::Ended);
        if self.before != Before::Nothing && !over {
            first(CommandKind::SetRemote, CommandFault::Fail(FailureCode::Port));
        }
        if self.before == Before::Unclosed {
            first(CommandKind::Close, CommandFault::Hang);
        }
    }

    /// Whether the attempt that fails first reaches the phase before it fails.
    fn is_met_before_it_fails(&self) -> bool {
        let early = matches!(
            self.to,
            Phase::Connecting | Phase::Offering | Phase::AwaitingAnswer | Phase::AwaitingOffer
        );
        early && self.before != Before::Nothing
    }
}
