//! The driver's part in the start and the end of a child.

use std::time::{Duration, Instant};

use super::Driver;
use super::exit_statuses::ExitStatuses;
use super::poller::Source;
use crate::clock::{after, monotonic};
use crate::engine::containment::{Containment, LastUsage};
use crate::engine::foreign::{self, ForeignState};
use crate::engine::owned_child::OwnedChild;
use crate::engine::process::child::{ChildExit, LiveChild};
use crate::engine::process::effect::ProcessAlarm;
use crate::engine::process::{Input, Process, SetupResult};
use crate::engine::spawn::Spawned;
use crate::engine::sys;
use crate::engine::timers::Alarm;
use crate::mem::text_pages::UNKNOWN;
use crate::procfs::ProcFs;

/// Polling interval for children whose end epoll cannot report.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Timeout for another process to reap an adopted process, if we cannot read the status before.
const REAP_TIMEOUT: Duration = Duration::from_secs(10);

impl Driver {
    /// Handles a made child, or the failure to make one.
    pub(super) fn spawned(&mut self, spawned: Spawned) {
        self.last_spawned = Instant::now();
        let Spawned { serial, child, failures, capture_writers, not_made, resolved, floor, .. } =
            spawned;
        self.pool.taken(serial);
        self.group_made(serial, spawned.in_group, spawned.group_error);
        let mut process = self.processes.get_mut(&serial);
        for (index, writer) in capture_writers {
            self.io.capture_writer_started((serial, index), process.as_deref_mut(), writer);
        }
        let Some(process) = process else { return };
        for index in not_made {
            process.output.set_up_failed(index);
        }
        let report = failures.is_empty() && !process.is_start_reported();
        let setup = Box::new(SetupResult { failures, resolved: Some(resolved), floor });
        let input = match child {
            Some(child) => {
                let pid = child.pid;
                self.containment.child_made(serial, pid);
                let facts = report.then(|| self.see_child(serial, pid, true));
                self.share(serial, Some(&child.pidfd));
                Input::Spawned { live: self.watch_child(serial, child, false), facts, setup }
            }
            None => {
                // Nothing will ever be written, so there is no drain timeout to wait for.
                self.io.sweep(serial, process);
                Input::NotSpawned { exit: Box::new(ChildExit::without_child()), setup }
            }
        };
        self.on(serial, input);
        if self.shares_terminal == Some(serial) {
            // Until here nobody knew the child, so that its SIGCHLD of an early stop had no effect.
            self.report_suspension();
        }
    }

    /// Watches a child for its end.
    pub(super) fn watch_child(
        &mut self,
        serial: u64,
        child: OwnedChild,
        adopted: bool,
    ) -> LiveChild {
        if adopted {
            self.exit_events.watch(&mut self.io.poller, &child);
        }
        let token = self.io.poller.watch(&child.pidfd, Source::Exit(serial));
        if let Err(error) = &token {
            tracing::warn!(pid = child.pid, %error, "cannot watch a process, looking at it by a timer");
            self.poll_later(serial);
        }
        LiveChild { child, token: token.ok(), adopted, reaped_by: None }
    }

    /// Polls a child by a timer, because epoll cannot report its end.
    fn poll_later(&mut self, serial: u64) {
        let alarm = Alarm::Process(serial, ProcessAlarm::ChildPoll);
        self.io.timers.set(after(monotonic(), POLL_INTERVAL), alarm);
    }

