//! The children of this process that the engine has not made: orphans, and helpers of this program.
//!
//! An orphan is a descendant of our processes whose parent has ended. This process is the
//! subreaper, so orphans become its children. The kernel gives them to the main thread, whose list
//! of children holds them and little else: the spawning threads' own children are in other lists.
//! The engine reads the list when a process ends (the process's survivors are in it by then;
//! reading an unchanged list is the only cost of an ordinary end), before it kills a tree, and, to
//! reap orphans, at most once a second after the kernel reports the end of some child.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, getsid};
use serde::{Deserialize, Serialize};

use crate::engine::event::Relation;
use crate::engine::sys;
use crate::procfs::{is_ours, parse_children};
use crate::spec::ProcId;

/// A number that no process has.
pub(super) const NO_PROCESS: u64 = u64::MAX;

/// Time between two scans, unless a process ends or is stopped.
pub(super) const SCAN_INTERVAL: Duration = Duration::from_secs(1);
/// The least size of a partial read of a list: the kernel returns more bytes if it has them.
const PIECE: usize = 2048;
/// A longer list, in bytes, is read only once in [`SCAN_INTERVAL`], not at every end of a process.
const LONG: usize = 8192;

/// A child that the engine has not made.
#[derive(Clone, Copy)]
pub(super) enum Child {
    /// A helper of this program, in its own session: its owner handles it.
    Helper,
    /// An orphan.
    Orphan {
        session: i32,
        starttime: u64,
        /// Whether a log entry about its unknown origin was written, or is not needed.
        logged: bool,
        /// The engine's number of the process that it comes from, and the evidence.
        owner: Option<(u64, Relation)>,
    },
}

/// The orphans, as an upgrade hands them over.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(in crate::engine) struct HandoverOrphans {
    known: Vec<HandoverOrphan>,
    /// The time of the last reap of one of our processes; `None` from an older program.
    last_end: Option<u64>,
}

#[derive(Clone, Serialize, Deserialize)]
struct HandoverOrphan {
    pid: i32,
    session: i32,
    starttime: u64,
    #[serde(rename = "told")]
    logged: bool,
    owner: Option<(HandoverOwner, HandoverRelation)>,
}

/// A [`Relation`] in the frozen format of upgrades.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum HandoverRelation {
    Group,
    Session,
    Descendant,
    Alone,
}

impl From<Relation> for HandoverRelation {
    fn from(relation: Relation) -> HandoverRelation {
        match relation {
            Relation::Group => HandoverRelation::Group,
            Relation::Session => HandoverRelation::Session,
            Relation::Descendant => HandoverRelation::Descendant,
            Relation::Inferred => HandoverRelation::Alone,
        }
    }
}

impl From<HandoverRelation> for Relation {
    fn from(relation: HandoverRelation) -> Relation {
        match relation {
            HandoverRelation::Group => Relation::Group,
            HandoverRelation::Session => Relation::Session,
            HandoverRelation::Descendant => Relation::Descendant,
            HandoverRelation::Alone => Relation::Inferred,
        }
    }
}

/// The owner of an orphan.
#[derive(Clone, Serialize, Deserialize)]
enum HandoverOwner {
    Process(ProcId),
    /// A deleted process, or an origin that can no longer be found out.
    Past,
}

/// The known orphans.
pub(super) struct Orphans {
    /// The main thread's children; `None` if the kernel does not list them.
    pub(super) list: Option<File>,
    /// The last contents of the list, and a buffer for the next ones.
    last: Vec<u8>,
    next: Vec<u8>,
    pub(super) known: HashMap<i32, Child>,
    /// This process, and its session.
    pub(super) pid: i32,
    pub(super) session: i32,
    /// Reports ends of children, if SIGCHLD is blocked.
    pub(super) signals: Option<SignalFd>,
    /// The time of the last read of the list.
    looked: Option<Instant>,
    /// Whether the list was read since epoll reported the last ends.
    pub(super) seen: bool,
    /// Whether the last read was skipped because of the list's length.
    pub(super) behind: bool,
    /// Whether a scan is requested and has not begun.
    pub(super) due: bool,
    /// The delay of the requested scan, until the driver takes it.
    pub(super) request: Option<Duration>,
    /// The time, in ticks since boot, when one of our processes or an orphan was last reaped: it
    /// may have left other orphans.
    pub(super) last_end: u64,
}

impl Orphans {
    pub(super) fn new() -> Self {
        let pid = std::process::id() as i32;
        let set = SigSet::from_iter([Signal::SIGCHLD]);
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Orphans {
            list: match is_ours() {
                true => File::open(format!("/proc/self/task/{pid}/children")).ok(),
                false => None,
            },
            last: Vec::new(),
            next: Vec::new(),
            known: HashMap::new(),
            pid,
            session: getsid(None).map_or(0, Pid::as_raw),
            signals: SignalFd::with_flags(&set, flags).ok(),
            looked: None,
            seen: false,
            behind: false,
            due: false,
            request: None,
            last_end: 0,
        }
    }

