//! Parses durations of arguments and formats them for output.

use std::time::Duration;

/// The maximum duration of an option.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// Parses a duration of more than 0: `20s`, `2m`, `1h30m`, or a number of seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration = duration_or_zero(text)?;
    if duration.is_zero() { Err("must be more than 0".into()) } else { Ok(duration) }
}

/// Parses a duration: `20s`, `2m`, `1h30m`, or a number of seconds.
pub(crate) fn duration_or_zero(text: &str) -> Result<Duration, String> {
    let limits = "must be between 0 and 7 days";
    let duration = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|_| limits)?,
        Err(_) => humantime::parse_duration(text)
            .map_err(|_| "expected a duration, like 20s, 2m, 1h30m, or a number of seconds")?,
    };
    if duration > LONGEST { Err(limits.into()) } else { Ok(duration) }
}

/// Formats a duration for a sentence.
pub(crate) fn span(duration: Duration) -> String {
    let tenths = (duration.as_secs_f64() * 10.0).round() / 10.0;
    if tenths >= 60.0 {
        humantime::format_duration(Duration::from_secs(tenths.round() as u64)).to_string()
    } else if tenths.fract() == 0.0 || tenths >= 10.0 {
        format!("{tenths:.0} s")
    } else {
        format!("{tenths:.1} s")
    }
}

/// Formats a running time as `00:12` or `1:02:03`.
pub(crate) fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours == 0 {
        format!("{minutes:02}:{seconds:02}")
    } else {
        format!("{hours}:{minutes:02}:{seconds:02}")
    }
}

/// Converts a duration to whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_and_without_units() {
        for (text, millis) in
            [("2.5", 2500), ("20", 20_000), ("20s", 20_000), ("2m", 120_000), ("1h30m", 5_400_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "x", "-1", "-1s", "0", "0s", "nan", "inf", "1e12", "8d", "20 bananas"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(duration_or_zero("0"), Ok(Duration::ZERO));
    }

    #[test]
    fn durations_are_written_for_people() {
        let text = |millis| span(Duration::from_millis(millis));
        assert_eq!(
            [text(30_000), text(2500), text(66_040), text(12_340)],
            ["30 s", "2.5 s", "1m 6s", "12 s"]
        );
        assert_eq!(clock(Duration::from_secs(72)), "01:12");
        assert_eq!(clock(Duration::from_secs(3723)), "1:02:03");
    }
}
