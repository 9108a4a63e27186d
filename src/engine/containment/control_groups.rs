//! Containment by a control group for each process: the kernel keeps the list of members, so a
//! daemon that has left the process tree, its session and its user is still a member.
//!
//! A privileged member can leave its group (`systemd-run --scope`, some configurations of `su`), and
//! not every host lets this program create groups. So the process tree remains: it finds members
//! that have left, and all members of a process without a group.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::group_table::GroupTable;
use super::process_trees::{Newborns, ProcessTrees};
use super::survivors::LISTED;
use super::{
    Containment, Delivery, HandoverContainment, HandoverMembers, LastUsage, Remaining, Target,
};
use crate::cgroup::{Group, Usage};
use crate::engine::event::{Relation, Survivor, Survivors};
use crate::engine::failure::StopFailure;
use crate::engine::group_order::GroupOrder;
use crate::procfs::ProcFs;
use crate::spec::ProcId;

/// Containment by control groups, as far as there are any, and by process trees.
pub(in crate::engine) struct ControlGroups {
    trees: ProcessTrees,
}

impl ControlGroups {
    /// No processes yet. `parent` is the group below which processes get theirs; `newborns` lists
    /// the children that are not yet reported to the driver.
    pub(in crate::engine) fn new(
        procfs: ProcFs,
        newborns: Newborns,
        parent: Option<Arc<Group>>,
    ) -> ControlGroups {
        ControlGroups { trees: ProcessTrees::new(procfs, newborns, GroupTable::new(parent)) }
    }

    /// Kills all members of a group, also those that we may not signal. Returns the failures of
    /// other processes.
    fn kill_group(&self, serial: u64, failures: Vec<StopFailure>) -> Vec<StopFailure> {
        let Some(group) = self.trees.groups.open(serial) else { return failures };
        let members = group.all_members().unwrap_or_default();
        match group.kill() {
            Ok(()) => failures.into_iter().filter(|one| !members.contains(&one.pid)).collect(),
            Err(error) => {
                tracing::warn!(group = %group.path().display(), %error, "cannot kill a control group");
                failures
            }
        }
    }

    /// The members of a group, and the survivors that have left it.
    fn members(&self, serial: u64, group: &Group) -> Survivors {
        let beyond = self.trees.survivors(serial);
        let Ok(pids) = group.all_members() else { return beyond };
        let leader = self.trees.pid(serial);
        let members = pids.iter().filter_map(|pid| {
            let stat = self.trees.procfs.read_stat(*pid).ok()?;
            let relation = match leader {
                Some(leader) if stat.pgrp == leader => Relation::Group,
                Some(leader) if stat.session == leader => Relation::Session,
                _ => Relation::Descendant,
            };
            Some(Survivor { pid: *pid, comm: stat.comm, session: stat.session, relation })
        });
        let left = beyond
            .listed
            .into_iter()
            .filter(|one| one.relation != Relation::Inferred && !pids.contains(&one.pid));
        let mut listed: Vec<Survivor> = members.chain(left).collect();
        listed.sort_by_key(|survivor| survivor.pid);
        let more = listed.len().saturating_sub(LISTED);
        listed.truncate(LISTED);
        Survivors { listed, more: u32::try_from(more).unwrap_or(u32::MAX), unknown: false }
    }
}

impl Containment for ControlGroups {
    fn order_group(&mut self, serial: u64, id: &ProcId) -> Option<GroupOrder> {
        self.trees.groups.order(serial, id)
    }

    fn adopt_group(&mut self, serial: u64, path: PathBuf) {
        self.trees.groups.insert(serial, path);
    }

    fn group(&self, serial: u64) -> Option<&Path> {
        self.trees.groups.path(serial)
    }

    fn group_is_populated(&self, serial: u64) -> bool {
        let group = self.trees.groups.open(serial);
        group.is_some_and(|group| group.is_populated().unwrap_or(false))
    }

    fn has_left_group(&self, serial: u64, pid: i32) -> bool {
        self.trees.groups.has_left(&self.trees.procfs, serial, pid)
    }