    /// The state for the next program; `id_of` returns the ID of a process by its number here.
    pub(super) fn hand_over(&self, id_of: &dyn Fn(u64) -> Option<ProcId>) -> HandoverOrphans {
        let owner = |serial| id_of(serial).map_or(HandoverOwner::Past, HandoverOwner::Process);
        let known = self.known.iter().filter_map(|(pid, child)| match *child {
            Child::Orphan { session, starttime, logged, owner: whose } => Some(HandoverOrphan {
                pid: *pid,
                session,
                starttime,
                logged,
                owner: whose.map(|(serial, relation)| (owner(serial), relation.into())),
            }),
            Child::Helper => None,
        });
        HandoverOrphans { known: known.collect(), last_end: Some(self.last_end) }
    }

    /// Restores the state of an earlier program; `serial_of` returns the number here of the process
    /// with an ID.
    pub(super) fn restore(
        &mut self,
        carried: HandoverOrphans,
        serial_of: &dyn Fn(&ProcId) -> Option<u64>,
    ) {
        // An older program does not report the time: others may have ended until now, so no process
        // may count as the only possible origin of an earlier orphan.
        self.last_end = carried.last_end.unwrap_or_else(sys::ticks_since_boot);
        for HandoverOrphan { pid, session, starttime, logged, owner } in carried.known {
            let owner = owner.map(|(whose, relation)| match whose {
                HandoverOwner::Process(id) => {
                    (serial_of(&id).unwrap_or(NO_PROCESS), relation.into())
                }
                HandoverOwner::Past => (NO_PROCESS, relation.into()),
            });
            self.known.insert(pid, Child::Orphan { session, starttime, logged, owner });
        }
    }

    /// Notes the reap of a child.
    pub(super) fn reaped(&mut self) {
        self.last_end = sys::ticks_since_boot();
    }

    /// Notes that a child belongs to the engine: an earlier scan may have seen it before it had its
    /// own session.
    pub(super) fn is_ours(&mut self, pid: i32) {
        self.known.remove(&pid);
    }

    /// The children, in order, if they have changed since the last call.
    pub(super) fn changed(&mut self) -> Option<Vec<i32>> {
        let list = self.list.as_ref()?;
        self.next.clear();
        loop {
            let at = self.next.len();
            self.next.resize(at + 2 * PIECE, 0);
            let read = self.next.get_mut(at..).map_or(Ok(0), |room| list.read_at(room, at as u64));
            let read = read.unwrap_or(0);
            self.next.truncate(at + read);
            if read < PIECE {
                break;
            }
        }
        self.looked = Some(Instant::now());
        if self.next == self.last {
            return None;
        }
        std::mem::swap(&mut self.next, &mut self.last);
        let mut children: Vec<i32> = parse_children(&self.last).collect();
        children.sort_unstable();
        Some(children)
    }

    /// Whether the list is too long to be read at every end of a process.
    pub(super) fn is_long(&self) -> bool {
        self.last.len() > LONG && self.looked.is_some_and(|at| at.elapsed() < SCAN_INTERVAL)
    }

    /// The orphans that come from a process.
    pub(super) fn of(&self, serial: u64) -> impl Iterator<Item = i32> {
        let from_it = move |child: &Child| match child {
            Child::Orphan { owner: Some((owner, _)), .. } => *owner == serial,
            _ => false,
        };
        self.known.iter().filter(move |(_, child)| from_it(child)).map(|(pid, _)| *pid)
    }

    /// Time until the next scan that only the end of some child asks for.
    pub(super) fn until_next_scan(&self) -> Duration {
        self.looked.map_or(Duration::ZERO, |at| SCAN_INTERVAL.saturating_sub(at.elapsed()))
    }

    /// Begins a scan: ends of children from now on are reported again.
    pub(super) fn begin_scan(&mut self) {
        self.due = false;
        if let Some(signals) = &self.signals {
            // One signal stands for any number of ended children.
            let _ = signals.read_signal();
        }
    }

    /// Reaps the orphans that have ended.
    pub(super) fn reap_ended(&mut self) {
        let orphans = self.known.iter();
        let orphans = orphans.filter(|(_, child)| matches!(child, Child::Orphan { .. }));
        let ended: Vec<i32> = orphans
            .map(|(pid, _)| *pid)
            .filter(|pid| !matches!(sys::reap(*pid), Ok(None)))
            .collect();
        for pid in ended {
            self.known.remove(&pid);
            self.reaped();
        }
    }
}

#[cfg(test)]
impl HandoverOrphans {
    /// One of each kind, for the fixtures of states.
    pub(in crate::engine) fn sample() -> HandoverOrphans {
        let one =
            |pid, owner| HandoverOrphan { pid, session: 42, starttime: 601, logged: true, owner };
        HandoverOrphans {
            known: vec![
                one(48, Some((HandoverOwner::Process("alive".into()), HandoverRelation::Session))),
                one(49, Some((HandoverOwner::Past, HandoverRelation::Alone))),
                one(50, None),
            ],
            last_end: Some(602),
        }
    }
}
