//! The data that a worker needs to become the keeper: the keeper's messages to it, and the state
//! that it leaves to the program that it executes.
//!
//! That program is the very file that the worker runs, so a state has no older formats: only its
//! own build reads it.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{KeeperSettings, ShutdownCommand, WorkerState};
use crate::clock::TimePoint;
use crate::engine::sys::{seal, sealable_memory_file};
use crate::engine::{HeldCapture, HeldWriter, Holding};
use crate::keeper::descriptors::{Foreign, claim, read_state, state_file};
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

/// A state of a succession is unusable.
#[derive(Debug, thiserror::Error)]
pub enum SuccessionError {
    /// The descriptor does not belong to a state for this process.
    #[error(transparent)]
    Foreign(#[from] Foreign),
    /// It cannot be read.
    #[error("cannot read the state: {0}")]
    Read(#[from] io::Error),
    /// It does not decode.
    #[error("cannot understand the state: {0}")]
    Form(#[from] rmp_serde::decode::Error),
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

    /// The state as a sealed memory file, which nobody can change.
    ///
    /// # Errors
    /// It cannot be encoded or written.
    pub fn to_file(&self) -> io::Result<File> {
        let mut file = File::from(sealable_memory_file()?);
        file.write_all(&rmp_serde::to_vec_named(self).map_err(io::Error::other)?)?;
        file.rewind()?;
        seal(&file)?;
        Ok(file)
    }

    /// Takes the state that a worker left in this process, behind the descriptor with this
    /// `number`, which must be one of `inherited`. Returns the descriptors of processes separately.
    ///
    /// # Errors
    /// It is not a state for this process.
    pub fn inherit(
        number: &str,
        inherited: &[RawFd],
    ) -> Result<(SuccessionState, Vec<Holding>), SuccessionError> {
        let foreign = Foreign { variable: SUCCESSION_FD };
        let file = state_file(SUCCESSION_FD, number)?;
        let mut state: SuccessionState = rmp_serde::from_slice(&read_state(&file)?)?;
        if (state.version, state.successor) != (VERSION, std::process::id()) {
            return Err(foreign.into());
        }
        let fd = number.parse().ok().filter(|fd| inherited.contains(fd)).ok_or(foreign)?;
        drop(claim(fd)?);
        state.estate.fds.retain(|fd| inherited.contains(fd));
        let take = |frame: HoldingFrame<RawFd>| {
            let id = frame.id.clone();
            let taken = frame.map(claim).map(HoldingFrame::into_holding);
            taken.inspect_err(|error| tracing::error!(proc_id = %id, %error, "a descriptor of a process was not left open")).ok()
        };
        let holdings = std::mem::take(&mut state.holdings).into_iter().filter_map(take).collect();
        Ok((state, holdings))
    }
}
