//! How many descriptors processes cost, so that none is made for which there are none left.
//!
//! A process that is being made needs its ends of captures and pipes, one that runs its pidfd and
//! the reading ends of its captures' pipes. Those for which there is no room wait until others have
//! ended. Processes that are joined by pipes wait and are let in together: one of them alone might
//! wait for ever for another that never gets room.

use std::collections::{HashMap, HashSet};

use crate::engine::sys;
use crate::mem::shrink::Shrink;
use crate::spec::{ValidatedFd, ValidatedProc};

/// How many descriptors are kept free: for looking into `/proc`, for the journal, for another
/// worker.
const RESERVE: usize = 16;

/// What processes may cost, and do.
pub(super) struct Budget {
    limit: usize,
    used: usize,
    costs: HashMap<u64, usize>,
    /// Those that will give descriptors back when they end.
    busy: HashSet<u64>,
}

impl Budget {
    /// What the system allows this process, less what is open now.
    pub(super) fn of_this_process() -> Self {
        let open = std::fs::read_dir("/proc/self/fd").map_or(RESERVE, Iterator::count);
        Budget::new(sys::open_file_limit().saturating_sub(open + RESERVE))
    }

    fn new(limit: usize) -> Self {
        Budget { limit, used: 0, costs: HashMap::new(), busy: HashSet::new() }
    }

    /// One that was open at the start is a process's, and is counted as that.
    pub(super) fn taken_over(&mut self) {
        self.limit += 1;
    }

    /// Notes what a process costs from now on, and whether it gives any of that back when it ends.
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

    /// Whether there is room for so many more. If nobody is there who will make room, there is:
    /// what then cannot be had is missing for good, and that is an error of whoever needs it.
    pub(super) fn has_room(&self, need: usize) -> bool {
        self.busy.is_empty() || self.used.saturating_add(need) <= self.limit
    }
}

/// What a process costs while it is made.
pub(super) fn making(proc: &ValidatedProc) -> usize {
    let of = |fd: &ValidatedFd| match fd {
        // Both ends of its pipe, its file, its counters or its filter's pidfd; the records of its
        // pieces; what is held of a named file.
        ValidatedFd::Capture(spec) => {
            4 + usize::from(spec.chunk_times) + 2 * usize::from(spec.file.is_some())
        }
        // The other end too, until that has its process.
        ValidatedFd::Pipe(_) => 2,
        ValidatedFd::Data(_) => 1,
        _ => 0,
    };
    1 + proc.fds.iter().map(|(_, fd)| of(fd)).sum::<usize>()
}

/// What the child, which has a copy of all our descriptors, needs beside them for a moment.
pub(super) fn child_needs(proc: &ValidatedProc) -> usize {
    2 * proc.fds.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back() {
        let mut budget = Budget::new(10);
        assert!(budget.has_room(1000), "nobody will ever make room");
        budget.set(1, 6, true);
        assert!(budget.has_room(4) && !budget.has_room(5));
        budget.set(1, 2, true);
        assert!(budget.has_room(8) && !budget.has_room(9));
        budget.set(2, 8, true);
        budget.set(1, 0, false);
        assert!(budget.has_room(2) && !budget.has_room(3));
        // A survivor's pipe counts, but nobody waits for it.
        budget.set(2, 3, false);
        assert_eq!(budget.used, 3);
        assert!(budget.has_room(8));
    }
}
