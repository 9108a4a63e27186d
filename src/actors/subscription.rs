//! A subscription to the changes: bounded, and coalesced by process.
//!
//! The results actor pushes every change into every subscription; a reader takes changes when it
//! has room. A reader that stops costs a bounded amount of memory and delays nobody: beyond a first
//! bound the waiting changes are coalesced by process; beyond a second one the subscription ends as
//! *lagged*, and the reader begins with a new snapshot. Pure except for the lock and the wake-up:
//! both halves may be on any thread.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use super::messages::{Change, ChangeKind};
use crate::mem::shrink::Shrink;
use crate::spec::ProcId;

/// The number of changes that wait one by one before they are coalesced.
const SINGLY: usize = 1024;
/// The maximum number of waiting deletions while other changes are coalesced.
const DELETIONS: usize = 4096;
/// The maximum number of waiting changes of deleted processes if each must be delivered.
const BACKLOG: usize = 16_384;

/// The changes that may be coalesced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Every start, every end and every deletion is delivered; only updates between are coalesced.
    Each,
    /// A reader that is far behind gets each process's latest change.
    Latest,
}

/// The state of a subscription, as a reader finds it.
#[derive(Clone)]
pub enum Next {
    /// The oldest waiting change.
    Change(Change),
    /// No change waits at the moment.
    Empty,
    /// The reader is too far behind, and must begin with a snapshot.
    Lagged,
    /// The worker is ending: no change will come.
    Closed,
}

/// The reader's half. Dropping it ends the subscription.
pub struct Subscription {
    shared: Arc<Shared>,
    /// Shows the publisher that a reader exists.
    _reader: Arc<()>,
}

/// The results' half.
pub struct Publisher {
    shared: Arc<Shared>,
    reader: Weak<()>,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A new subscription with its publisher.
#[must_use]
pub fn subscription(delivery: Delivery) -> (Publisher, Subscription) {
    let queue = Queue::new(delivery, Bounds::default());
    let shared = Arc::new(Shared { queue: Mutex::new(queue), changed: Notify::new() });
    let reader = Arc::new(());
    let publisher = Publisher { shared: Arc::clone(&shared), reader: Arc::downgrade(&reader) };
    (publisher, Subscription { shared, _reader: reader })
}

impl Publisher {
    /// Appends a change; false if the reader has gone.
    pub fn push(&self, change: Change) -> bool {
        if !self.is_read() {
            return false;
        }
        self.shared.lock().push(change);
        self.shared.changed.notify_one();
        true
    }

    /// Whether the reader exists.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.reader.strong_count() > 0
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
    }
}

impl Subscription {
    /// Takes the oldest change.
    pub fn take(&mut self) -> Next {
        self.shared.lock().take(u64::MAX)
    }

    /// Takes the oldest change if its number is at most `seq`.
    pub fn take_until(&mut self, seq: u64) -> Next {
        self.shared.lock().take(seq)
    }

    /// Resolves when [`take`](Self::take) finds something. Cancel-safe. Each change wakes one
    /// waiter.
    pub fn ready(&self) -> impl Future<Output = ()> + Send + use<> {
        let shared = Arc::clone(&self.shared);
        async move {
            while !shared.lock().is_ready() {
                shared.changed.notified().await;
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Bounds {
    singly: usize,
    deletions: usize,
    backlog: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { singly: SINGLY, deletions: DELETIONS, backlog: BACKLOG }
    }
}

/// The waiting changes of one reader, as pure data.
struct Queue {
    delivery: Delivery,
    bounds: Bounds,
    /// The changes, by number.
    waiting: BTreeMap<u64, ChangeKind>,
    /// The numbers of changes that later ones may supersede, by process.
    of: HashMap<ProcId, Vec<u64>>,
    /// The number of waiting changes of deleted processes.
    deleted: usize,
    lagged: bool,
    closed: bool,
}

impl Queue {
    fn new(delivery: Delivery, bounds: Bounds) -> Queue {
        Queue {
            delivery,
            bounds,
            waiting: BTreeMap::new(),
            of: HashMap::new(),
            deleted: 0,
            lagged: false,
            closed: false,
        }
    }

    fn is_ready(&self) -> bool {
        self.lagged || self.closed || !self.waiting.is_empty()
    }

    fn push(&mut self, Change { seq, what }: Change) {
        if self.lagged {
            return;
        }
        match &what {
            // There are at most three in the life of a worker.
            ChangeKind::Shutdown(_) => {}
            ChangeKind::Deleted(id) => {
                let before = self.of.remove(id).unwrap_or_default();
                self.of.shrink_if_sparse();
                self.deleted += 1;
                if self.coalesces() {
                    before.iter().for_each(|seq| drop(self.waiting.remove(seq)));
                } else {
                    self.deleted += before.len();
                }
            }
            _ => self.changed(seq, &what),
        }
        self.waiting.insert(seq, what);
        self.bound();
    }

    /// A process has changed: its waiting changes may be superseded.
    fn changed(&mut self, seq: u64, what: &ChangeKind) {
        let Some(id) = what.id() else { return };
        let coalesces = self.coalesces();
        let of = self.of.entry(id.clone()).or_default();
        let waiting = &mut self.waiting;
        of.retain(|before| {
            let superseded =
                coalesces || matches!(waiting.get(before), Some(ChangeKind::Updated(_)));
            if superseded {
                waiting.remove(before);
            }
            !superseded
        });
        of.push(seq);
    }

    /// Whether a change supersedes all waiting changes of its process.
    fn coalesces(&self) -> bool {
        self.delivery == Delivery::Latest && self.waiting.len() >= self.bounds.singly
    }

    /// Keeps the number of waiting changes within bounds.
    fn bound(&mut self) {
        let most = match self.delivery {
            Delivery::Each => self.bounds.backlog,
            // Changes pushed before coalescing began are fewer than the first bound.
            Delivery::Latest => self.bounds.deletions,
        };
        if self.deleted > most {
            self.lagged = true;
            self.waiting.clear();
            self.of = HashMap::new();
        }
    }

    fn take(&mut self, until: u64) -> Next {
        if self.lagged {
            return Next::Lagged;
        }
        match self.waiting.first_entry() {
            Some(first) if *first.key() <= until => {
                let (seq, what) = first.remove_entry();
                self.taken(seq, &what);
                Next::Change(Change { seq, what })
            }
            Some(_) => Next::Empty,
            None if self.closed => Next::Closed,
            None => Next::Empty,
        }
    }

    /// A change has been taken.
    fn taken(&mut self, seq: u64, what: &ChangeKind) {
        let Some(id) = what.id() else { return };
        // Until the deletion of the process, its changes are in `of`; afterwards they are counted
        // in `deleted`.
        match self.of.get_mut(id) {
            Some(of) if of.contains(&seq) => {
                of.retain(|waiting| *waiting != seq);
                if of.is_empty() {
                    self.of.remove(id);
                    self.of.shrink_if_sparse();
                }
            }
            _ => self.deleted = self.deleted.saturating_sub(1),
        }
    }
}

#[cfg(test)]
#[path = "subscription_tests.rs"]
mod tests;
