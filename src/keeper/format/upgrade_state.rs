//! The state that a keeper leaves to the program that replaces it.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use serde::{Deserialize, Serialize};

use super::{KeeperSettings, ProcessEntry, ShutdownCommand, WorkerState};
use crate::clock::TimePoint;
use crate::engine::sys::{seal, sealable_memory_file};
use crate::engine::{HandoverProcess, HandoverShared};
use crate::keeper::descriptors::{Foreign, read_state, state_file};
use crate::keeper::instance::InstanceHandover;
use crate::keeper::listeners;
use crate::keeper::meaning::Mode;
use crate::keeper::variables::STATE_FD;

/// The version of the state's format. All versions since 1 can be read; `tests/fixtures/` has
/// fixtures of each.
pub const STATE_VERSION: u32 = 4;

/// The whole state.
#[derive(Serialize, Deserialize)]
pub struct UpgradeState {
    /// [`STATE_VERSION`].
    pub version: u32,
    /// When the launched program started.
    pub start: TimePoint,
    /// The fds that the user launched it with.
    pub fds: Vec<RawFd>,
    /// Its open-file limit, if that was raised.
    pub nofile: Option<(u64, u64)>,
    /// The settings of the first worker.
    pub settings: KeeperSettings,
    /// The instance's directory.
    pub instance: InstanceHandover,
    /// The process table.
    pub records: Vec<ProcessEntry>,
    /// The state of the last worker.
    pub memory: WorkerState,
    /// Orders that no worker has received.
    pub orders: Vec<ShutdownCommand>,
    /// The engine's processes.
    pub carried: Vec<HandoverProcess>,
    /// The kind of run; older programs hand over none.
    #[serde(default, skip_serializing_if = "Mode::is_service")]
    pub mode: Mode,
    /// Whether the launched program had a controlling terminal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub terminal: bool,
    /// The rest of the engine's state.
    #[serde(default)]
    pub shared: HandoverShared,
    /// The pid of the process that continues; `None` from an older program.
    #[serde(default)]
    pub keeper: Option<u32>,
    /// The pid of the worker, if there is one: its addresses become free when it ends.
    #[serde(rename = "agent", default)]
    pub worker: Option<u32>,
    /// The listeners of the worker's services, since version 4.
    #[serde(default, skip_serializing_if = "listeners::ListenersHandover::is_empty")]
    pub listeners: listeners::ListenersHandover,
    /// The names of the descriptors in the service manager's store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stored: Vec<String>,
}

/// The state of another program is unusable.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The descriptor does not belong to a state, or the state is for another process.
    #[error(transparent)]
    Foreign(#[from] Foreign),
    /// It cannot be read.
    #[error("cannot read the state: {0}")]
    Read(#[from] io::Error),
    /// It does not decode.
    #[error("cannot understand the state: {0}")]
    Form(#[from] rmp_serde::decode::Error),
    /// Its version is unknown.
    #[error("state of version {0}, and this program knows 1 to {STATE_VERSION}")]
    Version(u32),
}

impl UpgradeState {
    /// Reads a state.
    ///
    /// # Errors
    /// This program cannot continue from it.
    pub fn from_bytes(bytes: &[u8]) -> Result<UpgradeState, StateError> {
        /// The beginning of every version.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        match rmp_serde::from_slice::<Version>(bytes)?.version {
            1..=STATE_VERSION => Ok(rmp_serde::from_slice(bytes)?),
            other => Err(StateError::Version(other)),
        }
    }

    /// Takes the state that the previous program left in this process, behind the descriptor with
    /// this `number`. It must be one of `inherited`, the descriptors that this program was started
    /// with.
    ///
    /// # Errors
    /// As [`from_bytes`](Self::from_bytes), or the descriptor is that of another file.
    pub fn inherit(number: &str, inherited: &[RawFd]) -> Result<UpgradeState, StateError> {
        let file = state_file(STATE_FD, number)?;
        let mut state = UpgradeState::from_bytes(&read_state(&file)?)?;
        let foreign = Foreign { variable: STATE_FD };
        if state.keeper.is_some_and(|keeper| keeper != std::process::id()) {
            return Err(foreign.into());
        }
        let fd = number.parse().ok().filter(|fd| inherited.contains(fd)).ok_or(foreign)?;
        // SAFETY: the descriptor is open, and was left open for this call alone, which closes it.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
        // Programs before version 4 did not leave the user's descriptors open, so other files may
        // get their numbers.
        state.fds.retain(|fd| inherited.contains(fd));
        Ok(state)
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
}

#[cfg(test)]
mod tests;
