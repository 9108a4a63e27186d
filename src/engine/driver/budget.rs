//! The descriptor budget: a process is started only if enough descriptors are free.
//!
//! During its start a process needs its ends of captures and pipes; while it runs, its pidfd and
//! the reading ends of its captures' pipes. Processes without room wait until others have ended.
//! Processes that are joined by pipes are admitted together: otherwise one could wait for ever for
//! another one that never gets room. Duplicates for the second holder count while they are open.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::engine::lent::Lent;
use crate::engine::sys;
use crate::mem::shrink::Shrink;
use crate::spec::{ValidatedFd, ValidatedProc};

/// Descriptors that are kept free: to read `/proc`, for the journal, for another worker and its
/// copies of the instance's locks.
const RESERVE: usize = 20;

/// The budget, and its use by processes.
pub(super) struct Budget {
    limit: usize,
    used: usize,
    costs: HashMap<u64, usize>,
    /// Processes that will free descriptors when they end.
    busy: HashSet<u64>,
    /// Duplicates for the second holder.
    lent: Arc<Lent>,
}

impl Budget {
    /// The limit of this process, less the descriptors that are open now.
    pub(super) fn of_this_process(lent: Arc<Lent>) -> Self {
        let open = std::fs::read_dir("/proc/self/fd").map_or(RESERVE, Iterator::count);
        Budget::new(sys::open_file_limit().saturating_sub(open + RESERVE), lent)
    }

    fn new(limit: usize, lent: Arc<Lent>) -> Self {
        Budget { limit, used: 0, costs: HashMap::new(), busy: HashSet::new(), lent }
    }

    /// Counts descriptors that are duplicated for the second holder.
    pub(super) fn lend(&self, descriptors: usize) {
        self.lent.add(descriptors);
    }

    /// Moves a descriptor that was open at the start to the account of a restored process.
    pub(super) fn count_restored(&mut self) {
        self.limit += 1;
    }

    /// Records the cost of a process, and whether its end frees descriptors.
    pub(super) fn set(&mut self, serial: u64, cost: usize, busy: bool) {
        let before = match cost {
            0 => self.costs.remove(&serial),
            _ => self.costs.insert(serial, cost),
        };
        self.costs.shrink_if_sparse();
        self.used = self.used + cost - before.unwrap_or(0);
        if busy {
            self.busy.insert(serial);
        } else {
            self.busy.remove(&serial);
            self.busy.shrink_if_sparse();
        }
    }

    /// Whether `need` more descriptors are free. Also true if nothing will free any: waiting would
    /// not help, and the missing descriptors are an error of the start. If the end of duplicates
    /// makes room, the driver is woken.
    pub(super) fn has_room(&self, need: usize) -> bool {
        let fits = |lent: usize| {
            (self.busy.is_empty() && lent == 0)
                || self.used.saturating_add(need).saturating_add(lent) <= self.limit
        };
        let lent = self.lent.open();
        fits(lent) || (lent > 0 && fits(self.lent.await_close()))
    }
}

/// The descriptors that a process needs during its start.
pub(super) fn making(proc: &ValidatedProc) -> usize {
    let of = |fd: &ValidatedFd| match fd {
        // Both ends of the pipe, the file, the counters or the capture writer's pidfd; the records
        // of chunk times; the descriptors of a named file.
        ValidatedFd::Capture(spec) => {
            4 + usize::from(spec.chunk_times) + 2 * usize::from(spec.file.is_some())
        }
        // Also the other end, until its process has started.
        ValidatedFd::Pipe(_) => 2,
        ValidatedFd::Data(_) => 1,
        _ => 0,
    };
    1 + proc.fds.iter().map(|(_, fd)| of(fd)).sum::<usize>()
}

/// The descriptors that the child, which has a copy of all of ours, briefly needs in addition.
pub(super) fn child_needs(proc: &ValidatedProc) -> usize {
    2 * proc.fds.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back() {
        let lent = Arc::new(Lent::default());
        let mut budget = Budget::new(10, Arc::clone(&lent));
        assert!(budget.has_room(1000), "nobody will ever make room");
        budget.set(1, 6, true);
        assert!(budget.has_room(4) && !budget.has_room(5));
        budget.set(1, 2, true);
        assert!(budget.has_room(8) && !budget.has_room(9));
        budget.set(2, 8, true);
        budget.set(1, 0, false);
        assert!(budget.has_room(2) && !budget.has_room(3));
        // The pipe of a survivor counts, but no start waits for it.
        budget.set(2, 3, false);
        assert_eq!(budget.used, 3);
        assert!(budget.has_room(8));
        budget.lend(4);
        assert!(budget.has_room(3) && !budget.has_room(4));
        assert!(lent.close(4), "a start waits for that");
        assert!(budget.has_room(1000));
    }
}
