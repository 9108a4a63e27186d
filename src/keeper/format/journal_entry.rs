//! The entries of the [journal](crate::keeper::journal).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::WorkerState;
use crate::engine::{Ended, Started};
use crate::spec::{Identity, ProcId};

/// The version of the journal's form, its first entry. Those since 1 are read.
pub const JOURNAL_VERSION: u32 = 2;

/// One entry.
#[derive(Serialize, Deserialize)]
pub enum JournalEntry {
    /// The first one.
    Version(u32),
    /// A process is about to be started.
    Launched(ProcId),
    /// It has started.
    Started(Box<Started>),
    /// It has ended.
    Ended(Box<Ended>),
    /// It is forgotten.
    Forgotten(ProcId),
    /// What the worker leaves to the next.
    Memory(WorkerState),
    /// Which boot of the machine it is: pids and start times of another one say nothing.
    Boot(String),
    /// What a launched process was asked to be; since version 2.
    Asked(ProcId, Arc<Identity>),
}
