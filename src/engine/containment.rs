//! Containment: the processes that belong to a process, and the operations on all of them.
//!
//! The driver asks these questions through one seam, [`Containment`], and names each process by its
//! own number of it (the *serial*). How membership is known is the business of an implementation:
//! [`process_trees`] walks `/proc` from the child down, and attributes orphans by session, group and
//! history. [`ControlGroups`] uses the kernel's list of members if the process has a control group,
//! and the process tree for what has left the group, and for processes without a group.
//!
//! An implementation owns its tables. It reads `/proc` and sends signals; it waits for nothing,
//! sets no alarm and reports no event: it returns what the driver is to wait for or to report.
//!
//! | module | owns |
//! |---|---|
//! | [`control_groups`] | the implementation by a control group for each process |
//! | [`group_table`] | the directories of the groups |
//! | [`process_trees`] | the implementation by process trees: a record for each process, its children |
//! | [`tree`] | one walk: find, stop, signal, kill a process with its descendants |
//! | [`orphans`] | the children of ours that we have not made: the kernel's list of them, and the data of each |
//! | [`attribution`] | the process that an orphan comes from |
//! | [`survivors`] | the descendants that outlive a process |
//! | [`oom`] | the kernel's count of OOM kills |

mod attribution;
mod control_groups;
mod group_table;
mod oom;
mod orphans;
mod process_trees;
mod survivors;
mod tree;

use std::collections::HashMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) use control_groups::ControlGroups;
pub(super) use oom::HandoverOomKills;
pub(super) use orphans::HandoverOrphans;

use crate::cgroup::Usage;
use crate::engine::event::Survivors;
use crate::engine::failure::StopFailure;
use crate::engine::group_order::GroupOrder;
use crate::procfs::{RawIo, RawStat};
use crate::spec::ProcId;

/// A child that can be signaled: it is not reaped, or its pidfd refers to a process that is gone.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) pid: i32,
    pub(super) pidfd: RawFd,
}

/// The outcome of a signal to all members of a process.
pub(super) struct Delivery {
    /// The outcome for the child itself.
    pub(super) result: io::Result<()>,
    /// The members that could not be signaled, those left out that were returned before.
    pub(super) failures: Vec<StopFailure>,
}

/// The members that are left of a process whose child has ended, or is ending.
pub(super) struct Remaining {
    /// Readable once a member has ended; none if no member is left. More members may be left than
    /// there are descriptors.
    pub(super) awaited: Vec<OwnedFd>,
    /// The members that could not be killed, those left out that were returned before.
    pub(super) failures: Vec<StopFailure>,
}

/// The resource usage that only an unreaped process shows.
#[derive(Default)]
pub(super) struct LastUsage {
    /// Its last `/proc/PID/stat`.
    pub(super) stat: Option<RawStat>,
    /// Its last `/proc/PID/io`; none if the kernel does not show it.
    pub(super) io: Option<RawIo>,
}

/// The state of all processes' members for the next program.
#[derive(Clone, Default)]
pub(super) struct HandoverContainment {
    pub(super) orphans: HandoverOrphans,
    pub(super) kills: Option<HandoverOomKills>,
}

/// The state of one process's members for the next program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HandoverMembers {
    /// The pid of its child; `None` without a child.
    pub(super) pid: Option<i32>,
    /// When its child started, in ticks since boot.
    pub(super) starttime: Option<u64>,
    /// The descendants that were found when it was stopped, and since, with their start times.
    pub(super) met: HashMap<i32, u64>,
    /// The directory of its control group.
    pub(super) group: Option<PathBuf>,
}

/// The membership of processes, and the operations on members.
pub(super) trait Containment: Send {
    // The life of a process.

    /// A child was made for a process. It is ours until it is [reaped](Self::child_reaped).
    fn child_made(&mut self, serial: u64, pid: i32);

    /// The child was seen in `/proc`: when it started, in ticks since boot.
    fn child_seen(&mut self, serial: u64, starttime: Option<u64>);

    /// A child of an earlier engine whose program is gone; another process may reap it.
    fn child_adopted(&mut self, serial: u64, pid: i32, starttime: Option<u64>);

