//! The worker's slot: whether a worker runs and has introduced itself, when the next one is
//! started, and what a worker's end means for the program.
//!
//! The transitions are pure: a worker is any value, time is an argument, and the consequence is
//! returned. Only the last part of this file uses a real [`WorkerProcess`].

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use crate::keeper::format::ToWorker;
use crate::keeper::signals::ProgramExit;
use crate::keeper::worker_process::WorkerProcess;

/// A worker that crashes after this time, and has introduced itself, does not count as young.
pub(super) const MIN_UPTIME: Duration = Duration::from_secs(1);
/// The wait after the first crash of a young worker. It doubles with each, up to [`MAX_BACKOFF`].
pub(super) const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// The longest wait.
pub(super) const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// After this many crashes of young workers in a row, the keeper continues without a worker.
pub(super) const MAX_CRASHES: u32 = 5;

/// The worker's slot. `crashes` counts the young workers that have crashed in a row.
pub(super) enum WorkerSlot<A> {
    /// No worker runs; the next one is started at this time.
    Backoff { until: Instant, crashes: u32 },
    /// A worker runs and has not introduced itself.
    Starting { worker: A, since: Instant, crashes: u32 },
    /// A worker runs, has introduced itself, and receives events.
    Up { worker: A, since: Instant, crashes: u32 },
    /// The running worker has nothing left to do, and the program ends with it. Until then it
    /// receives events if it has introduced itself.
    Leaving { worker: A, goodbye: Goodbye, introduced: bool },
    /// No worker runs, and none is started any more.
    Empty,
}

/// How the program ends once a leaving worker has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goodbye {
    /// As the worker has reported.
    Said(ProgramExit),
    /// The keeper has refused the first worker, which prints the error and chooses the exit code.
    /// This exit applies if the worker ends without a code.
    Refused(ProgramExit),
}

/// The consequence of a worker's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkerEnd {
    /// The program ends.
    Exit(ProgramExit),
    /// Another worker is started. `died_of` is the shutdown signal that killed the old one, if any.
    Restart { died_of: Option<i32> },
    /// The program ends: no process was ever started, and no worker stays alive.
    GiveUp,
}

/// Whether a signal that a worker dies of, before it handles any, is a shutdown command.
fn is_command(signum: &i32) -> bool {
    [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM].contains(signum)
}

/// How long to wait after so many crashes in a row.
pub(super) fn backoff(crashes: u32) -> Duration {
    match crashes {
        0 => Duration::ZERO,
        n => (FIRST_BACKOFF * 2u32.saturating_pow(n.min(20) - 1)).min(MAX_BACKOFF),
    }
}

impl<A> WorkerSlot<A> {
    /// The first worker is started at once.
    pub(super) fn new(now: Instant) -> WorkerSlot<A> {
        WorkerSlot::Backoff { until: now, crashes: 0 }
    }

