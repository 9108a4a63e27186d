//! The history of a process: its resource usage, sampled at an interval while it runs, kept until
//! it is deleted.
//!
//! A history has a limit. When it is full, every second sample is dropped, and from then on only
//! every second one is kept, later every fourth, and so on. So it always spans the whole life
//! evenly. It always includes the latest sample.

use std::sync::{Mutex, MutexGuard, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::times::Rfc3339;
use crate::clock::TimePoint;
use crate::procfs::{Clock, RawStat};

/// A sample of a running process.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// The time of the sample.
    pub time: Rfc3339,
    /// Seconds since the start, by a monotonic clock.
    pub elapsed: f64,
    /// Its own CPU time so far in user mode, in seconds.
    pub utime: f64,
    /// Its own CPU time so far in the kernel, in seconds.
    pub stime: f64,
    /// CPU time so far in user mode of children that it has waited for, in seconds.
    pub cutime: f64,
    /// CPU time so far in the kernel of children that it has waited for, in seconds.
    pub cstime: f64,
    /// Resident memory, in bytes.
    pub rss: u64,
    /// Mapped memory, in bytes.
    pub vsize: u64,
    /// Threads.
    pub threads: u64,
}

/// A sample in the kernel's units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RawSample {
    at: TimePoint,
    /// Ticks: user, kernel, and those of children.
    cpu: [i64; 4],
    seen: Peaks,
}

/// Values at present, or the maximum of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Peaks {
    /// Resident memory, in pages.
    pub rss: u64,
    /// Mapped memory, in bytes.
    pub vsize: u64,
    /// Threads.
    pub threads: u64,
}

impl Peaks {
    /// The present values of a process.
    pub(super) fn of(stat: &RawStat) -> Peaks {
        let threads = u64::try_from(stat.num_threads).unwrap_or(0);
        Peaks { rss: stat.rss, vsize: stat.vsize, threads }
    }

    fn raise(&mut self, seen: Peaks) {
        self.rss = self.rss.max(seen.rss);
        self.vsize = self.vsize.max(seen.vsize);
        self.threads = self.threads.max(seen.threads);
    }
}

/// The history of one process, shared by the sampler and the reports.
pub struct SampleHistory {
    pid: i32,
    /// The process's start in the kernel's clock ticks, which detects a reused pid. `None` if
    /// unknown.
    starttime: Option<u64>,
    start: TimePoint,
    history: Mutex<History>,
}

/// The samples.
struct History {
    limit: usize,
    /// Every `stride`th sample, oldest first.
    kept: Vec<RawSample>,
    /// The latest sample, if it is not the last kept one.
    latest: Option<RawSample>,
    stride: u64,
    /// The number of samples so far.
    count: u64,
    peaks: Peaks,
    ended: bool,
}

impl SampleHistory {
    /// The empty history of a running process, for at most `limit` samples.
    pub fn new(pid: i32, stat: Option<&RawStat>, start: TimePoint, limit: usize) -> SampleHistory {
        let history = History {
            limit: limit.max(1),
            kept: Vec::new(),
            latest: None,
            stride: 1,
            count: 0,
            peaks: Peaks::default(),
            ended: false,
        };
        let starttime = stat.map(|stat| stat.starttime);
        SampleHistory { pid, starttime, start, history: Mutex::new(history) }
    }

    /// The process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether this entry belongs to the same process, still running: its pid may have been reused.
    pub fn is_of(&self, stat: &RawStat) -> bool {
        stat.state != 'Z' && self.starttime.is_none_or(|known| known == stat.starttime)
    }

    /// Adds the kernel's entry at the time `at`.
    pub fn add(&self, at: TimePoint, stat: &RawStat) {
        let ticks = |ticks| i64::try_from(ticks).unwrap_or(i64::MAX);
        let cpu = [ticks(stat.utime), ticks(stat.stime), stat.cutime, stat.cstime];
        self.history().push(RawSample { at, cpu, seen: Peaks::of(stat) });
    }

    /// Adds a sample at the time `at` that equals the latest one.
    pub fn repeat(&self, at: TimePoint) {
        let mut history = self.history();
        if let Some(last) = history.latest.or(history.kept.last().copied()) {
            history.push(RawSample { at, ..last });
        }
    }

    /// Marks the process as ended; no sample is added any more.
    pub fn end(&self) {
        let mut history = self.history();
        history.ended = true;
        history.kept.shrink_to_fit();
    }

    /// Whether the process has ended.
    pub fn has_ended(&self) -> bool {
        self.history().ended
    }

    /// The samples, oldest first, in the units of results.
    pub fn samples(&self, clock: &Clock) -> Vec<Sample> {
        let history = self.history();
        let all = history.kept.iter().chain(&history.latest);
        all.map(|raw| {
            let [utime, stime, cutime, cstime] = raw.cpu.map(|ticks| clock.signed_seconds(ticks));
            Sample {
                time: raw.at.into(),
                elapsed: raw.at.seconds_since(self.start),
                utime,
                stime,
                cutime,
                cstime,
                rss: clock.bytes(raw.seen.rss),
                vsize: raw.seen.vsize,
                threads: raw.seen.threads,
            }
        })
        .collect()
    }