    /// The process is a part of our own job on the terminal: its members are in our session.
    fn shares_our_terminal(&mut self, serial: u64);

    /// The child was reaped, or cannot be: its pid may be reused from now on.
    fn child_reaped(&mut self, serial: u64);

    /// The end of the process is reported.
    fn ended(&mut self, serial: u64);

    /// The process is deleted.
    fn forget(&mut self, serial: u64);

    // Control groups.

    /// The control group that a new process is to get; `None` if it gets none.
    fn order_group(&mut self, serial: u64, id: &ProcId) -> Option<GroupOrder>;

    /// The process has this group, of an earlier engine.
    fn adopt_group(&mut self, serial: u64, path: PathBuf);

    /// The directory of its group.
    fn group(&self, serial: u64) -> Option<&Path>;

    /// Whether its group has members. A change is reported by a change of the file
    /// `cgroup.events` in the group's directory.
    fn group_is_populated(&self, serial: u64) -> bool;

    /// Whether the child is outside of its group. It is not reaped.
    fn has_left_group(&self, serial: u64, pid: i32) -> bool;

    /// The figures of its group.
    fn group_usage(&self, serial: u64) -> Option<Usage>;

    /// Removes its group, if that has no members.
    fn remove_group(&mut self, serial: u64);

    // Operations on all members.

    /// Sends a signal to every member at one moment: a process that a member starts in response
    /// does not get it.
    fn signal_all(&mut self, serial: u64, target: Target, signum: i32) -> Delivery;

    /// Sends a signal to every member that is left of a process whose child has ended.
    fn signal_remaining(&mut self, serial: u64, signum: i32) -> Vec<StopFailure>;

    /// Kills every member.
    fn kill_all(&mut self, serial: u64, target: Target) -> Delivery;

    /// The members that are left besides the child, which has ended; kills them first if `kill`.
    fn remaining(&mut self, serial: u64, kill: bool) -> Remaining;

    // Queries of the members.

    /// The members that outlive a process whose program was executed.
    fn survivors(&self, serial: u64) -> Survivors;

    /// Whether the kernel's OOM killer has killed a child that died of a SIGKILL without a sender
    /// of ours. Each such kill is attributed once.
    fn ran_out_of_memory(&mut self, serial: u64) -> bool;

    /// The resource usage of a process whose child has ended and is not reaped.
    fn last_usage(&self, serial: u64) -> LastUsage;

    /// The recorded start time of the child.
    fn starttime(&self, serial: u64) -> Option<u64>;

    // Notifications of the implementation.

    /// Readable when some child of ours has ended: [`child_ended`](Self::child_ended) is to be
    /// called.
    fn child_events(&self) -> Option<BorrowedFd<'_>>;

    /// Some child of ours has ended, which may be one that we have not made.
    fn child_ended(&mut self);

    /// How long after now [`scan`](Self::scan) is to be called; none if no new call is wanted.
    fn take_scan_request(&mut self) -> Option<Duration>;

    /// Looks for members that have come or ended, and reaps those that are children of ours.
    fn scan(&mut self);

    /// A round of the driver begins: epoll has reported which children have ended.
    fn begin_round(&mut self);

    /// Notices orphans of children that ended before this round, if that is cheap.
    fn notice_left(&mut self);

    /// Notices orphans of children that have ended so far, if that is cheap.
    fn notice_left_now(&mut self);

    // Upgrades.

    /// The state of all processes for the next program; `id_of` returns the ID of a process.
    fn hand_over(&self, id_of: &dyn Fn(u64) -> Option<ProcId>) -> HandoverContainment;

    /// The state of one process for the next program.
    fn hand_over_members(&self, serial: u64) -> HandoverMembers;

    /// Restores the state of one process.
    fn restore_members(&mut self, serial: u64, members: HandoverMembers);

    /// Restores the state of all processes, after the members of each; `serial_of` returns the
    /// number of a process.
    fn restore(
        &mut self,
        handover: HandoverContainment,
        serial_of: &dyn Fn(&ProcId) -> Option<u64>,
    );
}
