//! The wall clock that signatures are checked against, and the three ways AWS writes a time.
//!
//! The clock can be shifted, to simulate a device with a wrong clock, fast or slow.
//! Monotonic time (timeouts, token buckets) is tokio's and does not belong here.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The allowed offsets of the clock: all times stay after 1970, with years of four digits.
pub(crate) const OFFSET_SECS: RangeInclusive<i64> = -1_000_000_000..=1_000_000_000;

/// Seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UnixTime(pub(crate) i64);

/// The system's clock plus an offset.
#[derive(Debug)]
pub(crate) struct WallClock {
    offset_secs: AtomicI64,
}

impl WallClock {
    pub(crate) fn new(offset_secs: i64) -> Self {
        Self { offset_secs: AtomicI64::new(offset_secs) }
    }

    pub(crate) fn set_offset_secs(&self, offset_secs: i64) {
        self.offset_secs.store(offset_secs, Ordering::Relaxed);
    }

    pub(crate) fn now_millis(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        millis.saturating_add(self.offset_secs.load(Ordering::Relaxed).saturating_mul(1000))
    }

    pub(crate) fn now(&self) -> UnixTime {
        UnixTime(self.now_millis().div_euclid(1000))
    }
}

impl UnixTime {
    pub(crate) fn before(self, secs: u32) -> Self {
        Self(self.0.saturating_sub(i64::from(secs)))
    }

    /// `20191201T000000Z`, the form of `X-Amz-Date`.
    pub(crate) fn amz(self) -> String {
        let (y, mo, d, h, mi, s) = self.civil();
        format!("{y:04}{mo:02}{d:02}T{h:02}{mi:02}{s:02}Z")
    }

    /// Parses the form of [`Self::amz`] and no other.
    pub(crate) fn parse_amz(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
            return None;
        }
        let number = |from: usize, to: usize| -> Option<i64> {
            let part = text.get(from..to)?;
            if !part.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            part.parse().ok()
        };
        let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
        let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
        let in_range = (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        in_range.then(|| {
            Self(days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
        })
    }

    /// `Sun, 01 Dec 2019 00:00:00 GMT`, the form of the `Date` header.
    pub(crate) fn http_date(self) -> String {
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let (y, mo, d, h, mi, s) = self.civil();
        let weekday = usize::try_from(self.0.div_euclid(86_400).rem_euclid(7)).unwrap_or(0);
        let month = usize::try_from(mo - 1).unwrap_or(0);
        format!("{}, {d:02} {} {y:04} {h:02}:{mi:02}:{s:02} GMT", DAYS[weekday], MONTHS[month])
    }

    fn civil(self) -> (i64, i64, i64, i64, i64, i64) {
        let (days, rest) = (self.0.div_euclid(86_400), self.0.rem_euclid(86_400));
        let (year, month, day) = civil_from_days(days);
        (year, month, day, rest / 3600, rest / 60 % 60, rest % 60)
    }
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar. The year is counted from
/// March, so that the leap day is the last of its year.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_three_aws_formats() {
        // The pairs of docs/kvs-protocol.md 5.2.
        assert_eq!(UnixTime(1_689_984_000).amz(), "20230722T000000Z");
        assert_eq!(UnixTime(1_689_983_999).amz(), "20230721T235959Z");
        assert_eq!(UnixTime(1_690_186_022).amz(), "20230724T080702Z");
        assert_eq!(UnixTime(1_690_186_022).http_date(), "Mon, 24 Jul 2023 08:07:02 GMT");
        assert_eq!(UnixTime(0).http_date(), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn every_date_of_two_centuries_round_trips() {
        for day in -36_525..36_525 {
            let at = UnixTime(day * 86_400 + 12_345);
            assert_eq!(UnixTime::parse_amz(&at.amz()), Some(at));
        }
    }

    #[test]
    fn malformed_time_is_refused() {
        for text in ["", "20230724", "20231324T080702Z", "20230724T080702", "2023-724T080702Z"] {
            assert_eq!(UnixTime::parse_amz(text), None, "{text}");
        }
        assert_eq!(UnixTime::parse_amz("2023072\u{e9}T08070Z"), None);
    }
}
