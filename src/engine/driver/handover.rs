//! The driver's part in an upgrade: what it holds, in a form from which another program in this same process can go on.
//!
//! The processes remain our children, for exec keeps the pid. Pidfds and the reading ends of pipes cross as descriptors. A process may end at
//! any moment between: it stays a zombie until the next engine reaps it. That engine knows all its processes before it looks at any child, for
//! it takes every child that it does not know for an orphan, and reaps it.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc;

use serde::{Deserialize, Serialize};

use super::filters::HandoverFilter;
use super::{ChildExit, Driver, LiveChild, OpenCapture, Pipe, Process, Source, filters};
use crate::clock::TimePoint;
use crate::engine::capture::Truncation;
use crate::engine::capture::{CaptureWriter, Captures, HandoverFile, Store};
use crate::engine::containment::{
    HandoverContainment, HandoverMembers, HandoverOomKills, HandoverOrphans,
};
use crate::engine::event::Resolved;
use crate::engine::failure::StartFailure;
use crate::engine::spawn::Child;
use crate::engine::state::{Input, State};
use crate::engine::stop::{StopPolicy, StopState};
use crate::engine::{permitted, sys};
use crate::mem::text_pages::Floor;
use crate::spec::{FdName, ProcId};

/// All that an engine hands over.
#[derive(Default, Serialize, Deserialize)]
pub struct Handover {
    /// The processes that have not ended, or of which a survivor is still read.
    pub processes: Vec<HandoverProcess>,
    /// The rest.
    pub shared: HandoverShared,
}

/// What an engine hands over that belongs to no single process. An older program hands over nothing of it.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct HandoverShared {
    orphans: HandoverOrphans,
    /// The filters of deleted processes.
    filters: Vec<HandoverFilter>,
    kills: Option<HandoverOomKills>,
    /// The files that specs have named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    files: Vec<HandoverFile>,
}

impl Handover {
    /// The descriptors that must stay open.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let filters = self.shared.filters.iter().filter_map(HandoverFilter::descriptor);
        let files = self.shared.files.iter().flat_map(HandoverFile::descriptors);
        self.processes.iter().flat_map(HandoverProcess::descriptors).chain(filters).chain(files)
    }
}

/// One process as it is handed over.
#[derive(Clone, Serialize, Deserialize)]
pub struct HandoverProcess {
    /// Its ID.
    pub id: ProcId,
    start: TimePoint,
    captures: Captures,
    told: bool,
    failures: Vec<StartFailure>,
    cut_short: Vec<(FdName, Truncation)>,
    open: Vec<HandoverCapture>,
    phase: HandoverPhase,
    #[serde(default)]
    killed: bool,
    #[serde(default)]
    terms: StopPolicy,
    #[serde(default)]
    stop: StopState,
    #[serde(default)]
    starttime: Option<u64>,
    #[serde(default)]
    resolved: Resolved,
    /// Who belongs to its tree, where it is being stopped.
    #[serde(default, skip_serializing_if = "HashMap::is_empty")]
    tree: HashMap<i32, u64>,
    /// Until when its captures may delay its end, where that has begun to count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    drains: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    maxrss_floor: Option<i64>,
}

/// A capture that has not reached its end.
#[derive(Clone, Serialize, Deserialize)]
struct HandoverCapture {
    /// The fd's index in the spec.
    index: usize,
    /// The reading end of its pipe, if it has one.
    pipe: Option<RawFd>,
    /// The filter that reads it, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filter: Option<i32>,
    /// That filter's pidfd. An older program hands over none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pidfd: Option<RawFd>,
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
        of_captures.chain([pidfd]).flatten()
    }
}

/// A request to stand still.
pub(crate) struct Quiesce {
    /// Gets what is handed over, once no process is being made.
    pub(crate) tell: mpsc::Sender<Handover>,
    /// The driver goes on when the other end of this is dropped.
    pub(crate) resume: mpsc::Receiver<()>,
}

