//! The stopping of a process, as pure data: what is asked goes in, what is to be done comes out.
//!
//! A process is asked by a signal, has a grace, and then its whole tree is killed. Times are
//! nanoseconds of the monotonic clock, which all programs of one boot share: a stop goes on where
//! another program takes the process over.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{TimePoint, after};
use crate::spec::Stopping;

/// Why a process was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopCause {
    /// It has run for as long as its spec allows.
    Timeout,
    /// Somebody has asked for it: a client, the shutdown, a request that is to start as a whole or
    /// not at all.
    Stopped,
}

/// How to stop a process: [`ProcessCommand::Stop`](super::ProcessCommand::Stop).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopOrder {
    /// The signal; none: that of the spec. SIGKILL kills the whole tree at once.
    pub signum: Option<i32>,
    /// How long the process has before its tree is killed; none: as the spec says.
    pub grace: Option<Duration>,
    /// Whether this is the shutdown. A process whose spec says nothing of stopping then has no
    /// grace of its own: the shutdown has one for all.
    pub shutdown: bool,
}

/// How a process is stopped, and when if nobody asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StopPolicy {
    /// When its time is over.
    pub deadline: Option<u64>,
    /// By which signal, and with what grace.
    pub stopping: Stopping,
}

impl StopPolicy {
    /// The policy of a process that started at `start`, and may run for `timeout` seconds.
    pub(super) fn new(start: TimePoint, timeout: Option<f64>, stopping: Stopping) -> StopPolicy {
        let nanos = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let deadline = timeout.map(|seconds| after(start.monotonic_nanos, nanos(seconds)));
        StopPolicy { deadline, stopping }
    }

    /// What an order means under these policy: the signal, and the grace if it has one.
    pub(super) fn read(&self, order: StopOrder) -> (i32, Option<Duration>) {
        let spec = Duration::try_from_secs_f64(self.stopping.grace).unwrap_or(Duration::MAX);
        let alone = order.shutdown && !self.stopping.given;
        let grace = order.grace.or((!alone).then_some(spec));
        (order.signum.unwrap_or(self.stopping.signum), grace)
    }
}

/// How far the stopping of a process has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum StopState {
    /// Nobody has asked for it.
    #[default]
    None,
    /// It has been asked.
    Asked {
        /// Why first.
        cause: StopCause,
        /// When its tree is killed; none where the shutdown has asked it, whose own grace ends all.
        until: Option<u64>,
    },
    /// Its tree has been killed.
    Killed {
        /// Why first.
        cause: StopCause,
    },
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopAction {
    /// Nothing.
    None,
    /// Send this signal to the whole tree.
    Signal(i32),
    /// Kill the whole tree.
    Kill,
}

impl StopState {
    /// Asks by `signum`, with this grace from `now` on. The first cause stays; a grace that runs
    /// already is never made longer.
    pub(super) fn request(
        self,
        cause: StopCause,
        signum: i32,
        grace: Option<Duration>,
        now: u64,
    ) -> (StopState, StopAction) {
        let cause = self.cause().unwrap_or(cause);
        match self {
            // Once more, if that is asked for: it may have failed.
            _ if signum == libc::SIGKILL => return (StopState::Killed { cause }, StopAction::Kill),
            StopState::Killed { .. } => return (self, StopAction::None),
            _ => {}
        }
        let running = match self {
            StopState::Asked { until, .. } => until,
            _ => None,
        };
        let given = grace.map(|grace| after(now, grace));
        let until = running.into_iter().chain(given).min();
        (StopState::Asked { cause, until }, StopAction::Signal(signum))
    }

    /// Looks whether the grace is over at `now`.
    pub(super) fn check_grace(self, now: u64) -> (StopState, StopAction) {
        match self {
            StopState::Asked { cause, until: Some(until) } if until <= now => {
                (StopState::Killed { cause }, StopAction::Kill)
            }
            _ => (self, StopAction::None),
        }
    }

    /// Why it is being stopped, if it is.
    pub(super) fn cause(self) -> Option<StopCause> {
        match self {
            StopState::None => None,
            StopState::Asked { cause, .. } | StopState::Killed { cause } => Some(cause),
        }
    }

    /// When to [`check_grace`](Self::check_grace).
    pub(super) fn until(self) -> Option<u64> {
        match self {
            StopState::Asked { until, .. } => until,
            _ => None,
        }
    }

