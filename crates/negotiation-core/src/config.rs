//! Every limit and duration of a session, each with its default and its reason.
//!
//! [`Settings`] is plain data to fill in; [`Settings::check`] makes the [`Config`] a session takes.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::rng::Rng;

/// What can be configured. Start from a preset, change fields, then [`Settings::check`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Settings {
    /// One control-plane call. The C SDK's call budget is 5 s.
    pub call_timeout: Duration,
    /// Finding credentials: a metadata service may hang.
    pub credentials_timeout: Duration,
    /// Fetching ICE servers; after it the session goes on with STUN alone.
    pub ice_servers_timeout: Duration,
    /// Socket and upgrade. The C SDK's whole connect budget is 15 s.
    pub link_open_timeout: Duration,
    /// One operation of a port.
    pub operation_timeout: Duration,
    /// Waiting for the answer, by the retries spent since the budget was last full: the first
    /// before any. The last one repeats.
    pub answer_timeouts: Vec<Duration>,
    /// ICE and DTLS up, after the answer.
    pub establish_timeout: Duration,
    /// What is left of `establish_timeout` once a second, different answer made the first suspect.
    pub suspect_timeout: Duration,
    /// First media, after connected.
    pub first_media_timeout: Duration,
    /// A keyframe is requested this often until it arrives.
    pub keyframe_interval: Duration,
    /// Who offers.
    pub mode: Mode,
    /// Whether our offer gives way when the master offers at the same time (contract, N7).
    pub polite: bool,
    /// Waiting for the service's offer (answerer mode).
    pub offer_timeout: Duration,
    /// The join is repeated this often until the offer comes (answerer mode).
    pub join_interval: Duration,
    /// An ICE restart answered and up.
    pub restart_timeout: Duration,
    /// The same when the local address of the pair in use is gone: nothing can come back by
    /// itself, and many masters ignore restarts.
    #[cfg_attr(feature = "serde", serde(default = "restart_timeout_address_gone"))]
    pub restart_timeout_address_gone: Duration,
    /// The pause before a lost connection is opened again; it grows with every failure.
    pub link_reopen: RetryDelay,
    /// A GO_AWAY is followed at a random moment within this time, when live.
    pub go_away_spread: Duration,
    /// For how long deadlines stand still while the platform has no network.
    pub offline_limit: Duration,
    /// How often the session tries again.
    pub retries: u32,
    /// No retry starts later than this after the first failure since the last refill.
    pub retry_window: Option<Duration>,
    /// The pause before a retry.
    pub retry_delay: RetryDelay,
    /// The shortest pause after the service throttled a request.
    pub throttle_delay: Duration,
    /// How long ICE may stay disconnected before it is restarted; where it cannot be, before the
    /// attempt is given up.
    pub disconnect_grace: Duration,
    /// How long media may stay away, with ICE up, before the attempt is given up.
    pub media_give_up: Duration,
    /// The retry budget is full again after being live this long.
    pub refill_after: Duration,
    /// Closing, as a whole; each of its steps has a quarter.
    pub close_timeout: Duration,
    /// Only relayed candidates may be used: without TURN there is no attempt.
    pub relay_only: bool,
    /// The application requested video. Without both this and `receive_audio`, connected
    /// is live; with one of them, media has to arrive.
    #[cfg_attr(feature = "serde", serde(default = "yes"))]
    pub receive_video: bool,
    /// The application requested audio.
    #[cfg_attr(feature = "serde", serde(default = "yes"))]
    pub receive_audio: bool,
    /// Held remote candidates, and local ones waiting to be sent.
    pub candidates_max: usize,
    /// Remote candidates taken in one exchange; the rest is counted.
    pub candidates_taken_max: usize,
    /// Local candidates in any second (KVS quota: SendICECandidate 20 a second and socket).
    pub candidates_per_second: usize,
}

/// Who offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Mode {
    /// A peer-to-peer channel: this viewer offers, the master answers.
    Offerer,
    /// A storage session: the service offers, this viewer answers.
    Answerer,
}

