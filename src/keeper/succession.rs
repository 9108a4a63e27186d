//! The worker becomes the keeper: what it holds for that case, and how it does it.
//!
//! The keeper sends a duplicate of each pidfd, of the reading end of each piped capture, and of the
//! locks of the instance's directories. The worker uses none while the keeper lives. When the
//! keeper is killed, the worker executes this program, with these descriptors open: a keeper with
//! the worker's pid. It reads the journal, adopts all processes with their descriptors, and starts
//! a worker. No pipe is without a reader meanwhile, and the lock of the instance stays held.
//!
//! A worker does not become the keeper if no process runs and no state directory keeps results:
//! then there is nothing to continue, and clients end such an instance by SIGKILL. Nor if that was
//! the main process of a service manager's unit: the service manager ends the unit, and starts it
//! again.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use super::format::{
    CaptureFrame, Estate, HoldingFrame, PassedState, ShutdownCommand, SuccessionState, ToWorker,
    WorkerState,
};
use super::listeners::{Address, Listener, Listeners, MissingListener};
use super::upgrade::Program;
use super::variables::SUCCESSION_FD;
use super::{activation, service_manager};
use crate::engine::death_points::{self, DeathPoint};
use crate::engine::{permitted, sys};
use crate::spec::ProcId;

/// How long a keeper may live on after its socket is closed.
const DEATH_TIMEOUT: Duration = Duration::from_secs(1);
/// Time between two checks of that.
const DEATH_INTERVAL: Duration = Duration::from_micros(500);

/// A worker's holdings for the case of the keeper's death.
pub struct Holder {
    /// The pid of the keeper, our parent.
    keeper: u32,
    estate: Option<(Estate, Vec<OwnedFd>)>,
    memory: WorkerState,
    /// Orders received from the keeper; `memory` may lack the last ones.
    orders: Vec<ShutdownCommand>,
    holdings: HashMap<ProcId, HoldingFrame<OwnedFd>>,
    /// Received descriptors whose messages have not arrived.
    received: VecDeque<OwnedFd>,
    listeners: Listeners,
    /// Whether descriptors were lost in transit, so that those of later messages are unknown.
    incomplete: bool,
    /// Whether the program is about to end, and needs no keeper any more.
    done: bool,
}

/// Why a worker does not become the keeper.
#[derive(Debug, thiserror::Error)]
pub enum NoSuccession {
    /// The program ends anyway.
    #[error("all is done")]
    Done,
    /// The keeper has shared nothing.
    #[error("the keeper has not shared its state")]
    NoEstate,
    /// The keeper has closed the socket, and lives.
    #[error("the keeper lives, and has closed the socket")]
    KeeperLives,
    /// A service manager starts the program again.
    #[error("the service manager restarts the unit")]
    ServiceManager,
    /// Nothing runs, and nothing is kept: the end of the launched process ends the instance.
    #[error("no process runs")]
    NothingRuns,
    /// The OS error of executing this program.
    #[error("cannot execute this program: {0}")]
    Exec(#[from] io::Error),
}

impl Default for Holder {
    fn default() -> Holder {
        Holder::new()
    }
}

impl Holder {
    /// The holdings of a new worker.
    fn new() -> Holder {
        Holder {
            keeper: std::os::unix::process::parent_id(),
            estate: None,
            memory: WorkerState::default(),
            orders: Vec::new(),
            holdings: HashMap::new(),
            received: VecDeque::new(),
            listeners: Listeners::default(),
            incomplete: false,
            done: false,
        }
    }

    /// The state for the next worker.
    pub fn memory(&mut self) -> &mut WorkerState {
        &mut self.memory
    }

    /// Records a received order.
    pub fn note_order(&mut self, order: ShutdownCommand) {
        self.orders.push(order);
    }

    /// Adds a listener of this worker, in place of one at the same address.
    pub fn hold_listener(&mut self, listener: Listener) {
        self.listeners.hold(listener);
    }

    /// Records the addresses on which this worker listens, and those on which it could not.
    pub fn agree(&mut self, on: &[Address], missing: Vec<MissingListener>) {
        self.listeners.agree(on, missing);
    }

    /// Records that the program is about to end.
    pub fn finish(&mut self) {
        self.done = true;
    }

    /// The queue for received descriptors.
    pub fn received(&mut self) -> &mut VecDeque<OwnedFd> {
        &mut self.received
    }

    /// Records that descriptors were lost in transit. Later ones cannot be attributed to messages.
    pub fn lose(&mut self) {
        if !std::mem::replace(&mut self.incomplete, true) {
            tracing::warn!("cannot hold descriptors of processes: too many open files");
        }
        self.holdings.clear();
        self.received.clear();
    }

