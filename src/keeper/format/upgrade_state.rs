//! The state that a keeper leaves to the program that it becomes.

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

/// The version of the state's form. Those since 1 are understood; fixtures of each are kept in `tests/fixtures/`.
pub const STATE_VERSION: u32 = 4;

/// All that crosses.
#[derive(Serialize, Deserialize)]
pub struct UpgradeState {
    /// [`STATE_VERSION`].
    pub version: u32,
    /// When the launched program started.
    pub start: TimePoint,
    /// The fds that the user launched it with.
    pub fds: Vec<RawFd>,
    /// Its open-file limit, where that was raised.
    pub nofile: Option<(u64, u64)>,
    /// What the first worker brought.
    pub settings: KeeperSettings,
    /// The instance's directory.
    pub instance: InstanceHandover,
    /// The table.
    pub records: Vec<ProcessEntry>,
    /// What the last worker has left.
    pub memory: WorkerState,
    /// Orders that no worker has been told of.
    pub orders: Vec<ShutdownCommand>,
    /// What the engine holds.
    pub carried: Vec<HandoverProcess>,
    /// The kind of run; older programs hand over none.
    #[serde(default, skip_serializing_if = "Mode::is_service")]
    pub mode: Mode,
    /// Whether the launched program had a controlling terminal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub terminal: bool,
    /// What else the engine holds.
    #[serde(default)]
    pub shared: HandoverShared,
    /// The pid of the process that goes on; none from an older program.
    #[serde(default)]
    pub keeper: Option<u32>,
    /// The pid of the worker, where there is one: the addresses that it listens on become free with its end.
    #[serde(rename = "agent", default)]
    pub worker: Option<u32>,
    /// What the worker's services listen on, since version 4.
    #[serde(default, skip_serializing_if = "listeners::ListenersHandover::is_empty")]
    pub listeners: listeners::ListenersHandover,
}

/// Why the state of another program is of no use.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The descriptor is not that of a state, or not of one that is for this process.
    #[error(transparent)]
    Foreign(#[from] Foreign),
    /// It cannot be read.
    #[error("cannot read the state: {0}")]
    Read(#[from] io::Error),
    /// It is of another form.
    #[error("cannot understand the state: {0}")]
    Form(#[from] rmp_serde::decode::Error),
    /// It is of a version that this program does not know.
    #[error("state of version {0}, and this program knows 1 to {STATE_VERSION}")]
    Version(u32),
}

impl UpgradeState {
    /// Reads a state.
    ///
    /// # Errors
    /// Where this program cannot go on from it.
    pub fn from_bytes(bytes: &[u8]) -> Result<UpgradeState, StateError> {
        /// What every version begins with.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        match rmp_serde::from_slice::<Version>(bytes)?.version {
            1..=STATE_VERSION => Ok(rmp_serde::from_slice(bytes)?),
            other => Err(StateError::Version(other)),
        }
    }

    /// Takes the state that the program before has left in this process, behind the descriptor with this `number`. It must be one of
    /// `inherited`, which this program was started with.
    ///
    /// # Errors
    /// As [`from_bytes`](Self::from_bytes), and where the descriptor is that of something else.
    pub fn inherit(number: &str, inherited: &[RawFd]) -> Result<UpgradeState, StateError> {
        let file = state_file(STATE_FD, number)?;
        let mut state = UpgradeState::from_bytes(&read_state(&file)?)?;
        let foreign = Foreign { variable: STATE_FD };
        if state.keeper.is_some_and(|keeper| keeper != std::process::id()) {
            return Err(foreign.into());
        }
        let fd = number.parse().ok().filter(|fd| inherited.contains(fd)).ok_or(foreign)?;
        // SAFETY: it is open, and was left open for this alone. It is closed here.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
        // Programs before version 4 did not leave the user's open: their numbers may be those of others soon.
        state.fds.retain(|fd| inherited.contains(fd));
        Ok(state)
    }

    /// The state as a file in memory that nobody can change any more.
    ///
    /// # Errors
    /// Where it cannot be encoded or written.
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
