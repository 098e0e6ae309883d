//! A simple reference model of the retries that must happen, computed from the events for the
//! application: counters and a few rules, without states or timers (contract, N13 to N16).

use core::time::Duration;
use std::collections::BTreeMap;

use negotiation_core::{
    AttemptEnd, AttemptReport, Config, EndReason, Event, FailureCode, FailureKind, Outcome, Phase,
    Timer, Timestamp,
};

/// What the next event about another attempt or the end must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// Undecided.
    Nothing,
    /// Another attempt, no sooner than this after the end of the last one.
    Retry { at_least: Duration },
    /// Either of the two: a jittered pause may or may not fit in the retry window.
    Either,
    /// The end of the session.
    End,
}

/// The counters of the model.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    config: Config,
    spent: u32,
    lost_live: Option<Timestamp>,
    moved: bool,
    first_failure: Option<Timestamp>,
    live_since: Option<Timestamp>,
    phase: Phase,
    stalled: bool,
    refused: u32,
    attempts: u32,
    was_live: bool,
    close_asked: bool,
    resumed: bool,
    /// Deadlines stood still for a while, so pauses are not checked.
    unsure: bool,
    ended_at: Timestamp,
    /// When each reported deadline is due; when the last one fired, and when it was due.
    deadlines: BTreeMap<Timer, Timestamp>,
    fired: Option<(Timestamp, Timestamp)>,
    due: Expected,
}