    /// Handles a message of the keeper to a holder; returns any other.
    pub fn take(&mut self, message: ToWorker) -> Option<ToWorker> {
        match message {
            ToWorker::Estate(estate) => self.take_estate(*estate),
            ToWorker::Held(frame) => self.take_holding(frame),
            ToWorker::Released(id) => drop(self.holdings.remove(&id)),
            other => return Some(other),
        }
        None
    }

    fn take_estate(&mut self, estate: Estate) {
        let count = estate.instance.descriptors().len();
        if self.incomplete || self.received.len() < count {
            return self.lose();
        }
        self.estate = Some((estate, self.received.drain(..count).collect()));
    }

    fn take_holding(&mut self, frame: HoldingFrame) {
        if self.incomplete {
            return self.received.clear();
        }
        let received = &mut self.received;
        match frame.map(|_| received.pop_front().ok_or(())) {
            Ok(holding) => drop(self.holdings.insert(holding.id.clone(), holding)),
            Err(()) => self.lose(),
        }
    }

    /// Becomes the keeper, if that is dead; returns only if it does not.
    pub fn succeed(&mut self) -> NoSuccession {
        if self.done {
            return NoSuccession::Done;
        }
        let Some((estate, locks)) = self.estate.take() else { return NoSuccession::NoEstate };
        if self.holdings.is_empty() && estate.settings.state_dir.is_none() {
            return NoSuccession::NothingRuns;
        }
        if !is_dead(self.keeper) {
            return NoSuccession::KeeperLives;
        }
        if service_manager::is_main_process(self.keeper) && estate.mode.is_service() {
            return NoSuccession::ServiceManager;
        }
        tracing::warn!(
            keeper = self.keeper,
            processes = self.holdings.len(),
            "the keeper was killed, becoming the keeper"
        );
        death_points::reach(DeathPoint::SuccessionBegun);
        match self.exec(estate, &locks) {
            Ok(never) => match never {},
            Err(error) => NoSuccession::Exec(error),
        }
    }

    fn exec(&self, mut estate: Estate, locks: &[OwnedFd]) -> io::Result<std::convert::Infallible> {
        let locks = locks.iter().map(AsRawFd::as_raw_fd);
        estate.instance =
            estate.instance.with_descriptors(locks).ok_or(io::ErrorKind::InvalidData)?;
        estate.fds.retain(|fd| sys::is_open(*fd));
        let name = estate.name.clone();
        let (memory, orders) = (self.memory.clone(), self.orders.clone());
        let holdings = self.holdings.values().map(numbers).collect();
        let listeners = self.listeners.handover();
        let state = SuccessionState::new(self.keeper, estate, memory, orders, listeners, holdings);
        let file = state.to_file()?;
        death_points::reach(DeathPoint::SuccessionStateWritten);
        // Signals stay pending for the new keeper from here on.
        let mask = sys::block_all_signals();
        let args = std::iter::once(name.into_os_string()).chain(std::env::args_os().skip(1));
        // The file that this process runs, because the file that is now at its path is untested.
        let program = Program::new(permitted::own_program(), args.collect());
        let error = program.exec(SUCCESSION_FD, &file, &state.descriptors(), &self.activation());
        sys::set_signal_mask(mask);
        Err(error)
    }

    /// The variables of socket activation with our pid, which the new keeper has.
    fn activation(&self) -> Vec<(&'static str, String)> {
        let [name, ..] = activation::VARIABLES;
        let ours = activation::is_for(std::env::var_os(name).as_deref(), self.keeper);
        ours.then(|| (name, std::process::id().to_string())).into_iter().collect()
    }
}

/// The numbers of a process's descriptors.
fn numbers(holding: &HoldingFrame<OwnedFd>) -> HoldingFrame<RawFd> {
    let capture = |capture: &CaptureFrame<OwnedFd>| CaptureFrame {
        index: capture.index,
        reader: capture.reader.as_raw_fd(),
        writer: capture.writer.as_ref().map(|(pid, pidfd)| (*pid, pidfd.as_raw_fd())),
        file: capture.file.as_ref().map(AsRawFd::as_raw_fd),
    };
    HoldingFrame {
        id: holding.id.clone(),
        pidfd: holding.pidfd.as_ref().map(AsRawFd::as_raw_fd),
        captures: holding.captures.iter().map(capture).collect(),
    }
}

/// Whether our parent `keeper` is dead. Its descriptors are closed a moment before it has ended.
fn is_dead(keeper: u32) -> bool {
    let deadline = Instant::now() + DEATH_TIMEOUT;
    while std::os::unix::process::parent_id() == keeper {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(DEATH_INTERVAL);
    }
    true
}

#[cfg(test)]
mod tests;
