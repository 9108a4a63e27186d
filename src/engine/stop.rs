//! The stopping of a process, as pure data: requests go in, actions come out.
//!
//! A process gets a signal and a grace, and then its whole tree is killed. Times are nanoseconds of
//! the monotonic clock, which all programs of one boot share: a stop continues in another program
//! that takes the process over.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{TimePoint, after};
use crate::spec::Stopping;

/// Why a process was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopCause {
    /// Its timeout was over.
    Timeout,
    /// By request: of a client, of the shutdown, or of an all-or-nothing group.
    Stopped,
}

/// How to stop a process: [`ProcessCommand::Stop`](super::ProcessCommand::Stop).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopOrder {
    /// The signal; `None` for the spec's. SIGKILL kills the whole tree at once.
    pub signum: Option<i32>,
    /// The time before the tree is killed; `None` for the spec's.
    pub grace: Option<Duration>,
    /// Whether this is the shutdown, which has one grace for all processes without a `stop` key in
    /// their specs.
    pub shutdown: bool,
}

/// The stop settings of a process, and its timeout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StopPolicy {
    /// The end of its timeout.
    pub deadline: Option<u64>,
    /// The signal and the grace.
    pub stopping: Stopping,
}

impl StopPolicy {
    /// The policy of a process that started at `start`, and may run for `timeout` seconds.
    pub(super) fn new(start: TimePoint, timeout: Option<f64>, stopping: Stopping) -> StopPolicy {
        let nanos = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let deadline = timeout.map(|seconds| after(start.monotonic_nanos, nanos(seconds)));
        StopPolicy { deadline, stopping }
    }

    /// The signal of an order under this policy, and the grace, if any.
    pub(super) fn read(&self, order: StopOrder) -> (i32, Option<Duration>) {
        let spec = Duration::try_from_secs_f64(self.stopping.grace).unwrap_or(Duration::MAX);
        let alone = order.shutdown && !self.stopping.given;
        let grace = order.grace.or((!alone).then_some(spec));
        (order.signum.unwrap_or(self.stopping.signum), grace)
    }
}

/// The progress of a stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum StopState {
    /// No stop was requested.
    #[default]
    None,
    /// The tree has received the signal.
    #[serde(rename = "Asked")]
    Signaled {
        /// The first cause.
        cause: StopCause,
        /// The time when its tree is killed; `None` in a shutdown, whose own grace ends all
        /// processes.
        until: Option<u64>,
    },
    /// Its tree has been killed.
    Killed {
        /// The first cause.
        cause: StopCause,
    },
}

/// The action that a request requires.
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
    /// Requests a stop by `signum`, with this grace from `now` on. The first cause stays, and a
    /// running grace is never extended.
    pub(super) fn request(
        self,
        cause: StopCause,
        signum: i32,
        grace: Option<Duration>,
        now: u64,
    ) -> (StopState, StopAction) {
        let cause = self.cause().unwrap_or(cause);
        match self {
            // Kill again on request: the first attempt may have failed.
            _ if signum == libc::SIGKILL => return (StopState::Killed { cause }, StopAction::Kill),
            StopState::Killed { .. } => return (self, StopAction::None),
            _ => {}
        }
        let running = match self {
            StopState::Signaled { until, .. } => until,
            _ => None,
        };
        let given = grace.map(|grace| after(now, grace));
        let until = running.into_iter().chain(given).min();
        (StopState::Signaled { cause, until }, StopAction::Signal(signum))
    }

    /// Checks whether the grace is over at `now`.
    pub(super) fn check_grace(self, now: u64) -> (StopState, StopAction) {
        match self {
            StopState::Signaled { cause, until: Some(until) } if until <= now => {
                (StopState::Killed { cause }, StopAction::Kill)
            }
            _ => (self, StopAction::None),
        }
    }

    /// The cause of the stop, if any.
    pub(super) fn cause(self) -> Option<StopCause> {
        match self {
            StopState::None => None,
            StopState::Signaled { cause, .. } | StopState::Killed { cause } => Some(cause),
        }
    }

    /// The time of the next [`check_grace`](Self::check_grace).
    pub(super) fn until(self) -> Option<u64> {
        match self {
            StopState::Signaled { until, .. } => until,
            _ => None,
        }
    }

    /// Whether its whole tree must be gone at its end.
    pub(super) fn takes_all(self) -> bool {
        self != StopState::None
    }

    /// Whether its tree has been killed, so that no member has any time left.
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
    fn the_signal_precedes_sigkill() {
        let signal = StopAction::Signal;
        let (stop, todo) = StopState::None.request(StopCause::Timeout, 15, secs(10), 5);
        assert_eq!((stop.until(), todo), (Some(10 * SECOND + 5), signal(15)));
        assert_eq!(stop.check_grace(10 * SECOND + 4), (stop, StopAction::None));
        // A client sets a shorter grace; the first cause stays.
        let (stop, todo) = stop.request(StopCause::Stopped, 2, secs(1), SECOND);
        assert_eq!((stop.until(), todo), (Some(2 * SECOND), signal(2)));
        let (stop, todo) = stop.check_grace(2 * SECOND);
        assert_eq!(
            (stop, todo),
            (StopState::Killed { cause: StopCause::Timeout }, StopAction::Kill)
        );
        assert_eq!(stop.request(StopCause::Stopped, 15, None, 0), (stop, StopAction::None));
        assert_eq!(stop.request(StopCause::Stopped, 9, None, 0), (stop, StopAction::Kill));
    }

    #[test]
    fn the_shutdown_adds_no_grace_period_to_a_spec() {
        let order = StopOrder { signum: Some(15), grace: None, shutdown: true };
        let policy = StopPolicy::default();
        assert_eq!(policy.read(order), (15, None));
        assert_eq!(policy.read(StopOrder::default()), (15, secs(10)));
        let (stop, todo) = StopState::None.request(StopCause::Stopped, 15, None, 7);
        assert_eq!((stop.until(), todo), (None, StopAction::Signal(15)));
        // The tree must still be gone.
        assert!(stop.takes_all());
        // A later request of a client applies.
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
        /// For any order of requests, the first cause stays, the grace never grows, and the tree is
        /// never killed before the end of a grace unless a request asks for that.
        #[test]
        fn any_order(requests in prop::collection::vec((any::<bool>(), 0u8..4, 0u64..20, 0u64..5, any::<bool>()), 0..30)) {
            let mut now = 0;
            let mut stop = StopState::None;
            let mut killed = false;
            for (timeout, what, grace, passes, has_grace) in requests {
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