impl Driver {
    /// Stands still if that is asked for and nothing is being made; goes on when it is released.
    pub(super) fn quiesce(&mut self) {
        let making = !self.waiting.is_empty()
            || self.processes.values().any(|p| matches!(p.state, State::Launching));
        if making {
            return;
        }
        let Some(Quiesce { tell, resume }) = self.quiesce.take() else { return };
        self.pool.end_helpers();
        if tell.send(self.hand_over()).is_ok() {
            // Ends by an error, always: nothing is ever sent.
            let _ = resume.recv();
        }
    }

    /// Takes a descriptor of a process that the program before us has left open.
    ///
    /// # Errors
    /// The OS error where it is not open.
    pub(super) fn inherit(&mut self, fd: RawFd) -> io::Result<OwnedFd> {
        inherit(fd).inspect(|_| self.budget.taken_over())
    }

    /// All that the next program needs.
    fn hand_over(&self) -> Handover {
        let id_of = |serial| self.processes.get(&serial).map(|process| process.id.clone());
        let HandoverContainment { orphans, kills } = self.containment.hand_over(&id_of);
        let members = |serial| self.containment.hand_over_members(serial);
        Handover {
            processes: self
                .processes
                .iter()
                .filter_map(|(serial, process)| carry(process, members(*serial), &self.filters))
                .collect(),
            shared: HandoverShared {
                orphans,
                filters: self.filters.of_deleted(&self.processes),
                kills,
                files: HandoverFile::of_all(),
            },
        }
    }

    /// Takes over all that was handed over. To be called before anything else: see above.
    pub(super) fn restore(&mut self, handover: Handover) {
        let Handover { processes, shared } = handover;
        for file in shared.files {
            if let Err(error) = file.restore(inherit) {
                tracing::error!(%error, "cannot go on with a captured file");
            }
        }
        self.restore_filters_of_deleted(shared.filters);
        // Before any end can be noticed: whose the orphans are that such a process has left is known from them.
        let mut serials = HashMap::new();
        let mut phases = Vec::new();
        for carried in processes {
            let id = carried.id.clone();
            let (serial, phase) = self.restore_process(carried);
            serials.insert(id, serial);
            phases.push((serial, phase));
        }
        let containment = HandoverContainment { orphans: shared.orphans, kills: shared.kills };
        self.containment.restore(containment, &|id| serials.get(id).copied());
        for (serial, phase) in phases {
            match phase {
                HandoverPhase::Alive { pid, adopted, pidfd } => {
                    self.watch_again(serial, pid, adopted, pidfd);
                }
                HandoverPhase::Draining(exit) => self.resume_draining(serial, exit),
                HandoverPhase::Ended => self.recount(serial),
            }
        }
        self.flush_events();
    }

    /// Enters a process that was handed over, with its captures.
    fn restore_process(&mut self, carried: HandoverProcess) -> (u64, HandoverPhase) {
        let captures = Arc::new(carried.captures);
        let state = match &carried.phase {
            HandoverPhase::Ended => State::Ended,
            HandoverPhase::Alive { .. } | HandoverPhase::Draining(_) => State::Launching,
        };
        let serial = self.insert_process(Process {
            state,
            start: carried.start,
            captures: Arc::clone(&captures),
            cut_short: carried.cut_short,
            failures: carried.failures,
            resolved: carried.resolved,
            told: carried.told,
            killed: carried.killed,
            terms: carried.terms,
            stop: carried.stop,
            drains: carried.drains,
            floor: carried.maxrss_floor.map_or(Floor::Before, Floor::Known),
            ..Process::new(carried.id)
        });
        let pid = match &carried.phase {
            HandoverPhase::Alive { pid, .. } => Some(*pid),
            HandoverPhase::Draining(exit) => exit.pid,
            HandoverPhase::Ended => None,
        };
        let members = HandoverMembers { pid, starttime: carried.starttime, met: carried.tree };
        self.containment.restore_members(serial, members);
        if let HandoverPhase::Alive { pid, adopted: false, .. } = carried.phase {
            self.containment.child_made(serial, pid);
        }
        (0..captures.named_descriptors()).for_each(|_| self.budget.taken_over());
        for open in carried.open {
            let index = open.index;
            let taken = self.restore_capture(serial, open, &captures);
            let Some(process) = self.processes.get_mut(&serial) else { break };
            if let Err(error) = taken {
                tracing::error!(proc_id = %process.id, %error, "cannot go on reading a capture");
                let fd = captures.iter().nth(index).map(|(fd, _)| (fd, Truncation::Error));
                process.cut_short.extend(fd);
            }
        }
        (serial, carried.phase)
    }