    fn group_usage(&self, serial: u64) -> Option<Usage> {
        self.trees.groups.open(serial).map(|group| Usage::read(&group))
    }

    fn remove_group(&mut self, serial: u64) {
        let path = self.group(serial).map(Path::to_path_buf);
        if let (Err(error), Some(path)) = (self.trees.groups.remove(serial), path) {
            tracing::debug!(group = %path.display(), %error, "cannot remove a control group");
        }
    }

    fn kill_all(&mut self, serial: u64, target: Target) -> Delivery {
        // First the tree: descendants outside of the group are found from their parents.
        let Delivery { result, failures } = self.trees.kill_all(serial, target);
        Delivery { result, failures: self.kill_group(serial, failures) }
    }

    fn remaining(&mut self, serial: u64, kill: bool) -> Remaining {
        let Remaining { awaited, failures } = self.trees.remaining(serial, kill);
        let failures = if kill { self.kill_group(serial, failures) } else { failures };
        Remaining { awaited, failures }
    }

    fn survivors(&self, serial: u64) -> Survivors {
        match self.trees.groups.open(serial) {
            Some(group) => self.members(serial, &group),
            None => self.trees.survivors(serial),
        }
    }

    // The process tree alone.

    fn child_made(&mut self, serial: u64, pid: i32) {
        self.trees.child_made(serial, pid);
    }

    fn child_seen(&mut self, serial: u64, starttime: Option<u64>) {
        self.trees.child_seen(serial, starttime);
    }

    fn child_adopted(&mut self, serial: u64, pid: i32, starttime: Option<u64>) {
        self.trees.child_adopted(serial, pid, starttime);
    }

    fn shares_our_terminal(&mut self, serial: u64) {
        self.trees.shares_our_terminal(serial);
    }

    fn child_reaped(&mut self, serial: u64) {
        self.trees.child_reaped(serial);
    }

    fn ended(&mut self, serial: u64) {
        self.trees.ended(serial);
    }

    fn forget(&mut self, serial: u64) {
        self.trees.forget(serial);
    }

    fn signal_all(&mut self, serial: u64, target: Target, signum: i32) -> Delivery {
        self.trees.signal_all(serial, target, signum)
    }

    fn signal_remaining(&mut self, serial: u64, signum: i32) -> Vec<StopFailure> {
        self.trees.signal_remaining(serial, signum)
    }

    fn ran_out_of_memory(&mut self, serial: u64) -> bool {
        self.trees.ran_out_of_memory(serial)
    }

    fn last_usage(&self, serial: u64) -> LastUsage {
        self.trees.last_usage(serial)
    }

    fn starttime(&self, serial: u64) -> Option<u64> {
        self.trees.starttime(serial)
    }

    fn child_events(&self) -> Option<BorrowedFd<'_>> {
        self.trees.child_events()
    }

    fn child_ended(&mut self) {
        self.trees.child_ended();
    }

    fn take_scan_request(&mut self) -> Option<Duration> {
        self.trees.take_scan_request()
    }

    fn scan(&mut self) {
        self.trees.scan();
    }

    fn begin_round(&mut self) {
        self.trees.begin_round();
    }

    fn notice_left(&mut self) {
        self.trees.notice_left();
    }

    fn notice_left_now(&mut self) {
        self.trees.notice_left_now();
    }

    fn hand_over(&self, id_of: &dyn Fn(u64) -> Option<ProcId>) -> HandoverContainment {
        self.trees.hand_over(id_of)
    }

    fn hand_over_members(&self, serial: u64) -> HandoverMembers {
        self.trees.hand_over_members(serial)
    }

    fn restore_members(&mut self, serial: u64, members: HandoverMembers) {
        self.trees.restore_members(serial, members);
    }

    fn restore(
        &mut self,
        handover: HandoverContainment,
        serial_of: &dyn Fn(&ProcId) -> Option<u64>,
    ) {
        self.trees.restore(handover, serial_of);
    }
}
