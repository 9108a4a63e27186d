//! The survivors of a process: its orphans, and their descendants.

use std::collections::HashSet;

use nix::errno::Errno;
use nix::unistd::{Pid, getsid};

use super::orphans::Child;
use super::process_trees::ProcessTrees;
use crate::engine::event::{Relation, Survivor, Survivors};
use crate::engine::sys;

/// Most survivors of one process that are listed.
pub(super) const LISTED: usize = 64;
/// Most survivors that are counted.
const COUNTED: usize = 4096;

impl ProcessTrees {
    /// Finds the survivors of a process that has run: its orphans, and their descendants.
    pub(super) fn find_survivors(&self, serial: u64) -> Survivors {
        let unknown = self.may_have_others(serial);
        let mut survivors = Survivors { unknown, ..Survivors::default() };
        if self.orphans.known.is_empty() {
            return survivors;
        }
        let relation = |pid: &i32| match self.orphans.known.get(pid) {
            Some(Child::Orphan { owner: Some((_, relation)), .. }) => *relation,
            _ => Relation::Descendant,
        };
        let mut todo: Vec<(i32, Option<i32>)> =
            self.orphans.of(serial).map(|pid| (pid, None)).collect();
        let mut seen = HashSet::new();
        while let Some((pid, parent)) = todo.pop() {
            let Ok(stat) = self.procfs.read_stat(pid) else {
                survivors.unknown |= exists(pid);
                continue;
            };
            let meant = parent.is_none_or(|parent| parent == stat.ppid);
            if !meant || !seen.insert(pid) {
                continue;
            }
            if seen.len() > COUNTED {
                survivors.unknown = true;
                break;
            }
            todo.extend(self.procfs.children(pid).into_iter().map(|child| (child, Some(pid))));
            if matches!(stat.state, 'Z' | 'X') {
                continue;
            }
            if survivors.listed.len() < LISTED {
                let (comm, session) = (stat.comm, stat.session);
                survivors.listed.push(Survivor { pid, comm, session, relation: relation(&pid) });
            } else {
                survivors.more += 1;
            }
        }
        survivors.listed.sort_by_key(|survivor| survivor.pid);
        survivors
    }

    /// Whether a process can have unattributed survivors: the list of orphans is incomplete, or
    /// there is an orphan that this process or another one can have started.
    fn may_have_others(&self, serial: u64) -> bool {
        if self.orphans.list.is_none() || self.orphans.behind || !sys::takes_orphans() {
            return true;
        }
        let started = self.records.get(&serial).and_then(|record| record.starttime);
        let born = started.unwrap_or(0);
        self.orphans.known.iter().any(|(pid, child)| match child {
            Child::Orphan { starttime, owner: None, .. } => *starttime >= born && self.lives(*pid),
            _ => false,
        })
    }

    /// Whether a child of ours has not ended, as far as /proc shows.
    fn lives(&self, pid: i32) -> bool {
        match self.procfs.read_stat(pid) {
            Ok(stat) => !matches!(stat.state, 'Z' | 'X'),
            Err(_) => exists(pid),
        }
    }
}

/// Whether a process exists, even if /proc hides it.
fn exists(pid: i32) -> bool {
    getsid(Some(Pid::from_raw(pid))) != Err(Errno::ESRCH)
}
