//! Processes that are to be forgotten while their named files are being removed, which other threads do: a file system that does not answer
//! delays the answer to a deletion, and nothing else.

use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::running::Running;
use super::worker_slot::Workers;
use crate::engine::Captures;
use crate::engine::mailbox::Mailbox;
use crate::keeper::format::ToWorker;
use crate::spec::ProcId;

/// How long removing files may delay the end of a deletion; it goes on after that.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may delay the end of the program.
const LAST: Duration = Duration::from_secs(2);

/// Who is to be forgotten.
pub(super) struct Deletions {
    /// Those whose files are removed.
    done: Arc<Mailbox<ProcId>>,
    /// Until when the others are waited for.
    until: HashMap<ProcId, Instant>,
}

/// Tells, when the last one that removes a file has dropped it.
struct Done {
    id: ProcId,
    tell: Arc<Mailbox<ProcId>>,
}

impl Drop for Done {
    fn drop(&mut self) {
        self.tell.put(self.id.clone());
    }
}

impl Deletions {
    pub(super) fn new() -> io::Result<Deletions> {
        Ok(Deletions { done: Arc::new(Mailbox::new()?), until: HashMap::new() })
    }

    /// Readable when files have been removed.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.done.fd()
    }

    /// When to look who is not waited for any more.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.until.values().min().copied()
    }
}

impl Running {
    /// Forgets a process that has ended, once its files are removed.
    pub(super) fn forget(&mut self, id: ProcId, workers: &mut Workers) {
        let ended = self.table.get(&id).and_then(|record| record.ended.as_ref());
        let captures = ended.map(|ended| Arc::clone(&ended.captures));
        match captures {
            Some(captures) if captures.remove_named() => {
                let tell = Arc::clone(&self.deletions.done);
                captures.discard(Arc::new(Done { id: id.clone(), tell }));
                let until = Instant::now() + PATIENCE;
                self.deletions.until.entry(id).or_insert(until);
            }
            captures => {
                if let Some(captures) = captures {
                    captures.discard(());
                }
                self.forget_now(id, workers);
            }
        }
    }

    /// Forgets those whose files are removed, and those that have been waited for long enough.
    pub(super) fn forget_discarded(&mut self, workers: &mut Workers) {
        let now = Instant::now();
        let mut done = self.deletions.done.take();
        done.retain(|id| self.deletions.until.remove(id).is_some());
        let overdue: Vec<ProcId> =
            (self.deletions.until).extract_if(|_, until| *until <= now).map(|(id, _)| id).collect();
        for id in &overdue {
            tracing::warn!(proc_id = %id, "the removal of a named file takes long, forgetting its process before");
        }
        done.into_iter().chain(overdue).for_each(|id| self.forget_now(id, workers));
    }

    /// Forgets all that are to be forgotten: whoever comes next is not to hear of them.
    pub(super) fn forget_all(&mut self, workers: &mut Workers) {
        let ids: Vec<ProcId> = self.deletions.until.drain().map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| self.forget_now(id, workers));
    }

    fn forget_now(&mut self, id: ProcId, workers: &mut Workers) {
        if self.table.forget(&id) {
            self.engine.forget(id.clone());
            if let Some(journal) = &mut self.journal {
                journal.forgotten(id.clone());
            }
        }
        // The worker sees to it that a process has ended before.
        if self.table.get(&id).is_none() {
            workers.tell(&ToWorker::Forgotten(id));
        }
    }

    /// Removes the named files of all processes, as they are as good as deleted.
    pub(super) fn discard_named_files(&self) {
        let (removing, removed) = mpsc::channel::<()>();
        let ended = self.table.iter().filter_map(|record| record.ended.as_ref());
        let captures = ended.map(|ended| &ended.captures);
        captures.for_each(|captures: &Arc<Captures>| captures.discard_named(removing.clone()));
        drop(removing);
        // An error comes once all have dropped the other end, or the time is over.
        let _ = removed.recv_timeout(LAST);
    }
}
