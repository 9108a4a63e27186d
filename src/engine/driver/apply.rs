//! The driver's part in the life of a process: it hands inputs to the process, and applies the
//! effects.

use std::path::Path;

use super::Driver;
use crate::clock::monotonic;
use crate::engine::event::{Event, Survivors};
use crate::engine::process::child::{ChildExit, ChildFacts};
use crate::engine::process::effect::{Effect, Effects, ProcessAlarm};
use crate::engine::process::output::OpenCapture;
use crate::engine::process::{Input, no_process};
use crate::engine::timers::Alarm;
use crate::mem::shrink::Shrink;
use crate::spec::ProcId;

impl Driver {
    /// Passes an input to a process, and applies the effects.
    pub(super) fn on(&mut self, serial: u64, input: Input) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        // An effect may bring another input: that one gets a list of its own.
        let list = std::mem::take(&mut self.effects);
        let mut effects = Effects::at(monotonic(), self.patience, list);
        process.on(input, &mut effects);
        let mut list = effects.into_list();
        for effect in list.drain(..) {
            self.apply(serial, effect);
        }
        self.effects = list;
        self.release_if_done(serial);
        self.recount(serial);
    }

    /// The same for a process by its ID; if there is no such process, the sender of a ticket gets
    /// an answer.
    pub(super) fn on_id(&mut self, id: ProcId, input: Input, ticket: Option<u64>) {
        match self.serials.get(&id).copied() {
            Some(serial) => self.on(serial, input),
            None => self.answer(id, ticket, Err(no_process())),
        }
    }

    fn apply(&mut self, serial: u64, effect: Effect) {
        match effect {
            Effect::Report(event) => self.pending_events.push(event),
            Effect::Signal { signum, to, ticket } => {
                let result = self.send_signal(serial, signum, to);
                self.answer_for(serial, ticket, result);
            }
            Effect::KillTree { ticket } => {
                let result = self.kill_tree(serial);
                self.answer_for(serial, ticket, result);
            }
            Effect::KillLeftovers => self.await_tree(serial),
            Effect::ForgetDescendants => self.forget_exiting(serial),
            Effect::SetAlarm(at, alarm) => self.io.timers.set(at, Alarm::Process(serial, alarm)),
            Effect::CancelAlarm(at, alarm) => {
                self.io.timers.cancel(at, Alarm::Process(serial, alarm));
            }
            Effect::StartResolved { group, failed } => self.start_resolved(serial, group, failed),
            Effect::Seal => self.seal(serial),
            Effect::End(exit) => self.end(serial, *exit),
        }
    }

    /// Reports the end of a process.
    fn end(&mut self, serial: u64, exit: ChildExit) {
        let survivors = match self.processes.get(&serial) {
            // The program was never executed.
            Some(process) if process.has_failed() => Survivors::default(),
            // Its orphans went to another keeper, or to init.
            _ if (exit.lost || exit.unmeasured) && self.containment.group(serial).is_none() => {
                Survivors::unknown()
            }
            _ => self.containment.survivors(serial),
        };
        let group = self.containment.group(serial).is_some();
        let usage = group.then(|| self.containment.group_usage(serial));
        self.retire_group(serial);
        self.containment.ended(serial);
        let Some(process) = self.processes.get_mut(&serial) else { return };
        let ended = process.ended(exit, survivors, usage);
        self.pending_events.push(Event::Ended(Box::new(ended)));
    }

    fn answer_for(&mut self, serial: u64, ticket: Option<u64>, result: std::io::Result<()>) {
        if let Some(process) = self.processes.get(&serial) {
            let id = process.id.clone();
            self.answer(id, ticket, result);
        }
    }

    fn answer(&mut self, id: ProcId, ticket: Option<u64>, result: std::io::Result<()>) {
        if let Some(ticket) = ticket {
            self.pending_events.push(Event::Signaled { id, ticket, result });
        }
    }

    /// Closes every capture of a process that has no writer left, and watches the others.
    pub(super) fn sweep(&mut self, serial: u64) {
        if let Some(process) = self.processes.get_mut(&serial) {
            self.io.sweep(serial, process);
        }
    }

    /// Handles the end of captures that a process may be waiting for.
    pub(super) fn captures_may_have_ended(&mut self, serial: u64) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        if process.is_draining() {
            self.io.sweep(serial, process);
            self.on(serial, Input::Progress);
        }
    }

    /// Reads a readable pipe.
    pub(super) fn pipe_readable(&mut self, serial: u64, index: usize) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        if self.io.read_pipe(process, index, true) {
            self.io.close_capture(&mut process.output, index);
            self.on(serial, Input::Progress);
        }
    }

    /// Handles an expired timer of a process.
    pub(super) fn process_alarm(&mut self, serial: u64, alarm: ProcessAlarm) {
        match alarm {
            ProcessAlarm::SetupTimeout => {
                let process = self.processes.get(&serial);
                let silent = process.filter(|process| !process.is_start_reported());
                let child = silent.and_then(|process| {
                    process.pid_in_setup().map(|pid| (pid, process.is_in_group()))
                });
                let facts = child.map(|(pid, in_group)| self.see_child(serial, pid, in_group));
                self.on(serial, Input::SetupTimeout(facts));
            }
            ProcessAlarm::DrainTimeout => {
                let Some(process) = self.processes.get_mut(&serial) else { return };
                if process.is_draining() {
                    self.io.sweep(serial, process);
                    let check = self.io.check_drain(serial, process);
                    self.on(serial, Input::DrainTimeout(check));
                }
            }
            ProcessAlarm::ChildPoll => {
                self.containment.notice_left_now();
                self.exited(serial);
            }
            ProcessAlarm::Deadline => self.on(serial, Input::Deadline),
            ProcessAlarm::Kill => self.on(serial, Input::KillTimeout),
            ProcessAlarm::SealTimeout => self.sealed(serial),
            ProcessAlarm::FilePoll => {
                if let Some(process) = self.processes.get(&serial) {
                    self.io.examine_files(serial, &process.output);
                }
            }
        }
    }

    /// Reads the `/proc` data of a new child for the event of its start.
    pub(super) fn see_child(&mut self, serial: u64, pid: i32, in_group: bool) -> Box<ChildFacts> {
        let group = self.containment.group(serial).filter(|_| in_group).map(Path::to_path_buf);
        let stat = self.procfs.read_stat(pid).ok();
        self.containment.child_seen(serial, stat.as_ref().map(|stat| stat.starttime));
        Box::new(ChildFacts { pid, stat, statm: self.procfs.read_statm(pid).ok(), group })
    }

    /// Recounts the descriptors of a process after its child was made, or could not be.
    fn recount(&mut self, serial: u64) {
        match self.processes.get(&serial).map(|process| process.cost()) {
            Some(Some((cost, busy))) => self.budget.set(serial, cost, busy),
            // The process still counts as it did when it was admitted.
            Some(None) => {}
            None => self.budget.set(serial, 0, false),
        }
    }

    /// Deletes the record of a process that has ended.
    pub(super) fn forget(&mut self, id: &ProcId) {
        let Some(serial) = self.serials.get(id).copied() else { return };
        let process = self.processes.get(&serial);
        if !process.is_some_and(|process| process.is_ended()) {
            return;
        }
        self.serials.remove(id);
        self.serials.shrink_if_sparse();
        self.containment.forget(serial);
        if let Some(mut process) = self.processes.remove(&serial) {
            if process.is_held {
                self.pending_events.push(Event::Released(id.clone()));
            }
            process.output.captures().discard(());
            for open in process.output.close_all() {
                match open {
                    OpenCapture::Pipe(pipe) => self.io.drop_pipe(pipe),
                    OpenCapture::CaptureWriter { pid, .. } => self.io.capture_writers.kill(pid),
                    OpenCapture::File { .. } => {}
                }
            }
        }
        self.recount(serial);
    }
}