/// The pause before a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum RetryDelay {
    /// Always the same.
    Fixed(Duration),
    /// A random time between zero and `base` doubled with every retry, at most `cap`.
    FullJitter {
        /// Bound of the first pause.
        base: Duration,
        /// Bound of any pause.
        cap: Duration,
    },
}

impl RetryDelay {
    /// The pause after so many failures in a row.
    pub(crate) fn pause(self, failures: u32, rng: &mut Rng) -> Duration {
        match self {
            Self::Fixed(delay) => delay,
            Self::FullJitter { base, cap } => {
                rng.up_to(base.saturating_mul(1 << failures.min(20)).min(cap))
            }
        }
    }

    fn longest(self) -> Duration {
        match self {
            Self::Fixed(delay) => delay,
            Self::FullJitter { cap, .. } => cap,
        }
    }

    /// The bound of the first pause.
    fn first(self) -> Duration {
        match self {
            Self::Fixed(delay) => delay,
            Self::FullJitter { base, cap } => base.min(cap),
        }
    }
}

/// For journals that were written before the field was there.
#[cfg(feature = "serde")]
fn yes() -> bool {
    true
}

/// The default of both presets (contract, part 4).
fn restart_timeout_address_gone() -> Duration {
    Duration::from_millis(2_500)
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

impl Settings {
    /// The default: 30 s for an answer, one retry after 6 s.
    pub fn one_retry() -> Self {
        Self {
            call_timeout: secs(5),
            credentials_timeout: secs(10),
            ice_servers_timeout: secs(5),
            link_open_timeout: secs(15),
            operation_timeout: secs(5),
            answer_timeouts: vec![secs(30)],
            establish_timeout: secs(20),
            suspect_timeout: secs(3),
            first_media_timeout: secs(10),
            keyframe_interval: secs(1),
            mode: Mode::Offerer,
            polite: true,
            offer_timeout: secs(30),
            join_interval: secs(6),
            restart_timeout: secs(10),
            restart_timeout_address_gone: restart_timeout_address_gone(),
            link_reopen: RetryDelay::FullJitter { base: Duration::from_millis(300), cap: secs(10) },
            go_away_spread: secs(30),
            offline_limit: secs(60),
            retries: 1,
            retry_window: None,
            retry_delay: RetryDelay::Fixed(secs(6)),
            throttle_delay: secs(5),
            disconnect_grace: secs(3),
            media_give_up: secs(30),
            refill_after: secs(30),
            close_timeout: secs(2),
            relay_only: false,
            receive_video: true,
            receive_audio: true,
            candidates_max: 128,
            candidates_taken_max: 256,
            candidates_per_second: 20,
        }
    }

    /// Ten retries, or two minutes of them, with short deadlines and jittered pauses.
    pub fn persistent() -> Self {
        Self {
            link_open_timeout: secs(10),
            answer_timeouts: vec![secs(15), secs(20), secs(30)],
            establish_timeout: secs(15),
            suspect_timeout: secs(2),
            first_media_timeout: secs(8),
            restart_timeout: secs(8),
            offline_limit: secs(600),
            retries: 10,
            retry_window: Some(secs(120)),
            retry_delay: RetryDelay::FullJitter { base: Duration::from_millis(300), cap: secs(7) },
            disconnect_grace: secs(2),
            media_give_up: secs(15),
            close_timeout: secs(1),
            ..Self::one_retry()
        }
    }

    /// No retry: the first failure ends the session.
    pub fn never() -> Self {
        Self { retries: 0, ..Self::one_retry() }
    }

    /// Makes the configuration of a session.
    ///
    /// # Errors
    /// Names the first field whose value cannot work.
    pub fn check(self) -> Result<Config, ConfigError> {
        let positive = [
            ("call_timeout", self.call_timeout),
            ("credentials_timeout", self.credentials_timeout),
            ("ice_servers_timeout", self.ice_servers_timeout),
            ("link_open_timeout", self.link_open_timeout),
            ("operation_timeout", self.operation_timeout),
            ("establish_timeout", self.establish_timeout),
            ("suspect_timeout", self.suspect_timeout),
            ("first_media_timeout", self.first_media_timeout),
            ("keyframe_interval", self.keyframe_interval),
            ("disconnect_grace", self.disconnect_grace),
            ("media_give_up", self.media_give_up),
            ("offer_timeout", self.offer_timeout),
            ("join_interval", self.join_interval),
            ("restart_timeout", self.restart_timeout),
            ("restart_timeout_address_gone", self.restart_timeout_address_gone),
            ("offline_limit", self.offline_limit),
            ("refill_after", self.refill_after),
            ("close_timeout", self.close_timeout),
            ("throttle_delay", self.throttle_delay),
        ];
        let answers = self.answer_timeouts.iter().map(|timeout| ("answer_timeouts", *timeout));
        for (field, value) in positive.into_iter().chain(answers) {
            if value < Self::SHORTEST || value > Self::LONGEST {
                return Err(ConfigError { field, rule: Rule::Duration });
            }
        }
        if self.answer_timeouts.is_empty() || self.answer_timeouts.len() > Self::RETRIES_MAX {
            return Err(ConfigError { field: "answer_timeouts", rule: Rule::Empty });
        }
        if self.retries as usize > Self::RETRIES_MAX {
            return Err(ConfigError { field: "retries", rule: Rule::Retries });
        }
        if self.retry_delay.longest() > Self::LONGEST {
            return Err(ConfigError { field: "retry_delay", rule: Rule::Duration });
        }
        if self.link_reopen.first() < Self::SHORTEST || self.link_reopen.longest() > Self::LONGEST {
            return Err(ConfigError { field: "link_reopen", rule: Rule::Duration });
        }
        if self.go_away_spread > Self::SPREAD_MAX {
            return Err(ConfigError { field: "go_away_spread", rule: Rule::Spread });
        }
        if self.retry_window.is_some_and(|w| w < Self::SHORTEST || w > Self::WINDOW_MAX) {
            return Err(ConfigError { field: "retry_window", rule: Rule::Window });
        }
        for (field, value) in [
            ("candidates_max", self.candidates_max),
            ("candidates_taken_max", self.candidates_taken_max),
        ] {
            if !(128..=4096).contains(&value) {
                return Err(ConfigError { field, rule: Rule::Candidates });
            }
        }
        if !(1..=20).contains(&self.candidates_per_second) {
            return Err(ConfigError { field: "candidates_per_second", rule: Rule::Quota });
        }
        Ok(Config(self))
    }

    const SHORTEST: Duration = Duration::from_millis(1);
    const LONGEST: Duration = secs(3600);
    const WINDOW_MAX: Duration = secs(24 * 3600);
    const SPREAD_MAX: Duration = secs(50);
    const RETRIES_MAX: usize = 1000;
}

/// A configuration that can work: [`Settings`] that passed [`Settings::check`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config(Settings);

impl Config {
    /// The checked values.
    pub fn settings(&self) -> &Settings {
        &self.0
    }

    /// The answer deadline after this many retries since the budget was last full.
    pub fn answer_timeout(&self, retries: u32) -> Duration {
        let index = (retries as usize).min(self.0.answer_timeouts.len() - 1);
        self.0.answer_timeouts[index]
    }

    /// The deadline of opening a connection: credentials, two control-plane calls, the socket.
    pub fn connect_timeout(&self) -> Duration {
        self.0.credentials_timeout + self.0.call_timeout * 2 + self.0.link_open_timeout
    }

    /// When a master that never answers is given up, on a service that is quick.
    pub fn max_time_without_answer(&self) -> Duration {
        self.duration_of_attempts(|retries| self.answer_timeout(retries))
    }

    /// The longest time from open to live or ended, whatever the service and the master do, for a
    /// session that has not been live.
    ///
    /// Every stage of every attempt takes all of its time; the close of each attempt as well. What
    /// the platform reports is apart: time without a network does not count, and a change of the
    /// network or a sleep of the device begins an attempt of its own.
    pub fn worst_case_duration(&self) -> Duration {
        self.duration_of_attempts(|retries| self.set_up_timeout(retries))
    }

    /// The longest time from the start of an attempt until it is live or over: the sum of its
    /// stages. No sequence of messages extends it.
    pub(crate) fn set_up_timeout(&self, retries: u32) -> Duration {
        // Peer and offer are made beside the opening connection; then the servers, set-local, send.
        self.connect_timeout().max(self.0.operation_timeout * 2)
            + self.0.ice_servers_timeout
            + self.0.operation_timeout * 3
            + match self.0.mode {
                Mode::Offerer => self.answer_timeout(retries),
                // Set-remote, create, set-local and send of the answer follow the offer.
                Mode::Answerer => self.0.offer_timeout + self.0.operation_timeout * 4,
            }
            + self.0.establish_timeout
            + self.0.first_media_timeout
    }

    fn duration_of_attempts(&self, attempt_time: impl Fn(u32) -> Duration) -> Duration {
        let mut total = Duration::ZERO;
        let mut first_failure = None;
        for retries in 0..=self.0.retries {
            total += attempt_time(retries) + self.0.close_timeout;
            let since = *first_failure.get_or_insert(total);
            let pause = self.0.retry_delay.longest().max(self.0.throttle_delay);
            let pause = if retries == self.0.retries { Duration::ZERO } else { pause };
            if self.0.retry_window.is_some_and(|window| total + pause > since + window) {
                break;
            }
            total += pause;
        }
        total
    }
}

/// A value that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The field of [`Settings`].
    pub field: &'static str,
    rule: Rule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Duration,
    Empty,
    Retries,
    Spread,
    Window,
    Candidates,
    Quota,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = match self.rule {
            Rule::Duration => "must be between 1 ms and 1 h",
            Rule::Empty => "needs between 1 and 1000 durations",
            Rule::Retries => "must be at most 1000",
            Rule::Spread => "must be at most 50 s: a link ends a minute after GO_AWAY",
            Rule::Window => "must be between 1 ms and 24 h",
            Rule::Candidates => "must be between 128 and 4096",
            Rule::Quota => "must be between 1 and 20: the service takes 20 a second",
        };
        write!(f, "{} {rule}", self.field)
    }
}

