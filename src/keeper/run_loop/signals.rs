//! What the keeper does at a signal: see [`meaning`](crate::keeper::meaning).

use super::running::Running;
use super::worker_slot::Workers;
use super::{Keeper, Phase};
use crate::engine::ProcessCommand;
use crate::keeper::meaning::{Meaning, ends_before_start, meaning};
use crate::keeper::signals::{ProgramExit, Received};

/// The step that remains after a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obeyed {
    /// Nothing.
    Done,
    /// Upgrade to the program on disk.
    Upgrade,
}

impl Keeper {
    /// Handles the received signals.
    pub(super) fn take_signals(&mut self) {
        while let Some(signal) = self.signals.read() {
            match &mut self.phase {
                Phase::AwaitingHello(awaiting)
                    if !ends_before_start(signal.signum, awaiting.mode, signal.terminal) =>
                {
                    awaiting.signals.push(signal);
                }
                Phase::AwaitingHello(_) => self.end_by(signal.signum),
                Phase::Running(_) | Phase::Exiting(..) => self.obey(signal),
            }
        }
    }

    /// Carries out a signal while processes can run.
    pub(super) fn obey(&mut self, signal: Received) {
        let Some(running) = self.phase.running() else { return };
        if running.obey(signal, &mut self.slot) == Obeyed::Upgrade {
            self.upgrade();
        }
    }

    /// Ends the program by a signal, before it has started anything.
    fn end_by(&mut self, signum: i32) {
        if let Some(worker) = self.slot.take() {
            worker.end();
        }
        self.phase.exit(ProgramExit::Signal(signum));
    }
}

impl Running {
    fn obey(&mut self, signal: Received, workers: &mut Workers) -> Obeyed {
        if self.is_the_jobs(signal, workers) {
            return Obeyed::Done;
        }
        if self.is_upgrade_request(signal) {
            return Obeyed::Upgrade;
        }
        match meaning(signal.signum, self.mode, signal.terminal) {
            Meaning::ShutDown(command) => {
                tracing::info!(
                    signal = signal.name(),
                    sender = signal.sender,
                    "received shutdown signal"
                );
                self.shut_down(command, workers);
            }
            Meaning::Upgrade => return Obeyed::Upgrade,
            Meaning::PassOn { group } => self.pass_on(signal, group),
            Meaning::Ignored => self.log_ignored(signal),
            Meaning::Nothing => {}
        }
        Obeyed::Done
    }

    /// Whether `procstar upgrade` has sent the signal.
    fn is_upgrade_request(&self, signal: Received) -> bool {
        matches!(signal.signum, libc::SIGHUP | libc::SIGUSR2) && self.instance.take_request()
    }

    /// Passes a signal on to the processes. This kind of run has only one.
    fn pass_on(&self, signal: Received, group: bool) {
        let engine = &self.engine;
        for record in self.table.iter().filter(|record| record.ended.is_none()) {
            if group {
                engine.signal_group(record.id.clone(), signal.signum);
            } else {
                // No worker waits for the outcome, and a process that has just exited is no error.
                engine.command(record.id.clone(), ProcessCommand::Signal(signal.signum), 0);
            }
        }
    }

    /// Logs an ignored signal once: some senders repeat theirs every second.
    fn log_ignored(&mut self, signal: Received) {
        let bit = 1u64 << (signal.signum - 1).clamp(0, 63);
        if self.ignored & bit == 0 {
            self.ignored |= bit;
            let name = signal.name();
            tracing::warn!(
                sender = signal.sender,
                "ignored {name}, which means nothing to a service"
            );
        }
    }
}