    /// Watches a child that lives, or has ended since the program before us stood still.
    fn watch_again(&mut self, serial: u64, pid: i32, adopted: bool, pidfd: Option<RawFd>) {
        let pidfd = match pidfd {
            Some(pidfd) => self.inherit(pidfd),
            // A child of ours keeps its number until we reap it; one that is adopted may have lost it to another.
            None if adopted && !self.is_same(serial, pid) => {
                Err(io::Error::from_raw_os_error(libc::ESRCH))
            }
            None => permitted::handle(pid),
        };
        match pidfd {
            Ok(pidfd) => {
                let token = self.poller.watch(&pidfd, Source::Exit(serial)).ok();
                if token.is_none() {
                    self.look_later(serial);
                }
                let live = LiveChild { child: Child { pid, pidfd }, token, adopted };
                self.apply(serial, Input::Spawned(live));
                self.set_alarms(serial);
            }
            Err(error) => {
                if !adopted {
                    tracing::error!(pid, %error, "cannot watch a process any more");
                    self.containment.child_reaped(serial);
                }
                self.close_what_has_ended(serial);
                let exit = ChildExit { pid: Some(pid), lost: true, ..ChildExit::without_child() };
                self.apply(serial, Input::NotSpawned(Box::new(exit)));
            }
        }
    }

    /// Whether `pid` is still the number of this adopted process, as far as its start time is known.
    fn is_same(&self, serial: u64, pid: i32) -> bool {
        let then = self.containment.starttime(serial);
        let now = self.procfs.read_stat(pid).ok().map(|stat| stat.starttime);
        now.is_some() && (then.is_none() || then == now)
    }

    /// Goes on waiting for the captures of a process, and for its tree where it is being stopped; no longer than the program before us
    /// would have.
    fn resume_draining(&mut self, serial: u64, exit: Box<ChildExit>) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        process.state = State::Draining(exit);
        if process.stop.takes_all() {
            self.containment.notice_left_now();
            self.await_tree(serial);
            self.set_alarms(serial);
            self.cancel_alarms(serial);
        }
        self.close_what_has_ended(serial);
        self.drain(serial);
        self.apply(serial, Input::CapturesClosed);
    }

    fn restore_capture(
        &mut self,
        serial: u64,
        carried: HandoverCapture,
        captures: &Captures,
    ) -> io::Result<()> {
        let HandoverCapture { index, pipe, filter, pidfd } = carried;
        let Some(fd) = pipe else {
            if let Some(process) = self.processes.get_mut(&serial) {
                process.open.push(OpenCapture::File { index });
            }
            return Ok(());
        };
        let reader = self.inherit(fd)?;
        if let Some(pid) = filter {
            return self.restore_filter(serial, index, HandoverFilter::new(pid, pidfd), reader);
        }
        let capture = captures.at(index).ok_or(io::ErrorKind::NotFound)?;
        let store = match capture.writer() {
            CaptureWriter::Engine if !capture.is_frozen() => capture.reopen()?,
            // Its filter has failed; or it is over, its file read-only, and a survivor is not to be stopped by a full pipe.
            CaptureWriter::Engine | CaptureWriter::Filter | CaptureWriter::Process => {
                (Store::Nothing, None)
            }
        };
        let open = self.open_pipe(serial, index, reader, store)?;
        if let Some(process) = self.processes.get_mut(&serial) {
            process.open.push(open);
        }
        Ok(())
    }
}