    /// Whether the next worker is to be started now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        matches!(self, WorkerSlot::Backoff { until, .. } if *until <= now)
    }

    /// When the next worker is to be started.
    pub(super) fn start_at(&self) -> Option<Instant> {
        if let WorkerSlot::Backoff { until, .. } = self { Some(*until) } else { None }
    }

    /// A worker was started.
    pub(super) fn started(&mut self, worker: A, now: Instant) {
        let crashes = self.crashes();
        *self = WorkerSlot::Starting { worker, since: now, crashes };
    }

    /// A worker could not be started. `running` says whether processes may have been started.
    pub(super) fn start_failed(&mut self, running: bool, now: Instant) -> WorkerEnd {
        self.crashed(self.crashes() + 1, running, None, now)
    }

    /// The worker has introduced itself.
    pub(super) fn welcome(&mut self) {
        *self = match std::mem::replace(self, WorkerSlot::Empty) {
            WorkerSlot::Starting { worker, since, crashes } => {
                WorkerSlot::Up { worker, since, crashes }
            }
            other => other,
        };
    }

    /// The worker has said that everything is done.
    pub(super) fn goodbye(&mut self, exit: ProgramExit) {
        let goodbye = match self {
            WorkerSlot::Leaving { goodbye: Goodbye::Refused(_), .. } => Goodbye::Refused(exit),
            _ => Goodbye::Said(exit),
        };
        self.leave(goodbye);
    }

    /// The first worker was refused.
    pub(super) fn refuse(&mut self, exit: ProgramExit) {
        self.leave(Goodbye::Refused(exit));
    }

    fn leave(&mut self, goodbye: Goodbye) {
        let introduced = self.up().is_some();
        if let Some(worker) = self.take() {
            *self = WorkerSlot::Leaving { worker, goodbye, introduced };
        }
    }

    /// The worker has ended. `running` says whether processes may have been started.
    pub(super) fn ended(&mut self, status: ExitStatus, running: bool, now: Instant) -> WorkerEnd {
        let code = status.code().map(|code| u8::try_from(code).ok());
        let died_of = status.signal().filter(is_command);
        let crashes = match std::mem::replace(self, WorkerSlot::Empty) {
            WorkerSlot::Leaving { goodbye: Goodbye::Said(exit), .. } => {
                return WorkerEnd::Exit(exit);
            }
            WorkerSlot::Leaving { goodbye: Goodbye::Refused(exit), .. } => {
                return WorkerEnd::Exit(code.flatten().map_or(exit, ProgramExit::Code));
            }
            WorkerSlot::Up { since, .. } if now.duration_since(since) >= MIN_UPTIME => 0,
            WorkerSlot::Up { crashes, .. }
            | WorkerSlot::Starting { crashes, .. }
            | WorkerSlot::Backoff { crashes, .. } => crashes + 1,
            WorkerSlot::Empty => return WorkerEnd::Restart { died_of },
        };
        match (running, died_of, code) {
            // The worker was still reading its specs.
            (false, Some(signum), _) => WorkerEnd::Exit(ProgramExit::Signal(signum)),
            // The worker has printed its error or its output; no process was started.
            (false, None, Some(code)) => WorkerEnd::Exit(ProgramExit::Code(code.unwrap_or(1))),
            _ => self.crashed(crashes, running, died_of, now),
        }
    }

    fn crashed(
        &mut self,
        crashes: u32,
        running: bool,
        died_of: Option<i32>,
        now: Instant,
    ) -> WorkerEnd {
        if !running && crashes >= MAX_CRASHES {
            *self = WorkerSlot::Empty;
            return WorkerEnd::GiveUp;
        }
        *self = WorkerSlot::Backoff { until: now + backoff(crashes), crashes };
        WorkerEnd::Restart { died_of }
    }

    /// The worker was ended on purpose, so another one is due at once. Returns the program's exit
    /// instead if the worker was leaving.
    pub(super) fn vacate(&mut self, now: Instant) -> Option<ProgramExit> {
        let crashes = self.crashes();
        match std::mem::replace(self, WorkerSlot::Empty) {
            WorkerSlot::Leaving {
                goodbye: Goodbye::Said(exit) | Goodbye::Refused(exit), ..
            } => Some(exit),
            _ => {
                *self = WorkerSlot::Backoff { until: now, crashes };
                None
            }
        }
    }

    /// Whether no worker stays alive, so that the keeper carries out shutdown commands itself. A
    /// starting worker may still become ready, but a command to kill does not wait for it.
    pub(super) fn crashed_too_often(&self, kill: bool) -> bool {
        match self {
            WorkerSlot::Backoff { crashes, .. } => *crashes >= MAX_CRASHES,
            WorkerSlot::Starting { crashes, .. } => kill && *crashes >= MAX_CRASHES,
            WorkerSlot::Up { .. } | WorkerSlot::Leaving { .. } | WorkerSlot::Empty => false,
        }
    }

    /// Whether the worker has nothing left to do.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(self, WorkerSlot::Leaving { .. })
    }

    /// The worker, if one runs.
    pub(super) fn worker(&self) -> Option<&A> {
        match self {
            WorkerSlot::Starting { worker, .. }
            | WorkerSlot::Up { worker, .. }
            | WorkerSlot::Leaving { worker, .. } => Some(worker),
            WorkerSlot::Backoff { .. } | WorkerSlot::Empty => None,
        }
    }

    /// As [`worker`](Self::worker).
    pub(super) fn worker_mut(&mut self) -> Option<&mut A> {
        match self {
            WorkerSlot::Starting { worker, .. }
            | WorkerSlot::Up { worker, .. }
            | WorkerSlot::Leaving { worker, .. } => Some(worker),
            WorkerSlot::Backoff { .. } | WorkerSlot::Empty => None,
        }
    }

    /// The worker, if it has introduced itself and receives events.
    pub(super) fn up(&mut self) -> Option<&mut A> {
        match self {
            WorkerSlot::Up { worker, .. }
            | WorkerSlot::Leaving { worker, introduced: true, .. } => Some(worker),
            _ => None,
        }
    }

    /// Takes the worker out and leaves the slot empty. Without a worker, nothing changes.
    pub(super) fn take(&mut self) -> Option<A> {
        self.worker()?;
        match std::mem::replace(self, WorkerSlot::Empty) {
            WorkerSlot::Starting { worker, .. }
            | WorkerSlot::Up { worker, .. }
            | WorkerSlot::Leaving { worker, .. } => Some(worker),
            WorkerSlot::Backoff { .. } | WorkerSlot::Empty => None,
        }
    }

    /// The number of young workers that have crashed in a row.
    pub(super) fn crashes(&self) -> u32 {
        match self {
            WorkerSlot::Backoff { crashes, .. }
            | WorkerSlot::Starting { crashes, .. }
            | WorkerSlot::Up { crashes, .. } => *crashes,
            WorkerSlot::Leaving { .. } | WorkerSlot::Empty => 0,
        }
    }
}

/// The slot of a real worker.
pub(super) type Workers = WorkerSlot<WorkerProcess>;

impl Workers {
    /// Queues a message for a worker that has introduced itself.
    pub(super) fn queue(&mut self, message: &ToWorker) {
        if let Some(worker) = self.up() {
            worker.queue(message);
        }
    }

    /// Queues whole messages for a worker that has introduced itself.
    pub(super) fn queue_encoded(&mut self, messages: &[u8]) {
        if let Some(worker) = self.up() {
            worker.queue_encoded(messages);
        }
    }

    /// When a worker is to be started or killed.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.start_at().or_else(|| self.worker().and_then(WorkerProcess::deadline))
    }
}

#[cfg(test)]
mod tests;
