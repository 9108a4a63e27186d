//! The state that a keeper leaves to the program that replaces it.

use std::os::fd::RawFd;

use serde::{Deserialize, Serialize};

use super::{
    KeeperSettings, PassedState, ProcessEntry, STATE_VERSION, ShutdownCommand, StateError,
    WorkerState,
};
use crate::clock::TimePoint;
use crate::engine::{HandoverProcess, HandoverShared};
use crate::keeper::instance::InstanceHandover;
use crate::keeper::listeners;
use crate::keeper::meaning::Mode;
use crate::keeper::variables::STATE_FD;

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

impl PassedState for UpgradeState {
    const VARIABLE: &str = STATE_FD;

    fn from_bytes(bytes: &[u8]) -> Result<UpgradeState, StateError> {
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

    fn is_for(&self, pid: u32) -> bool {
        self.keeper.is_none_or(|keeper| keeper == pid)
    }

    fn fds(&mut self) -> &mut Vec<RawFd> {
        &mut self.fds
    }
}

#[cfg(test)]
mod tests;
