//! The life of a worker: its start, its messages, its end.

use std::io::{self, Write};
use std::time::Instant;

use super::last_resort::NextStep;
use super::wait::Woken;
use super::worker_slot::WorkerEnd;
use super::{Keeper, Phase};
use crate::keeper::listeners::Listeners;
use crate::keeper::meaning::{Meaning, Terminal, meaning};
use crate::keeper::signals::ProgramExit;
use crate::keeper::worker_process::WorkerProcess;

impl Keeper {
    pub(super) fn start_worker(&mut self) {
        let again = self.phase.is_running();
        let fds = &self.environment.fds;
        let started = match self.phase.running() {
            Some(running) => WorkerProcess::start(&self.workers, again, fds, &running.listeners),
            None => WorkerProcess::start(&self.workers, again, fds, &Listeners::default()),
        };
        match started {
            Ok(worker) => self.slot.started(worker, Instant::now()),
            Err(error) => {
                tracing::error!(%error, "cannot start the worker");
                if self.slot.start_failed(again, Instant::now()) == WorkerEnd::GiveUp {
                    self.phase.exit(ProgramExit::Code(1));
                    // No worker has ever run and no log is set up, so the keeper prints the error
                    // itself.
                    let text =
                        format!("procstar: cannot start a process of this program: {error}\n");
                    let _ = io::stderr().write_all(text.as_bytes());
                }
            }
        }
    }

    /// Handles the worker's messages and its end.
    pub(super) fn handle_worker(&mut self, woken: Woken) {
        let leaving = self.slot.is_leaving();
        let Some(worker) = self.slot.worker_mut() else { return };
        // Check the end before reading: once the worker has ended, all its messages can be read,
        // the goodbye included.
        let ended = if woken.ended { worker.ended() } else { None };
        let messages = if woken.said || ended.is_some() { worker.receive() } else { Vec::new() };
        worker.kill_if_overdue(leaving);
        for message in messages {
            self.message(message);
        }
        let Some(status) = ended else { return };
        match self.slot.ended(status, self.phase.is_running(), Instant::now()) {
            WorkerEnd::Exit(exit) => self.phase.exit(exit),
            WorkerEnd::GiveUp => {
                tracing::warn!(%status, "the worker has died, starting it again; no process is lost");
                self.phase.exit(ProgramExit::Code(1));
            }
            WorkerEnd::Restart { died_of } => {
                tracing::warn!(%status, "the worker has died, starting it again; no process is lost");
                if let (Some(signum), Some(running)) = (died_of, self.phase.running()) {
                    // The command arrived before the worker handled signals.
                    if let Meaning::ShutDown(command) =
                        meaning(signum, running.mode, Terminal::None)
                    {
                        running.shut_down(command, &mut self.slot);
                    }
                }
            }
        }
    }

    /// The worker has said goodbye. After a shutdown command, the keeper does not wait long for the
    /// worker's remaining output.
    pub(super) fn goodbye(&mut self, exit: ProgramExit) {
        self.slot.goodbye(exit);
        let ordered = self.phase.running().is_some_and(|running| running.is_shutting_down());
        if let (true, Some(worker)) = (ordered, self.slot.worker_mut()) {
            worker.end_soon();
        }
    }

    /// If no worker can be started and the program is to end: kills every process, and ends once
    /// all have exited.
    pub(super) fn shut_down_without_worker(&mut self) {
        let Phase::Running(running) = &mut self.phase else { return };
        match running.next_step_without_worker(&self.slot) {
            NextStep::Wait => {}
            NextStep::KillAll => running.kill_all(),
            NextStep::Exit => self.phase.exit(ProgramExit::Code(1)),
        }
    }
}