/// Takes a descriptor that the program before us has left open.
///
/// # Errors
/// The OS error where it is not open.
fn inherit(fd: RawFd) -> io::Result<OwnedFd> {
    if fd <= 2 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: borrowed for this call only; fcntl reports a number that is not open as an error.
    sys::set_cloexec(&unsafe { BorrowedFd::borrow_raw(fd) }, true)?;
    // SAFETY: it is open. The program before us has left it open for this, and no other code here knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What is handed over of a process; nothing of one that has ended and that no survivor's pipe is open of.
fn carry(
    process: &Process,
    members: HandoverMembers,
    filters: &filters::Filters,
) -> Option<HandoverProcess> {
    let phase = match &process.state {
        State::Alive(live) => HandoverPhase::Alive {
            pid: live.child.pid,
            adopted: live.adopted,
            pidfd: Some(live.child.pidfd.as_raw_fd()),
        },
        State::Draining(exit) => HandoverPhase::Draining(exit.clone()),
        State::Ended if !process.open.is_empty() => HandoverPhase::Ended,
        State::Ended | State::Launching => return None,
    };
    let open = process.open.iter().map(|open| {
        let (pipe, filter) = match open {
            OpenCapture::Pipe(Pipe { reader, .. }) => (Some(reader), None),
            OpenCapture::File { .. } => (None, None),
            OpenCapture::Filter { reader, pid, .. } => (Some(reader), Some(*pid)),
        };
        let pidfd = filter.and_then(|pid| filters.pidfd(pid));
        HandoverCapture { index: open.index(), pipe: pipe.map(AsRawFd::as_raw_fd), filter, pidfd }
    });
    Some(HandoverProcess {
        id: process.id.clone(),
        start: process.start,
        captures: (*process.captures).clone(),
        told: process.told,
        failures: process.failures.clone(),
        cut_short: process.cut_short.clone(),
        open: open.collect(),
        phase,
        killed: process.killed,
        terms: process.terms,
        stop: process.stop,
        tree: members.met,
        starttime: members.starttime,
        resolved: process.resolved.clone(),
        drains: process.drains,
        maxrss_floor: Some(process.floor.kib()),
    })
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
            told: true,
            failures: Vec::new(),
            cut_short: vec![(FdName::from_number(1).unwrap(), Truncation::Survivor)],
            open,
            phase,
            killed: false,
            terms: StopPolicy { deadline: Some(6_000_000_000), ..StopPolicy::default() },
            stop: StopState::Asked { cause: StopCause::Timeout, until: Some(7_000_000_000) },
            starttime: Some(600),
            resolved: Resolved::default(),
            tree: [(45, 601)].into(),
            drains: Some(8_000_000_000),
            maxrss_floor: None,
        };
        let exit =
            ChildExit { pid: Some(43), status: 256, stop: start, ..ChildExit::without_child() };
        vec![
            one(
                "alive",
                vec![
                    HandoverCapture { index: 0, pipe: Some(17), filter: None, pidfd: None },
                    HandoverCapture { index: 1, pipe: None, filter: None, pidfd: None },
                    HandoverCapture { index: 2, pipe: Some(18), filter: Some(44), pidfd: Some(19) },
                ],
                HandoverPhase::Alive { pid: 42, adopted: false, pidfd: Some(20) },
            ),
            one("draining", Vec::new(), HandoverPhase::Draining(Box::new(exit))),
            one("ended", Vec::new(), HandoverPhase::Ended),
        ]
    }
}

#[cfg(test)]
impl HandoverShared {
    /// One of each kind, for the fixtures of states.
    pub(crate) fn sample() -> HandoverShared {
        HandoverShared {
            orphans: HandoverOrphans::sample(),
            filters: vec![HandoverFilter::new(47, Some(22))],
            kills: Some(HandoverOomKills::sample()),
            files: Vec::new(),
        }
    }
}
