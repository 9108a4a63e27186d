//! The introduction of a worker. The first one sends the settings, and everything starts.

use std::path::PathBuf;
use std::process;

use super::running::{Running, copies_of_locks};
use super::{AwaitingHello, Keeper, Phase};
use crate::engine::ignored_signals;
use crate::keeper::format::{
    Estate, KeeperSettings, Opening, ToWorker, VERSION, is_holder, is_understood,
};
use crate::keeper::signals::ProgramExit;
use crate::spec::Validated;

impl Keeper {
    /// Handles the introduction of a worker. The first one sends the settings.
    pub(super) fn hello(
        &mut self,
        version: u32,
        settings: &KeeperSettings,
        opening: &Opening,
        input: Option<Validated>,
    ) {
        let begun = match &self.phase {
            _ if !is_understood(version) => {
                Err(format!("the keeper speaks version {VERSION}, the worker {version}"))
            }
            Phase::AwaitingHello(awaiting) => {
                let mode = awaiting.mode.unwrap_or_default();
                let stored = std::mem::take(&mut self.stored);
                Running::begin(&self.environment, mode, settings, opening, stored)
                    .and_then(|mut running| running.start_input(input).map(|()| Some(running)))
            }
            Phase::Running(_) | Phase::Exiting(..) => Ok(None),
        };
        let holds = is_holder(version);
        match begun {
            Ok(Some(running)) => {
                let before = std::mem::replace(&mut self.phase, Phase::Running(Box::new(running)));
                self.welcome(true, holds);
                if let Phase::AwaitingHello(AwaitingHello { signals, .. }) = before {
                    signals.into_iter().for_each(|signal| self.obey(signal));
                }
            }
            Ok(None) => self.welcome(false, holds),
            Err(message) => self.refuse(message),
        }
    }

    fn refuse(&mut self, message: String) {
        if let Some(worker) = self.slot.worker_mut() {
            worker.queue(&ToWorker::Refused { message });
        }
        // The directory was not changed.
        if let Phase::AwaitingHello(_) = self.phase {
            self.slot.refuse(ProgramExit::Code(2));
        }
    }

    fn welcome(&mut self, first: bool, holds: bool) {
        let Some(running) = self.phase.running() else { return };
        running.forget_all(&mut self.slot);
        self.slot.welcome();
        self.slot.queue(&ToWorker::Welcome {
            pid: process::id(),
            ppid: std::os::unix::process::parent_id(),
            start: self.environment.start,
            first,
            memory: running.worker_state().clone(),
            records: running.entries(),
            dir: Some(running.dir()),
        });
        for command in running.pending_commands() {
            self.slot.queue(&ToWorker::Order(*command));
        }
        if let (true, Some(worker)) = (holds, self.slot.up()) {
            worker.make_holder();
            self.share_estate(first);
            if let Some(running) = self.phase.running() {
                running.engine.share_holdings();
            }
        }
    }

    /// Sends a holder the data that it needs to become the keeper, if they have changed.
    pub(super) fn share_estate(&mut self, first: bool) {
        let Some(running) = self.phase.running() else { return };
        if !first {
            // A removed directory was made again, with another lock, perhaps.
            running.locks = copies_of_locks(&running.instance);
        }
        let environment = &self.environment;
        let estate = Estate {
            start: environment.start,
            name: PathBuf::from(self.program.name()),
            fds: environment.fds.clone(),
            nofile: environment.nofile,
            ignored: ignored_signals(),
            terminal: self.signals.had_terminal(),
            mode: running.mode,
            settings: running.settings.clone(),
            instance: running.instance.handover(),
        };
        match &running.locks {
            Ok(locks) => {
                let message = ToWorker::Estate(Box::new(estate));
                if let Some(worker) = self.slot.up() {
                    worker.queue_for_holder(&message, locks.clone());
                }
            }
            Err(error) => tracing::warn!(%error, "a death of the keeper would end the instance"),
        }
    }
}
