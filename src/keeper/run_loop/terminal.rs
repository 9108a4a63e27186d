//! The keeper as the leader of a job on the terminal: see [`job`](crate::keeper::job).

use super::running::Running;
use super::worker_slot::Workers;
use crate::engine::ProcessCommand;
use crate::keeper::job::{JobSignal, TerminalJob};
use crate::keeper::signals::Received;
use crate::spec::ProcId;

impl Running {
    /// From now on a process is a part of our job on the terminal.
    pub(super) fn share_terminal(&mut self) {
        // Without it Ctrl-Z stops this process at once, and all else is the same.
        self.job = TerminalJob::new()
            .inspect_err(|error| tracing::warn!(%error, "no job control on the terminal"))
            .ok();
    }

    /// The process of our job that runs, and its pid.
    fn of_job(&self) -> Option<(ProcId, i32)> {
        self.job.as_ref()?;
        let record = self.table.iter().find(|record| record.ended.is_none())?;
        let started = record.started.as_ref()?;
        Some((record.id.clone(), started.pid))
    }

    /// Whether a signal is none for this process: the terminal has sent it to the whole job, the process itself among that, which does with it what
    /// it wants; or somebody of the process's has, to all of the group.
    pub(super) fn is_the_jobs(&self, signal: Received, workers: &Workers) -> bool {
        let Some(job) = &self.job else { return false };
        match signal.sender {
            None => {
                let terminals = [libc::SIGINT, libc::SIGQUIT, libc::SIGWINCH];
                let worker = workers.worker().map(|worker| worker.pid() as i32);
                // The process may run before we hear that it does.
                let there = || self.of_job().is_some() || job.has_child_besides(worker);
                terminals.contains(&signal.signum) && there()
            }
            // The worker sends none. An orphan is our child by now.
            Some(sender) => {
                let own = std::process::id() as i32;
                i32::try_from(sender).is_ok_and(|sender| job.descends(sender, own))
            }
        }
    }

    /// Does what the signals of job control ask for.
    pub(super) fn control_job(&mut self) {
        while let Some(signal) = self.job.as_mut().and_then(TerminalJob::read) {
            let running = self.of_job();
            let (Some(job), engine) = (&mut self.job, &self.engine) else { return };
            match (signal, running) {
                // Where it goes on without a stop, or stops later, it is not for us to stop before.
                (JobSignal::Suspend, Some((_, pid))) if !job.is_stopped(pid) => {}
                (JobSignal::PassOn, Some((id, _))) => {
                    engine.command(id, ProcessCommand::Signal(libc::SIGTSTP), 0)
                }
                (JobSignal::Suspend | JobSignal::PassOn, _) => job.suspend(libc::SIGTSTP),
                // The shell has had all of the job go on, unless it was sent to us alone.
                (JobSignal::Continue, Some((id, pid))) if job.is_stopped(pid) => {
                    engine.command(id, ProcessCommand::Signal(libc::SIGCONT), 0);
                }
                (JobSignal::Continue, _) => {}
            }
        }
    }

    /// The process of our job has been stopped: so is the job, as far as the shell is concerned.
    pub(super) fn suspended(&mut self, pid: i32, signum: i32) {
        if let Some(job) = &mut self.job
            && job.is_suspended_by(signum)
            && job.is_stopped(pid)
        {
            job.suspend(signum);
        }
    }
}
