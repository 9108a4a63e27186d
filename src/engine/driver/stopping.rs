//! The driver's part in stopping a process: its time, the signal that asks its whole tree, the end of that.
//!
//! The tree has its grace also where its leader ends first: the process then drains until nobody of the tree is left.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{DUMPING, Driver, Process, Source, filters};
use crate::clock::TimePoint;
use crate::engine::containment::{Delivery, Remaining, Target, is_continued_after};
use crate::engine::event::Event;
use crate::engine::failure::{Stage, StopFailure};
use crate::engine::state::{Input, State};
use crate::engine::stop::{StopAction, StopCause, StopOrder, StopState, after, instant};
use crate::engine::sys;
use crate::engine::timers::Alarm;
use crate::spec::ProcId;

/// A signal that waits until there is a child.
pub(super) struct PendingSignal {
    pub(super) signum: i32,
    /// Whom to tell.
    pub(super) ticket: Option<u64>,
}

impl Process {
    /// The child, if there is one that has not been reaped.
    fn target(&self) -> Option<Target> {
        match &self.state {
            State::Alive(live) => {
                Some(Target { pid: live.child.pid, pidfd: live.child.pidfd.as_raw_fd() })
            }
            State::Launching => {
                let child_status = self.child_status.as_ref()?;
                let pidfd = child_status.running_pidfd()?;
                Some(Target { pid: child_status.pid().load(Ordering::Acquire), pidfd })
            }
            _ => None,
        }
    }

    /// Whether its child has ended, and somebody of its tree still has time to.
    fn awaits_tree(&self) -> bool {
        matches!(self.state, State::Draining(_)) && !self.exiting.is_empty()
    }

    /// Whether the grace for its captures has to wait, for its tree has its own.
    pub(super) fn tree_has_time(&self) -> bool {
        !self.exiting.is_empty() && !self.stop.is_killed()
    }

    /// Why it ended, if it was stopped; what it failed of before it ran is the better reason.
    pub(super) fn cause(&self) -> Option<StopCause> {
        let ran = self.failures.iter().all(|failure| matches!(failure.stage, Stage::Setup));
        self.stop.cause().filter(|_| ran)
    }
}

impl Driver {
    /// Somebody asks to stop a process.
    pub(super) fn stop(&mut self, id: &ProcId, order: StopOrder, ticket: u64) {
        match self.serials.get(id).copied() {
            Some(serial) => self.stop_process(serial, StopCause::Stopped, order, Some(ticket)),
            None => self.tell_signaled(id.clone(), Some(ticket), Err(no_process())),
        }
    }

