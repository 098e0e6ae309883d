//! What holds of a session in every state.

use crate::phase::Phase;
use crate::session::{Session, State};
use crate::time::Timer;

impl Session {
    /// Whether the state makes sense; for tests and simulators.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        let require = |holds: bool, what| if holds { Ok(()) } else { Err(what) };
        let (phase, cx) = (self.phase(), &self.cx);
        let needs_no_deadline = matches!(phase, Phase::Idle | Phase::Live | Phase::Ended);
        require(
            cx.in_flight.purposes().filter(|p| p.is_description_operation()).count() <= 1,
            "N2: at most one description operation is in flight",
        )?;
        require(
            needs_no_deadline || self.has_deadline_of_stage(),
            "N12: every phase that waits has a deadline",
        )?;
        require(
            !matches!(phase, Phase::Idle | Phase::Ended)
                || (cx.timers.is_empty() && cx.in_flight.len() == 0),
            "N23: nothing is pending before the start and after the end",
        )?;
        if let State::Attempt(attempt) = &self.state {
            let (candidates, max) = (&attempt.candidates, cx.config.settings().candidates_max);
            require(
                candidates.remote.held() <= max && candidates.local.waiting() <= max,
                "N9: candidates are bounded",
            )?;
        }
        Ok(())
    }

    /// Whether the stage that the session is at has a deadline, beside that of the whole set-up.
    fn has_deadline_of_stage(&self) -> bool {
        self.cx.in_flight.len() > 0
            || self.cx.timers.earliest_but(Timer::SetUp).is_some()
            || self.is_frozen()
    }
}