    /// Whether nothing of its tree may be left when it ends.
    pub(super) fn takes_all(self) -> bool {
        self != StopState::None
    }

    /// Whether its tree has been killed, so that nobody of it has any time left.
    pub(super) fn is_killed(self) -> bool {
        matches!(self, StopState::Killed { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    fn secs(n: u64) -> Option<Duration> {
        Some(Duration::from_secs(n))
    }

    #[test]
    fn asked_then_killed() {
        let ask = StopAction::Signal;
        let (stop, todo) = StopState::None.request(StopCause::Timeout, 15, secs(10), 5);
        assert_eq!((stop.until(), todo), (Some(10 * SECOND + 5), ask(15)));
        assert_eq!(stop.check_grace(10 * SECOND + 4), (stop, StopAction::None));
        // A client has less patience; why it was stopped first stays.
        let (stop, todo) = stop.request(StopCause::Stopped, 2, secs(1), SECOND);
        assert_eq!((stop.until(), todo), (Some(2 * SECOND), ask(2)));
        let (stop, todo) = stop.check_grace(2 * SECOND);
        assert_eq!(
            (stop, todo),
            (StopState::Killed { cause: StopCause::Timeout }, StopAction::Kill)
        );
        assert_eq!(stop.request(StopCause::Stopped, 15, None, 0), (stop, StopAction::None));
        assert_eq!(stop.request(StopCause::Stopped, 9, None, 0), (stop, StopAction::Kill));
    }

    #[test]
    fn the_shutdown_sets_no_grace_where_the_spec_has_none() {
        let order = StopOrder { signum: Some(15), grace: None, shutdown: true };
        let policy = StopPolicy::default();
        assert_eq!(policy.read(order), (15, None));
        assert_eq!(policy.read(StopOrder::default()), (15, secs(10)));
        let (stop, todo) = StopState::None.request(StopCause::Stopped, 15, None, 7);
        assert_eq!((stop.until(), todo), (None, StopAction::Signal(15)));
        // Nobody is left all the same.
        assert!(stop.takes_all());
        // A client that asks then counts.
        assert_eq!(stop.request(StopCause::Stopped, 15, secs(1), 7).0.until(), Some(SECOND + 7));
        let given = Stopping { signum: 2, grace: 3.0, given: true };
        let policy = StopPolicy { stopping: given, deadline: None };
        assert_eq!(policy.read(StopOrder { signum: None, ..order }), (2, secs(3)));
    }

    #[test]
    fn a_deadline_that_never_comes() {
        let start = TimePoint { monotonic_nanos: u64::MAX - 5, ..TimePoint::default() };
        let policy = StopPolicy::new(start, Some(1e10), Stopping::default());
        assert_eq!(policy.deadline, Some(u64::MAX));
    }

    proptest! {
        /// Whatever is asked in whatever order: the first cause stays, the grace never grows, and
        /// the tree is never killed before a grace is over unless somebody asks for just that.
        #[test]
        fn any_order(asks in prop::collection::vec((any::<bool>(), 0u8..4, 0u64..20, 0u64..5, any::<bool>()), 0..30)) {
            let mut now = 0;
            let mut stop = StopState::None;
            let mut killed = false;
            for (timeout, what, grace, passes, has_grace) in asks {
                now += passes * SECOND;
                let before = stop;
                let cause = if timeout { StopCause::Timeout } else { StopCause::Stopped };
                let (after, todo) = match what {
                    0 => stop.check_grace(now),
                    1 => stop.request(cause, 9, None, now),
                    _ => stop.request(cause, 15, has_grace.then(|| Duration::from_secs(grace)), now),
                };
                stop = after;
                if let Some(first) = before.cause() {
                    prop_assert_eq!(stop.cause(), Some(first));
                }
                if let (Some(then), Some(now)) = (before.until(), stop.until()) {
                    prop_assert!(now <= then);
                }
                prop_assert!(!before.takes_all() || stop.takes_all());
                match todo {
                    StopAction::Kill => {
                        killed = true;
                        prop_assert!(what == 1 || before.until().is_some_and(|until| until <= now));
                    }
                    StopAction::Signal(signum) => prop_assert_eq!(signum, 15),
                    StopAction::None => prop_assert_eq!(before, stop),
                }
                prop_assert_eq!(killed, matches!(stop, StopState::Killed { .. }));
            }
        }
    }
}
