//! The keeper's main loop: signals, the worker, the engine's events.
//!
//! The keeper is in one of three [phases](Phase); the [slot](worker_slot) of its worker has states
//! of its own. The parts that exist only while processes can run are in [`Running`].

mod commands;
mod deletions;
mod forget;
mod introduction;
mod last_resort;
mod recovery;
mod running;
mod signals;
mod succession;
mod terminal;
mod upgrade;
mod wait;
mod worker_slot;
mod workers;

use std::io;
use std::time::Instant;

use nix::sys::signal::{SigSet, Signal};

use super::descriptor_store::StoredDescriptors;
use super::format::{SessionMessage, Sorted, SuccessionState, ToKeeper, UpgradeState};
use super::launch_environment::LaunchEnvironment;
use super::meaning::Mode;
use super::signals::{ProgramExit, Received, Signals};
use super::upgrade::Program;
use super::worker_process::{Forked, KeeperSockets, WorkerCommand, WorkerProcess};
use crate::engine::Holding;
use crate::mem::trim;
use running::Running;
use wait::Woken;
use worker_slot::{WorkerSlot, Workers};

/// Keeps processes until the worker reports that all work is done; returns how the program ends.
///
/// # Errors
/// The system lacks a feature that the keeper needs; nothing was started.
pub fn keep(environment: LaunchEnvironment, workers: WorkerCommand) -> io::Result<ProgramExit> {
    Ok(Keeper::new(environment, workers)?.run_to_the_end())
}

/// The result of [`keep_and_fork`], in the keeper and in its first worker.
pub enum Kept {
    /// This was the keeper, and the program ends in this way.
    Ended(ProgramExit),
    /// This is the worker, at its beginning.
    Worker(KeeperSockets),
}

/// As [`keep`], with a copy of this process as the first worker: returns in both processes. This
/// process must have one thread. `stored` are the descriptors that the service manager has returned
/// to this start; the worker has none of them.
///
/// # Errors
/// As [`keep`].
pub fn keep_and_fork(
    environment: LaunchEnvironment,
    workers: WorkerCommand,
    stored: StoredDescriptors,
) -> io::Result<Kept> {
    let mut keeper = Keeper { stored, ..Keeper::new(environment, workers)? };
    match WorkerProcess::fork() {
        Ok(Forked::Worker(sockets)) => return Ok(Kept::Worker(sockets)),
        Ok(Forked::Keeper(worker)) => keeper.slot.started(worker, Instant::now()),
        // The loop executes the program for a worker, and reports why if it cannot.
        Err(_) => {}
    }
    Ok(Kept::Ended(keeper.run_to_the_end()))
}

/// Continues after an upgrade, from the state that the previous program left in this process.
///
/// # Errors
/// The system lacks a feature that the keeper needs.
pub fn resume(state: UpgradeState, workers: WorkerCommand) -> io::Result<ProgramExit> {
    let environment =
        LaunchEnvironment { start: state.start, fds: state.fds.clone(), nofile: state.nofile };
    let mut keeper = Keeper::new(environment, workers)?;
    keeper.restore(state)?;
    Ok(keeper.run_to_the_end())
}

/// Continues for a keeper that has died: this process was its worker. `holdings` are the
/// descriptors of its processes.
///
/// # Errors
/// The system lacks a feature that the keeper needs, or the instance's directory is unusable.
pub fn succeed(
    state: SuccessionState,
    holdings: Vec<Holding>,
    workers: WorkerCommand,
) -> io::Result<ProgramExit> {
    let estate = &state.estate;
    // The worker ignores more signals than the launched program did.
    crate::engine::restore_ignored(estate.ignored);
    let environment =
        LaunchEnvironment { start: estate.start, fds: estate.fds.clone(), nofile: estate.nofile };
    let mut keeper = Keeper::new(environment, workers)?;
    let is_service = estate.mode.is_service();
    keeper.adopt(state, holdings)?;
    Ok(match keeper.run_to_the_end() {
        // The user's process, which would have reported the outcome, is dead.
        ProgramExit::Code(0) if !is_service => ProgramExit::Code(1),
        exit => exit,
    })
}

/// The phase of the keeper.
enum Phase {
    /// No worker has introduced itself, and nothing is started: the first worker may still be
    /// reading INPUT.
    AwaitingHello(AwaitingHello),
    /// The engine runs.
    Running(Box<Running>),
    /// The program ends in this way after this turn of the loop, with the instance that ran until
    /// then.
    Exiting(ProgramExit, Option<Box<Running>>),
}

/// The data from before the first worker's introduction.
#[derive(Default)]
struct AwaitingHello {
    /// The kind of run, once the worker has reported it.
    mode: Option<Mode>,
    /// Received signals that did not end the program.
    signals: Vec<Received>,
}

impl Phase {
    /// The instance that runs, or ran until the exit.
    fn running(&mut self) -> Option<&mut Running> {
        match self {
            Phase::AwaitingHello(_) => None,
            Phase::Running(running) => Some(running),
            Phase::Exiting(_, running) => running.as_deref_mut(),
        }
    }

