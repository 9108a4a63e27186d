//! What the keeper knows of every process, in the order of launch.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::engine::{Ended, Started};
use crate::spec::{Identity, ProcId};

/// One process.
#[derive(Clone, Serialize, Deserialize)]
pub struct Record {
    /// Its ID.
    pub id: ProcId,
    /// Its start, once it has started.
    pub started: Option<Started>,
    /// Its end, once it has ended.
    pub ended: Option<Box<Ended>>,
    /// What was asked for; none where a program that did not keep it has launched it.
    #[serde(default)]
    pub identity: Option<Arc<Identity>>,
}

impl Record {
    /// The record of a process that is about to be started.
    pub fn new(id: ProcId) -> Record {
        Record { id, started: None, ended: None, identity: None }
    }
}

/// All processes that have been launched and not forgotten.
#[derive(Default)]
pub struct Ledger {
    serials: HashMap<ProcId, u64>,
    records: BTreeMap<u64, Record>,
    next: u64,
}

impl Ledger {
    /// Enters a process; one that is there stays as it is.
    pub fn launched(&mut self, id: &ProcId) {
        self.record(id);
    }

    /// Notes what a process was asked to be.
    pub fn asked(&mut self, id: &ProcId, identity: Arc<Identity>) {
        self.record(id).identity = Some(identity);
    }

    /// Notes a start.
    pub fn started(&mut self, started: Started) {
        let id = started.id.clone();
        self.record(&id).started = Some(started);
    }

    /// Notes an end.
    pub fn ended(&mut self, ended: Ended) {
        let id = ended.id.clone();
        self.record(&id).ended = Some(Box::new(ended));
    }

    /// Takes a process out, if it has ended.
    pub fn forget(&mut self, id: &ProcId) -> bool {
        let Some(serial) = self.serials.get(id).copied() else { return false };
        if self.records.get(&serial).is_none_or(|record| record.ended.is_none()) {
            return false;
        }
        self.serials.remove(id);
        self.records.remove(&serial).is_some()
    }

    /// A process's record.
    pub fn get(&self, id: &ProcId) -> Option<&Record> {
        self.records.get(self.serials.get(id)?)
    }

    /// All records, in the order of launch.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    fn record(&mut self, id: &ProcId) -> &mut Record {
        let next = &mut self.next;
        let serial = *self.serials.entry(id.clone()).or_insert_with(|| {
            *next += 1;
            *next
        });
        self.records.entry(serial).or_insert_with(|| Record::new(id.clone()))
    }
}
