//! The driver's timers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// A child's set-up takes long.
    Patience(u64),
    /// The grace for a process's captures has passed.
    Grace(u64),
    /// A child is to be looked at, for epoll cannot tell of its end.
    Exit(u64),
}

/// Timers in the order they go off. One whose process is gone by then is of no effect, so none is ever taken out.
#[derive(Default)]
pub(super) struct Timers(BinaryHeap<Reverse<(Instant, Alarm)>>);

impl Timers {
    /// Sets `alarm` to go off at `at`.
    pub(super) fn set(&mut self, at: Instant, alarm: Alarm) {
        self.0.push(Reverse((at, alarm)));
    }

    /// The next alarm that has gone off by `now`.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Alarm> {
        match self.0.peek() {
            Some(Reverse((at, _))) if *at <= now => self.0.pop().map(|Reverse((_, alarm))| alarm),
            _ => None,
        }
    }

    /// How long until the next alarm.
    pub(super) fn next_in(&self, now: Instant) -> Option<Duration> {
        self.0.peek().map(|Reverse((at, _))| at.saturating_duration_since(now))
    }
}
