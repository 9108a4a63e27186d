//! The end of the worker: the phases of shutdown, as pure data.

use std::time::Duration;

use tokio::time::Instant;

use super::shutdown::{Shutdown, ShutdownState};

/// The condition on which the worker ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndWhen {
    /// Never.
    Never,
    /// No process runs: `--exit`.
    NoneRuns,
    /// Every process is deleted: `--wait`. With a time, a worker without any process ends only
    /// then.
    Idle {
        /// The end of a worker to which no process was assigned; none: at once.
        unassigned_until: Option<Instant>,
    },
}

/// The durations of the phases of shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Graces {
    /// From SIGTERM to SIGKILL.
    pub term: Duration,
    /// From SIGKILL to the end.
    pub kill: Duration,
}

/// Numbers of processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Processes that have not ended.
    pub running: usize,
    /// Processes that have not been deleted.
    pub present: usize,
    /// Whether a process was ever assigned.
    pub any: bool,
}

/// The phase of the worker's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LifecyclePhase {
    Active,
    /// New processes are refused; the worker ends after the last deletion.
    Idling,
    /// Every process was stopped, and may still run.
    Terminating {
        until: Instant,
        deserted: bool,
    },
    /// Every process was killed.
    Killing {
        until: Instant,
    },
    Done,
}

/// An action that the supervisor takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifecycleStep {
    /// Stop every running process by its stop policy.
    StopAll,
    /// Kill every running process, with all its descendants.
    Kill,
    /// The state that clients see has changed.
    Announce(ShutdownState),
}

/// The condition that an ending worker waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// `--wait`: the deletion of all processes.
    Work,
    /// The deletion of all processes, while new ones are refused.
    Drain,
    /// The end of all processes, which were stopped.
    Ends {
        /// The time at which they are killed.
        until: Instant,
    },
    /// The deletion of all processes, which were killed.
    Deletions {
        /// The time at which the worker ends anyway.
        until: Instant,
    },
}

/// The worker's life. The caller passes time and counts.
#[derive(Debug)]
pub struct Lifecycle {
    phase: LifecyclePhase,
    end_when: EndWhen,
    graces: Graces,
}

impl Lifecycle {
    /// An active life.
    pub fn new(end_when: EndWhen, graces: Graces) -> Self {
        Lifecycle { phase: LifecyclePhase::Active, end_when, graces }
    }

    /// The state, as clients see it.
    pub fn state(&self) -> ShutdownState {
        match self.phase {
            LifecyclePhase::Active => ShutdownState::Active,
            LifecyclePhase::Idling
            | LifecyclePhase::Terminating { .. }
            | LifecyclePhase::Killing { .. } => ShutdownState::Idling,
            LifecyclePhase::Done => ShutdownState::Done,
        }
    }

    /// Follows an order. An order that is behind the present phase changes nothing.
    pub fn order(&mut self, order: Shutdown, now: Instant) -> Vec<LifecycleStep> {
        let terminating =
            |deserted| LifecyclePhase::Terminating { until: now + self.graces.term, deserted };
        let phase = match (order, self.phase) {
            (Shutdown::Idle, LifecyclePhase::Active) => LifecyclePhase::Idling,
            (
                Shutdown::Terminate | Shutdown::Interrupt,
                LifecyclePhase::Active | LifecyclePhase::Idling,
            ) => terminating(false),
            (Shutdown::GiveUp, LifecyclePhase::Active | LifecyclePhase::Idling) => {
                terminating(true)
            }
            (
                Shutdown::Kill,
                LifecyclePhase::Active
                | LifecyclePhase::Idling
                | LifecyclePhase::Terminating { .. },
            ) => LifecyclePhase::Killing { until: now + self.graces.kill },
            _ => return Vec::new(),
        };
        self.enter(phase)
    }

    /// Moves on as far as counts and time permit.
    pub fn advance(&mut self, counts: Counts, now: Instant) -> Vec<LifecycleStep> {
        let mut steps = Vec::new();
        while let Some(next) = self.next(counts, now) {
            steps.extend(self.enter(next));
        }
        steps
    }

