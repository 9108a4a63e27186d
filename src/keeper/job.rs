//! Job control: this program and the process of `procstar run` are one job of the shell.
//!
//! On a terminal, that process stays in our session and process group. So the terminal's signals
//! reach it directly, and it can read from the terminal when the job is in the foreground. The
//! shell sees only its own child, this process. So this process stops when the other one has
//! stopped, and not before: a program may first restore the terminal's state, or not stop at all.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::procfs::ProcFs;

/// Signals that stop by default.
const STOPPING: [Signal; 3] = [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];
/// Time after the terminal's SIGTSTP in which a process may stop itself by SIGSTOP.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most generations of processes that are searched.
const GENERATIONS: usize = 64;

/// A received signal of job control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobSignal {
    /// The terminal has sent SIGTSTP to the whole job.
    Suspend,
    /// A process has sent SIGTSTP to this process.
    PassOn,
    /// The job continues.
    Continue,
}

/// The job of this process.
pub struct TerminalJob {
    signals: SignalFd,
    /// The time of the terminal's SIGTSTP, if the job has not continued since.
    suspending: Option<Instant>,
    procfs: ProcFs,
}

impl TerminalJob {
    /// From now on, the signals of job control do not stop this process: see
    /// [`suspend`](Self::suspend).
    ///
    /// # Errors
    /// The OS error.
    pub fn new() -> io::Result<TerminalJob> {
        let set = SigSet::from_iter(STOPPING.into_iter().chain([Signal::SIGCONT]));
        set.thread_block()?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(TerminalJob { signals, suspending: None, procfs: ProcFs::default() })
    }

    /// Readable when a signal of job control is pending.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }

    /// The next received signal.
    pub fn read(&mut self) -> Option<JobSignal> {
        loop {
            let info = self.signals.read_signal().ok().flatten()?;
            match (info.ssi_signo as i32, info.ssi_code) {
                (libc::SIGCONT, _) => {
                    self.suspending = None;
                    return Some(JobSignal::Continue);
                }
                (libc::SIGTSTP, libc::SI_KERNEL) => {
                    self.suspending = Some(Instant::now());
                    return Some(JobSignal::Suspend);
                }
                (libc::SIGTSTP, _) => return Some(JobSignal::PassOn),
                // The terminal sends these to the whole group when a background member reads or
                // writes; only that member stops.
                _ => {}
            }
        }
    }

    /// Whether the job is suspended when its process was stopped by this signal. A SIGSTOP suspends
    /// it only after the terminal's SIGTSTP, because some programs then stop themselves by SIGSTOP.
    /// Any other SIGSTOP comes from another process, whose later SIGCONT this process would not
    /// see.
    pub fn is_suspended_by(&self, signum: i32) -> bool {
        STOPPING.iter().any(|signal| *signal as i32 == signum)
            || self.suspending.is_some_and(|at| at.elapsed() < PATIENCE)
    }

    /// Whether a process is stopped now.
    pub fn is_stopped(&self, pid: i32) -> bool {
        self.procfs.read_stat(pid).is_ok_and(|stat| stat.state == 'T')
    }

    /// Stops this process, and returns when it continues. Without a shell that could continue it,
    /// the kernel does not stop it.
    pub fn suspend(&mut self, signum: i32) {
        let signal = STOPPING.into_iter().find(|signal| *signal as i32 == signum);
        let signal = signal.unwrap_or(Signal::SIGTSTP);
        let set = SigSet::from_iter([signal]);
        // Raise the signal while it is blocked, so that it merges with the terminal's: SIGCONT
        // discards all pending stops. These calls do not fail with a valid set.
        let _ = raise(signal);
        let _ = set.thread_unblock();
        let _ = set.thread_block();
    }

    /// Whether this process has a child other than the worker.
    pub fn has_child_besides(&self, worker: Option<i32>) -> bool {
        let own = std::process::id() as i32;
        self.procfs.children(own).into_iter().any(|child| Some(child) != worker)
    }

    /// Whether process `pid` is `ancestor` or descends from it, as far as `/proc` still shows.
    pub fn descends(&self, pid: i32, ancestor: i32) -> bool {
        let parent = |pid: &i32| self.procfs.read_stat(*pid).ok().map(|stat| stat.ppid);
        let line = std::iter::successors(Some(pid), parent).take(GENERATIONS);
        line.take_while(|pid| *pid > 1).any(|pid| pid == ancestor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_terminal_makes_a_sigstop_suspend_the_job() {
        let mut job = TerminalJob::new().unwrap();
        let suspended = |job: &TerminalJob| {
            [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU, libc::SIGSTOP]
                .map(|s| job.is_suspended_by(s))
        };
        assert_eq!(suspended(&job), [true, true, true, false]);
        raise(Signal::SIGTSTP).unwrap();
        assert_eq!(job.read(), Some(JobSignal::PassOn));
        assert_eq!(suspended(&job), [true, true, true, false]);
        job.suspending = Some(Instant::now());
        assert_eq!(suspended(&job), [true; 4]);
        raise(Signal::SIGCONT).unwrap();
        assert_eq!(job.read(), Some(JobSignal::Continue));
        assert_eq!((suspended(&job), job.read()), ([true, true, true, false], None));
    }

    #[test]
    fn descendants_are_known_by_their_parents() {
        let job = TerminalJob::new().unwrap();
        let (pid, parent) = (std::process::id() as i32, std::os::unix::process::parent_id() as i32);
        assert!(job.descends(pid, pid) && job.descends(pid, parent));
        assert!(!job.descends(parent, pid) && !job.descends(i32::MAX, pid));
    }
}
