//! The driver's timers.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// A child's set-up takes long.
    SetupTimeout(u64),
    /// The grace for a process's captures has passed.
    DrainTimeout(u64),
    /// A child is to be looked at, for epoll cannot tell of its end.
    Exit(u64),
    /// A process's time is over.
    Timeout(u64),
    /// The grace of a process that has been asked to end is over.
    Kill(u64),
    /// A process's captures are being hashed for long.
    Sealing(u64),
    /// The named files of a process, which somebody still writes, are to be looked at again.
    Files(u64),
    /// It is time to see which orphans have come to us.
    OrphanScan,
}

/// Timers in the order they go off. One whose process is gone by then is of no effect; only those that may be far
/// away need be taken out.
#[derive(Default)]
pub(super) struct Timers(BTreeSet<(Instant, Alarm)>);

impl Timers {
    /// Sets `alarm` to go off at `at`.
    pub(super) fn set(&mut self, at: Instant, alarm: Alarm) {
        self.0.insert((at, alarm));
    }

    /// Takes an alarm out.
    pub(super) fn cancel(&mut self, at: Instant, alarm: Alarm) {
        self.0.remove(&(at, alarm));
    }

    /// The next alarm that has gone off by `now`.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Alarm> {
        match self.0.first() {
            Some((at, _)) if *at <= now => self.0.pop_first().map(|(_, alarm)| alarm),
            _ => None,
        }
    }

    /// How long until the next alarm.
    pub(super) fn next_in(&self, now: Instant) -> Option<Duration> {
        self.0.first().map(|(at, _)| at.saturating_duration_since(now))
    }
}