    /// The time of the next [`advance`](Self::advance), even without a change.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            LifecyclePhase::Terminating { until, .. } | LifecyclePhase::Killing { until } => {
                Some(until)
            }
            LifecyclePhase::Active => match self.end_when {
                EndWhen::Idle { unassigned_until } => unassigned_until,
                _ => None,
            },
            LifecyclePhase::Idling | LifecyclePhase::Done => None,
        }
    }

    /// The condition that the worker waits for; none if it does not end.
    pub fn waiting(&self) -> Option<WaitReason> {
        match self.phase {
            LifecyclePhase::Active => {
                matches!(self.end_when, EndWhen::Idle { .. }).then_some(WaitReason::Work)
            }
            LifecyclePhase::Idling => Some(WaitReason::Drain),
            LifecyclePhase::Terminating { until, .. } => Some(WaitReason::Ends { until }),
            LifecyclePhase::Killing { until } => Some(WaitReason::Deletions { until }),
            LifecyclePhase::Done => None,
        }
    }

    fn enter(&mut self, phase: LifecyclePhase) -> Vec<LifecycleStep> {
        let before = self.state();
        self.phase = phase;
        let signal = match phase {
            LifecyclePhase::Terminating { .. } => Some(LifecycleStep::StopAll),
            LifecyclePhase::Killing { .. } => Some(LifecycleStep::Kill),
            _ => None,
        };
        let after = self.state();
        let announce = (after != before).then_some(LifecycleStep::Announce(after));
        announce.into_iter().chain(signal).collect()
    }

    fn next(&self, counts: Counts, now: Instant) -> Option<LifecyclePhase> {
        let Counts { running, present, any } = counts;
        // With `--exit` the worker writes the results itself, and nobody needs to delete them.
        let results_kept = self.end_when != EndWhen::NoneRuns;
        match self.phase {
            LifecyclePhase::Active => {
                let end = match self.end_when {
                    EndWhen::Never => false,
                    EndWhen::NoneRuns => running == 0,
                    EndWhen::Idle { unassigned_until } => {
                        present == 0 && (any || unassigned_until.is_none_or(|until| until <= now))
                    }
                };
                end.then_some(LifecyclePhase::Done)
            }
            LifecyclePhase::Idling => {
                (present == 0 || (!results_kept && running == 0)).then_some(LifecyclePhase::Done)
            }
            LifecyclePhase::Terminating { deserted: true, .. } if running == 0 => {
                Some(LifecyclePhase::Done)
            }
            LifecyclePhase::Terminating { until, .. } => (running == 0 || until <= now)
                .then(|| LifecyclePhase::Killing { until: now + self.graces.kill }),
            LifecyclePhase::Killing { until } => {
                let settled = present == 0 || (!results_kept && running == 0);
                (settled || until <= now).then_some(LifecyclePhase::Done)
            }
            LifecyclePhase::Done => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACES: Graces = Graces { term: Duration::from_secs(60), kill: Duration::from_secs(5) };

    fn counts(running: usize, present: usize) -> Counts {
        Counts { running, present, any: true }
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn exit_when_nothing_runs() {
        let now = Instant::now();
        let mut life = Lifecycle::new(EndWhen::NoneRuns, GRACES);
        assert_eq!(life.advance(counts(1, 2), now), []);
        assert_eq!(life.advance(counts(0, 2), now), [LifecycleStep::Announce(ShutdownState::Done)]);
        assert_eq!(life.advance(counts(0, 2), now), []);
    }

    #[test]
    fn wait_for_a_first_process() {
        let now = Instant::now();
        let until = now + secs(600);
        let mut life = Lifecycle::new(EndWhen::Idle { unassigned_until: Some(until) }, GRACES);
        assert_eq!(life.deadline(), Some(until));
        assert_eq!(life.advance(Counts::default(), now + secs(599)), []);
        assert_eq!(life.advance(counts(0, 1), now + secs(601)), []);
        assert_eq!(life.state(), ShutdownState::Active);
        assert_eq!(
            life.advance(counts(0, 0), now + secs(601)),
            [LifecycleStep::Announce(ShutdownState::Done)]
        );
        let mut life = Lifecycle::new(EndWhen::Idle { unassigned_until: Some(until) }, GRACES);
        assert_eq!(
            life.advance(Counts::default(), until),
            [LifecycleStep::Announce(ShutdownState::Done)]
        );
        let mut life = Lifecycle::new(EndWhen::Idle { unassigned_until: None }, GRACES);
        assert_eq!(
            life.advance(Counts::default(), now),
            [LifecycleStep::Announce(ShutdownState::Done)]
        );
    }

    #[test]
    fn terminate_then_kill_then_end() {
        let now = Instant::now();
        let mut life = Lifecycle::new(EndWhen::Never, GRACES);
        assert_eq!(
            life.order(Shutdown::Terminate, now),
            [LifecycleStep::Announce(ShutdownState::Idling), LifecycleStep::StopAll]
        );
        assert_eq!(life.order(Shutdown::Terminate, now), []);
        assert_eq!(life.order(Shutdown::Idle, now), []);
        assert_eq!(life.advance(counts(2, 2), now + secs(59)), []);
        assert_eq!(life.deadline(), Some(now + secs(60)));
        assert_eq!(life.advance(counts(2, 2), now + secs(60)), [LifecycleStep::Kill]);
        assert_eq!(life.advance(counts(0, 2), now + secs(64)), []);
        assert_eq!(
            life.advance(counts(0, 2), now + secs(65)),
            [LifecycleStep::Announce(ShutdownState::Done)]
        );
    }

    #[test]
    fn an_end_that_need_not_be_waited_for() {
        let now = Instant::now();
        // Without processes, SIGTERM and SIGUSR1 end the worker at once.
        for order in [Shutdown::Terminate, Shutdown::Kill, Shutdown::Idle] {
            let mut life = Lifecycle::new(EndWhen::Never, GRACES);
            life.order(order, now);
            life.advance(Counts::default(), now);
            assert_eq!(life.state(), ShutdownState::Done, "{order:?}");
        }
        // With --exit nobody deletes: the worker ends when no process runs.
        let mut life = Lifecycle::new(EndWhen::NoneRuns, GRACES);
        life.order(Shutdown::Kill, now);
        assert_eq!(life.advance(counts(1, 1), now), []);
        assert_eq!(life.advance(counts(0, 1), now), [LifecycleStep::Announce(ShutdownState::Done)]);
        // The same if the scheduler is given up.
        let mut life = Lifecycle::new(EndWhen::Never, GRACES);
        life.order(Shutdown::GiveUp, now);
        assert_eq!(life.advance(counts(0, 1), now), [LifecycleStep::Announce(ShutdownState::Done)]);
    }

    #[test]
    fn idling_ends_with_the_last_process() {
        let now = Instant::now();
        let mut life = Lifecycle::new(EndWhen::Never, GRACES);
        assert_eq!(
            life.order(Shutdown::Idle, now),
            [LifecycleStep::Announce(ShutdownState::Idling)]
        );
        assert_eq!(life.advance(counts(0, 1), now + secs(1000)), []);
        assert_eq!(life.advance(counts(0, 0), now), [LifecycleStep::Announce(ShutdownState::Done)]);
    }
}