    /// Stops a process, and tells whoever has a ticket once it has been asked.
    pub(super) fn stop_process(
        &mut self,
        serial: u64,
        cause: StopCause,
        order: StopOrder,
        ticket: Option<u64>,
    ) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        if !matches!(process.state, State::Launching | State::Alive(_)) && !process.awaits_tree() {
            let id = process.id.clone();
            return self.tell_signaled(id, ticket, Err(no_process()));
        }
        let (signum, grace) = process.terms.read(order);
        let now = TimePoint::now().monotonic_nanos;
        let (stop, todo) = process.stop.ask(cause, signum, grace, now);
        self.enter(serial, stop);
        match todo {
            StopAction::None => {
                let Some(process) = self.processes.get(&serial) else { return };
                self.tell_signaled(process.id.clone(), ticket, Ok(()));
            }
            StopAction::Signal(signum) => self.ask(serial, PendingSignal { signum, ticket }),
            StopAction::Kill => self.kill_tree(serial, ticket),
        }
    }

    /// Has the members of processes looked for when that is wanted.
    pub(super) fn schedule_scan(&mut self) {
        if let Some(wait) = self.containment.take_scan_request() {
            self.timers.set(Instant::now() + wait, Alarm::OrphanScan);
        }
    }

    /// Looks for members that have come or ended; from now on the end of a child is reported again.
    pub(super) fn scan_members(&mut self) {
        self.containment.scan();
        if let Some(events) = self.containment.child_events() {
            self.poller.rearm(events, self.children_token);
        }
        self.look_for_suspension();
    }

    /// Reports a process of our own job on the terminal that has been stopped: then the job is.
    fn look_for_suspension(&mut self) {
        let process = self.shares_terminal.and_then(|serial| self.processes.get(&serial));
        let Some(Process { state: State::Alive(live), id, .. }) = process else { return };
        if let Some(signum) = sys::new_stop_of(live.child.pid) {
            let (id, pid) = (id.clone(), live.child.pid);
            self.pending_events.push(Event::Suspended { id, pid, signum });
        }
    }

    /// Notes how far stopping a process has come, and sets its alarm.
    fn enter(&mut self, serial: u64, stop: StopState) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        process.stop = stop;
        self.set_stop_alarm(serial, stop.until());
    }

    fn set_stop_alarm(&mut self, serial: u64, until: Option<u64>) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        let at = until.map(instant);
        if let Some(before) = std::mem::replace(&mut process.stop_alarm, at) {
            self.timers.cancel(before, Alarm::Kill(serial));
        }
        if let Some(at) = at {
            self.timers.set(at, Alarm::Kill(serial));
        }
    }

    fn set_deadline(&mut self, serial: u64, deadline: Option<u64>) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        let at = deadline.map(instant);
        if let Some(before) = std::mem::replace(&mut process.timeout_alarm, at) {
            self.timers.cancel(before, Alarm::Timeout(serial));
        }
        if let Some(at) = at {
            self.timers.set(at, Alarm::Timeout(serial));
        }
    }

    /// Sets the alarms that a process's terms and its stopping ask for.
    pub(super) fn set_alarms(&mut self, serial: u64) {
        let Some(process) = self.processes.get(&serial) else { return };
        let (deadline, until) = (process.terms.deadline, process.stop.until());
        self.set_deadline(serial, deadline);
        self.set_stop_alarm(serial, until);
    }

    /// Takes these alarms back, for the child has ended: all, or all but that which ends the rest of its tree.
    pub(super) fn cancel_alarms(&mut self, serial: u64) {
        self.set_deadline(serial, None);
        if self.processes.get(&serial).is_none_or(|process| process.exiting.is_empty()) {
            self.set_stop_alarm(serial, None);
        }
    }

    /// A process has run for as long as it may.
    pub(super) fn timed_out(&mut self, serial: u64) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        process.timeout_alarm = None;
        tracing::info!(proc_id = %process.id, "time is over, stopping the process");
        self.stop_process(serial, StopCause::Timeout, StopOrder::default(), None);
    }

    /// The grace of a process may be over.
    pub(super) fn stop_grace_over(&mut self, serial: u64) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        process.stop_alarm = None;
        let (stop, todo) = process.stop.look(TimePoint::now().monotonic_nanos);
        self.enter(serial, stop);
        if todo == StopAction::Kill {
            self.kill_tree(serial, None);
        }
    }

    /// Sends a signal to a running process and its group. One that is only being made has nothing to do with it.
    pub(super) fn signal_whole_group(&mut self, id: &ProcId, signum: i32) {
        let process = self.serials.get(id).and_then(|serial| self.processes.get(serial));
        let alive = process.filter(|process| matches!(process.state, State::Alive(_)));
        if let Some(target) = alive.and_then(Process::target)
            // One that was adopted may have been reaped by somebody else, and its number be another's.
            && sys::pidfd_send_signal(target.pidfd, 0).is_ok()
        {
            // That there is no group is no error here.
            let _ = sys::signal_group(target.pid, signum);
        }
    }

    /// Sends the signal that asks a process and its tree to end, as soon as there is a child that may have it.
    fn ask(&mut self, serial: u64, ask: PendingSignal) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        let PendingSignal { signum, ticket } = ask;
        let id = process.id.clone();
        let result = match (&process.state, process.target()) {
            (State::Launching, Some(target)) if !DUMPING.contains(&signum) => {
                ask_alone(target, signum)
            }
            (State::Alive(_), Some(target)) => self.ask_tree(serial, target, signum),
            (State::Draining(_), _) => {
                let failures = self.containment.signal_remaining(serial, signum);
                self.report_failures(serial, failures);
                Ok(())
            }
            _ => return process.asks.push(ask),
        };
        self.tell_signaled(id, ticket, result);
    }

    /// Sends a signal to everybody of a tree.
    ///
    /// # Errors
    /// The OS error of the leader's.
    fn ask_tree(&mut self, serial: u64, target: Target, signum: i32) -> io::Result<()> {
        let Delivery { result, failures } = self.containment.signal_all(serial, target, signum);
        self.report_failures(serial, failures);
        result
    }

    /// Reports the members of a process that could not be signaled.
    fn report_failures(&mut self, serial: u64, failures: Vec<StopFailure>) {
        let Some(process) = self.processes.get(&serial).filter(|_| !failures.is_empty()) else {
            return;
        };
        let id = process.id.clone();
        for failure in &failures {
            tracing::warn!(proc_id = %id, "the process is not stopped as a whole: {failure}");
        }
        self.pending_events.push(Event::StopFailed { id, failures });
    }

    /// There is a child now, or there will be none: what was asked before is done.
    pub(super) fn flush_pending(&mut self, serial: u64) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        let id = process.id.clone();
        let asks = std::mem::take(&mut process.asks);
        let gone = process.target().is_none();
        let kill = matches!(process.stop, StopState::Killed { .. });
        for ask in asks {
            if gone {
                self.tell_signaled(id.clone(), ask.ticket, Err(no_process()));
            } else {
                self.ask(serial, ask);
            }
        }
        if kill && !gone {
            self.kill_tree(serial, None);
        }
    }

    /// Kills a process with all that descends from it.
    fn kill_tree(&mut self, serial: u64, ticket: Option<u64>) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        let id = process.id.clone();
        if process.awaits_tree() {
            self.await_tree(serial);
            self.drain(serial);
            return self.tell_signaled(id, ticket, Ok(()));
        }
        let Some(target) = process.target() else {
            // As soon as there is a child.
            return process.asks.push(PendingSignal { signum: libc::SIGKILL, ticket });
        };
        let Delivery { result, failures } = self.containment.kill_all(serial, target);
        self.report_failures(serial, failures);
        self.tell_signaled(id, ticket, result);
    }

    /// The child of a process that is being stopped has ended: has it not end before everybody of its tree has. They have what
    /// is left of the grace; with none, they are killed.
    pub(super) fn await_tree(&mut self, serial: u64) {
        self.forget_exiting(serial);
        let Some(process) = self.processes.get(&serial) else { return };
        if !matches!(process.state, State::Alive(_) | State::Draining(_)) {
            return;
        }
        let kill = process.stop.is_killed();
        let Remaining { awaited, failures } = self.containment.remaining(serial, kill);
        self.report_failures(serial, failures);
        for pidfd in awaited {
            self.await_exit(serial, pidfd);
        }
    }

    /// Has a process not end before this other one has.
    pub(super) fn await_exit(&mut self, serial: u64, pidfd: OwnedFd) {
        let Ok(token) = self.poller.watch(&pidfd, Source::Descendant(serial)) else { return };
        if let Some(process) = self.processes.get_mut(&serial) {
            process.exiting.insert(token, pidfd);
        }
    }

    /// One of the tree has ended.
    pub(super) fn descendant_exited(&mut self, serial: u64, token: u64) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        if let Some(pidfd) = process.exiting.remove(&token) {
            self.poller.unwatch(&pidfd, token);
        }
        if self.processes.get(&serial).is_some_and(|process| process.exiting.is_empty()) {
            // It may have left others, and more of them than can be held may be there.
            self.containment.notice_left_now();
            self.await_tree(serial);
        }
        self.close_what_has_ended(serial);
        self.drain(serial);
        self.apply(serial, Input::CapturesClosed);
    }

    /// From now on its captures alone may delay the end of a process, and no longer than their grace; unless its tree still has time. A
    /// grace that has begun in the program before us goes on.
    pub(super) fn drain(&mut self, serial: u64) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        if !matches!(process.state, State::Draining(_)) || process.tree_has_time() {
            return;
        }
        let now = TimePoint::now().monotonic_nanos;
        let until = *process.drains.get_or_insert_with(|| after(now, self.options.drain_grace));
        if process.filters_until.is_none() {
            process.filters_until = Some(instant(after(until, filters::PATIENCE)));
            self.timers.set(instant(until), Alarm::DrainTimeout(serial));
        }
    }

    /// Waits no longer for those of its tree.
    pub(super) fn forget_exiting(&mut self, serial: u64) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        for (token, pidfd) in std::mem::take(&mut process.exiting) {
            self.poller.unwatch(&pidfd, token);
        }
    }

    fn tell_signaled(&mut self, id: ProcId, ticket: Option<u64>, result: io::Result<()>) {
        if let Some(ticket) = ticket {
            self.pending_events.push(Event::Signaled { id, ticket, result });
        }
    }
}

fn no_process() -> io::Error {
    io::Error::from_raw_os_error(libc::ESRCH)
}

/// Signals a child that is being made, and has no descendants, and has it go on if it is stopped.
fn ask_alone(target: Target, signum: i32) -> io::Result<()> {
    sys::pidfd_send_signal(target.pidfd, signum)?;
    if is_continued_after(signum) {
        sys::pidfd_send_signal(target.pidfd, libc::SIGCONT)?;
    }
    Ok(())
}