impl core::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid() {
        for settings in [Settings::one_retry(), Settings::persistent(), Settings::never()] {
            assert!(settings.check().is_ok());
        }
    }

    #[test]
    fn silent_master_ends_the_session_after_seventy_seconds() {
        let config = Settings::one_retry().check().expect("valid");
        assert_eq!(config.max_time_without_answer(), secs(70));
        assert!(config.worst_case_duration() > config.max_time_without_answer());
    }

    #[test]
    fn presets_are_the_contracts_numbers() {
        let one = Settings::one_retry();
        assert_eq!((one.retries, one.retry_window), (1, None));
        assert_eq!(one.retry_delay, RetryDelay::Fixed(secs(6)));
        assert_eq!(one.answer_timeouts, [secs(30)]);
        assert_eq!((one.call_timeout, one.credentials_timeout), (secs(5), secs(10)));
        assert_eq!((one.ice_servers_timeout, one.link_open_timeout), (secs(5), secs(15)));
        assert_eq!((one.operation_timeout, one.establish_timeout), (secs(5), secs(20)));
        assert_eq!((one.suspect_timeout, one.first_media_timeout), (secs(3), secs(10)));
        assert_eq!((one.disconnect_grace, one.restart_timeout), (secs(3), secs(10)));
        assert_eq!(one.restart_timeout_address_gone, Duration::from_millis(2_500));
        assert!(one.receive_video && one.receive_audio);
        assert_eq!((one.media_give_up, one.offline_limit), (secs(30), secs(60)));
        assert_eq!((one.refill_after, one.close_timeout), (secs(30), secs(2)));
        assert_eq!((one.offer_timeout, one.join_interval), (secs(30), secs(6)));

        let persistent = Settings::persistent();
        assert_eq!((persistent.retries, persistent.retry_window), (10, Some(secs(120))));
        let jitter = |cap| RetryDelay::FullJitter { base: Duration::from_millis(300), cap };
        assert_eq!(persistent.retry_delay, jitter(secs(7)));
        assert_eq!(persistent.link_reopen, jitter(secs(10)));
        assert_eq!(persistent.answer_timeouts, [secs(15), secs(20), secs(30)]);
        assert_eq!(persistent.link_open_timeout, secs(10));
        assert_eq!((persistent.establish_timeout, persistent.suspect_timeout), (secs(15), secs(2)));
        assert_eq!(
            (persistent.first_media_timeout, persistent.disconnect_grace),
            (secs(8), secs(2))
        );
        assert_eq!((persistent.restart_timeout, persistent.media_give_up), (secs(8), secs(15)));
        assert_eq!((persistent.offline_limit, persistent.close_timeout), (secs(600), secs(1)));

        assert_eq!(Settings { retries: 1, ..Settings::never() }, one);
        assert_eq!(Settings::never().retries, 0);
    }

    #[test]
    fn worst_case_duration_is_the_sum_of_all_stages() {
        let config = Settings::one_retry().check().expect("valid");
        assert_eq!(config.connect_timeout(), secs(10 + 2 * 5 + 15));
        // Connection, servers, set-local to send, answer, establish, first media; closing; one
        // pause.
        let attempt = 35 + 5 + 3 * 5 + 30 + 20 + 10;
        assert_eq!(config.worst_case_duration(), secs(2 * (attempt + 2) + 6));

        let mut settings = Settings::never();
        settings.mode = Mode::Answerer;
        settings.operation_timeout = secs(20);
        let config = settings.check().expect("valid");
        // Peer and offer take longer than the connection, and four operations follow the offer.
        let attempt = 2 * 20 + 5 + 3 * 20 + (30 + 4 * 20) + 20 + 10;
        assert_eq!(config.worst_case_duration(), secs(attempt + 2));
    }

    #[test]
    fn worst_case_duration_leaves_out_retries_beyond_the_window() {
        let duration = |retries, window: Option<u64>| {
            let mut settings = Settings::one_retry();
            settings.answer_timeouts = vec![secs(10)];
            settings.close_timeout = secs(1);
            settings.retry_delay = RetryDelay::Fixed(secs(5));
            settings.throttle_delay = secs(5);
            settings.retries = retries;
            settings.retry_window = window.map(secs);
            settings.check().expect("valid").max_time_without_answer()
        };
        assert_eq!(duration(2, None), secs(11 + 5 + 11 + 5 + 11));
        assert_eq!(duration(2, Some(4)), secs(11), "the pause would pass its end");
        assert_eq!(duration(2, Some(5)), secs(11 + 5 + 11), "to the second");
        assert_eq!(duration(2, Some(1000)), secs(11 + 5 + 11 + 5 + 11));
    }

    #[test]
    fn jittered_pause_doubles_with_each_failure_up_to_its_cap() {
        let delay = RetryDelay::FullJitter { base: secs(1), cap: secs(20) };
        let longest = |failures| {
            let mut rng = Rng::new(1);
            (0..500).map(|_| delay.pause(failures, &mut rng)).max().unwrap_or_default()
        };
        for (failures, bound) in [(0, 1), (1, 2), (3, 8), (4, 16), (5, 20), (60, 20)] {
            let longest = longest(failures);
            assert!(longest <= secs(bound) && longest > secs(bound) * 9 / 10, "{longest:?}");
        }
    }

    #[test]
    fn limits_of_settings_are_inclusive() {
        type Set = fn(&mut Settings, Duration);
        let durations: [(&str, Set, Duration); 6] = [
            ("close_timeout", |s, v| s.close_timeout = v, secs(3600)),
            ("retry_delay", |s, v| s.retry_delay = RetryDelay::Fixed(v), secs(3600)),
            ("throttle_delay", |s, v| s.throttle_delay = v, secs(3600)),
            (
                "link_reopen",
                |s, v| s.link_reopen = RetryDelay::FullJitter { base: v, cap: v },
                secs(3600),
            ),
            ("go_away_spread", |s, v| s.go_away_spread = v, secs(50)),
            ("retry_window", |s, v| s.retry_window = Some(v), secs(24 * 3600)),
        ];
        let step = Duration::from_nanos(1);
        for (field, set, last) in durations {
            for (value, works) in [(last, true), (last + step, false), (last * 2, false)] {
                let mut settings = Settings::one_retry();
                set(&mut settings, value);
                assert_eq!(settings.check().err().map(|e| e.field), (!works).then_some(field));
            }
        }
        let check = |change: &dyn Fn(&mut Settings)| {
            let mut settings = Settings::one_retry();
            change(&mut settings);
            settings.check().is_ok()
        };
        let ms = Duration::from_millis(1);
        assert!(check(&|s| s.close_timeout = ms));
        assert!(!check(&|s| s.close_timeout = ms - step));
        assert!(check(&|s| s.answer_timeouts = vec![secs(1); 1000]));
        assert!(!check(&|s| s.answer_timeouts = vec![secs(1); 1001]));
        assert!(!check(&|s| s.answer_timeouts = vec![secs(1); 2000]));
        assert!(check(&|s| s.retries = 1000));
        assert!(!check(&|s| s.retries = 1001));
    }

    /// N20: a pause of nothing is no backoff.
    #[test]
    fn pause_of_zero_is_refused_where_it_would_be_no_pause() {
        let refused = |change: fn(&mut Settings)| {
            let mut settings = Settings::one_retry();
            change(&mut settings);
            settings.check().err().map(|error| error.field)
        };
        let cap = secs(10);
        assert_eq!(
            refused(|s| s.link_reopen = RetryDelay::Fixed(Duration::ZERO)),
            Some("link_reopen")
        );
        assert_eq!(
            refused(
                |s| s.link_reopen = RetryDelay::FullJitter { base: Duration::ZERO, cap: secs(1) }
            ),
            Some("link_reopen")
        );
        assert_eq!(refused(|s| s.throttle_delay = Duration::ZERO), Some("throttle_delay"));
        assert_eq!(refused(|s| s.retry_window = Some(Duration::ZERO)), Some("retry_window"));
        assert_eq!(refused(|s| s.retry_window = Some(Duration::MAX)), Some("retry_window"));
        let mut longest = Settings::persistent();
        (longest.retry_window, longest.retries) = (Some(secs(24 * 3600)), 1000);
        longest.link_reopen = RetryDelay::FullJitter { base: Duration::from_millis(1), cap };
        assert!(longest.check().expect("valid").worst_case_duration() > secs(3600));
    }

    #[test]
    fn value_that_cannot_work_names_its_field() {
        let refused = |change: fn(&mut Settings)| {
            let mut settings = Settings::one_retry();
            change(&mut settings);
            settings.check().expect_err("refused").field
        };
        assert_eq!(refused(|s| s.answer_timeouts = vec![]), "answer_timeouts");
        assert_eq!(refused(|s| s.answer_timeouts = vec![Duration::ZERO]), "answer_timeouts");
        assert_eq!(refused(|s| s.close_timeout = Duration::ZERO), "close_timeout");
        assert_eq!(refused(|s| s.retries = 2000), "retries");
        assert_eq!(refused(|s| s.candidates_per_second = 21), "candidates_per_second");
        assert_eq!(refused(|s| s.candidates_max = 3), "candidates_max");
    }
}
