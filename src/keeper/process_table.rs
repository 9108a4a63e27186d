//! What the keeper knows of every process, in the order of launch.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::format::ProcessEntry;
use crate::engine::{Ended, Started, StopFailure};
use crate::mem::shrink::Shrink;
use crate::spec::{Identity, ProcId};

/// All processes that have been launched and not forgotten.
#[derive(Default)]
pub struct ProcessTable {
    serials: HashMap<ProcId, u64>,
    /// Boxed, because appending leaves the tree's nodes half empty.
    records: BTreeMap<u64, Box<ProcessEntry>>,
    next: u64,
    /// How many have neither started nor ended.
    starting: usize,
}

impl ProcessTable {
    /// Enters a process; one that is there stays as it is.
    pub fn insert(&mut self, id: &ProcId) {
        self.record(id);
    }

    /// Notes what a process was asked to be.
    pub fn set_identity(&mut self, id: &ProcId, identity: Arc<Identity>) {
        self.record(id).identity = Some(identity);
    }

    /// Inserts a process with its known state.
    pub(super) fn restore(&mut self, entry: ProcessEntry) {
        let ProcessEntry { id, started, ended, identity, stop_failures } = entry;
        self.insert(&id);
        self.stop_failed(&id, stop_failures);
        if let Some(identity) = identity {
            self.set_identity(&id, identity);
        }
        if let Some(started) = started {
            self.started(started);
        }
        if let Some(ended) = ended {
            self.ended(ended);
        }
    }

    /// Notes a start.
    pub fn started(&mut self, started: Started) {
        let record = self.record(&started.id);
        let first = record.is_starting();
        record.started = Some(started);
        self.starting -= usize::from(first);
    }

    /// Notes an end.
    pub fn ended(&mut self, ended: Box<Ended>) {
        let record = self.record(&ended.id);
        let first = record.is_starting();
        record.ended = Some(ended);
        self.starting -= usize::from(first);
    }

    /// Records the members of a process's tree that could not be signaled. An unknown process is
    /// ignored.
    pub fn stop_failed(&mut self, id: &ProcId, failures: Vec<StopFailure>) {
        let record = self.serials.get(id).and_then(|serial| self.records.get_mut(serial));
        if let Some(record) = record {
            record.stop_failures.extend(failures);
        }
    }

    /// How many processes have neither started nor ended.
    pub fn starting(&self) -> usize {
        self.starting
    }

    /// Takes a process out, if it has ended.
    pub fn forget(&mut self, id: &ProcId) -> bool {
        let Some(serial) = self.serials.get(id).copied() else { return false };
        if self.records.get(&serial).is_none_or(|record| record.ended.is_none()) {
            return false;
        }
        self.serials.remove(id);
        self.serials.shrink_if_sparse();
        self.records.remove(&serial).is_some()
    }

    /// A process's record.
    pub fn get(&self, id: &ProcId) -> Option<&ProcessEntry> {
        self.records.get(self.serials.get(id)?).map(Box::as_ref)
    }

    /// All records, in the order of launch.
    pub fn iter(&self) -> impl Iterator<Item = &ProcessEntry> {
        self.records.values().map(Box::as_ref)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The entry of a process, inserted if it is missing.
    fn record(&mut self, id: &ProcId) -> &mut ProcessEntry {
        let serial = self.serials.get(id).copied().unwrap_or_else(|| {
            self.next += 1;
            self.starting += 1;
            self.serials.insert(id.clone(), self.next);
            self.next
        });
        self.records.entry(serial).or_insert_with(|| Box::new(ProcessEntry::new(id.clone())))
    }
}
