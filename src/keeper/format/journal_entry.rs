//! The entries of the [journal](crate::keeper::journal).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::WorkerState;
use crate::engine::{Ended, Started};
use crate::spec::{Identity, ProcId};

/// The version of the journal's format, its first entry. All versions since 1 can be read.
pub const JOURNAL_VERSION: u32 = 2;

/// One entry.
#[derive(Serialize, Deserialize)]
pub enum JournalEntry {
    /// The version, always first.
    Version(u32),
    /// A process is about to be started.
    Launched(ProcId),
    /// It has started.
    Started(Box<Started>),
    /// It has ended.
    Ended(Box<Ended>),
    /// It is deleted.
    Forgotten(ProcId),
    /// The worker's state, for the next worker.
    Memory(WorkerState),
    /// The ID of this boot of the machine: pids and start times of another boot are invalid.
    Boot(String),
    /// The requested identity of a launched process, since version 2.
    #[serde(rename = "Asked")]
    Identity(ProcId, Arc<Identity>),
}
