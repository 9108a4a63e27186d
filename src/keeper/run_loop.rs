//! The keeper's own loop: signals, the worker, the engine's events.
//!
//! The keeper is in one of three [phases](Phase); its worker has a [place](worker_slot) of its own
//! with states of its own. What only exists while processes can run is in [`Running`].

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

/// Keeps processes until the worker says that all is done; returns how the program ends.
///
/// # Errors
/// What the keeper itself needs of the system; nothing has been started then.
pub fn keep(environment: LaunchEnvironment, workers: WorkerCommand) -> io::Result<ProgramExit> {
    Ok(Keeper::new(environment, workers)?.run_to_the_end())
}

/// What [`keep_and_fork`] returns, in the keeper and in its first worker.
pub enum Kept {
    /// This was the keeper; the program ends so.
    Ended(ProgramExit),
    /// This is the worker, which has to do its work now.
    Worker(KeeperSockets),
}

/// [`keep`], with a copy of this process as the first worker: returns in both. This process must have
/// one thread.
///
/// # Errors
/// As [`keep`].
pub fn keep_and_fork(environment: LaunchEnvironment, workers: WorkerCommand) -> io::Result<Kept> {
    let mut keeper = Keeper::new(environment, workers)?;
    match WorkerProcess::fork() {
        Ok(Forked::Worker(sockets)) => return Ok(Kept::Worker(sockets)),
        Ok(Forked::Keeper(worker)) => keeper.slot.started(worker, Instant::now()),
        // The loop executes the program for a worker, and reports why if it cannot.
        Err(_) => {}
    }
    Ok(Kept::Ended(keeper.run_to_the_end()))
}

/// Goes on for the program that has left this state in this process.
///
/// # Errors
/// What the keeper itself needs of the system.
pub fn resume(state: UpgradeState, workers: WorkerCommand) -> io::Result<ProgramExit> {
    let environment =
        LaunchEnvironment { start: state.start, fds: state.fds.clone(), nofile: state.nofile };
    let mut keeper = Keeper::new(environment, workers)?;
    keeper.restore(state)?;
    Ok(keeper.run_to_the_end())
}

/// Goes on for a keeper that has died: this process was its worker. `holdings` are the descriptors
/// of its processes.
///
/// # Errors
/// What the keeper itself needs of the system, or what is in the way in the instance's directory.
pub fn succeed(
    state: SuccessionState,
    holdings: Vec<Holding>,
    workers: WorkerCommand,
) -> io::Result<ProgramExit> {
    let estate = &state.estate;
    // The worker has ignored more than the launched program.
    crate::engine::restore_ignored(estate.ignored);
    let environment =
        LaunchEnvironment { start: estate.start, fds: estate.fds.clone(), nofile: estate.nofile };
    let mut keeper = Keeper::new(environment, workers)?;
    let is_service = estate.mode.is_service();
    keeper.take_over(state, holdings)?;
    Ok(match keeper.run_to_the_end() {
        // Its user has lost the process that was to report the outcome.
        ProgramExit::Code(0) if !is_service => ProgramExit::Code(1),
        exit => exit,
    })
}

/// How far the keeper has come.
enum Phase {
    /// No worker has introduced itself, and nothing is started: the first one may still be reading
    /// what to start.
    AwaitingHello(AwaitingHello),
    /// The engine runs.
    Running(Box<Running>),
    /// The program ends so, after this turn of the loop; with what ran until then.
    Exiting(ProgramExit, Option<Box<Running>>),
}

/// What is known before the first worker introduces itself.
#[derive(Default)]
struct AwaitingHello {
    /// The kind of run, once the worker has reported it.
    mode: Option<Mode>,
    /// Signals that have come and that did not end the program.
    signals: Vec<Received>,
}

impl Phase {
    /// What runs, or ran until the program was to end.
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

    /// The program ends so. A second exit replaces the first.
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
    signals: Signals,
    phase: Phase,
    slot: Workers,
    /// When to give memory back, unless something happens before.
    trim_at: Option<Instant>,
}

impl Keeper {
    fn new(environment: LaunchEnvironment, workers: WorkerCommand) -> io::Result<Self> {
        let signals = Signals::new()?;
        // The engine hears of it by a descriptor, and reaps orphans, whose subreaper we are.
        SigSet::from_iter([Signal::SIGCHLD]).thread_block()?;
        crate::engine::become_subreaper()?;
        Ok(Keeper {
            environment,
            workers,
            program: Program::of_this_process()?,
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
                // It may have given up.
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
            // It hears of nothing that is not in the journal.
            if let Some(worker) = self.slot.worker_mut() {
                worker.send();
            }
        }
    }

    /// Gives memory back once nothing has happened for a while.
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
