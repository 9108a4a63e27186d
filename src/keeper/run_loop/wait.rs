//! The loop's sleep: its wake-up sources and its timeout.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Keeper, Phase};
use crate::keeper::job::TerminalJob;
use crate::keeper::worker_process::WorkerProcess;

/// How often every source is checked while `poll` fails.
const POLL_FALLBACK: Duration = Duration::from_millis(5);

/// The sources that have woken the loop.
#[derive(Clone, Copy, Default)]
pub(super) struct Woken {
    pub(super) events: bool,
    pub(super) signals: bool,
    /// The worker has ended.
    pub(super) ended: bool,
    /// The worker has sent a message, or closed its socket.
    pub(super) said: bool,
}

impl Woken {
    /// Every source is checked.
    const ALL: Woken = Woken { events: true, signals: true, ended: true, said: true };

    /// Whether something has happened.
    pub(super) fn is_any(self) -> bool {
        self.events || self.signals || self.ended || self.said
    }
}

impl Keeper {
    /// Sleeps until something happens.
    pub(super) fn wait(&self) -> Woken {
        let now = Instant::now();
        let running = match &self.phase {
            Phase::Running(running) => Some(running),
            Phase::AwaitingHello(_) | Phase::Exiting(..) => None,
        };
        let deferred = running.and_then(|running| running.events_deferred_until(now));
        let deadlines = running.into_iter().flat_map(|running| running.deadlines());
        let next = deadlines.chain(deferred).chain(self.slot.deadline()).chain(self.trim_at).min();
        let timeout = next.map_or(PollTimeout::NONE, |at| {
            let wait = at.saturating_duration_since(now) + Duration::from_millis(1);
            PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
        });
        let worker = self.slot.worker();
        let writes = worker.is_some_and(WorkerProcess::wants_to_send);
        let to_send = if writes { PollFlags::POLLOUT } else { PollFlags::empty() };
        let events = running.filter(|_| deferred.is_none()).map(|running| running.events_fd());
        let mut fds = [
            self.source(events),
            self.source(Some(self.signals.fd())),
            self.source(worker.map(WorkerProcess::pidfd)),
            self.source_with(worker.and_then(WorkerProcess::socket), PollFlags::POLLIN | to_send),
            self.source(running.and_then(|running| running.job.as_ref()).map(TerminalJob::fd)),
            self.source(running.map(|running| running.deletions_fd())),
            self.source_of_store(0),
            self.source_of_store(1),
        ];
        match poll(&mut fds, timeout) {
            // After EINTR, the loop checks its sources as after an event.
            Ok(_) | Err(Errno::EINTR) => {}
            // `poll` accepts no more descriptors than RLIMIT_NOFILE, which somebody may have
            // lowered since. No source blocks, so all are checked at intervals instead.
            Err(_) => {
                std::thread::sleep(POLL_FALLBACK);
                return Woken::ALL;
            }
        }
        // The read that follows reports an error.
        let [events, signals, ended, said, ..] = fds
            .map(|fd| fd.revents().is_some_and(|found| !(found - PollFlags::POLLOUT).is_empty()));
        Woken { events, signals, ended, said }
    }

    /// One of the sources of the descriptor store.
    fn source_of_store(&self, number: usize) -> PollFd<'_> {
        let store = match &self.phase {
            Phase::Running(running) => running.store.as_ref(),
            Phase::AwaitingHello(_) | Phase::Exiting(..) => None,
        };
        match store.and_then(|store| store.sources().into_iter().nth(number)?) {
            Some((fd, events)) => PollFd::new(fd, events),
            None => self.source(None),
        }
    }

    fn source<'a>(&'a self, fd: Option<BorrowedFd<'a>>) -> PollFd<'a> {
        self.source_with(fd, PollFlags::POLLIN)
    }

    /// `poll` needs a valid descriptor: without one, our signals with no events stand in its place.
    fn source_with<'a>(&'a self, fd: Option<BorrowedFd<'a>>, events: PollFlags) -> PollFd<'a> {
        match fd {
            Some(fd) => PollFd::new(fd, events),
            None => PollFd::new(self.signals.fd(), PollFlags::empty()),
        }
    }
}
