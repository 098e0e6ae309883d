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
        require(
            cx.timers.armed().all(|timer| may_be_armed(timer, phase)),
            "N12: a deadline is armed only in a phase that its wait belongs to",
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

/// Whether the wait of a deadline belongs to a phase: one that is left behind was not disarmed.
fn may_be_armed(timer: Timer, phase: Phase) -> bool {
    use Phase::{
        Answering, AwaitingAnswer, AwaitingMedia, AwaitingOffer, BackingOff, Closing, Connecting,
        Establishing, Live, Offering, Recovering,
    };
    let set_up = matches!(
        phase,
        Connecting
            | Offering
            | AwaitingAnswer
            | AwaitingOffer
            | Answering
            | Establishing
            | AwaitingMedia
    );
    let connected = matches!(phase, Live | Recovering);
    match timer {
        Timer::Connect => phase == Connecting,
        Timer::Offer | Timer::Join => phase == AwaitingOffer,
        // That of a renegotiation as well.
        Timer::Answer => {
            connected || matches!(phase, AwaitingAnswer | Establishing | AwaitingMedia)
        }
        Timer::Establish => matches!(phase, Answering | Establishing),
        Timer::FirstMedia => phase == AwaitingMedia,
        Timer::Grace => matches!(phase, AwaitingMedia | Live),
        Timer::MediaGiveUp | Timer::Restart => connected,
        Timer::BudgetRefill => phase == Live,
        Timer::SetUp => set_up,
        Timer::IceServers
        | Timer::KeyframeRequest
        | Timer::CandidatePacing
        | Timer::LinkReopen
        | Timer::GoAway => set_up || connected,
        Timer::RetryDelay => phase == BackingOff,
        Timer::CloseStep => phase == Closing,
        Timer::Operation | Timer::Offline => !matches!(phase, Phase::Idle | Phase::Ended),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadline_belongs_only_to_phases_of_its_wait() {
        let allowed = |timer: Timer| -> alloc::vec::Vec<Phase> {
            Phase::ALL.into_iter().filter(|phase| may_be_armed(timer, *phase)).collect()
        };
        assert_eq!(allowed(Timer::Connect), [Phase::Connecting]);
        assert_eq!(allowed(Timer::Join), [Phase::AwaitingOffer]);
        assert_eq!(allowed(Timer::Establish), [Phase::Answering, Phase::Establishing]);
        assert_eq!(allowed(Timer::FirstMedia), [Phase::AwaitingMedia]);
        assert_eq!(allowed(Timer::Grace), [Phase::AwaitingMedia, Phase::Live]);
        assert_eq!(allowed(Timer::Restart), [Phase::Live, Phase::Recovering]);
        assert_eq!(allowed(Timer::BudgetRefill), [Phase::Live]);
        assert_eq!(allowed(Timer::RetryDelay), [Phase::BackingOff]);
        assert_eq!(allowed(Timer::CloseStep), [Phase::Closing]);
        // Seven phases of the set-up; with the two of a connection that was live; the answer's
        // five.
        assert_eq!(allowed(Timer::SetUp).len(), 7);
        assert_eq!(allowed(Timer::GoAway).len(), 9);
        assert_eq!(allowed(Timer::Answer).len(), 5);
        // All but the start and the end.
        assert_eq!(allowed(Timer::Operation).len(), Phase::ALL.len() - 2);
    }
}
