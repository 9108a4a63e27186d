//! Attribution of orphans to processes.
//!
//! The evidence is the session, the process group, the control group, or an earlier walk that found the orphan as a
//! descendant when a tree was stopped. An orphan in its own session is attributed to the only
//! process that can have started it, if there is just one. If there are several, or the list of
//! children was not read, the orphan's origin is unknown, and the result says so.

use std::collections::HashSet;

use nix::unistd::{Pid, getsid};

use super::orphans::Child;
use super::process_trees::ProcessTrees;
use crate::engine::event::Relation;
use crate::engine::sys;
use crate::procfs::RawStat;

impl ProcessTrees {
    /// Classifies a child in the list; `None` if the engine has made it, or it is gone.
    pub(super) fn classify(&self, pid: i32) -> Option<Child> {
        // The child stays a zombie until we reap it, so its pid is not reused. Most children are
        // our own, and reading only the session is cheap.
        let session = getsid(Some(Pid::from_raw(pid))).map(Pid::as_raw);
        if session == Ok(self.orphans.session) && self.on_terminal.is_none() {
            return Some(Child::Helper);
        }
        // A child of the engine has reported its pid before it got its session.
        let newborns = (self.newborns)();
        if newborns.iter().any(|(_, made)| *made == pid) {
            return None;
        }
        let Ok(stat) = self.procfs.read_stat(pid) else {
            // A child that /proc hides from us, for example another user's process, still exists.
            let session = session.ok()?;
            return Some(Child::Orphan {
                session,
                starttime: u64::MAX,
                logged: false,
                owner: None,
            });
        };
        if stat.ppid != self.orphans.pid {
            return None;
        }
        // In our session, it is a helper of this program or an orphan of a process of our own job.
        if stat.session == self.orphans.session && self.is_helper(&stat) {
            return Some(Child::Helper);
        }
        let owner = self.owner_of(&stat, &newborns);
        let RawStat { session, starttime, .. } = stat;
        Some(Child::Orphan { session, starttime, logged: owner.is_some(), owner })
    }

    /// Whether a child in our session that the engine has not made belongs to this program, and is
    /// no orphan of a process of our job. Children older than that process come from the program
    /// that executed this one.
    fn is_helper(&self, stat: &RawStat) -> bool {
        let Some(serial) = self.on_terminal else { return true };
        let record = self.records.get(&serial);
        let met = record.and_then(|record| record.met.get(&stat.pid));
        if met == Some(&stat.starttime) {
            return false;
        }
        let started = record.and_then(|record| record.starttime);
        let older = started.is_some_and(|started| stat.starttime < started);
        // A zombie has no executable.
        let named = || {
            ["exe", "procstar", "procstar-worker", "procstar-filter"].contains(&stat.comm.as_str())
        };
        older
            || match stat.state {
                'Z' | 'X' => named(),
                _ => sys::is_this_program(stat.pid).unwrap_or_else(named),
            }
    }

    /// Logs the orphans that have existed for a while and belong to no process.
    pub(super) fn warn_unattributed(&mut self) {
        for (pid, child) in &mut self.orphans.known {
            if let Child::Orphan { owner: None, logged, .. } = child
                && !std::mem::replace(logged, true)
                && let Ok(RawStat { comm, state: 'A'..='Y', .. }) = self.procfs.read_stat(*pid)
            {
                tracing::warn!(pid, comm, "an orphan whose origin is not known");
            }
        }
    }

    /// Finds the process that an orphan comes from. The `newborns` may have forked and ended before
    /// their start is reported to the engine.
    fn owner_of(&self, stat: &RawStat, newborns: &[(u64, i32)]) -> Option<(u64, Relation)> {
        let leader = newborns.iter().find(|(_, pid)| *pid == stat.session);
        let leader = leader.map(|(serial, _)| serial).or_else(|| self.children.get(&stat.session));
        if let Some(serial) = leader {
            let group = stat.pgrp == stat.session;
            return Some((*serial, if group { Relation::Group } else { Relation::Session }));
        }
        if let Some(serial) = self.on_terminal.filter(|_| stat.session == self.orphans.session) {
            let group = stat.pgrp == nix::unistd::getpgrp().as_raw();
            return Some((serial, if group { Relation::Group } else { Relation::Session }));
        }
        if let Some(serial) = self.groups.owner_of(&self.procfs, stat.pid) {
            return Some((serial, Relation::Descendant));
        }
        let mut orphans = self.orphans.known.iter();
        let relative = orphans.find_map(|(pid, child)| match child {
            Child::Orphan { session, owner, .. } => {
                owner.filter(|_| *pid == stat.session || *session == stat.session)
            }
            Child::Helper => None,
        });
        if let Some((serial, _)) = relative {
            return Some((serial, Relation::Session));
        }
        let mut stopped = self.records.iter().filter(|(_, record)| !record.met.is_empty());
        let met = stopped.find(|(_, record)| {
            record.met.get(&stat.pid) == Some(&stat.starttime)
                || record.exited_leader() == Some(stat.session)
        });
        if let Some((serial, _)) = met {
            return Some((*serial, Relation::Descendant));
        }
        self.infer_owner(stat.starttime, newborns).map(|serial| (serial, Relation::Inferred))
    }

    /// The only process that can have started an orphan at `starttime`: no other process that
    /// existed then has ended since, and no other one exists now.
    fn infer_owner(&self, starttime: u64, newborns: &[(u64, i32)]) -> Option<u64> {
        if self.orphans.last_end >= starttime {
            return None;
        }
        // A newborn may also have started after the orphan.
        let is_younger =
            |pid: i32| self.procfs.read_stat(pid).is_ok_and(|made| made.starttime > starttime);
        let older = newborns.iter().filter(|(_, pid)| !is_younger(*pid));
        let mut suspects: HashSet<u64> = older.map(|(serial, _)| *serial).collect();
        if suspects.len() > 1 {
            return None;
        }
        for serial in self.children.values() {
            let started = self.records.get(serial).and_then(|record| record.starttime);
            if started.is_none_or(|started| started <= starttime) {
                suspects.insert(*serial);
            }
            if suspects.len() > 1 {
                return None;
            }
        }
        for child in self.orphans.known.values() {
            match child {
                Child::Orphan { starttime: started, owner, .. } if *started <= starttime => {
                    suspects.insert(owner.as_ref()?.0);
                }
                _ => {}
            }
        }
        if suspects.len() == 1 { suspects.into_iter().next() } else { None }
    }
}

#[cfg(test)]
mod tests;
