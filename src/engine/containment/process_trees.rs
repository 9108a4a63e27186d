//! Containment by process trees: members are the child, its descendants as `/proc` lists them, and
//! the orphans that are attributed to the process.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use super::group_table::GroupTable;
use super::oom::OomWatch;
use super::orphans::{Child, Orphans, SCAN_INTERVAL};
use super::tree::{Refusal, Root, Tree, is_continued_after};
use super::{Delivery, HandoverContainment, HandoverMembers, LastUsage, Remaining, Target};
use crate::engine::event::Survivors;
use crate::engine::failure::StopFailure;
use crate::engine::sys;
use crate::mem::shrink::Shrink;
use crate::procfs::ProcFs;
use crate::spec::ProcId;

/// Lists the children that are made but not yet reported to the driver: the numbers of their
/// processes, and their pids.
pub(in crate::engine) type Newborns = Box<dyn Fn() -> Vec<(u64, i32)> + Send>;

/// Containment by process trees.
pub(in crate::engine) struct ProcessTrees {
    pub(super) procfs: ProcFs,
    pub(super) records: HashMap<u64, Record>,
    /// The children that are not reaped, by their pids.
    pub(super) children: HashMap<i32, u64>,
    pub(super) newborns: Newborns,
    /// The process that is a part of our own job on the terminal, until its end.
    pub(super) on_terminal: Option<u64>,
    pub(super) orphans: Orphans,
    /// The control groups of processes: their members belong to the trees.
    pub(super) groups: GroupTable,
    oom: OomWatch,
}

/// The record of one process.
#[derive(Default)]
pub(super) struct Record {
    /// Its child.
    pid: Option<i32>,
    /// Whether the child is ours and not reaped, so that its pid is not reused.
    unreaped: bool,
    /// The child's start time, in ticks since boot.
    pub(super) starttime: Option<u64>,
    /// The descendants that were found when the process was stopped, and since, with their start
    /// times.
    pub(super) met: HashMap<i32, u64>,
    /// Whether the driver waits for members that outlive the child.
    awaited: bool,
    /// The members that could not be signaled: pid and signal.
    refused: HashSet<(i32, i32)>,
}

impl Record {
    /// The pid of the child, which has been reaped, while its members are awaited.
    pub(super) fn exited_leader(&self) -> Option<i32> {
        self.pid.filter(|_| !self.unreaped && self.awaited)
    }

    /// Records the members of a tree.
    fn meet(&mut self, tree: Tree) {
        self.met.extend(tree.into_members());
    }

    /// Records the members that refused a signal; returns the new ones.
    fn refuse(&mut self, signum: i32, refusals: Vec<Refusal>) -> Vec<StopFailure> {
        let new = refusals.into_iter().filter(|refusal| self.refused.insert((refusal.pid, signum)));
        new.map(|Refusal { pid, comm, errno }| StopFailure { pid, comm, signum, errno }).collect()
    }
}

impl ProcessTrees {
    /// No processes yet. `newborns` lists the children that are not yet reported to the driver.
    pub(super) fn new(procfs: ProcFs, newborns: Newborns, groups: GroupTable) -> ProcessTrees {
        ProcessTrees {
            groups,
            procfs,
            records: HashMap::new(),
            children: HashMap::new(),
            newborns,
            on_terminal: None,
            orphans: Orphans::new(),
            oom: OomWatch::new("/proc"),
        }
    }

    /// The roots of a process's tree besides its child: its orphans, the members of its control
    /// group, and the descendants that were found before, wherever they are now.
    fn roots_of(&self, serial: u64) -> Vec<Root> {
        let met = self.records.get(&serial).into_iter().flat_map(|record| &record.met);
        let met = met.map(|(pid, starttime)| Root { pid: *pid, starttime: Some(*starttime) });
        let members = self.groups.roots(&self.procfs, serial);
        self.orphans.of(serial).map(Root::ours).chain(members).chain(met).collect()
    }

    /// Records the members of a tree, and those that refused a signal; returns the new refusals.
    fn note(
        &mut self,
        serial: u64,
        tree: Tree,
        signum: i32,
        refusals: Vec<Refusal>,
    ) -> Vec<StopFailure> {
        let record = self.records.entry(serial).or_default();
        record.meet(tree);
        record.refuse(signum, refusals)
    }

    /// The pid of a process's child.
    pub(super) fn pid(&self, serial: u64) -> Option<i32> {
        self.records.get(&serial)?.pid
    }

    /// Requests a scan after this time, unless one is due already.
    fn scan_in(&mut self, wait: Duration) {
        if !std::mem::replace(&mut self.orphans.due, true) {
            self.orphans.request = Some(wait);
        }
    }

