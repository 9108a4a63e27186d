//! Deletes ended processes: from the table, the engine and the journal, once their files are
//! removed.

use std::sync::Arc;

use super::deletions;
use super::running::Running;
use super::worker_slot::Workers;
use crate::keeper::format::ToWorker;
use crate::spec::ProcId;

impl Running {
    /// Deletes an exited process once its files are removed.
    pub(super) fn forget(&mut self, id: ProcId, workers: &mut Workers) {
        let ended = self.table.get(&id).and_then(|entry| entry.ended.as_ref());
        let captures = ended.map(|ended| Arc::clone(&ended.captures));
        let waits = captures.is_some_and(|captures| self.deletions.remove_files(&id, &captures));
        if !waits {
            self.forget_now(id, workers);
        }
    }

    /// Deletes the processes whose files are removed or whose removal has timed out.
    pub(super) fn forget_discarded(&mut self, workers: &mut Workers) {
        let due = self.deletions.take_due();
        due.into_iter().for_each(|id| self.forget_now(id, workers));
    }

    /// Deletes all processes with a pending removal, so that no later keeper or worker lists them.
    pub(super) fn forget_all(&mut self, workers: &mut Workers) {
        let waiting = self.deletions.take_all();
        waiting.into_iter().for_each(|id| self.forget_now(id, workers));
    }

    fn forget_now(&mut self, id: ProcId, workers: &mut Workers) {
        if self.table.forget(&id) {
            self.engine.forget(id.clone());
            if let Some(journal) = &mut self.journal {
                journal.forgotten(id.clone());
            }
        }
        // The worker deletes only exited processes.
        if self.table.get(&id).is_none() {
            workers.queue(&ToWorker::Forgotten(id));
        }
    }

    /// Removes the named files of all processes, as if each process were deleted.
    pub(super) fn discard_named_files(&self) {
        let ended = self.table.iter().filter_map(|entry| entry.ended.as_ref());
        deletions::remove_files_of_all(ended.map(|ended| &ended.captures));
    }
}