    /// The maxima of all samples; `None` without any.
    pub fn peaks(&self) -> Option<Peaks> {
        let history = self.history();
        (history.count > 0).then_some(history.peaks)
    }

    fn history(&self) -> MutexGuard<'_, History> {
        // A holder may have panicked; the data is consistent after every step.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History {
    fn push(&mut self, sample: RawSample) {
        if self.ended {
            return;
        }
        self.peaks.raise(sample.seen);
        self.latest = Some(sample);
        // One place is reserved for the latest sample.
        let room = self.limit.saturating_sub(1);
        if self.kept.len() == room && room > 1 && self.count.is_multiple_of(self.stride) {
            self.thin();
        }
        if self.kept.len() < room && self.count.is_multiple_of(self.stride) {
            self.kept.push(sample);
            self.latest = None;
        }
        self.count += 1;
    }

    /// Drops every second sample.
    fn thin(&mut self) {
        let mut odd = false;
        self.kept.retain(|_| {
            odd = !odd;
            odd
        });
        self.stride = self.stride.saturating_mul(2);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::procfs::parse_stat;

    const CLOCK: Clock = Clock { boot_nanos: 0, ticks_per_second: 100, page_size: 4096 };

    fn at(second: u64) -> TimePoint {
        let nanos = second * 1_000_000_000;
        TimePoint { unix_nanos: nanos as i64, monotonic_nanos: nanos, boot_nanos: nanos }
    }

    /// The entry of a process with these ticks in user mode and these resident pages.
    fn stat(utime: u64, rss: u64) -> RawStat {
        let line = format!(
            "7 (x) S 1 7 7 0 -1 0 0 0 0 0 {utime} 2 3 4 20 0 5 0 99 8192 {rss} 0 1 1 0 0 0 0 0 0 0 0 0 0 17\n"
        );
        parse_stat(line.as_bytes()).unwrap()
    }

    #[test]
    fn samples_are_in_the_units_of_results() {
        let history = SampleHistory::new(7, Some(&stat(0, 0)), at(10), 60);
        assert!(history.samples(&CLOCK).is_empty() && history.peaks().is_none());
        // Without a sample, there is nothing to repeat.
        history.repeat(at(11));
        history.add(at(12), &stat(150, 3));
        history.add(at(13), &stat(250, 2));
        history.repeat(at(14));
        history.end();
        history.add(at(15), &stat(999, 9));
        let samples = history.samples(&CLOCK);
        let [first, second, third] = samples.as_slice() else { panic!("{samples:?}") };
        assert_eq!((first.elapsed, first.utime, first.stime), (2.0, 1.5, 0.02));
        assert_eq!((first.cutime, first.cstime, first.threads), (0.03, 0.04, 5));
        assert_eq!((first.rss, first.vsize), (3 * 4096, 8192));
        assert_eq!(first.time.to_string(), "1970-01-01T00:00:12.000000+00:00");
        assert_eq!((second.utime, second.rss), (2.5, 2 * 4096));
        assert_eq!((third.elapsed, third.utime), (4.0, 2.5));
        assert_eq!(history.peaks(), Some(Peaks { rss: 3, vsize: 8192, threads: 5 }));
        assert!(history.has_ended());
    }

    #[test]
    fn a_history_is_neither_of_a_zombie_nor_of_a_reused_pid() {
        let known = stat(0, 0);
        let history = SampleHistory::new(7, Some(&known), at(0), 1);
        assert!(history.is_of(&known));
        assert!(!history.is_of(&RawStat { starttime: 100, ..known.clone() }));
        assert!(!history.is_of(&RawStat { state: 'Z', ..known.clone() }));
        assert!(SampleHistory::new(7, None, at(0), 1).is_of(&known));
    }

    proptest! {
        /// For any number of samples, the history has the first and the latest, even spacing
        /// between, and at most the limit.
        #[test]
        fn a_history_is_bounded_and_spans_the_whole_life(limit in 1usize..20, count in 1u64..300) {
            let history = SampleHistory::new(7, None, at(0), limit);
            (0..count).for_each(|n| history.add(at(n), &stat(n, 0)));
            let seconds: Vec<u64> =
                history.samples(&CLOCK).iter().map(|sample| sample.elapsed as u64).collect();
            prop_assert!(seconds.len() <= limit);
            prop_assert_eq!(seconds.last(), Some(&(count - 1)));
            if limit > 1 {
                prop_assert_eq!(seconds[0], 0);
            }
            if limit > 2 {
                // At least half of the room is used, and all steps but the last are the same power
                // of two.
                prop_assert!(seconds.len() as u64 >= count.min(limit as u64 / 2), "{:?}", seconds);
                let steps: Vec<u64> = seconds.windows(2).map(|pair| pair[1] - pair[0]).collect();
                if let Some((last, even)) = steps.split_last() {
                    let step = even.first().copied().unwrap_or(*last);
                    prop_assert!(even.iter().all(|other| *other == step) && *last <= step.max(count));
                    prop_assert!(even.is_empty() || step.is_power_of_two());
                }
            }
        }
    }
}
