//! The keeper as the leader of a job on the terminal: see [`job`](crate::keeper::job).

use super::running::Running;
use super::worker_slot::Workers;
use crate::engine::ProcessCommand;
use crate::keeper::job::{JobSignal, TerminalJob};
use crate::keeper::signals::Received;
use crate::spec::ProcId;

impl Running {
    /// From now on the process belongs to our job on the terminal.
    pub(super) fn share_terminal(&mut self) {
        // Without job control, Ctrl-Z stops this process at once. Nothing else changes.
        self.job = TerminalJob::new()
            .inspect_err(
                |error| tracing::warn!(%error, "cannot set up job control on the terminal"),
            )
            .ok();
    }

    /// The running process of our job, and its pid.
    fn of_job(&self) -> Option<(ProcId, i32)> {
        self.job.as_ref()?;
        let record = self.table.iter().find(|record| record.ended.is_none())?;
        let started = record.started.as_ref()?;
        Some((record.id.clone(), started.pid))
    }

    /// Whether the process received this signal already: the terminal, or a descendant of the
    /// process, sent it to the whole process group.
    pub(super) fn is_the_jobs(&self, signal: Received, workers: &Workers) -> bool {
        let Some(job) = &self.job else { return false };
        match signal.sender {
            None => {
                let terminals = [libc::SIGINT, libc::SIGQUIT, libc::SIGWINCH];
                let worker = workers.worker().map(|worker| worker.pid() as i32);
                // The process may run before the engine reports its start.
                let there = || self.of_job().is_some() || job.has_child_besides(worker);
                terminals.contains(&signal.signum) && there()
            }
            // The worker sends no signals. An orphan has become our child.
            Some(sender) => {
                let own = std::process::id() as i32;
                i32::try_from(sender).is_ok_and(|sender| job.descends(sender, own))
            }
        }
    }

    /// Handles the signals of job control.
    pub(super) fn control_job(&mut self) {
        while let Some(signal) = self.job.as_mut().and_then(TerminalJob::read) {
            let running = self.of_job();
            let (Some(job), engine) = (&mut self.job, &self.engine) else { return };
            match (signal, running) {
                // If the process ignores the stop, or stops later, we do not stop before it.
                (JobSignal::Suspend, Some((_, pid))) if !job.is_stopped(pid) => {}
                (JobSignal::PassOn, Some((id, _))) => {
                    engine.command(id, ProcessCommand::Signal(libc::SIGTSTP), 0)
                }
                (JobSignal::Suspend | JobSignal::PassOn, _) => job.suspend(libc::SIGTSTP),
                // The shell has continued the whole job, unless it sent the signal only to us.
                (JobSignal::Continue, Some((id, pid))) if job.is_stopped(pid) => {
                    engine.command(id, ProcessCommand::Signal(libc::SIGCONT), 0);
                }
                (JobSignal::Continue, _) => {}
            }
        }
    }

    /// The process of our job was stopped, so the shell should see the job as stopped.
    pub(super) fn suspended(&mut self, pid: i32, signum: i32) {
        if let Some(job) = &mut self.job
            && job.is_suspended_by(signum)
            && job.is_stopped(pid)
        {
            job.suspend(signum);
        }
    }
}
