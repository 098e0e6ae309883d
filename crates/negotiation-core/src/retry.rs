//! The budget of attempts and the pauses between them (contract, N14 and N15).

use core::time::Duration;

use crate::config::Config;
use crate::rng::Rng;
use crate::time::Timestamp;

/// What is left of the retries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    spent: u32,
    first_failure: Option<Timestamp>,
    /// When a live attempt was lost last.
    lost_live: Option<Timestamp>,
    /// The network changed in the set-up since the last refill: its free attempt is used up.
    moved: bool,
}

impl Budget {
    /// A set-up failed: the pause before the next attempt, or `None` when the budget is spent.
    pub(crate) fn spend(
        &mut self,
        config: &Config,
        now: Timestamp,
        throttled: bool,
        rng: &mut Rng,
    ) -> Option<Duration> {
        let since = *self.first_failure.get_or_insert(now);
        if self.spent >= config.settings().retries {
            return None;
        }
        let pause = config.settings().retry_delay.pause(self.spent, rng);
        let pause = if throttled { pause.max(config.settings().throttle_delay) } else { pause };
        if config.settings().retry_window.is_some_and(|window| now + pause > since + window) {
            return None;
        }
        self.spent += 1;
        Some(pause)
    }

    /// A live attempt was lost. That costs nothing and waits for nothing, unless it comes within
    /// the refill time of the loss before: a camera that goes away again and again spends the
    /// budget like any failure (contract, N14).
    pub(crate) fn lose_live(
        &mut self,
        config: &Config,
        now: Timestamp,
        rng: &mut Rng,
    ) -> Option<Duration> {
        let before = self.lost_live.replace(now);
        if before
            .is_some_and(|before| now.saturating_since(before) < config.settings().refill_after)
        {
            return self.spend(config, now, false, rng);
        }
        Some(Duration::ZERO)
    }

    /// The network changed while an attempt was set up: the first time costs nothing.
    pub(crate) fn move_set_up(
        &mut self,
        config: &Config,
        now: Timestamp,
        rng: &mut Rng,
    ) -> Option<Duration> {
        if core::mem::replace(&mut self.moved, true) {
            return self.spend(config, now, false, rng);
        }
        Some(Duration::ZERO)
    }

    /// Time without a network does not count for the window of the retries.
    pub(crate) fn hold(&mut self, passed: Duration) {
        self.first_failure = self.first_failure.map(|first| first + passed);
    }

    /// Retries since the budget was last full.
    pub(crate) fn spent(&self) -> u32 {
        self.spent
    }

    /// Moves the moment of the first failure, or forgets it where no window counts from it.
    pub(crate) fn forget_before(&mut self, moved: impl Fn(Timestamp) -> Option<Timestamp>) {
        self.first_failure = self.first_failure.and_then(moved);
    }

    /// Moves the moment of the last loss, or forgets it where it does not count any more.
    pub(crate) fn forget_loss(&mut self, moved: impl Fn(Timestamp) -> Option<Timestamp>) {
        self.lost_live = self.lost_live.and_then(moved);
    }

    /// Live for long enough: the budget is full again.
    pub(crate) fn refill(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    // Shows: N14.
    #[test]
    fn one_retry_after_six_seconds_then_no_more() {
        let config = Settings::one_retry().check().expect("valid");
        let (mut budget, mut rng) = (Budget::default(), Rng::new(1));
        assert_eq!(budget.spend(&config, at(30), false, &mut rng), Some(Duration::from_secs(6)));
        assert_eq!(budget.spend(&config, at(66), false, &mut rng), None);
        budget.refill();
        assert!(budget.spend(&config, at(100), false, &mut rng).is_some());
    }

    // Shows: N14.
    #[test]
    fn persistent_stops_at_its_window_or_its_count() {
        let config = Settings::persistent().check().expect("valid");
        let (mut budget, mut rng) = (Budget::default(), Rng::new(7));
        let quick = (0..).take_while(|_| budget.spend(&config, at(1), false, &mut rng).is_some());
        assert_eq!(quick.count(), 10);
        budget.refill();
        assert!(budget.spend(&config, at(10), false, &mut rng).is_some());
        assert_eq!(budget.spend(&config, at(131), false, &mut rng), None);
    }

    #[test]
    fn retry_that_ends_with_the_window_is_still_in_it() {
        let mut settings = Settings::one_retry();
        (settings.retries, settings.retry_window) = (5, Some(Duration::from_secs(20)));
        let config = settings.check().expect("valid");
        let (mut budget, mut rng) = (Budget::default(), Rng::new(1));
        assert!(budget.spend(&config, at(100), false, &mut rng).is_some());
        assert!(budget.spend(&config, at(114), false, &mut rng).is_some());
        assert_eq!(budget.spent(), 2);
        let late = Timestamp::from_millis(114_001);
        assert_eq!(budget.spend(&config, late, false, &mut rng), None);
        assert_eq!(budget.spent(), 2, "what is not begun is not spent");
        budget.forget_before(|_| Some(at(110)));
        assert!(budget.spend(&config, at(124), false, &mut rng).is_some());
        budget.forget_before(|_| None);
        assert!(budget.spend(&config, at(500), false, &mut rng).is_some());
        budget.refill();
        assert_eq!(budget.spent(), 0);
    }

    #[test]
    fn throttle_waits_five_seconds_at_least() {
        let config = Settings::persistent().check().expect("valid");
        let (mut budget, mut rng) = (Budget::default(), Rng::new(7));
        let pause = budget.spend(&config, at(1), true, &mut rng);
        assert!(pause >= Some(Duration::from_secs(5)), "{pause:?}");
    }

    /// N14: a loss spends a retry only within the refill time of the loss before it.
    // Shows: N15.
    #[test]
    fn n14_loss_spends_a_retry_within_the_refill_time_of_the_one_before() {
        let config = Settings::one_retry().check().expect("valid");
        let (mut budget, mut rng) = (Budget::default(), Rng::new(1));
        let mut lost = |secs: u64| budget.lose_live(&config, at(secs), &mut rng);
        assert_eq!(lost(1), Some(Duration::ZERO));
        assert_eq!(lost(31), Some(Duration::ZERO), "the refill time is over");
        assert_eq!(lost(61), Some(Duration::ZERO));
        assert_eq!(lost(90), Some(Duration::from_secs(6)), "29 s after the one before");
        assert_eq!(lost(110), None);
        budget.refill();
        assert_eq!(budget.lose_live(&config, at(120), &mut rng), Some(Duration::ZERO));
    }

    #[test]
    fn network_change_in_the_set_up_is_free_once_until_the_refill() {
        let config = Settings::one_retry().check().expect("valid");
        let (mut budget, mut rng) = (Budget::default(), Rng::new(1));
        assert_eq!(budget.move_set_up(&config, at(1), &mut rng), Some(Duration::ZERO));
        assert_eq!(budget.move_set_up(&config, at(90), &mut rng), Some(Duration::from_secs(6)));
        assert_eq!(budget.move_set_up(&config, at(180), &mut rng), None);
    }

    #[test]
    fn held_time_does_not_count_for_the_retry_window() {
        let config = Settings::persistent().check().expect("valid");
        let (mut budget, mut rng) = (Budget::default(), Rng::new(1));
        assert!(budget.spend(&config, at(10), false, &mut rng).is_some());
        budget.hold(Duration::from_secs(300));
        assert!(budget.spend(&config, at(400), false, &mut rng).is_some());
        assert_eq!(budget.spend(&config, at(431), false, &mut rng), None);
    }
}
