//! The children of ours that we have not made: orphans, and helpers of this program.
//!
//! An orphan is a descendant of our processes whose parent has ended. This process is the subreaper, so orphans become its children. The
//! kernel gives them to the main thread, whose list of children holds them and little else: the spawning threads' own children are in
//! other lists. The list is read when a process ends (its survivors are in it by then, and reading a list that has not changed is all
//! that an ordinary end costs), before a tree is killed, and, at most once a second, when the kernel reports that some child has ended,
//! for orphans must be reaped.

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

/// The number of no process.
pub(super) const NO_PROCESS: u64 = u64::MAX;

/// How long after a scan the next one is, unless a process ends or is stopped.
pub(super) const SCAN_INTERVAL: Duration = Duration::from_secs(1);
/// The kernel returns at least so many bytes of a list at once, if there are so many.
const PIECE: usize = 2048;
/// A list of more bytes than this is read once in [`SCAN_INTERVAL`] only, and not at every end of a process.
const LONG: usize = 8192;

/// A child that we have not made.
#[derive(Clone, Copy)]
pub(super) enum Child {
    /// A helper of this program, in its own session: others see to it.
    Helper,
    /// An orphan.
    Orphan {
        session: i32,
        starttime: u64,
        /// Whether the log was told that nobody knows where it comes from, or need not be.
        told: bool,
        /// The engine's number of the process that it comes from, and how that is known.
        owner: Option<(u64, Relation)>,
    },
}

/// What is known of orphans, as it is handed over.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(in crate::engine) struct HandoverOrphans {
    known: Vec<HandoverOrphan>,
    /// When one of our processes was last reaped; none where an older program does not say.
    last_end: Option<u64>,
}

#[derive(Clone, Serialize, Deserialize)]
struct HandoverOrphan {
    pid: i32,
    session: i32,
    starttime: u64,
    told: bool,
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

/// Whose an orphan is.
#[derive(Clone, Serialize, Deserialize)]
enum HandoverOwner {
    Process(ProcId),
    /// A process that is deleted, or that nothing more is to be found out about.
    Past,
}

/// What is known of orphans.
pub(super) struct Orphans {
    /// The main thread's children; none where the kernel does not tell.
    pub(super) list: Option<File>,
    /// What the list said last, and a buffer for what it says next.
    last: Vec<u8>,
    next: Vec<u8>,
    pub(super) known: HashMap<i32, Child>,
    /// This process, and its session.
    pub(super) pid: i32,
    pub(super) session: i32,
    /// Tells that some child has ended, where SIGCHLD is blocked.
    pub(super) signals: Option<SignalFd>,
    /// When the list was last read.
    looked: Option<Instant>,
    /// Whether a look was taken since epoll has told who has ended.
    pub(super) seen: bool,
    /// Whether the last look was left out, for the list is long.
    pub(super) behind: bool,
    /// Whether a scan is wanted, and has not begun.
    pub(super) due: bool,
    /// After which time that scan is wanted, until the driver takes note.
    pub(super) request: Option<Duration>,
    /// When, in ticks since boot, one of our processes or an orphan was last reaped: it may have left others.
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

    /// What the next program has to know; `id_of` is the ID of a process by its number here.
    pub(super) fn hand_over(&self, id_of: &dyn Fn(u64) -> Option<ProcId>) -> HandoverOrphans {
        let owner = |serial| id_of(serial).map_or(HandoverOwner::Past, HandoverOwner::Process);
        let known = self.known.iter().filter_map(|(pid, child)| match *child {
            Child::Orphan { session, starttime, told, owner: whose } => Some(HandoverOrphan {
                pid: *pid,
                session,
                starttime,
                told,
                owner: whose.map(|(serial, relation)| (owner(serial), relation.into())),
            }),
            Child::Helper => None,
        });
        HandoverOrphans { known: known.collect(), last_end: Some(self.last_end) }
    }

    /// Goes on from what another program knew; `serial_of` is the number here of the process with an ID.
    pub(super) fn restore(
        &mut self,
        carried: HandoverOrphans,
        serial_of: &dyn Fn(&ProcId) -> Option<u64>,
    ) {
        // Nobody is to be taken for an orphan's only possible origin where others may have ended before.
        self.last_end = carried.last_end.unwrap_or_else(sys::ticks_since_boot);
        for HandoverOrphan { pid, session, starttime, told, owner } in carried.known {
            let owner = owner.map(|(whose, relation)| match whose {
                HandoverOwner::Process(id) => {
                    (serial_of(&id).unwrap_or(NO_PROCESS), relation.into())
                }
                HandoverOwner::Past => (NO_PROCESS, relation.into()),
            });
            self.known.insert(pid, Child::Orphan { session, starttime, told, owner });
        }
    }

    /// Notes that a child was reaped.
    pub(super) fn reaped(&mut self) {
        self.last_end = sys::ticks_since_boot();
    }

    /// A process of ours is known from now on, which may have been met before it had a session of its own.
    pub(super) fn is_ours(&mut self, pid: i32) {
        self.known.remove(&pid);
    }

    /// The children, in order, if they are others than the last time.
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

    /// Whether the list is too long to be read each time.
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

    /// How long it is until the next scan may be, where nothing but the end of some child asks for it.
    pub(super) fn until_next_scan(&self) -> Duration {
        self.looked.map_or(Duration::ZERO, |at| SCAN_INTERVAL.saturating_sub(at.elapsed()))
    }

    /// A scan begins: ends of children from now on are reported again.
    pub(super) fn begin_scan(&mut self) {
        self.due = false;
        if let Some(signals) = &self.signals {
            // It is one signal however many children have ended.
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
            |pid, owner| HandoverOrphan { pid, session: 42, starttime: 601, told: true, owner };
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
