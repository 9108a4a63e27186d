//! The driver's timers, by the monotonic clock.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::engine::process::effect::ProcessAlarm;

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// For the process with this number.
    Process(u64, ProcessAlarm),
    /// It is time to scan for orphans that have become our children.
    OrphanScan,
}

/// Timers in the order they go off. One whose process is gone by then is of no effect; only those that may be far
/// away need be taken out.
#[derive(Default)]
pub(super) struct Timers(BTreeSet<(u64, Alarm)>);

impl Timers {
    /// Sets `alarm` to go off at `at`, in nanoseconds.
    pub(super) fn set(&mut self, at: u64, alarm: Alarm) {
        self.0.insert((at, alarm));
    }

    /// Takes an alarm out.
    pub(super) fn cancel(&mut self, at: u64, alarm: Alarm) {
        self.0.remove(&(at, alarm));
    }

    /// The next alarm that has gone off by `now`.
    pub(super) fn pop(&mut self, now: u64) -> Option<Alarm> {
        match self.0.first() {
            Some((at, _)) if *at <= now => self.0.pop_first().map(|(_, alarm)| alarm),
            _ => None,
        }
    }

    /// How long until the next alarm.
    pub(super) fn next_in(&self, now: u64) -> Option<Duration> {
        self.0.first().map(|(at, _)| Duration::from_nanos(at.saturating_sub(now)))
    }
}
