//! The driver's timers, by the monotonic clock.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::engine::process::effect::ProcessAlarm;

/// The purpose of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// For the process with this number.
    Process(u64, ProcessAlarm),
    /// A scan for orphans is due.
    OrphanScan,
}

/// Timers in the order of their expiry. A timer whose process is gone has no effect, so only timers
/// with a distant expiry need be cancelled.
#[derive(Default)]
pub(super) struct Timers(BTreeSet<(u64, Alarm)>);

impl Timers {
    /// Sets `alarm` to go off at `at`, in nanoseconds.
    pub(super) fn set(&mut self, at: u64, alarm: Alarm) {
        self.0.insert((at, alarm));
    }

    /// Cancels an alarm.
    pub(super) fn cancel(&mut self, at: u64, alarm: Alarm) {
        self.0.remove(&(at, alarm));
    }

    /// The next alarm that has expired by `now`.
    pub(super) fn pop(&mut self, now: u64) -> Option<Alarm> {
        match self.0.first() {
            Some((at, _)) if *at <= now => self.0.pop_first().map(|(_, alarm)| alarm),
            _ => None,
        }
    }

    /// The time until the next alarm.
    pub(super) fn next_in(&self, now: u64) -> Option<Duration> {
        self.0.first().map(|(at, _)| Duration::from_nanos(at.saturating_sub(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILL: Alarm = Alarm::Process(1, ProcessAlarm::Kill);

    #[test]
    fn alarms_go_off_in_order_and_once() {
        let mut timers = Timers::default();
        timers.set(20, Alarm::OrphanScan);
        timers.set(10, KILL);
        assert_eq!(timers.next_in(4), Some(Duration::from_nanos(6)));
        assert_eq!(timers.pop(9), None);
        assert_eq!(timers.pop(30), Some(KILL));
        assert_eq!(timers.next_in(30), Some(Duration::ZERO));
        assert_eq!(timers.pop(30), Some(Alarm::OrphanScan));
        assert_eq!((timers.pop(30), timers.next_in(30)), (None, None));
    }

    #[test]
    fn an_alarm_that_is_taken_back_does_not_go_off() {
        let mut timers = Timers::default();
        timers.set(10, KILL);
        timers.cancel(10, KILL);
        assert_eq!(timers.pop(10), None);
        // An alarm that never expires can be set and cancelled.
        timers.set(u64::MAX, KILL);
        assert_eq!(timers.next_in(u64::MAX - 7), Some(Duration::from_nanos(7)));
        assert_eq!(timers.pop(u64::MAX - 1), None);
        timers.cancel(u64::MAX, KILL);
        assert_eq!(timers.next_in(0), None);
    }
}
