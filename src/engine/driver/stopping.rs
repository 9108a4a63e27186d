//! The driver's part in signals: it sends the signals of a process to the child, its group or all
//! its members, and watches the members that a stopped process waits for.

use std::io;

use super::Driver;
use super::poller::Source;
use crate::clock::{after, monotonic};
use crate::engine::containment::{Delivery, Remaining, Target};
use crate::engine::event::Event;
use crate::engine::failure::StopFailure;
use crate::engine::process::effect::Recipients;
use crate::engine::process::{Input, no_process};
use crate::engine::sys;
use crate::engine::timers::Alarm;

impl Driver {
    /// Sends a signal on behalf of a process.
    ///
    /// # Errors
    /// The OS error for the child itself.
    pub(super) fn send_signal(
        &mut self,
        serial: u64,
        signum: i32,
        to: Recipients,
    ) -> io::Result<()> {
        match to {
            Recipients::Child => sys::pidfd_send_signal(self.target(serial)?.pidfd, signum),
            Recipients::Group => signal_group(self.target(serial)?, signum),
            Recipients::Tree => {
                let target = self.target(serial)?;
                let delivery = self.containment.signal_all(serial, target, signum);
                self.delivered(serial, delivery)
            }
            Recipients::Leftovers => {
                let failures = self.containment.signal_remaining(serial, signum);
                self.report_failures(serial, failures);
                Ok(())
            }
        }
    }

    /// Kills a process with all its members.
    ///
    /// # Errors
    /// The OS error for the child itself.
    pub(super) fn kill_tree(&mut self, serial: u64) -> io::Result<()> {
        let target = self.target(serial)?;
        let delivery = self.containment.kill_all(serial, target);
        self.delivered(serial, delivery)
    }

    fn target(&self, serial: u64) -> io::Result<Target> {
        let process = self.processes.get(&serial);
        process.and_then(|process| process.target()).ok_or_else(no_process)
    }

    fn delivered(&mut self, serial: u64, delivery: Delivery) -> io::Result<()> {
        let Delivery { result, failures } = delivery;
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

    /// The child of a stopped process has ended: the process waits for its members. They have the
    /// rest of the grace; without a rest, they are killed.
    pub(super) fn await_tree(&mut self, serial: u64) {
        self.forget_exiting(serial);
        let process = self.processes.get(&serial);
        let Some(process) = process.filter(|p| p.live().is_some() || p.is_draining()) else {
            return;
        };
        let kill = process.is_killed();
        let Remaining { awaited, failures } = self.containment.remaining(serial, kill);
        self.report_failures(serial, failures);
        let awaits_group = self.watch_group(serial);
        let Some(process) = self.processes.get_mut(&serial) else { return };
        process.awaits_group = awaits_group;
        for pidfd in awaited {
            if let Ok(token) = self.io.poller.watch(&pidfd, Source::Descendant(serial)) {
                process.exiting.insert(token, pidfd);
            }
        }
    }

    /// Handles the end of a member that a process waits for.
    pub(super) fn descendant_exited(&mut self, serial: u64, token: u64) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        if let Some(pidfd) = process.exiting.remove(&token) {
            self.io.poller.unwatch(&pidfd, token);
        }
        if process.exiting.is_empty() {
            // The member may have left orphans, and not all members may be watched.
            self.containment.notice_left_now();
            self.await_tree(serial);
        }
        self.sweep(serial);
        self.on(serial, Input::Progress);
    }

    /// Stops waiting for the members of a process.
    pub(super) fn forget_exiting(&mut self, serial: u64) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        process.awaits_group = false;
        for (token, pidfd) in std::mem::take(&mut process.exiting) {
            self.io.poller.unwatch(&pidfd, token);
        }
    }

    /// Schedules the next scan for members, if the containment requests one.
    pub(super) fn schedule_scan(&mut self) {
        if let Some(wait) = self.containment.take_scan_request() {
            self.io.timers.set(after(monotonic(), wait), Alarm::OrphanScan);
        }
    }

    /// Scans for new and ended members; from now on the end of a child is reported again.
    pub(super) fn scan_members(&mut self) {
        self.containment.scan();
        if let Some(events) = self.containment.child_events() {
            self.io.poller.rearm(events, self.children_token);
        }
        self.report_suspension();
    }

    /// Reports that a process of our own job on the terminal was stopped, which stops the job.
    pub(super) fn report_suspension(&mut self) {
        let process = self.shares_terminal.and_then(|serial| self.processes.get(&serial));
        let Some(process) = process else { return };
        let Some(pid) = process.live().map(|live| live.child.pid) else { return };
        if let Some(signum) = sys::new_stop_of(pid) {
            let id = process.id.clone();
            self.pending_events.push(Event::Suspended { id, pid, signum });
        }
    }
}

/// Signals a child that runs, with its group.
fn signal_group(target: Target, signum: i32) -> io::Result<()> {
    // Another program may have reaped an adopted child, and its pid may be reused.
    sys::pidfd_send_signal(target.pidfd, 0)?;
    // A missing group is no error here.
    let _ = sys::signal_group(target.pid, signum);
    Ok(())
}
