//! The driver's part in stopping a process: its time, the signal that asks it, the end of its whole tree.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering;

use super::super::state::{Input, State};
use super::super::stop::{Do, Stop, StopCause, StopOrder, instant};
use super::super::timers::Alarm;
use super::super::tree::Tree;
use super::super::{Event, Moment, Stage, sys};
use super::{DUMPING, Driver, Process, Source};
use crate::spec::ProcId;

/// A signal that waits until there is a child.
pub(super) struct Ask {
    pub(super) signum: i32,
    /// Whether its whole group is asked.
    pub(super) group: bool,
    /// Whom to tell.
    pub(super) ticket: Option<u64>,
}

/// A child that can be signaled.
#[derive(Clone, Copy)]
struct Target {
    pid: i32,
    pidfd: RawFd,
}

impl Process {
    /// The child, if there is one that has not been reaped.
    fn target(&self) -> Option<Target> {
        match &self.state {
            State::Alive(live) => {
                Some(Target { pid: live.child.pid, pidfd: live.child.pidfd.as_raw_fd() })
            }
            State::Launching => {
                let report = self.report.as_ref()?;
                let pidfd = report.running_pidfd()?;
                Some(Target { pid: report.pid().load(Ordering::Acquire), pidfd })
            }
            _ => None,
        }
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
        if !matches!(process.state, State::Launching | State::Alive(_)) {
            let id = process.id.clone();
            return self.tell_signaled(id, ticket, Err(no_process()));
        }
        let (signum, grace) = process.terms.read(order);
        let now = Moment::now().monotonic_nanos;
        let (stop, todo) = process.stop.ask(cause, signum, grace, now);
        self.enter(serial, stop);
        match todo {
            Do::Nothing => {
                let Some(process) = self.processes.get(&serial) else { return };
                self.tell_signaled(process.id.clone(), ticket, Ok(()));
            }
            Do::Ask { signum, group } => self.ask(serial, Ask { signum, group, ticket }),
            Do::Kill => self.kill_tree(serial, ticket),
        }
    }

    /// Notes how far stopping a process has come, and sets its alarm.
    fn enter(&mut self, serial: u64, stop: Stop) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        process.stop = stop;
        self.set_stop_alarm(serial, stop.until());
    }

    fn set_stop_alarm(&mut self, serial: u64, until: Option<u64>) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        let at = until.map(instant);
        if let Some(before) = std::mem::replace(&mut process.stop_alarm, at) {
            self.timers.cancel(before, Alarm::Stop(serial));
        }
        if let Some(at) = at {
            self.timers.set(at, Alarm::Stop(serial));
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

    /// Takes these alarms back: the process has ended.
    pub(super) fn cancel_alarms(&mut self, serial: u64) {
        self.set_deadline(serial, None);
        self.set_stop_alarm(serial, None);
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
        let (stop, todo) = process.stop.look(Moment::now().monotonic_nanos);
        self.enter(serial, stop);
        if todo == Do::Kill {
            self.kill_tree(serial, None);
        }
    }

    /// Sends the signal that asks a process to end, as soon as there is a child that may have it.
    fn ask(&mut self, serial: u64, ask: Ask) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        let launching = matches!(process.state, State::Launching);
        let target = process.target().filter(|_| !launching || !DUMPING.contains(&ask.signum));
        let Some(target) = target else {
            process.asks.push(ask);
            return;
        };
        let id = process.id.clone();
        let result = if ask.group {
            signal_group(target, ask.signum)
        } else {
            sys::pidfd_send_signal(target.pidfd, ask.signum)
        };
        self.tell_signaled(id, ask.ticket, result);
    }

    /// There is a child now, or there will be none: what was asked before is done.
    pub(super) fn do_as_asked(&mut self, serial: u64) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        let id = process.id.clone();
        let asks = std::mem::take(&mut process.asks);
        let gone = process.target().is_none();
        let kill = matches!(process.stop, Stop::Killed { .. });
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
        let Some(target) = process.target() else {
            // As soon as there is a child.
            return process.asks.push(Ask { signum: libc::SIGKILL, group: false, ticket });
        };
        let id = process.id.clone();
        self.look_for_strays();
        // One that was adopted may have been reaped by somebody else.
        let lives = sys::pidfd_send_signal(target.pidfd, 0).is_ok();
        let strays = self.strays_of(serial);
        let roots = lives.then_some(target.pid).into_iter().chain(strays);
        let tree = Tree::freeze(&self.procfs, roots);
        tree.kill(&self.procfs);
        let result = sys::pidfd_send_signal(target.pidfd, libc::SIGKILL);
        if lives {
            // Who has joined the group meanwhile. That nobody has is no error.
            let _ = sys::signal_group(target.pid, libc::SIGKILL);
        }
        if let Some(process) = self.processes.get_mut(&serial) {
            process.tree.extend(tree.into_members());
        }
        self.tell_signaled(id, ticket, result);
    }

    /// The child of a process that is being stopped has ended, and is not reaped yet: kills what is left of its tree, and waits
    /// until that is gone.
    pub(super) fn sweep(&mut self, serial: u64, pid: i32) {
        let tree = Tree::freeze(&self.procfs, self.strays_of(serial));
        let killed = tree.kill(&self.procfs);
        // The child itself holds the number, so the group is no other.
        let _ = sys::signal_group(pid, libc::SIGKILL);
        for pidfd in killed {
            self.await_exit(serial, pidfd);
        }
    }

    /// Has a process not end before this other one has.
    fn await_exit(&mut self, serial: u64, pidfd: OwnedFd) {
        let Ok(token) = self.poller.watch(&pidfd, Source::Leaving(serial)) else { return };
        if let Some(process) = self.processes.get_mut(&serial) {
            process.leaving.insert(token, pidfd);
        }
    }

    /// A killed one has ended.
    pub(super) fn left(&mut self, serial: u64, token: u64) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        if let Some(pidfd) = process.leaving.remove(&token) {
            self.poller.unwatch(&pidfd, token);
        }
        self.close_what_has_ended(serial);
        self.apply(serial, Input::CapturesClosed);
    }

    /// Waits no longer for killed ones.
    pub(super) fn forget_leaving(&mut self, serial: u64) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        for (token, pidfd) in std::mem::take(&mut process.leaving) {
            self.poller.unwatch(&pidfd, token);
        }
    }

    fn tell_signaled(&mut self, id: ProcId, ticket: Option<u64>, result: io::Result<()>) {
        if let Some(ticket) = ticket {
            self.untold.push(Event::Signaled { id, ticket, result });
        }
    }
}

fn no_process() -> io::Error {
    io::Error::from_raw_os_error(libc::ESRCH)
}

/// Signals a child's whole group; the child alone while it has none of its own yet.
fn signal_group(target: Target, signum: i32) -> io::Result<()> {
    // One that was adopted may have been reaped by somebody else, and its number be another's.
    sys::pidfd_send_signal(target.pidfd, 0)?;
    match sys::signal_group(target.pid, signum) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
            sys::pidfd_send_signal(target.pidfd, signum)
        }
        result => result,
    }
}