    /// Reads the list of our children, and classifies those that are new.
    fn meet_orphans(&mut self) {
        self.orphans.behind = false;
        let Some(mut children) = self.orphans.changed() else { return };
        self.orphans.known.retain(|pid, _| children.binary_search(pid).is_ok());
        children.retain(|pid| {
            !self.children.contains_key(pid) && !self.orphans.known.contains_key(pid)
        });
        if children.is_empty() {
            return;
        }
        let newborns = (self.newborns)();
        children.retain(|pid| !newborns.iter().any(|(_, made)| made == pid));
        let mut come = false;
        for pid in children {
            let Some(child) = self.classify(pid) else { continue };
            come |= matches!(child, Child::Orphan { .. });
            self.orphans.known.insert(pid, child);
        }
        if come {
            // Some may have ended already, and unless SIGCHLD is blocked no event reports that.
            self.scan_in(SCAN_INTERVAL);
        }
    }
}

/// Whether the process is gone: another process may have reaped an adopted child, whose pid may
/// then be reused.
fn is_gone(target: Target) -> bool {
    let probe = sys::pidfd_send_signal(target.pidfd, 0);
    probe.is_err_and(|error| error.raw_os_error() == Some(libc::ESRCH))
}

/// See [`Containment`](super::Containment) for each operation.
impl ProcessTrees {
    pub(super) fn child_made(&mut self, serial: u64, pid: i32) {
        self.children.insert(pid, serial);
        self.orphans.is_ours(pid);
        self.oom.born(Instant::now());
        let record = self.records.entry(serial).or_default();
        (record.pid, record.unreaped) = (Some(pid), true);
    }

    pub(super) fn child_seen(&mut self, serial: u64, starttime: Option<u64>) {
        self.records.entry(serial).or_default().starttime = starttime;
    }

    pub(super) fn child_adopted(&mut self, serial: u64, pid: i32, starttime: Option<u64>) {
        let record = self.records.entry(serial).or_default();
        (record.pid, record.starttime) = (Some(pid), starttime);
    }

    pub(super) fn shares_our_terminal(&mut self, serial: u64) {
        self.on_terminal = Some(serial);
    }

    pub(super) fn child_reaped(&mut self, serial: u64) {
        let Some(record) = self.records.get_mut(&serial) else { return };
        record.unreaped = false;
        if let Some(pid) = record.pid {
            self.children.remove(&pid);
            self.children.shrink_if_sparse();
        }
        self.orphans.reaped();
    }

    pub(super) fn ended(&mut self, serial: u64) {
        if self.on_terminal == Some(serial) {
            self.on_terminal = None;
        }
        let Some(record) = self.records.get_mut(&serial) else { return };
        record.awaited = false;
        // Orphans among the recorded descendants are attributed to it even after its end.
        if record.met.is_empty() {
            self.forget(serial);
        }
    }

    pub(super) fn forget(&mut self, serial: u64) {
        self.records.remove(&serial);
        self.records.shrink_if_sparse();
    }