    /// Whether processes may have been started.
    fn is_running(&self) -> bool {
        matches!(self, Phase::Running(_) | Phase::Exiting(_, Some(_)))
    }

    /// Makes the program end in this way. A second exit replaces the first.
    fn exit(&mut self, exit: ProgramExit) {
        let running = match std::mem::replace(self, Phase::Exiting(exit, None)) {
            Phase::AwaitingHello(_) => None,
            Phase::Running(running) => Some(running),
            Phase::Exiting(_, running) => running,
        };
        *self = Phase::Exiting(exit, running);
    }
}

struct Keeper {
    environment: LaunchEnvironment,
    workers: WorkerCommand,
    program: Program,
    /// The descriptors that the service manager has returned, until processes are adopted.
    stored: StoredDescriptors,
    signals: Signals,
    phase: Phase,
    slot: Workers,
    /// When to free unused memory, unless something happens before.
    trim_at: Option<Instant>,
}

impl Keeper {
    fn new(environment: LaunchEnvironment, workers: WorkerCommand) -> io::Result<Self> {
        let signals = Signals::new()?;
        // The engine receives SIGCHLD by a descriptor, and reaps orphans, because this process is
        // their subreaper.
        SigSet::from_iter([Signal::SIGCHLD]).thread_block()?;
        crate::engine::become_subreaper()?;
        Ok(Keeper {
            environment,
            workers,
            program: Program::of_this_process()?,
            stored: StoredDescriptors::default(),
            signals,
            phase: Phase::AwaitingHello(AwaitingHello::default()),
            slot: WorkerSlot::new(Instant::now()),
            trim_at: None,
        })
    }

    fn run_to_the_end(mut self) -> ProgramExit {
        let exit = self.run();
        if let Phase::Exiting(_, Some(running)) = self.phase {
            running.close();
        }
        exit
    }

    fn run(&mut self) -> ProgramExit {
        loop {
            if let Phase::Exiting(exit, _) = self.phase {
                return exit;
            }
            if self.slot.is_due(Instant::now()) {
                self.start_worker();
                // The keeper may have given up.
                continue;
            }
            let woken = self.wait();
            self.trim_when_idle(woken);
            if let Some(running) = self.phase.running().filter(|_| woken.events) {
                running.take_events(&mut self.slot);
            }
            if woken.signals {
                self.take_signals();
            }
            if let Some(running) = self.phase.running() {
                running.control_job();
            }
            self.handle_worker(woken);
            self.shut_down_without_worker();
            if let Some(running) = self.phase.running() {
                running.finish_turn(&mut self.slot);
            }
            // Only now, so that the worker receives nothing that is not in the journal.
            if let Some(worker) = self.slot.worker_mut() {
                worker.send();
            }
            if let Some(running) = self.phase.running() {
                running.settle_lent(self.slot.worker_mut().map(|worker| &*worker));
            }
        }
    }

    /// Frees unused memory once nothing has happened for a while.
    fn trim_when_idle(&mut self, woken: Woken) {
        let now = Instant::now();
        if woken.is_any() {
            self.trim_at = Some(now + trim::IDLE);
        } else if self.trim_at.is_some_and(|at| at <= now) {
            self.trim_at = None;
            trim::trim_memory();
        }
    }

    /// Handles a message of the worker.
    fn message(&mut self, message: ToKeeper) {
        match message.sort() {
            Sorted::Session(message) => self.session(message),
            Sorted::Request(request) => match self.phase.running() {
                Some(running) => running.request(request, &mut self.slot),
                None => log_no_hello(),
            },
            Sorted::Command { id, command, ticket } => match self.phase.running() {
                Some(running) => running.engine.command(id, command, ticket),
                None => log_no_hello(),
            },
        }
    }

    fn session(&mut self, message: SessionMessage) {
        match message {
            SessionMessage::Mode(mode) => match &mut self.phase {
                Phase::AwaitingHello(awaiting) => awaiting.mode = Some(mode),
                Phase::Running(running) | Phase::Exiting(_, Some(running)) => running.mode = mode,
                Phase::Exiting(_, None) => {}
            },
            SessionMessage::ReadUp { fd, bytes } => self.environment.put_back(fd, &bytes),
            SessionMessage::Hello { version, settings, opening, input } => {
                self.hello(version, &settings, &opening, input);
            }
            SessionMessage::Bye { code, signal } => {
                self.goodbye(signal.map_or(ProgramExit::Code(code), ProgramExit::Signal));
            }
            // Without a running instance, the end of the worker reports the failure as well.
            SessionMessage::Failed { message } => {
                if let Some(running) = self.phase.running() {
                    running.worker_not_ready(Some(&message));
                }
            }
        }
    }
}

/// Reports a message that only a running instance handles, from a worker without an introduction.
fn log_no_hello() {
    tracing::error!("ignoring message from a worker that has not introduced itself");
}

#[cfg(test)]
mod tests;