    /// Handles a readable pidfd: its child is a zombie, whose last data exist until it is reaped.
    /// Its orphans are our children by now and were scanned: until the reap, no pid of the child is
    /// reused.
    pub(super) fn exited(&mut self, serial: u64) {
        let Some(process) = self.processes.get(&serial).filter(|p| p.live().is_some()) else {
            return;
        };
        if process.is_stopping() {
            // Some of its own orphans may have ended since this round began.
            self.containment.notice_left_now();
            self.await_tree(serial);
        }
        let Some(process) = self.processes.get_mut(&serial) else { return };
        let events = &mut self.exit_events;
        let exit = reap(serial, process, self.containment.as_mut(), (&self.procfs, events));
        let token = process.take_token();
        if let Some((token, live)) = token.zip(process.live()) {
            self.io.poller.unwatch(&live.child.pidfd, token);
        }
        // A debugger that traces the child reaps it first, and another process reaps an adopted
        // one. Until then epoll would report it continuously.
        let Some(exit) = exit else { return self.poll_later(serial) };
        if let Some(pid) = exit.pid {
            self.exit_events.unwatch(&mut self.io.poller, pid);
        }
        self.containment.child_reaped(serial);
        self.io.sweep(serial, process);
        self.on(serial, Input::Exited(Box::new(exit)));
    }
}

/// The exit of a process whose child has ended; `None` if it is not known yet.
fn reap(
    serial: u64,
    process: &mut Process,
    members: &mut dyn Containment,
    (procfs, events): (&ProcFs, &mut ExitStatuses),
) -> Option<ChildExit> {
    let LiveChild { child, adopted, .. } = process.live()?;
    let pid = child.pid;
    if *adopted && !foreign::is_child(pid, &child.pidfd) {
        return reaped_elsewhere(serial, process, members, (procfs, events));
    }
    let LastUsage { stat, io } = members.last_usage(serial);
    let left_group = members.has_left_group(serial, pid);
    match sys::reap(pid) {
        Ok(Some((status, mut rusage))) => {
            if process.floor().covers(rusage.ru_maxrss) {
                rusage.ru_maxrss = UNKNOWN;
            }
            let out_of_memory = was_oom_killed(serial, status, process, members);
            let blank = ChildExit::without_child();
            let blank = ChildExit { left_group, rusage, ..blank };
            Some(ChildExit { pid: Some(pid), status, stat, io, out_of_memory, ..blank })
        }
        Ok(None) => None,
        // Another reaper should not exist, but the process must not hang because of it.
        Err(error) => {
            tracing::error!(pid, %error, "cannot reap a process");
            Some(ChildExit { stat, io, ..ChildExit::lost(pid) })
        }
    }
}

/// The exit of an adopted process, whose parent is another process.
fn reaped_elsewhere(
    serial: u64,
    process: &mut Process,
    members: &mut dyn Containment,
    (procfs, events): (&ProcFs, &mut ExitStatuses),
) -> Option<ChildExit> {
    let child = &process.live()?.child;
    let pid = child.pid;
    let left_group = members.has_left_group(serial, pid);
    let state = foreign::state_of(procfs, (pid, &child.pidfd), members.starttime(serial));
    let state = match state {
        ForeignState::Unreaped | ForeignState::Lost => {
            events.status(pid).map_or(state, |status| ForeignState::Ended(status, Box::default()))
        }
        ForeignState::Running | ForeignState::Ended(..) => state,
    };
    match state {
        ForeignState::Ended(status, usage) => {
            let LastUsage { stat, io } = *usage;
            let out_of_memory = was_oom_killed(serial, status, process, members);
            let unmeasured = true;
            let blank = ChildExit { unmeasured, left_group, ..ChildExit::without_child() };
            Some(ChildExit { pid: Some(pid), status, stat, io, out_of_memory, ..blank })
        }
        ForeignState::Running => None,
        ForeignState::Unreaped => {
            let now = monotonic();
            let by = process.reaped_by(after(now, REAP_TIMEOUT));
            (now >= by).then(|| ChildExit::lost(pid))
        }
        ForeignState::Lost => Some(ChildExit::lost(pid)),
    }
}

/// Whether the OOM killer has ended a process with this raw wait status.
fn was_oom_killed(
    serial: u64,
    status: i32,
    process: &Process,
    members: &mut dyn Containment,
) -> bool {
    let struck = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL;
    struck && !process.sent_sigkill() && members.ran_out_of_memory(serial)
}
