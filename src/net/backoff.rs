//! The wait before the next attempt to connect. Pure: the seed is the only randomness.

use std::time::Duration;

/// Waits between failed attempts: a ceiling that grows by a factor up to a maximum, and a wait
/// drawn evenly from its upper half, so that agents that lost one scheduler do not return in step.
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
        // `f64::max` returns 1 for NaN.
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

    /// The upper bound of the next wait.
    pub fn ceiling(&self) -> Duration {
        self.ceiling
    }

    /// Starts over: the next wait is drawn below `start`. Must be called once the connection works.
    pub fn reset(&mut self) {
        self.ceiling = self.start;
    }

    /// The wait after a working connection was lost: evenly from 0.1 to 0.3 s, independent of the
    /// settings. A scheduler that restarts needs that moment, and a thousand agents spread over it.
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
    fn ceilings_double_up_to_the_maximum_and_reset() {
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

    /// The times at which each of `agents` tries to return to a scheduler that all of them lose at
    /// once, and that is away for `outage` seconds: all attempts up to the successful one.
    fn attempts(agents: u64, outage: f64, seed: u64) -> Vec<Vec<f64>> {
        let attempts = |agent: u64| {
            let seed = seed.wrapping_add(agent.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut backoff = Backoff::new(SECOND, 2.0, 60 * SECOND, seed);
            let mut at = backoff.reconnect_delay().as_secs_f64();
            let mut times = vec![at];
            while at < outage {
                at += backoff.next_wait().as_secs_f64();
                times.push(at);
            }
            times
        };
        (0..agents).map(attempts).collect()
    }

    /// The maximum number of these times within any span of `span` seconds.
    fn crowd(mut times: Vec<f64>, span: f64) -> usize {
        times.sort_by(f64::total_cmp);
        let until = |at: f64| times.partition_point(|time| *time < at + span);
        (0..times.len()).map(|i| until(times[i]) - i).max().unwrap_or(0)
    }

    #[test]
    fn a_thousand_agents_that_lose_one_server_do_not_come_at_once() {
        // The scheduler is back at once: all attempts are within 0.2 s, which is 5 in a
        // millisecond.
        let back = attempts(1000, 0.0, 1).concat();
        assert_eq!(back.len(), 1000);
        assert!(crowd(back.clone(), 0.001) <= 20, "{}", crowd(back.clone(), 0.001));
        assert!(crowd(back, 0.02) <= 150);
        // During a longer outage, the upper halves of the waits spread the attempts over ever
        // longer times, and out of step.
        for (outage, span, most) in
            [(1.0, 0.1, 250), (10.0, 0.1, 60), (120.0, 1.0, 60), (1800.0, 1.0, 60)]
        {
            let all = attempts(1000, outage, 1);
            let last = all.iter().map(|times| times[times.len() - 1]).collect();
            let crowd = crowd(last, span);
            assert!(crowd <= most, "after {outage} s: {crowd} come back within {span} s");
        }
    }

    #[test]
    fn agents_that_wait_for_long_leave_the_network_alone_and_are_back_in_a_minute() {
        for times in attempts(1000, 3600.0, 7) {
            // Six attempts until the ceiling is reached; then one every 30 to 60 s.
            assert!(times.len() <= 6 + 3600 / 30, "{}", times.len());
            assert!(times[times.len() - 1] <= 3660.0);
        }
    }

    proptest! {
        // Each case is a thousand agents.
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn no_outage_brings_all_at_once(outage in 0.0f64..7200.0, seed: u64) {
            let all = attempts(1000, outage, seed);
            let last = all.iter().map(|times| times[times.len() - 1]).collect();
            prop_assert!(crowd(last, 0.01) <= 100);
            for times in all {
                prop_assert!(times[times.len() - 1] <= outage + 60.0 + 0.3);
            }
        }
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
