//! What the keeper does at a signal: see [`meaning`](super::super::meaning).

use super::super::instance::Instance;
use super::super::meaning::{Meaning, ends_before_start, meaning};
use super::super::signals::{ProgramExit, Received};
use super::Keeper;
use crate::engine::ProcessCommand;

impl Keeper {
    /// Takes the signals that have come.
    pub(super) fn take_signals(&mut self) {
        while let Some(signal) = self.signals.read() {
            if self.engine.is_some() {
                self.obey(signal);
            } else if ends_before_start(signal.signum, self.mode, signal.terminal) {
                self.end_by(signal.signum);
            } else {
                self.early.push(signal);
            }
        }
    }

    /// Obeys the signals that have come before the agent had introduced itself.
    pub(super) fn obey_early(&mut self) {
        for signal in std::mem::take(&mut self.early) {
            self.obey(signal);
        }
    }

    fn obey(&mut self, signal: Received) {
        if self.is_the_jobs(signal) {
            return;
        }
        if self.is_reload(signal) {
            return self.upgrade();
        }
        let mode = self.mode.unwrap_or_default();
        match meaning(signal.signum, mode, signal.terminal) {
            Meaning::ShutDown(order) => {
                tracing::info!(signal = signal.name(), sender = signal.sender, "ordered");
                self.order(order);
            }
            Meaning::Upgrade => self.upgrade(),
            Meaning::PassOn { group } => self.pass_on(signal, group),
            Meaning::Ignored => self.log_ignored(signal),
            Meaning::Nothing => {}
        }
    }

    /// Whether `procstar reload` has sent the signal, whatever else that means.
    fn is_reload(&self, signal: Received) -> bool {
        matches!(signal.signum, libc::SIGHUP | libc::SIGUSR2)
            && self.instance.as_ref().is_some_and(Instance::take_wish)
    }

    /// Has the processes receive a signal: with this kind of run there is one.
    fn pass_on(&self, signal: Received, group: bool) {
        let Some(engine) = &self.engine else { return };
        for record in self.table.iter().filter(|record| record.ended.is_none()) {
            if group {
                engine.signal_group(record.id.clone(), signal.signum);
            } else {
                // No agent waits for the outcome: that it has just ended is no error here.
                engine.command(record.id.clone(), ProcessCommand::Signal(signal.signum), 0);
            }
        }
    }

    /// Logs a signal that does nothing, the first time: some come again every second.
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

    /// Ends the program by a signal, before it has started anything.
    pub(super) fn end_by(&mut self, signum: i32) {
        if let Some(agent) = self.agent.take() {
            agent.end();
        }
        self.exit = Some(ProgramExit::Signal(signum));
    }
}
