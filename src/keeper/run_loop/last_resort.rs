//! The shutdown without a worker, if no worker stays alive: kills every process, and ends the
//! program when all have exited.

use std::time::{Duration, Instant};

/// How long killed processes may take to exit.
pub(super) const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// The progress of such a shutdown.
#[derive(Default)]
pub(super) struct LastResort {
    /// When the program ends although processes still run. `None` until they are killed.
    deadline: Option<Instant>,
}

/// The next step of the shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    /// Nothing.
    Wait,
    /// Kill every process.
    KillAll,
    /// End the program.
    Exit,
}

impl LastResort {
    /// When the next step is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The next step, by whether the shutdown is still `wanted` and processes are still `running`.
    pub(super) fn step(&mut self, wanted: bool, running: bool, now: Instant) -> NextStep {
        match (wanted, running, self.deadline) {
            (false, _, _) => {
                self.deadline = None;
                NextStep::Wait
            }
            (true, true, None) => {
                self.deadline = Some(now + KILL_TIMEOUT);
                NextStep::KillAll
            }
            (true, true, Some(deadline)) if now < deadline => NextStep::Wait,
            _ => NextStep::Exit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_killed_once_and_waited_for() {
        let now = Instant::now();
        let mut last = LastResort::default();
        assert_eq!(last.step(false, true, now), NextStep::Wait);
        assert_eq!(last.step(true, true, now), NextStep::KillAll);
        assert_eq!(last.step(true, true, now + KILL_TIMEOUT / 2), NextStep::Wait);
        assert_eq!(last.deadline(), Some(now + KILL_TIMEOUT));
        assert_eq!(last.step(true, false, now + KILL_TIMEOUT / 2), NextStep::Exit);
        assert_eq!(last.step(true, true, now + KILL_TIMEOUT), NextStep::Exit, "it takes too long");
        // A worker has started after all.
        assert_eq!(last.step(false, true, now), NextStep::Wait);
        assert_eq!(last.deadline(), None);
        assert_eq!(LastResort::default().step(true, false, now), NextStep::Exit, "nothing runs");
    }
}
