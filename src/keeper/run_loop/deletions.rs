//! Processes that are deleted once their named files are removed. Other threads remove the files:
//! an unresponsive file system delays only the answer to the deletion.

use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::engine::Captures;
use crate::engine::mailbox::Mailbox;
use crate::spec::ProcId;

/// How long removing files may delay the end of a deletion or of the program. After a deletion's
/// delay, the removal continues; after the program's, it does not. A busy disk may take seconds to
/// remove a file.
const PATIENCE: Duration = Duration::from_secs(5);

/// The processes to delete.
pub(super) struct Deletions {
    /// Processes whose files are removed.
    done: Arc<Mailbox<ProcId>>,
    /// The deadline of each pending removal.
    until: HashMap<ProcId, Instant>,
}

/// Reports the process as done when the last remover of its files drops this.
struct Done {
    id: ProcId,
    mailbox: Arc<Mailbox<ProcId>>,
}

impl Drop for Done {
    fn drop(&mut self) {
        self.mailbox.put(self.id.clone());
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

    /// The earliest deadline of a pending removal.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.until.values().min().copied()
    }

    /// Starts to remove the named files of an exited process. Returns whether it has any: if not,
    /// no removal is pending.
    pub(super) fn remove_files(&mut self, id: &ProcId, captures: &Arc<Captures>) -> bool {
        if !captures.remove_named() {
            captures.discard(());
            return false;
        }
        let mailbox = Arc::clone(&self.done);
        captures.discard(Arc::new(Done { id: id.clone(), mailbox }));
        self.until.entry(id.clone()).or_insert(Instant::now() + PATIENCE);
        true
    }

    /// Takes the processes whose files are removed or whose removal has timed out.
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

    /// Takes all processes with a pending removal.
    pub(super) fn take_all(&mut self) -> Vec<ProcId> {
        self.until.drain().map(|(id, _)| id).collect()
    }
}

/// Removes the named files of these processes, and waits for it up to [`PATIENCE`].
pub(super) fn remove_files_of_all<'a>(captures: impl Iterator<Item = &'a Arc<Captures>>) {
    let (removing, removed) = mpsc::channel::<()>();
    captures.for_each(|captures| captures.discard_named(removing.clone()));
    drop(removing);
    // Returns an error once all have dropped the other end, or at the deadline.
    if let Err(mpsc::RecvTimeoutError::Timeout) = removed.recv_timeout(PATIENCE) {
        tracing::warn!("removing named files took too long; some may be left");
    }
}
