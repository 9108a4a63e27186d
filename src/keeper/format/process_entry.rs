//! The keeper's record of one process, as sent to workers and successors.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::engine::{Captures, Ended, Started, StopFailure};
use crate::spec::{Identity, ProcId};

/// One process.
#[derive(Clone, Serialize, Deserialize)]
pub struct ProcessEntry {
    /// Its ID.
    pub id: ProcId,
    /// Its start, once it has started.
    pub started: Option<Started>,
    /// Its end, once it has ended.
    pub ended: Option<Box<Ended>>,
    /// The requested identity; `None` if an older program launched the process.
    #[serde(default)]
    pub identity: Option<Arc<Identity>>,
    /// The descendants that its stop failed to signal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop_failures: Vec<StopFailure>,
}

impl ProcessEntry {
    /// The record of a process that is about to be started.
    pub fn new(id: ProcId) -> ProcessEntry {
        ProcessEntry { id, started: None, ended: None, identity: None, stop_failures: Vec::new() }
    }

    /// Its captures, as of its start and of its end.
    pub(in crate::keeper) fn captures(&self) -> impl Iterator<Item = &Captures> {
        let started = self.started.iter().map(|started| &*started.captures);
        started.chain(self.ended.iter().map(|ended| &*ended.captures))
    }

    /// Whether it has neither started nor ended.
    pub(in crate::keeper) fn is_starting(&self) -> bool {
        self.started.is_none() && self.ended.is_none()
    }
}
