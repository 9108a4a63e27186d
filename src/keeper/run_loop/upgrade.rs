//! How the keeper executes a new program, and resumes from the old program's state: see
//! [`upgrade`](crate::keeper::upgrade).

use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::running::Running;
use super::{Keeper, Phase};
use crate::engine::death_points::{self, DeathPoint};
use crate::engine::{Handover, sys};
use crate::keeper::check;
use crate::keeper::descriptor_store::DescriptorStore;
use crate::keeper::format::{PassedState, STATE_VERSION, UpgradeState};
use crate::keeper::listeners::PassedListener;
use crate::keeper::worker_process::WorkerProcess;

/// How long an upgrade waits for processes whose setup is in progress.
const QUIET_TIME: Duration = Duration::from_secs(2);
/// The refusal after the worker's goodbye: nothing is left to resume.
pub(super) const DONE: &str = "all is done, and the program ends";
/// The refusal before the worker has introduced itself.
const NOTHING_STARTED: &str = "nothing has been started yet";

impl Keeper {
    /// Replaces this program by the one on disk if that can resume from our state. Otherwise
    /// nothing changes.
    pub(super) fn upgrade(&mut self) {
        let path = self.program.path().display().to_string();
        if let Err(error) = self.try_upgrade() {
            tracing::error!(%path, "not upgraded: {error}");
            if let Some(running) = self.phase.running() {
                running.instance.answer_upgrade(&Err(format!("not upgraded: {error}")));
            }
        }
    }

    fn try_upgrade(&mut self) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        if self.slot.is_leaving() {
            return Err(DONE.to_owned());
        }
        let state = self.state(Handover::default()).ok_or(NOTHING_STARTED)?;
        let file = state.to_file().map_err(text)?;
        let version = check::check(&self.program, &file, &self.environment.fds)
            .map_err(|error| error.to_string())?;
        tracing::info!(version, "upgrading");
        death_points::reach(DeathPoint::UpgradeChecked);
        // The old worker ends here, so another one starts even if the upgrade fails.
        self.end_worker_for_upgrade()?;
        death_points::reach(DeathPoint::UpgradeWorkerEnded);
        let running = self.phase.running().ok_or(NOTHING_STARTED)?;
        running.forget_all(&mut self.slot);
        let (handover, _standstill) =
            running.engine.quiesce(QUIET_TIME).map_err(|error| error.to_string())?;
        death_points::reach(DeathPoint::UpgradeQuiesced);
        running.take_events(&mut self.slot);
        running.write_journal();
        let mut open: Vec<RawFd> = handover.descriptors().collect();
        let stored = running.store.as_mut().map(DescriptorStore::hand_over).unwrap_or_default();
        let state = UpgradeState { stored, ..self.state(handover).ok_or(NOTHING_STARTED)? };
        open.extend(state.instance.descriptors());
        open.extend(state.listeners.held.iter().map(PassedListener::fd));
        open.extend(state.fds.iter().copied().filter(|fd| sys::is_open(*fd)));
        let file = state.to_file().map_err(text)?;
        death_points::reach(DeathPoint::UpgradeStateWritten);
        Err(text(self.program.exec_successor(&file, &open)))
    }

    /// Ends the worker. If its last message is its goodbye, the program ends instead.
    pub(super) fn end_worker_for_upgrade(&mut self) -> Result<(), String> {
        self.end_worker();
        match self.slot.vacate(Instant::now()) {
            Some(exit) => {
                self.phase.exit(exit);
                Err(DONE.to_owned())
            }
            None => Ok(()),
        }
    }

    /// Ends the worker as a crash would. Messages that it sent before are handled.
    fn end_worker(&mut self) {
        while let Some(worker) = self.slot.worker_mut() {
            worker.kill();
            let mut fds = [PollFd::new(worker.pidfd(), PollFlags::POLLIN)];
            // A killed worker exits at once, unless it is blocked in the kernel; then this waits
            // for it.
            let _ = poll(&mut fds, PollTimeout::NONE);
            let messages = worker.receive();
            let ended = worker.ended().is_some();
            for message in messages {
                self.message(message);
            }
            if ended {
                return;
            }
        }
    }

    /// The complete state that a new program resumes from. `None` before anything runs.
    fn state(&self, handover: Handover) -> Option<UpgradeState> {
        let Phase::Running(running) = &self.phase else { return None };
        Some(UpgradeState {
            version: STATE_VERSION,
            start: self.environment.start,
            fds: self.environment.fds.clone(),
            nofile: self.environment.nofile,
            settings: running.settings.clone(),
            instance: running.instance.handover(),
            records: running.entries(),
            memory: running.worker_state().clone(),
            orders: running.pending_commands().iter().map(|command| command.kept()).collect(),
            carried: handover.processes,
            mode: running.mode,
            terminal: self.signals.had_terminal(),
            shared: handover.shared,
            keeper: Some(std::process::id()),
            worker: self.slot.worker().map(WorkerProcess::pid),
            listeners: running.listeners.handover(),
            stored: Vec::new(),
        })
    }

    /// Resumes from the state of the old program.
    pub(super) fn restore(&mut self, state: UpgradeState) -> io::Result<()> {
        let path = self.program.path().display();
        let version = env!("CARGO_PKG_VERSION");
        self.signals.note_terminal(state.terminal);
        death_points::reach(DeathPoint::UpgradeResumed);
        let running =
            Running::restore(&self.environment, format!("{path}, version {version}"), state)?;
        self.phase = Phase::Running(Box::new(running));
        tracing::warn!(%path, version, "upgraded");
        death_points::reach(DeathPoint::UpgradeRestored);
        Ok(())
    }
}

impl Running {
    /// The worker's services listen: a pending upgrade has succeeded.
    pub(super) fn worker_ready(&mut self) {
        if let Some(awaited) = self.awaited.take() {
            let outcome = awaited.ready(self.listeners.missing());
            match &outcome {
                Ok(_) => tracing::info!("the new worker is ready"),
                Err(text) => tracing::error!("{text}"),
            }
            self.instance.answer_upgrade(&outcome);
        }
    }

    /// The worker has reported why it cannot start, or was not ready in time.
    pub(super) fn worker_not_ready(&mut self, why: Option<&str>) {
        if let Some(awaited) = self.awaited.take() {
            let text = awaited.failed(why);
            tracing::error!("{text}");
            self.instance.answer_upgrade(&Err(text));
        }
    }
}
