//! How long to wait before the next attempt to connect. Pure: the seed is the only randomness.

use std::time::Duration;

/// Waits between failed attempts: a ceiling that grows by a factor up to a maximum, and a wait drawn
/// evenly from its upper half, so that agents that lost one server do not come back in step.
#[derive(Debug, Clone)]
pub struct Backoff {
    start: Duration,
    mult: f64,
    max: Duration,
    /// Upper bound of the next wait; always at most `max`.
    ceiling: Duration,
    rng: fastrand::Rng,
}

impl Backoff {
    /// Waits that start below `start` and end below `max`, the ceiling growing by the factor `mult`
    /// each time. A `start` above `max` counts as `max`; a `mult` below 1, or no number, as 1.
    #[must_use]
    pub fn new(start: Duration, mult: f64, max: Duration, seed: u64) -> Self {
        // `f64::max` gives 1 for NaN.
        let mult = mult.max(1.0);
        let start = start.min(max);
        Self { start, mult, max, ceiling: start, rng: fastrand::Rng::with_seed(seed) }
    }

    /// The next wait: evenly from [0.5, 1.0] times the ceiling, which then grows. Never above the
    /// maximum.
    pub fn next_wait(&mut self) -> Duration {
        let ceiling = self.ceiling;
        let grown = ceiling.as_secs_f64() * self.mult;
        self.ceiling = Duration::try_from_secs_f64(grown).unwrap_or(self.max).min(self.max);
        ceiling.mul_f64(0.5 + 0.5 * self.rng.f64()).min(ceiling)
    }

    /// Begins anew: the next wait is drawn below `start` again. To be called after a registration.
    pub fn reset(&mut self) {
        self.ceiling = self.start;
    }

    /// The wait after a working connection was lost: evenly from 0.1 to 0.3 s, whatever the
    /// settings: a server that restarts needs that moment, and a thousand agents spread over it.
    pub fn reconnect_delay(&mut self) -> Duration {
        Duration::from_micros(self.rng.u64(100_000..=300_000))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn ceilings_double_up_to_the_maximum_and_start_over() {
        let mut backoff = Backoff::new(SECOND, 2.0, 60 * SECOND, 7);
        for _ in 0..2 {
            for ceiling in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
                let (wait, ceiling) = (backoff.next_wait(), ceiling * SECOND);
                assert!(ceiling / 2 <= wait && wait <= ceiling, "{wait:?} of {ceiling:?}");
            }
            backoff.reset();
        }
    }

    #[test]
    fn seeds_spread_the_agents() {
        let waits: std::collections::BTreeSet<_> = (0..1000)
            .map(|seed| Backoff::new(SECOND, 2.0, 60 * SECOND, seed).next_wait())
            .collect();
        assert!(waits.len() > 990, "only {} different waits", waits.len());
        let spread = *waits.last().unwrap() - *waits.first().unwrap();
        assert!(spread > Duration::from_millis(450), "{spread:?}");
    }

    proptest! {
        #[test]
        fn waits_keep_their_bounds(
            start in 0u64..u64::MAX, max in 0u64..u64::MAX, mult: f64, seed: u64,
        ) {
            let (start, max) = (Duration::from_nanos(start), Duration::from_nanos(max));
            let mut backoff = Backoff::new(start, mult, max, seed);
            let mut floor = start.min(max) / 2;
            for _ in 0..50 {
                let wait = backoff.next_wait();
                prop_assert!(wait <= max);
                // A nanosecond for rounding.
                prop_assert!(wait + Duration::from_nanos(1) >= floor, "{:?} < {:?}", wait, floor);
                floor = floor.min(wait);
            }
            backoff.reset();
            prop_assert!(backoff.next_wait() <= start);
        }

        #[test]
        fn reconnect_delay_is_a_moment(seed: u64) {
            let mut backoff = Backoff::new(SECOND, 2.0, SECOND, seed);
            for _ in 0..20 {
                let delay = backoff.reconnect_delay().as_secs_f64();
                prop_assert!((0.1..=0.3).contains(&delay));
            }
        }
    }
}
