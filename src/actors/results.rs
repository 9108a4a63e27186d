//! The actor that knows every process's current result, and pushes each change to all readers, in order.
//!
//! A reader [subscribes](super::messages::Subscribe): it gets a snapshot, or goes on after a cursor, and then every
//! change; nothing falls between the two. Changes are numbered, and an answer to a [`Query`](super::messages::Query)
//! bears the number of the last change that is in it: so a reader can put its answers in order with the changes.
//! Changes carry [`ProcessRecord`]s, small and shared; the sender of a result makes it at that moment.

mod feed;
mod log;
mod queries;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use actix::{Actor, Context, Handler};
use tokio::sync::oneshot;

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

/// The processes in the order of acceptance. Taking one out costs the same however many there are.
#[derive(Default)]
struct ResultTable {
    serials: HashMap<ProcId, u64>,
    entries: BTreeMap<u64, (ProcId, ResultEntry)>,
    next: u64,
}

impl ResultTable {
    fn get(&self, id: &ProcId) -> Option<&ResultEntry> {
        self.entries.get(self.serials.get(id)?).map(|(_, entry)| entry)
    }

    fn get_mut(&mut self, id: &ProcId) -> Option<&mut ResultEntry> {
        self.entries.get_mut(self.serials.get(id)?).map(|(_, entry)| entry)
    }

    /// The entry of `id`, made at the end if there is none.
    fn entry(&mut self, id: &ProcId) -> &mut ResultEntry {
        let next = &mut self.next;
        let serial = *self.serials.entry(id.clone()).or_insert_with(|| {
            *next += 1;
            *next
        });
        &mut self.entries.entry(serial).or_insert_with(|| (id.clone(), ResultEntry::default())).1
    }

    fn remove(&mut self, id: &ProcId) -> Option<ResultEntry> {
        let serial = self.serials.remove(id)?;
        self.serials.shrink_if_sparse();
        self.entries.remove(&serial).map(|(_, entry)| entry)
    }

    /// Those accepted after `serial`, each with its own.
    fn after(&self, serial: u64) -> impl Iterator<Item = (&u64, &(ProcId, ResultEntry))> {
        self.entries.range((Bound::Excluded(serial), Bound::Unbounded))
    }

    fn iter(&self) -> impl Iterator<Item = &(ProcId, ResultEntry)> {
        self.entries.values()
    }
}

/// A process that has been accepted and not deleted.
#[derive(Default)]
struct ResultEntry {
    /// its latest record; none until it has started.
    record: Option<Arc<ProcessRecord>>,
    /// Who wants its record as soon as there is one.
    waiting: Vec<oneshot::Sender<Option<Arc<ProcessRecord>>>>,
    /// Who wants its last record as soon as it has ended.
    ending: Vec<oneshot::Sender<Option<Arc<ProcessRecord>>>>,
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

    /// The record of every process that has started, in the order of acceptance.
    fn records(&self) -> impl Iterator<Item = &Arc<ProcessRecord>> {
        self.processes.iter().filter_map(|(_, entry)| entry.record.as_ref())
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
        let entry = self.processes.entry(&record.id);
        let before = entry.record.replace(Arc::clone(&record));
        let ending =
            if record.is_running() { Vec::new() } else { std::mem::take(&mut entry.ending) };
        let waiting = std::mem::take(&mut entry.waiting).into_iter().chain(ending);
        self.feed.changed(&record, before.as_ref());
        for answer in waiting {
            // The asker may have gone.
            let _ = answer.send(Some(Arc::clone(&record)));
        }
    }
}

impl Handler<Removed> for Results {
    type Result = ();

    fn handle(&mut self, Removed(id): Removed, _: &mut Self::Context) {
        if let Some(entry) = self.processes.remove(&id) {
            self.feed.removed(&entry, id);
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
