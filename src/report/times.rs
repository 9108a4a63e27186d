//! The times of a process's start and end, and its duration.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::TimePoint;

/// A time as results show it: RFC 3339 in UTC, always with six digits of fraction and `+00:00`, as
/// in `2024-01-31T23:59:59.120000+00:00`. The texts have one length, so they sort as the times do.
/// Every parser of ISO 8601 accepts them, even one that does not know `Z`.
///
/// Holds whole microseconds and drops finer fractions, so that the text represents it exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rfc3339(Timestamp);

impl Rfc3339 {
    /// The present, by the wall clock.
    pub fn now() -> Self {
        Timestamp::now().into()
    }

    /// The time itself.
    pub fn timestamp(self) -> Timestamp {
        self.0
    }
}

impl From<Timestamp> for Rfc3339 {
    fn from(time: Timestamp) -> Self {
        // Cannot fail: rounding to microseconds stays within a timestamp's range.
        Self(Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time))
    }
}

impl From<TimePoint> for Rfc3339 {
    fn from(moment: TimePoint) -> Self {
        // An i64 of nanoseconds is always within a timestamp's range.
        Timestamp::from_nanosecond(i128::from(moment.unix_nanos)).unwrap_or_default().into()
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00"))
    }
}

impl FromStr for Rfc3339 {
    type Err = jiff::Error;

    /// Parses any RFC 3339 time, of any offset.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<Timestamp>().map(Self::from)
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rfc3339 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// When a process started and ended, by the wall clock, and how long it took, by a clock that
/// nobody sets.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Times {
    /// Just before it was started.
    pub start: Rfc3339,
    /// When this result was made.
    pub now: Rfc3339,
    /// When its end was seen; null while it runs.
    pub stop: Option<Rfc3339>,
    /// Seconds from `start` to `stop`, or to `now` while it runs, from a monotonic clock.
    pub elapsed: f64,
}

impl Times {
    /// The times of a process; `elapsed` must come from a monotonic clock, not from the others.
    pub fn new(
        start: Timestamp,
        now: Timestamp,
        stop: Option<Timestamp>,
        elapsed: Duration,
    ) -> Self {
        Self {
            start: start.into(),
            now: now.into(),
            stop: stop.map(Rfc3339::from),
            elapsed: elapsed.as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_text_always_has_six_digits() {
        for (nanoseconds, text) in [
            (0, "1970-01-01T00:00:00.000000+00:00"),
            (1_706_745_599_120_000_999, "2024-01-31T23:59:59.120000+00:00"),
        ] {
            let time = Rfc3339::from(Timestamp::from_nanosecond(nanoseconds).unwrap());
            assert_eq!(time.to_string(), text);
        }
    }

    #[test]
    fn other_forms_of_rfc_3339_are_read() {
        let time: Rfc3339 = "2024-01-31T23:59:59.12Z".parse().unwrap();
        assert_eq!(Ok(time), "2024-02-01T01:59:59.120000+02:00".parse().map_err(|_| ()));
        assert!("2024-01-31".parse::<Rfc3339>().is_err());
    }

    proptest! {
        /// If the wall clock is set while a process runs, the elapsed time is still that of the
        /// monotonic clock, and never negative.
        #[test]
        fn setting_the_clock_does_not_change_the_elapsed_time(
            set in prop::collection::vec((any::<i64>(), 0u64..1 << 40), 2..20),
        ) {
            let mut monotonic_nanos = 0;
            let moments: Vec<TimePoint> = set
                .into_iter()
                .map(|(unix_nanos, passed)| {
                    monotonic_nanos += passed;
                    TimePoint { unix_nanos, monotonic_nanos, boot_nanos: 0 }
                })
                .collect();
            for pair in moments.windows(2) {
                let [before, after] = pair else { unreachable!() };
                let elapsed = after.seconds_since(*before);
                let passed = (after.monotonic_nanos - before.monotonic_nanos) as f64 / 1e9;
                prop_assert_eq!(elapsed, passed);
                prop_assert!(before.seconds_since(*after) == 0.0);
                // The text shows the wall clock as it was set.
                prop_assert_eq!(
                    Rfc3339::from(*after).timestamp().as_microsecond(),
                    after.unix_nanos / 1000,
                );
            }
        }

        #[test]
        fn texts_round_trip_and_sort_as_their_times(
            a in 0_i64..250_000_000_000_000_000, b in 0_i64..250_000_000_000_000_000,
        ) {
            let [a, b] = [a, b].map(|us| Rfc3339::from(Timestamp::from_microsecond(us).unwrap()));
            prop_assert_eq!(a.to_string().parse::<Rfc3339>().unwrap(), a);
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }
    }
}