impl Reference {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            spent: 0,
            lost_live: None,
            moved: false,
            first_failure: None,
            live_since: None,
            phase: Phase::Idle,
            stalled: false,
            refused: 0,
            attempts: 0,
            was_live: false,
            close_asked: false,
            resumed: false,
            unsure: false,
            ended_at: Timestamp::ZERO,
            deadlines: BTreeMap::new(),
            fired: None,
            due: Expected::Nothing,
        }
    }

    pub(crate) fn close_asked(&mut self) {
        self.close_asked = true;
    }

    /// A device that slept makes no pause before its next attempt (contract, N13).
    pub(crate) fn resumed(&mut self) {
        self.resumed = true;
    }

    /// Compares an event with the expected one; returns a difference.
    pub(crate) fn observe(&mut self, now: Timestamp, event: &Event) -> Option<String> {
        match event {
            Event::AttemptStarted { attempt } => self.started(now, *attempt),
            Event::Live => {
                self.was_live = true;
                self.refused = 0;
                None
            }
            Event::AttemptEnded(report) => {
                self.ended_at = now;
                self.due = self.decide(report);
                None
            }
            Event::Ended(outcome) => self.ended(outcome),
            Event::PhaseChanged { from, to } => {
                self.moved(now, *from, *to);
                None
            }
            Event::DeadlineArmed { timer, at } => {
                self.deadlines.insert(*timer, *at);
                None
            }
            Event::DeadlineFired(timer) => {
                self.fired = self.deadlines.remove(timer).map(|due| (now, due));
                None
            }
            // The model does not follow how long deadlines stood still.
            Event::Offline => {
                self.unsure = true;
                None
            }
            Event::MediaStalled => {
                self.stalled = true;
                self.refill_budget(now);
                None
            }
            Event::MediaResumed => {
                self.stalled = false;
                self.live_since = (self.phase == Phase::Live).then_some(now);
                None
            }
            Event::Recovering(_)
            | Event::Recovered
            | Event::RestartRefused
            | Event::MasterLearned(_)
            | Event::LinkNotReopened(_)
            | Event::MasterGone(_)
            | Event::Online
            | Event::MediaPaused
            | Event::LinkReopened
            | Event::LinkGivenUp(_)
            | Event::IceServersRefreshed
            | Event::LinkOpened { .. }
            | Event::OfferSent { .. }
            | Event::AnswerReceived { .. }
            | Event::MasterSeen
            | Event::Connected
            | Event::TrackAdded(_)
            | Event::KeyframeReceived
            | Event::Disconnected
            | Event::Reconnected
            | Event::LinkLost(_)
            | Event::GoAway
            | Event::RenegotiationFailed
            | Event::RetryScheduled { .. }
            | Event::Ignored(_)
            | Event::CloseStepFailed(_) => None,
        }
    }

    fn moved(&mut self, now: Timestamp, from: Phase, to: Phase) {
        if from == Phase::Live {
            self.refill_budget(now);
        }
        // A stall belongs to the connection before.
        self.stalled &= matches!(to, Phase::Live | Phase::Recovering);
        if to == Phase::Live && !self.stalled {
            self.live_since = Some(now);
        }
        self.phase = to;
    }

    /// Refills the budget after a long enough time that was live, without recovery or stall.
    ///
    /// A deadline that fires late ends what was live when it was due, since deadlines fire in order
    /// (N5). What begins with it is counted from now.
    fn refill_budget(&mut self, now: Timestamp) {
        let fired = self.fired.filter(|(at, _)| *at == now);
        let over = fired.map_or(now, |(_, due)| due.min(now));
        let long = |at: Timestamp| over.saturating_since(at) >= self.config.settings().refill_after;
        if self.live_since.take().is_some_and(long) {
            (self.spent, self.lost_live, self.first_failure) = (0, None, None);
            self.moved = false;
        }
    }

    fn started(&mut self, now: Timestamp, attempt: u32) -> Option<String> {
        self.attempts += 1;
        let pause = now.saturating_since(self.ended_at);
        let due = core::mem::replace(&mut self.due, Expected::Nothing);
        self.live_since = None;
        let resumed = core::mem::replace(&mut self.resumed, false);
        let fits = match due {
            Expected::Nothing => self.attempts == 1,
            Expected::Either => true,
            // A timer may be late, so there is no upper bound.
            Expected::Retry { at_least } => resumed || pause >= at_least,
            Expected::End => false,
        };
        if (!fits && !self.unsure) || attempt != self.attempts {
            return Some(format!("attempt {attempt} began after {pause:?}, but due was {due:?}"));
        }
        None
    }

    fn ended(&self, outcome: &Outcome) -> Option<String> {
        let reason = outcome.reason;
        let fits = match self.due {
            _ if self.close_asked => true,
            Expected::Retry { .. } if self.unsure => true,
            Expected::End | Expected::Either => reason != EndReason::Closed,
            Expected::Nothing | Expected::Retry { .. } => false,
        };
        let counted = outcome.attempts_total == self.attempts && outcome.was_live == self.was_live;
        (!fits || !counted).then(|| {
            format!("ended with {reason} after {} attempts, due {:?}", self.attempts, self.due)
        })
    }

    fn decide(&mut self, report: &AttemptReport) -> Expected {
        let nothing = Duration::ZERO;
        let mut throttled = false;
        match &report.end {
            AttemptEnd::Closed | AttemptEnd::NothingAccepted => return Expected::End,
            AttemptEnd::Resumed => return Expected::Retry { at_least: nothing },
            AttemptEnd::AnswerRefused(failure) if failure.code == FailureCode::Codec => {
                return Expected::End;
            }
            AttemptEnd::AnswerRefused(_) => {
                self.refused += 1;
                if self.refused == 2 {
                    return Expected::End;
                }
            }
            AttemptEnd::Connect(failure)
            | AttemptEnd::LinkLost(failure)
            | AttemptEnd::Offer(failure)
            | AttemptEnd::NoRelay(failure)
            | AttemptEnd::Peer(failure) => {
                if failure.kind() == FailureKind::Permanent {
                    return Expected::End;
                }
                // Only the service throttles: a peer stack's throttle has no pause.
                let of_service = !matches!(report.end, AttemptEnd::Peer(_));
                throttled = of_service && failure.kind() == FailureKind::Throttled;
            }
            AttemptEnd::Deadline(_)
            | AttemptEnd::UndecodableAnswer
            | AttemptEnd::IceFailed
            | AttemptEnd::DtlsFailed
            | AttemptEnd::MasterGone
            | AttemptEnd::RestartFailed
            | AttemptEnd::StartedOver
            | AttemptEnd::NetworkChanged => {}
        }
        // A change of the viewer's network is no loss of the camera.
        if report.evidence.was_live && report.end == AttemptEnd::NetworkChanged {
            return Expected::Retry { at_least: nothing };
        }
        // A loss is free, unless it comes within the refill time of the loss before (N14).
        if report.evidence.was_live {
            let before = self.lost_live.replace(report.ended);
            let refill = self.config.settings().refill_after;
            if before.is_none_or(|before| report.ended.saturating_since(before) >= refill) {
                return Expected::Retry { at_least: nothing };
            }
        } else if report.end == AttemptEnd::NetworkChanged
            && !core::mem::replace(&mut self.moved, true)
        {
            return Expected::Retry { at_least: nothing };
        }
        let since = *self.first_failure.get_or_insert(report.ended);
        if self.spent == self.config.settings().retries {
            return Expected::End;
        }
        self.spent += 1;
        let shortest = match self.config.settings().retry_delay {
            negotiation_core::RetryDelay::Fixed(delay) => delay,
            negotiation_core::RetryDelay::FullJitter { .. } => nothing,
        };
        let at_least =
            if throttled { shortest.max(self.config.settings().throttle_delay) } else { shortest };
        match self.config.settings().retry_window {
            Some(window) if report.ended + Duration::from_secs(8) > since + window => {
                Expected::Either
            }
            Some(_) | None => Expected::Retry { at_least },
        }
    }
}
