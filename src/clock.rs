//! The clocks of the machine, read together.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An instant by all clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimePoint {
    /// Nanoseconds since 1970 by the wall clock.
    pub unix_nanos: i64,
    /// Nanoseconds of the monotonic clock.
    pub monotonic_nanos: u64,
    /// Nanoseconds since boot, the base of start times in `/proc`; 0 if not recorded.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub boot_nanos: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl TimePoint {
    /// This instant.
    pub fn now() -> TimePoint {
        let nanos = |clock| {
            nix::time::clock_gettime(clock).map_or(0, |t| t.tv_sec() * 1_000_000_000 + t.tv_nsec())
        };
        TimePoint {
            unix_nanos: nanos(nix::time::ClockId::CLOCK_REALTIME),
            monotonic_nanos: nanos(nix::time::ClockId::CLOCK_MONOTONIC).unsigned_abs(),
            boot_nanos: nanos(nix::time::ClockId::CLOCK_BOOTTIME).unsigned_abs(),
        }
    }

    /// The time of boot, in nanoseconds since 1970 by the wall clock of this instant.
    pub fn boot(self) -> i64 {
        let since = if self.boot_nanos == 0 { self.monotonic_nanos } else { self.boot_nanos };
        self.unix_nanos.saturating_sub(i64::try_from(since).unwrap_or(i64::MAX))
    }

    /// Seconds from `earlier` to this instant, by the monotonic clock.
    pub fn seconds_since(self, earlier: TimePoint) -> f64 {
        self.monotonic_nanos.saturating_sub(earlier.monotonic_nanos) as f64 / 1e9
    }
}

/// The monotonic clock, in nanoseconds: all programs of one boot share it.
pub(crate) fn monotonic() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map_or(0, |t| t.tv_sec() * 1_000_000_000 + t.tv_nsec())
        .unsigned_abs()
}

/// The time `wait` after `nanos`.
pub(crate) fn after(nanos: u64, wait: Duration) -> u64 {
    nanos.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX))
}