    pub(super) fn signal_all(&mut self, serial: u64, target: Target, signum: i32) -> Delivery {
        let result = sys::pidfd_send_signal(target.pidfd, 0);
        if result.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::ESRCH)) {
            return Delivery { result, failures: Vec::new() };
        }
        self.notice_left_now();
        let mut roots = self.roots_of(serial);
        roots.push(Root::ours(target.pid));
        let tree = Tree::survey(&self.procfs, roots.iter().copied());
        let (tree, refusals) = if tree.is_within(target.pid) {
            // A group signal also reaches processes that were forked meanwhile.
            let sent = sys::signal_group(target.pid, signum);
            if sent.is_ok() && is_continued_after(signum) {
                let _ = sys::signal_group(target.pid, libc::SIGCONT);
            }
            let refusals = tree.out_of_reach(&self.procfs);
            (tree, refusals)
        } else {
            let tree = Tree::freeze(&self.procfs, roots);
            let refusals = tree.signal(&self.procfs, signum);
            (tree, refusals)
        };
        Delivery { result, failures: self.note(serial, tree, signum, refusals) }
    }

    pub(super) fn signal_remaining(&mut self, serial: u64, signum: i32) -> Vec<StopFailure> {
        let rest = Tree::freeze(&self.procfs, self.roots_of(serial));
        let refusals = rest.signal(&self.procfs, signum);
        self.note(serial, rest, signum, refusals)
    }

    pub(super) fn kill_all(&mut self, serial: u64, target: Target) -> Delivery {
        self.notice_left_now();
        let lives = !is_gone(target);
        let mut roots = self.roots_of(serial);
        roots.extend(lives.then_some(Root::ours(target.pid)));
        let tree = Tree::freeze(&self.procfs, roots);
        let (_, refusals) = tree.kill(&self.procfs);
        let result = sys::pidfd_send_signal(target.pidfd, libc::SIGKILL);
        if lives {
            // For processes that have joined the group meanwhile. An empty group is no error.
            let _ = sys::signal_group(target.pid, libc::SIGKILL);
        }
        Delivery { result, failures: self.note(serial, tree, libc::SIGKILL, refusals) }
    }

    pub(super) fn remaining(&mut self, serial: u64, kill: bool) -> Remaining {
        let roots = self.roots_of(serial);
        let record = self.records.entry(serial).or_default();
        let (leader, unreaped) = (record.pid, record.unreaped);
        let tree = match kill {
            true => Tree::freeze(&self.procfs, roots),
            false => Tree::survey(&self.procfs, roots),
        };
        let tree = leader.into_iter().fold(tree, Tree::without);
        let (awaited, refusals) = if kill {
            let (awaited, refusals) = tree.kill(&self.procfs);
            // Members without a known descent. An unreaped child, or a stopped member, keeps the
            // number of the group from being reused.
            if let Some(pgrp) = leader.filter(|pgrp| unreaped || tree.holds(*pgrp)) {
                let _ = sys::signal_group(pgrp, libc::SIGKILL);
            }
            (awaited, refusals)
        } else {
            (tree.held(&self.procfs), Vec::new())
        };
        record.awaited = !awaited.is_empty();
        record.meet(tree);
        Remaining { awaited, failures: record.refuse(libc::SIGKILL, refusals) }
    }

    pub(super) fn survivors(&self, serial: u64) -> Survivors {
        self.find_survivors(serial)
    }

    pub(super) fn ran_out_of_memory(&mut self, _serial: u64) -> bool {
        self.oom.has_killed()
    }

    pub(super) fn last_usage(&self, serial: u64) -> LastUsage {
        let pid = self.records.get(&serial).and_then(|record| record.pid);
        LastUsage {
            stat: pid.and_then(|pid| self.procfs.read_stat(pid).ok()),
            io: pid.and_then(|pid| self.procfs.read_io(pid).ok().flatten()),
        }
    }

    pub(super) fn starttime(&self, serial: u64) -> Option<u64> {
        self.records.get(&serial)?.starttime
    }

    pub(super) fn child_events(&self) -> Option<BorrowedFd<'_>> {
        self.orphans.signals.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn child_ended(&mut self) {
        // A shell waits for the stop of a process of our job.
        let now = self.on_terminal.is_some();
        let wait = if now { Duration::ZERO } else { self.orphans.until_next_scan() };
        self.scan_in(wait);
    }

    pub(super) fn take_scan_request(&mut self) -> Option<Duration> {
        self.orphans.request.take()
    }

    pub(super) fn scan(&mut self) {
        self.orphans.begin_scan();
        self.warn_unattributed();
        self.meet_orphans();
        self.orphans.reap_ended();
    }

    pub(super) fn begin_round(&mut self) {
        self.orphans.seen = false;
    }

    pub(super) fn notice_left(&mut self) {
        if !self.orphans.seen {
            self.notice_left_now();
        }
    }

    pub(super) fn notice_left_now(&mut self) {
        self.orphans.seen = true;
        self.orphans.behind = self.orphans.is_long();
        if !self.orphans.behind {
            self.meet_orphans();
        }
    }

    pub(super) fn hand_over(&self, id_of: &dyn Fn(u64) -> Option<ProcId>) -> HandoverContainment {
        HandoverContainment { orphans: self.orphans.hand_over(id_of), kills: self.oom.kills() }
    }

    pub(super) fn hand_over_members(&self, serial: u64) -> HandoverMembers {
        let Some(record) = self.records.get(&serial) else { return HandoverMembers::default() };
        let Record { pid, starttime, ref met, .. } = *record;
        let group = self.groups.path(serial).map(Path::to_path_buf);
        HandoverMembers { pid, starttime, met: met.clone(), group }
    }

    pub(super) fn restore_members(&mut self, serial: u64, members: HandoverMembers) {
        let record = self.records.entry(serial).or_default();
        let HandoverMembers { pid, starttime, met, group } = members;
        if let Some(path) = group {
            self.groups.insert(serial, path);
        }
        (record.pid, record.starttime, record.met) = (pid, starttime, met);
    }

    pub(super) fn restore(
        &mut self,
        handover: HandoverContainment,
        serial_of: &dyn Fn(&ProcId) -> Option<u64>,
    ) {
        self.oom.go_on_from(handover.kills);
        self.orphans.restore(handover.orphans, serial_of);
    }
}
