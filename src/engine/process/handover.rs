//! The state of a process for another program in this same process.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::child::ChildExit;
use super::output::{OpenCapture, Output, Pipe};
use super::{Process, State};
use crate::clock::TimePoint;
use crate::engine::capture::{Captures, Truncation};
use crate::engine::containment::HandoverMembers;
use crate::engine::event::Resolved;
use crate::engine::failure::StartFailure;
use crate::engine::stop::{StopPolicy, StopState};
use crate::mem::text_pages::Floor;
use crate::path_bytes;
use crate::spec::{FdName, ProcId};

/// One process, as an upgrade hands it over.
#[derive(Clone, Serialize, Deserialize)]
pub struct HandoverProcess {
    /// Its ID.
    pub id: ProcId,
    start: TimePoint,
    captures: Captures,
    #[serde(rename = "told")]
    start_reported: bool,
    failures: Vec<StartFailure>,
    #[serde(rename = "cut_short")]
    truncated: Vec<(FdName, Truncation)>,
    open: Vec<HandoverCapture>,
    phase: HandoverPhase,
    #[serde(default, rename = "killed")]
    sent_sigkill: bool,
    #[serde(default, rename = "terms")]
    policy: StopPolicy,
    #[serde(default)]
    stop: StopState,
    #[serde(default)]
    starttime: Option<u64>,
    #[serde(default)]
    resolved: Resolved,
    /// The members of its tree, if it is being stopped.
    #[serde(default, skip_serializing_if = "HashMap::is_empty")]
    tree: HashMap<i32, u64>,
    /// The end of the drain timeout, if that has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    drains: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    maxrss_floor: Option<i64>,
    /// The pidfd of the child that was reaped, if it is kept for a second holder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kept_pidfd: Option<RawFd>,
    /// The directory of its control group.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "path_bytes::optional")]
    group: Option<PathBuf>,
}

/// A capture that has not reached its end.
#[derive(Clone, Serialize, Deserialize)]
pub(in crate::engine) struct HandoverCapture {
    /// The fd's index in the spec.
    pub(in crate::engine) index: usize,
    /// The reading end of its pipe, if it has one.
    pub(in crate::engine) pipe: Option<RawFd>,
    /// The capture writer that reads it, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "filter")]
    pub(in crate::engine) writer: Option<i32>,
    /// That capture writer's pidfd. An older program hands over none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::engine) pidfd: Option<RawFd>,
}

#[derive(Clone, Serialize, Deserialize)]
enum HandoverPhase {
    Alive {
        pid: i32,
        adopted: bool,
        /// An older program hands over none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pidfd: Option<RawFd>,
    },
    Draining(Box<ChildExit>),
    Ended,
}

impl HandoverProcess {
    /// The descriptors that must stay open.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let of_captures = self.open.iter().flat_map(|open| [open.pipe, open.pidfd]);
        let pidfd = match self.phase {
            HandoverPhase::Alive { pidfd, .. } => pidfd,
            HandoverPhase::Draining(_) | HandoverPhase::Ended => None,
        };
        of_captures.chain([pidfd, self.kept_pidfd]).flatten()
    }
}

/// A restored process, with the remaining work.
pub(in crate::engine) struct Restored {
    pub(in crate::engine) process: Process,
    /// The data of its members.
    pub(in crate::engine) members: HandoverMembers,
    /// The captures that are to be reopened.
    pub(in crate::engine) open: Vec<HandoverCapture>,
    /// The child that is to be watched again, if there is one.
    pub(in crate::engine) child: Option<RestoredChild>,
    /// The pidfd of a reaped child.
    pub(in crate::engine) kept_pidfd: Option<RawFd>,
}

/// A child that the previous program has watched.
#[derive(Clone, Copy)]
pub(in crate::engine) struct RestoredChild {
    pub(in crate::engine) pid: i32,
    pub(in crate::engine) adopted: bool,
    pub(in crate::engine) pidfd: Option<RawFd>,
}

impl Process {
    /// Restores a process.
    pub(in crate::engine) fn restored(handed: HandoverProcess) -> Restored {
        let pid = match &handed.phase {
            HandoverPhase::Alive { pid, .. } => Some(*pid),
            HandoverPhase::Draining(exit) => exit.pid,
            HandoverPhase::Ended => None,
        };
        let members = HandoverMembers {
            pid,
            starttime: handed.starttime,
            met: handed.tree,
            group: handed.group,
        };
        let (state, child) = match handed.phase {
            HandoverPhase::Alive { pid, adopted, pidfd } => {
                (State::Launching, Some(RestoredChild { pid, adopted, pidfd }))
            }
            HandoverPhase::Draining(exit) => (State::Draining(exit), None),
            HandoverPhase::Ended => (State::Ended, None),
        };
        let process = Process {
            state,
            start: handed.start,
            output: Output::new(Arc::new(handed.captures)).with_truncated(handed.truncated),
            failures: handed.failures,
            resolved: handed.resolved,
            start_reported: handed.start_reported,
            sent_sigkill: handed.sent_sigkill,
            stop: handed.stop,
            drains: handed.drains,
            floor: handed.maxrss_floor.map_or(Floor::Before, Floor::Known),
            ..Process::new(handed.id, handed.policy, None)
        };
        let kept_pidfd = handed.kept_pidfd;
        Restored { process, members, open: handed.open, child, kept_pidfd }
    }

