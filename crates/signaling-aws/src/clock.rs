//! The clock for signatures: the wall clock, corrected by the service's `Date` headers.
//!
//! The correction belongs to the machine and not to a session, so sessions share it. There is one
//! for each control plane, because a test's service may have a clock of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::SetOnce;

/// Maximum number of services with a remembered clock; a removed one is learnt again.
const SERVICES_MAX: usize = 64;

/// The known clocks, each with its service, ordered by the time of their last request.
#[derive(Debug, Default)]
pub(crate) struct ServiceClocks(Vec<(String, SigningClock)>);

impl ServiceClocks {
    /// Returns the clock of a service. A caller keeps its clock, so the one that was requested
    /// longest ago is removed when there are too many.
    pub(crate) fn clock(&mut self, service: &str) -> SigningClock {
        let known = self.0.iter().position(|(name, _)| name == service);
        let entry = match known {
            Some(at) => self.0.remove(at),
            None => {
                if self.0.len() >= SERVICES_MAX {
                    self.0.remove(0);
                }
                (service.to_owned(), SigningClock::default())
            }
        };
        let clock = entry.1.clone();
        self.0.push(entry);
        clock
    }
}

/// The clock of a service. Clones share what is learnt.
#[derive(Clone, Debug, Default)]
pub(crate) struct SigningClock(Arc<ClockState>);

#[derive(Debug, Default)]
struct ClockState {
    skew_ms: AtomicI64,
    confirmed: SetOnce<()>,
}

/// The correction of the wall clock at the time of a signature, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Skew(i64);

impl SigningClock {
    /// With a smaller skew, a refused signature has another cause (contract, N16).
    const SKEW_MIN: Duration = Duration::from_secs(4 * 60);

    /// Returns the current time by the service's clock, as far as that is known.
    pub(crate) fn now(&self) -> SystemTime {
        shifted(SystemTime::now(), self.skew())
    }

    /// Returns the known skew. The caller reads it before signing, so that [`learn`](Self::learn)
    /// can identify which clock was refused.
    pub(crate) fn skew(&self) -> Skew {
        Skew(self.0.skew_ms.load(Ordering::Relaxed))
    }

    /// Learns the skew from the `Date` of a refusal; `signed` is the skew of the refused signature.
    /// Returns true when that clock was off, also if another request has corrected it meanwhile:
    /// then the request may succeed when signed again.
    pub(crate) fn learn(&self, date: Option<&str>, signed: Skew) -> bool {
        let Some(service) = date.and_then(parse_date) else {
            return false;
        };
        let wall = SystemTime::now();
        if millis_between(shifted(wall, signed), service).unsigned_abs()
            < u64::try_from(Self::SKEW_MIN.as_millis()).unwrap_or(u64::MAX)
        {
            return false;
        }
        let skew_ms = millis_between(wall, service);
        self.0.skew_ms.store(skew_ms, Ordering::Relaxed);
        tracing::warn!(skew_s = skew_ms / 1000, "the clock of this machine is wrong; corrected");
        true
    }

    /// Records that the service accepted a signature of this clock.
    pub(crate) fn confirm(&self) {
        // The first success is enough; an error here means that it is already recorded.
        let _ = self.0.confirmed.set(());
    }

    /// Waits until the service accepted a signature of this clock.
    pub(crate) async fn confirmed(&self) {
        self.0.confirmed.wait().await;
    }
}

impl aws_smithy_async::time::TimeSource for SigningClock {
    fn now(&self) -> SystemTime {
        Self::now(self)
    }
}

fn shifted(time: SystemTime, Skew(ms): Skew) -> SystemTime {
    let by = Duration::from_millis(ms.unsigned_abs());
    let shifted = if ms < 0 { time.checked_sub(by) } else { time.checked_add(by) };
    shifted.unwrap_or(time)
}

/// Returns the milliseconds from one time to another; negative when the other is earlier.
fn millis_between(from: SystemTime, to: SystemTime) -> i64 {
    let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    match to.duration_since(from) {
        Ok(ahead) => ms(ahead),
        Err(behind) => -ms(behind.duration()),
    }
}

/// An HTTP date: `Sun, 22 Nov 2026 15:56:02 GMT`.
fn parse_date(text: &str) -> Option<SystemTime> {
    use aws_smithy_types::date_time::Format;
    let date = aws_smithy_types::DateTime::from_str(text, Format::HttpDate).ok()?;
    SystemTime::try_from(date).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_recently_used_clock_is_removed() {
        let mut services = ServiceClocks(Vec::new());
        let is_known =
            |services: &mut ServiceClocks, name: &str| services.clock(name).skew().0 != 0;
        let learnt = |services: &mut ServiceClocks, name: &str| {
            let clock = services.clock(name);
            clock.0.skew_ms.store(600_000, Ordering::Relaxed);
        };
        for n in 0..SERVICES_MAX {
            learnt(&mut services, &format!("{n:03}"));
        }
        assert!(is_known(&mut services, "000"));
        // First by its name, and requested last: it stays, as does the one requested before it.
        learnt(&mut services, "");
        assert!(is_known(&mut services, ""));
        assert!(is_known(&mut services, "000"));
        assert_eq!(services.0.len(), SERVICES_MAX);
        assert!(!is_known(&mut services, "001"));
    }

    fn http(time: SystemTime) -> String {
        use aws_smithy_types::date_time::Format;
        aws_smithy_types::DateTime::from(time).fmt(Format::HttpDate).expect("a date")
    }

    fn minutes(n: u64) -> Duration {
        Duration::from_secs(n * 60)
    }

    #[test]
    fn skew_is_learned_once_from_distant_date() {
        let clock = SigningClock::default();
        let learn = |date: Option<&str>| clock.learn(date, clock.skew());
        assert!(!learn(Some(&http(SystemTime::now() + minutes(3)))));
        assert!(!learn(Some("yesterday")));
        assert!(!learn(None));
        let ahead = SystemTime::now() + minutes(10);
        assert!(learn(Some(&http(ahead))));
        assert!(clock.now() > SystemTime::now() + minutes(9));
        assert!(!learn(Some(&http(ahead))));
        assert!(learn(Some(&http(SystemTime::now() - minutes(10)))));
        assert!(clock.now() < SystemTime::now() - minutes(9));
    }

    #[test]
    fn concurrent_refusals_with_wrong_clock_are_both_signed_again() {
        let clock = SigningClock::default();
        let (first, second) = (clock.skew(), clock.skew());
        let date = http(SystemTime::now() + minutes(10));
        assert!(clock.learn(Some(&date), first));
        assert!(clock.learn(Some(&date), second));
        // Both refusals report the same skew; it is not added twice.
        assert!(clock.now() < SystemTime::now() + minutes(11));
        assert!(!clock.learn(Some(&date), clock.skew()));
    }

    #[test]
    fn learned_skew_is_kept_per_service_and_bounded() {
        let date = http(SystemTime::now() + minutes(10));
        let mut clocks = ServiceClocks::default();
        let clock = clocks.clock("https://late.example");
        assert!(clock.learn(Some(&date), clock.skew()));
        assert!(clocks.clock("https://late.example").now() > SystemTime::now());
        assert!(clocks.clock("https://other.example").now() <= SystemTime::now());
        for n in 0..2 * SERVICES_MAX {
            clocks.clock(&format!("https://a{n}.example"));
        }
        // A clock in use is kept.
        assert!(clock.now() > SystemTime::now());
    }
}
