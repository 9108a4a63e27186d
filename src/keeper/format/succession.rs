//! The data that a worker needs to become the keeper: the keeper's messages to it, and the state
//! that it leaves to the program that it executes.
//!
//! That program is the very file that the worker runs, so a state has no older formats: only its
//! own build reads it.

use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{KeeperSettings, PassedState, ShutdownCommand, StateError, WorkerState};
use crate::clock::TimePoint;
use crate::engine::{HeldCapture, HeldWriter, Holding};
use crate::keeper::descriptors::claim;
use crate::keeper::instance::InstanceHandover;
use crate::keeper::listeners::ListenersHandover;
use crate::keeper::meaning::Mode;
use crate::keeper::variables::SUCCESSION_FD;
use crate::path_bytes;
use crate::spec::ProcId;

/// The version of the state's format.
const VERSION: u32 = 1;

/// The data that the keeper sends to a worker once, besides the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Estate {
    /// When the launched program started.
    pub start: TimePoint,
    /// The name under which it was started.
    #[serde(with = "path_bytes")]
    pub name: PathBuf,
    /// The fds that the user launched it with; the worker has them under the same numbers.
    pub fds: Vec<RawFd>,
    /// Its open-file limit, if that was raised.
    pub nofile: Option<(u64, u64)>,
    /// The signals that it was started with ignored; bit N - 1 stands for signal N.
    pub ignored: u64,
    /// Whether it had a controlling terminal.
    pub terminal: bool,
    /// The kind of run.
    pub mode: Mode,
    /// The settings of the first worker.
    pub settings: KeeperSettings,
    /// The instance's directories. The descriptors of their locks cross beside the message, in the
    /// order of [`InstanceHandover::descriptors`].
    pub instance: InstanceHandover,
}

/// The descriptors of one process. In a message, `true` stands for each: they cross beside it, in
/// the order of the fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldingFrame<F = bool> {
    /// The process.
    pub id: ProcId,
    /// Its pidfd; `None` once its end is reported.
    pub pidfd: Option<F>,
    /// Its piped captures.
    pub captures: Vec<CaptureFrame<F>>,
}

/// The descriptors of one piped capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureFrame<F = bool> {
    /// Its position among the process's captures.
    pub index: usize,
    /// The reading end of its pipe.
    pub reader: F,
    /// The pid and the pidfd of its writer.
    pub writer: Option<(i32, F)>,
    /// Its open file, if it has limits and the engine writes it.
    #[serde(default = "Option::default")]
    pub file: Option<F>,
}

impl HoldingFrame<OwnedFd> {
    /// Converts the engine's holding.
    pub fn new(holding: Holding) -> Self {
        let capture = |HeldCapture { index, reader, writer, file }| CaptureFrame {
            index,
            reader,
            writer: writer.map(|HeldWriter { pid, pidfd }| (pid, pidfd)),
            file,
        };
        let captures = holding.captures.into_iter().map(capture).collect();
        HoldingFrame { id: holding.id, pidfd: holding.pidfd, captures }
    }

    /// Converts it back for the engine.
    pub fn into_holding(self) -> Holding {
        let capture = |CaptureFrame { index, reader, writer, file }| HeldCapture {
            index,
            reader,
            writer: writer.map(|(pid, pidfd)| HeldWriter { pid, pidfd }),
            file,
        };
        let captures = self.captures.into_iter().map(capture).collect();
        Holding { id: self.id, pidfd: self.pidfd, captures }
    }
}

impl<F> HoldingFrame<F> {
    /// Replaces each descriptor by the result of `change`.
    ///
    /// # Errors
    /// The first error of `change`.
    pub fn map<T, E>(
        self,
        mut change: impl FnMut(F) -> Result<T, E>,
    ) -> Result<HoldingFrame<T>, E> {
        let pidfd = self.pidfd.map(&mut change).transpose()?;
        let captures = self.captures.into_iter().map(|capture| {
            Ok(CaptureFrame {
                index: capture.index,
                reader: change(capture.reader)?,
                writer: match capture.writer {
                    Some((pid, pidfd)) => Some((pid, change(pidfd)?)),
                    None => None,
                },
                file: capture.file.map(&mut change).transpose()?,
            })
        });
        Ok(HoldingFrame { id: self.id, pidfd, captures: captures.collect::<Result<_, E>>()? })
    }
}

/// The state that a worker leaves to the program that it becomes.
#[derive(Serialize, Deserialize)]
pub struct SuccessionState {
    version: u32,
    /// The pid of the process that continues.
    successor: u32,
    /// The pid of the keeper that has died.
    pub keeper: u32,
    /// The data from the keeper.
    pub estate: Estate,
    /// The state for the next worker.
    pub memory: WorkerState,
    /// Received orders, which `memory` may lack.
    pub orders: Vec<ShutdownCommand>,
    /// The worker's listeners.
    pub listeners: ListenersHandover,
    /// The descriptors of processes.
    pub holdings: Vec<HoldingFrame<RawFd>>,
}

impl SuccessionState {
    /// A state of this process.
    pub fn new(
        keeper: u32,
        estate: Estate,
        memory: WorkerState,
        orders: Vec<ShutdownCommand>,
        listeners: ListenersHandover,
        holdings: Vec<HoldingFrame<RawFd>>,
    ) -> SuccessionState {
        let successor = std::process::id();
        SuccessionState {
            version: VERSION,
            successor,
            keeper,
            estate,
            memory,
            orders,
            listeners,
            holdings,
        }
    }

    /// The descriptors that must stay open.
    pub fn descriptors(&self) -> Vec<RawFd> {
        let mut open = self.estate.fds.clone();
        open.extend(self.estate.instance.descriptors());
        open.extend(self.listeners.held.iter().map(|one| one.fd()));
        for HoldingFrame { pidfd, captures, .. } in &self.holdings {
            open.extend(pidfd);
            for CaptureFrame { reader, writer, file, .. } in captures {
                open.push(*reader);
                open.extend(writer.as_ref().map(|(_, pidfd)| *pidfd));
                open.extend(file);
            }
        }
        open
    }

    /// Claims the descriptors of processes, which the worker has left open.
    pub fn take_holdings(&mut self) -> Vec<Holding> {
        let take = |frame: HoldingFrame<RawFd>| {
            let id = frame.id.clone();
            let taken = frame.map(claim).map(HoldingFrame::into_holding);
            taken.inspect_err(|error| tracing::error!(proc_id = %id, %error, "a descriptor of a process was not left open")).ok()
        };
        std::mem::take(&mut self.holdings).into_iter().filter_map(take).collect()
    }
}

impl PassedState for SuccessionState {
    const VARIABLE: &str = SUCCESSION_FD;

    fn from_bytes(bytes: &[u8]) -> Result<SuccessionState, StateError> {
        Ok(rmp_serde::from_slice(bytes)?)
    }

    fn is_for(&self, pid: u32) -> bool {
        (self.version, self.successor) == (VERSION, pid)
    }

    fn fds(&mut self) -> &mut Vec<RawFd> {
        &mut self.estate.fds
    }
}