    /// The state of the process for the next program; `None` if it has ended and no survivor's pipe
    /// is open. `pidfd_of` returns the pidfd of a capture writer.
    pub(in crate::engine) fn hand_over(
        &self,
        members: HandoverMembers,
        pidfd_of: impl Fn(i32) -> Option<RawFd>,
    ) -> Option<HandoverProcess> {
        let phase = match &self.state {
            State::Alive(live) => HandoverPhase::Alive {
                pid: live.child.pid,
                adopted: live.adopted,
                pidfd: Some(live.child.pidfd.as_raw_fd()),
            },
            State::Draining(exit) | State::Sealing(exit) => HandoverPhase::Draining(exit.clone()),
            State::Ended if self.output.open_count() > 0 => HandoverPhase::Ended,
            State::Ended | State::Launching => return None,
        };
        let open = self.output.all_open().iter().map(|open| {
            let (pipe, writer) = match open {
                OpenCapture::Pipe(Pipe { reader, .. }) => (Some(reader), None),
                OpenCapture::File { .. } => (None, None),
                OpenCapture::CaptureWriter { reader, pid, .. } => (Some(reader), Some(*pid)),
            };
            let (index, pipe) = (open.index(), pipe.map(AsRawFd::as_raw_fd));
            HandoverCapture { index, pipe, writer, pidfd: writer.and_then(&pidfd_of) }
        });
        Some(HandoverProcess {
            id: self.id.clone(),
            start: self.start,
            captures: (**self.output.captures()).clone(),
            start_reported: self.start_reported,
            failures: self.failures.clone(),
            truncated: self.output.truncated().to_vec(),
            open: open.collect(),
            phase,
            sent_sigkill: self.sent_sigkill,
            policy: self.policy,
            stop: self.stop,
            tree: members.met,
            starttime: members.starttime,
            resolved: self.resolved.clone(),
            drains: self.drains,
            maxrss_floor: Some(self.floor.kib()),
            kept_pidfd: self.kept_pidfd.as_ref().map(AsRawFd::as_raw_fd),
            group: members.group,
        })
    }
}

#[cfg(test)]
use crate::engine::stop::StopCause;

#[cfg(test)]
impl HandoverProcess {
    /// One of each kind, for the fixtures of states.
    pub(crate) fn samples() -> Vec<HandoverProcess> {
        let start = TimePoint {
            unix_nanos: 1_700_000_000_000_000_000,
            monotonic_nanos: 5_000_000_000,
            boot_nanos: 0,
        };
        let one = |id: &str, open, phase| HandoverProcess {
            id: id.into(),
            start,
            captures: (*Captures::none()).clone(),
            start_reported: true,
            failures: Vec::new(),
            truncated: vec![(FdName::from_number(1).unwrap(), Truncation::HeldOpen)],
            open,
            phase,
            sent_sigkill: false,
            policy: StopPolicy { deadline: Some(6_000_000_000), ..StopPolicy::default() },
            stop: StopState::Signaled { cause: StopCause::Timeout, until: Some(7_000_000_000) },
            starttime: Some(600),
            resolved: Resolved::default(),
            tree: [(45, 601)].into(),
            drains: Some(8_000_000_000),
            maxrss_floor: None,
            kept_pidfd: None,
            group: None,
        };
        let exit =
            ChildExit { pid: Some(43), status: 256, stop: start, ..ChildExit::without_child() };
        vec![
            one(
                "alive",
                vec![
                    HandoverCapture { index: 0, pipe: Some(17), writer: None, pidfd: None },
                    HandoverCapture { index: 1, pipe: None, writer: None, pidfd: None },
                    HandoverCapture { index: 2, pipe: Some(18), writer: Some(44), pidfd: Some(19) },
                ],
                HandoverPhase::Alive { pid: 42, adopted: false, pidfd: Some(20) },
            ),
            one("draining", Vec::new(), HandoverPhase::Draining(Box::new(exit))),
            one("ended", Vec::new(), HandoverPhase::Ended),
        ]
    }
}
