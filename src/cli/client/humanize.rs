//! Sizes, times and ages as people read and write them.

use std::time::Duration;

use jiff::Timestamp;

use crate::quantity::Seconds;
use crate::report::times::Rfc3339;

/// A number of bytes, in about three digits.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64;
    let mut unit = "B";
    for next in UNITS {
        // A value that would round to 1024 of a unit becomes 1 of the next.
        if value < 1023.5 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if value < 9.95 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// A time, in its two largest units.
pub fn span(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    if seconds < 9.95 {
        return format!("{seconds:.1}s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..=59 => format!("{whole}s"),
        60..=3599 => format!("{}m{:02}s", whole / 60, whole % 60),
        3600..=86_399 => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
        _ => format!("{}d{:02}h", whole / 86_400, whole % 86_400 / 3600),
    }
}

/// Seconds between two times of a result.
pub fn between(earlier: Rfc3339, later: Rfc3339) -> f64 {
    let nanoseconds = |time: Rfc3339| time.timestamp().as_nanosecond();
    (nanoseconds(later) - nanoseconds(earlier)) as f64 / 1e9
}

/// A time of a result, in seconds since the epoch.
pub fn epoch(time: Rfc3339) -> f64 {
    time.timestamp().as_nanosecond() as f64 / 1e9
}

/// A duration: a number of seconds, or numbers with units, `1h30m`.
///
/// # Errors
/// A description of valid values.
pub fn duration(text: &str) -> Result<Duration, String> {
    text.parse().map(Seconds::duration)
}

/// The time between two updates.
///
/// # Errors
/// As [`duration`]; less than a tenth of a second.
pub fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if interval < Duration::from_millis(100) {
        return Err("expected at least 0.1 s".into());
    }
    Ok(interval)
}

/// A point in time, as the user names it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Since {
    /// This long ago.
    Ago(Duration),
    /// At this time.
    At(Timestamp),
}

/// A point in time: an age, or an RFC 3339 time.
///
/// # Errors
/// A description of valid values.
pub fn since(text: &str) -> Result<Since, String> {
    if let Ok(ago) = duration(text) {
        return Ok(Since::Ago(ago));
    }
    text.parse().map(Since::At).map_err(|_| {
        format!(
            "expected a time ago such as 90, 15m or 2d, or a time such as 2026-03-01T12:00:00Z, found {text:?}"
        )
    })
}

impl Since {
    /// Seconds since the epoch; `now` too.
    pub fn epoch(self, now: f64) -> f64 {
        match self {
            Since::Ago(ago) => now - ago.as_secs_f64(),
            Since::At(time) => time.as_nanosecond() as f64 / 1e9,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (10_188, "9.9 KiB"),
            (10_240, "10 KiB"),
            (1_048_575, "1.0 MiB"),
            (1_609_728, "1.5 MiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn spans() {
        for (seconds, text) in [
            (-1.0, "0.0s"),
            (0.04, "0.0s"),
            (9.94, "9.9s"),
            (9.96, "10s"),
            (59.6, "1m00s"),
            (3599.4, "59m59s"),
            (3599.6, "1h00m"),
            (90_000.0, "1d01h"),
        ] {
            assert_eq!(span(seconds), text, "{seconds}");
        }
        let time = |text: &str| text.parse::<Rfc3339>().unwrap();
        let gap = between(time("2026-03-01T12:00:00.5+00:00"), time("2026-03-01T12:01:00+00:00"));
        assert_eq!(gap, 59.5);
    }

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("0", Some(0.0)),
            ("1.5", Some(1.5)),
            ("1h30m", Some(5400.0)),
            ("250ms", Some(0.25)),
            ("2w1d", Some(1_296_000.0)),
            ("", None),
            ("5x", None),
            ("m", None),
            ("1h30", None),
            ("-1", None),
            ("nan", None),
            ("1e11", None),
        ] {
            let wanted = seconds.map(Duration::from_secs_f64);
            assert_eq!(duration(text).ok(), wanted, "{text:?}");
        }
        assert!(interval("0.05").is_err());
    }

    #[test]
    fn moments() {
        assert_eq!(since("1m").unwrap().epoch(100.0), 40.0);
        assert_eq!(since("1970-01-01T00:00:07.5Z").unwrap().epoch(100.0), 7.5);
        assert!(since("yesterday").unwrap_err().contains("2026-03-01T12:00:00Z"));
    }
}
