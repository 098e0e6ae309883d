//! [`Policy`]: what outlives an attempt and decides what follows it (contract, N14 to N16, N19).

use core::time::Duration;

use crate::config::Config;
use crate::error::EndReason;
use crate::evidence::AttemptEnd;
use crate::master::MasterKnowledge;
use crate::retry::Budget;
use crate::rng::Rng;
use crate::time::Timestamp;
use crate::types::ClientId;

/// A signaling connection that the service closes sooner than this was taken over by another
/// viewer with the same client id.
pub(crate) const QUICK: Duration = Duration::from_secs(5);

/// So many quick ends in a row are a takeover (contract, 18).
pub(crate) const QUICK_MAX: u32 = 3;

/// Decides between another attempt and the end, from what all attempts have shown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Policy {
    pub(crate) rng: Rng,
    pub(crate) budget: Budget,
    /// What is known of the master, from this session and from earlier ones.
    pub(crate) master: MasterKnowledge,
    /// The client id of the last attempt whose offer was sent.
    pub(crate) offered_as: Option<ClientId>,
    /// The service requested fewer calls: nothing is opened before this (contract, N16).
    pub(crate) throttled_until: Timestamp,
    /// Signaling connections in a row that the service closed soon after they opened.
    pub(crate) quick_ends: u32,
    /// Answers in a row that the peer stack refused.
    pub(crate) answers_refused: u32,
}

/// What follows an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Then {
    /// Another attempt, after this pause.
    Retry(Duration),
    End(EndReason),
}

impl Policy {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            budget: Budget::default(),
            master: MasterKnowledge::default(),
            offered_as: None,
            throttled_until: Timestamp::ZERO,
            quick_ends: 0,
            answers_refused: 0,
        }
    }

    /// Decides what follows an attempt that ended like this; `reason` is the session's if it ends.
    pub(crate) fn what_follows(
        &mut self,
        config: &Config,
        now: Timestamp,
        end: &AttemptEnd,
        was_live: bool,
        reason: EndReason,
    ) -> Then {
        if *end == AttemptEnd::Closed || end.is_permanent() {
            return Then::End(reason);
        }
        if matches!(end, AttemptEnd::AnswerRefused(_)) && self.answers_refused > 1 {
            return Then::End(reason);
        }
        let moved = *end == AttemptEnd::NetworkChanged;
        let pause = if *end == AttemptEnd::Resumed || (was_live && moved) {
            // This device slept or moved; the camera did not go away.
            Some(Duration::ZERO)
        } else if was_live {
            self.budget.lose_live(config, now, &mut self.rng)
        } else if moved {
            self.budget.move_set_up(config, now, &mut self.rng)
        } else {
            if end.is_throttle() {
                self.throttled_until = now + config.settings().throttle_delay;
            }
            self.budget.spend(config, now, end.is_throttle(), &mut self.rng)
        };
        pause.map_or(Then::End(reason), Then::Retry)
    }

    /// The pause before a lost signaling connection is opened again.
    pub(crate) fn reopen_pause(&mut self, config: &Config, failures: u32) -> Duration {
        config.settings().link_reopen.pause(failures, &mut self.rng).max(Duration::from_millis(1))
    }
}
