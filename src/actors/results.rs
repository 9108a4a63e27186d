//! The actor that aggregates the records of all processes, and pushes every change to all readers,
//! in order.
//!
//! A reader [subscribes](super::messages::Subscribe): it gets a snapshot, or continues after a
//! cursor, and then every change, without a gap. Changes are numbered. The answer to a
//! [`Query`](super::messages::Query) bears the number of the last change that it contains, so that
//! a reader can order its answers with the changes. Changes carry [`ProcessRecord`]s, which are
//! small and shared; the results in full are made while they are sent.

mod feed;
mod log;
mod queries;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use actix::{Actor, Context, Handler};

use super::messages::{Announce, ChangeKind, Changed, Removed, ShutdownChanged, ShutdownState};
use crate::mem::shrink::Shrink;
use crate::report::ProcessRecord;
use crate::spec::ProcId;
use feed::ChangeFeed;

/// The actor.
pub struct Results {
    processes: ResultTable,
    shutdown: ShutdownState,
    feed: ChangeFeed,
}

/// The latest record of a process; none until it has started.
type ResultEntry = Option<Arc<ProcessRecord>>;

/// The processes in the order of acceptance. The cost of a removal does not depend on their number.
#[derive(Default)]
struct ResultTable {
    serials: HashMap<ProcId, u64>,
    entries: BTreeMap<u64, (ProcId, ResultEntry)>,
    next: u64,
}

impl ResultTable {
    fn get(&self, id: &ProcId) -> Option<&Arc<ProcessRecord>> {
        self.entries.get(self.serials.get(id)?)?.1.as_ref()
    }

    /// The entry of `id`; a new one comes last.
    fn entry(&mut self, id: &ProcId) -> &mut ResultEntry {
        let next = &mut self.next;
        let serial = *self.serials.entry(id.clone()).or_insert_with(|| {
            *next += 1;
            *next
        });
        &mut self.entries.entry(serial).or_insert_with(|| (id.clone(), None)).1
    }

    fn remove(&mut self, id: &ProcId) -> Option<ResultEntry> {
        let serial = self.serials.remove(id)?;
        self.serials.shrink_if_sparse();
        self.entries.remove(&serial).map(|(_, entry)| entry)
    }

    /// The entries of processes accepted after `serial`, with their serials.
    fn after(&self, serial: u64) -> impl Iterator<Item = (&u64, &(ProcId, ResultEntry))> {
        self.entries.range((Bound::Excluded(serial), Bound::Unbounded))
    }

    fn iter(&self) -> impl Iterator<Item = &(ProcId, ResultEntry)> {
        self.entries.values()
    }
}

impl Default for Results {
    fn default() -> Self {
        Results {
            processes: ResultTable::default(),
            shutdown: ShutdownState::Active,
            feed: ChangeFeed::default(),
        }
    }
}

impl Actor for Results {
    type Context = Context<Self>;
}

impl Results {
    fn ids(&self) -> Vec<ProcId> {
        self.processes.iter().map(|(id, _)| id.clone()).collect()
    }

    /// The records of all processes that have started, in the order of acceptance.
    fn records(&self) -> impl Iterator<Item = &Arc<ProcessRecord>> {
        self.processes.iter().filter_map(|(_, record)| record.as_ref())
    }
}

impl Handler<Announce> for Results {
    type Result = ();

    fn handle(&mut self, Announce(id): Announce, _: &mut Self::Context) {
        self.processes.entry(&id);
    }
}

impl Handler<Changed> for Results {
    type Result = ();

    fn handle(&mut self, Changed(record): Changed, _: &mut Self::Context) {
        let before = self.processes.entry(&record.id).replace(Arc::clone(&record));
        self.feed.changed(&record, before.as_ref());
    }
}

impl Handler<Removed> for Results {
    type Result = ();

    fn handle(&mut self, Removed(id): Removed, _: &mut Self::Context) {
        // Readers do not know a process that has not started.
        if let Some(record) = self.processes.remove(&id).flatten() {
            self.feed.removed(&record, id);
        }
    }
}

impl Handler<ShutdownChanged> for Results {
    type Result = ();

    fn handle(&mut self, ShutdownChanged(state): ShutdownChanged, _: &mut Self::Context) {
        self.shutdown = state;
        self.feed.publish(ChangeKind::Shutdown(state));
    }
}
