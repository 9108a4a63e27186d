//! Processes that are to be forgotten while their named files are being removed, which other threads do: a file system that does not answer
//! delays the answer to a deletion, and nothing else.

use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::engine::Captures;
use crate::engine::mailbox::Mailbox;
use crate::spec::ProcId;

/// How long removing files may delay the end of a deletion, where it goes on after that, and the end
/// of the program, where it does not. A busy disk takes seconds for the removal of a file.
const PATIENCE: Duration = Duration::from_secs(5);

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

    /// Removes the named files of an ended process; it is waited for until then. Whether there are
    /// any: if not, nothing is waited for.
    pub(super) fn remove_files(&mut self, id: &ProcId, captures: &Arc<Captures>) -> bool {
        if !captures.remove_named() {
            captures.discard(());
            return false;
        }
        let tell = Arc::clone(&self.done);
        captures.discard(Arc::new(Done { id: id.clone(), tell }));
        self.until.entry(id.clone()).or_insert(Instant::now() + PATIENCE);
        true
    }

    /// Takes those that are waited for no longer: their files are removed, or it has taken too long.
    pub(super) fn take_due(&mut self) -> Vec<ProcId> {
        let now = Instant::now();
        let mut due = self.done.take();
        due.retain(|id| self.until.remove(id).is_some());
        for (id, _) in self.until.extract_if(|_, until| *until <= now) {
            tracing::warn!(proc_id = %id, "removing a named file takes long; deleting its process first");
            due.push(id);
        }
        due
    }

    /// Takes all that are waited for.
    pub(super) fn take_all(&mut self) -> Vec<ProcId> {
        self.until.drain().map(|(id, _)| id).collect()
    }
}

/// Removes the named files of these processes, and waits for that for a moment.
pub(super) fn remove_files_of_all<'a>(captures: impl Iterator<Item = &'a Arc<Captures>>) {
    let (removing, removed) = mpsc::channel::<()>();
    captures.for_each(|captures| captures.discard_named(removing.clone()));
    drop(removing);
    // Returns an error once all have dropped the other end, or at the deadline.
    if let Err(mpsc::RecvTimeoutError::Timeout) = removed.recv_timeout(PATIENCE) {
        tracing::warn!("removing named files took too long; some may be left");
    }
}
