//! Orphans: descendants of our processes whose parent has ended. This process is their subreaper, so they become its children.
//!
//! The kernel gives them to the main thread, whose list of children holds them and little else: the spawning threads' own
//! children are in other lists. It is read when a process ends (its survivors are in it by then, and reading a list that has not changed
//! is all that an ordinary end costs), before a tree is killed, and, a second after the last time at the earliest, when the kernel
//! says that some child has ended, for orphans must be reaped.
//!
//! Where several can have started it, or the list was not read, it is not known who has survived whom, and the result says so.
//!
//! Whose they are: the session tells, or the process group; or they were met as descendants while a tree was killed. One that has
//! gone into a session of its own is put down to the only process that can have started it, where there is but one.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, getsid};
use serde::{Deserialize, Serialize};

use super::{Driver, NO_PROCESS, Process};
use crate::engine::event::{Relation, Survivor, Survivors};
use crate::engine::state::State;
use crate::engine::sys;
use crate::engine::timers::Alarm;
use crate::procfs::{RawStat, is_ours, parse_children};
use crate::spec::ProcId;

/// How long after a look the next one is, where nothing but the end of some child asks for it.
const PAUSE: Duration = Duration::from_secs(1);
/// The kernel gives at least so much of a list at once, if there is so much.
const PIECE: usize = 2048;
/// A list of more bytes than this is read once in [`PAUSE`] only, and not at every end of a process.
const LONG: usize = 8192;
/// How many survivors of one process are told one by one.
const LISTED: usize = 64;
/// How many are counted.
const COUNTED: usize = 4096;

/// A child that we have not made.
#[derive(Clone, Copy)]
enum Child {
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
pub(super) struct HandoverOrphans {
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
    owner: Option<(HandoverOwner, Relation)>,
}

/// Whose an orphan is.
#[derive(Clone, Serialize, Deserialize)]
enum HandoverOwner {
    Process(ProcId),
    /// A process that is deleted, or that nothing more is to be found out about.
    Past,
}

/// What is known of orphans.
pub(super) struct Strays {
    /// The main thread's children; none where the kernel does not tell.
    list: Option<File>,
    /// What the list said last, and a buffer for what it says next.
    last: Vec<u8>,
    next: Vec<u8>,
    known: HashMap<i32, Child>,
    /// This process, and its session.
    pid: i32,
    session: i32,
    /// Tells that some child has ended, where SIGCHLD is blocked.
    signals: Option<SignalFd>,
    /// When the list was last read.
    looked: Option<Instant>,
    /// Whether a look was taken since epoll has told who has ended.
    seen: bool,
    /// Whether the last look was left out, for the list is long.
    behind: bool,
    /// Whether an alarm for the next look is set.
    due: bool,
    /// When, in ticks since boot, one of our processes or an orphan was last reaped: it may have left others.
    last_end: u64,
}

impl Strays {
    pub(super) fn new() -> Self {
        let pid = std::process::id() as i32;
        let set = SigSet::from_iter([Signal::SIGCHLD]);
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Strays {
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
            last_end: 0,
        }
    }

    /// What the next program has to know; `id_of` is the ID of a process by its number here.
    pub(super) fn carry(&self, id_of: impl Fn(u64) -> Option<ProcId>) -> HandoverOrphans {
        let owner = |serial| id_of(serial).map_or(HandoverOwner::Past, HandoverOwner::Process);
        let known = self.known.iter().filter_map(|(pid, child)| match *child {
            Child::Orphan { session, starttime, told, owner: whose } => Some(HandoverOrphan {
                pid: *pid,
                session,
                starttime,
                told,
                owner: whose.map(|(serial, how)| (owner(serial), how)),
            }),
            Child::Helper => None,
        });
        HandoverOrphans { known: known.collect(), last_end: Some(self.last_end) }
    }

    /// Goes on from what another program knew; `serial_of` is the number here of the process with an ID.
    pub(super) fn restore(
        &mut self,
        carried: HandoverOrphans,
        serial_of: impl Fn(&ProcId) -> Option<u64>,
    ) {
        // Nobody is to be taken for an orphan's only possible origin where others may have ended before.
        self.last_end = carried.last_end.unwrap_or_else(sys::ticks_since_boot);
        for HandoverOrphan { pid, session, starttime, told, owner } in carried.known {
            let owner = owner.map(|(whose, how)| match whose {
                HandoverOwner::Process(id) => (serial_of(&id).unwrap_or(NO_PROCESS), how),
                HandoverOwner::Past => (NO_PROCESS, how),
            });
            self.known.insert(pid, Child::Orphan { session, starttime, told, owner });
        }
    }

    /// Readable when some child has ended.
    pub(super) fn signals(&self) -> Option<&SignalFd> {
        self.signals.as_ref()
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
    fn changed(&mut self) -> Option<Vec<i32>> {
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
    fn is_long(&self) -> bool {
        self.last.len() > LONG && self.looked.is_some_and(|at| at.elapsed() < PAUSE)
    }
}

impl Driver {
    /// Some child has ended: orphans among them are to be reaped, soon.
    pub(super) fn child_ended(&mut self) {
        let wait =
            self.strays.looked.map_or(Duration::ZERO, |at| PAUSE.saturating_sub(at.elapsed()));
        // A shell waits for the stop of a process of our job.
        let waits = self.on_terminal().is_some();
        self.look_in(if waits { Duration::ZERO } else { wait });
    }

    fn look_in(&mut self, wait: Duration) {
        if !std::mem::replace(&mut self.strays.due, true) {
            self.timers.set(Instant::now() + wait, Alarm::OrphanScan);
        }
    }

    /// Sees who has come and who has ended; from now on the end of a child is told again.
    pub(super) fn see_to_strays(&mut self) {
        self.strays.due = false;
        if let Some(signals) = &self.strays.signals {
            // It is one signal however many children have ended.
            let _ = signals.read_signal();
            self.poller.rearm(signals, self.children_token);
        }
        self.look_for_suspension();
        self.tell_of_strangers();
        self.meet_strays();
        let orphans = self.strays.known.iter();
        let orphans = orphans.filter(|(_, child)| matches!(child, Child::Orphan { .. }));
        let ended: Vec<i32> = orphans
            .map(|(pid, _)| *pid)
            .filter(|pid| !matches!(sys::reap(*pid), Ok(None)))
            .collect();
        for pid in ended {
            self.strays.known.remove(&pid);
            self.strays.reaped();
        }
    }

    /// Epoll has told who has ended. Whom they have left is there by now, and is seen by one look.
    pub(super) fn begin_round(&mut self) {
        self.strays.seen = false;
    }

    /// Sees whom those have left that ended before this round, if that costs little.
    pub(super) fn look_for_strays_of_this_round(&mut self) {
        if !self.strays.seen {
            self.look_for_strays();
        }
    }

    /// Sees who has come, if that costs little.
    pub(super) fn look_for_strays(&mut self) {
        self.strays.seen = true;
        self.strays.behind = self.strays.is_long();
        if !self.strays.behind {
            self.meet_strays();
        }
    }

    fn meet_strays(&mut self) {
        self.strays.behind = false;
        let Some(mut children) = self.strays.changed() else { return };
        self.strays.known.retain(|pid, _| children.binary_search(pid).is_ok());
        children.retain(|pid| !self.pids.contains_key(pid) && !self.strays.known.contains_key(pid));
        if children.is_empty() {
            return;
        }
        let just_made = self.pool.just_made();
        children.retain(|pid| !just_made.iter().any(|(_, made)| made == pid));
        let mut come = false;
        for pid in children {
            let Some(child) = self.meet(pid) else { continue };
            come |= matches!(child, Child::Orphan { .. });
            self.strays.known.insert(pid, child);
        }
        if come {
            // Some may have ended already, and where SIGCHLD is not blocked nobody tells of that.
            self.look_in(PAUSE);
        }
    }

    /// What a child is that is in the list; none if it is one of ours, or gone.
    fn meet(&self, pid: i32) -> Option<Child> {
        // It waits for us to be reaped, so its number is its own. Few are strangers, and to ask for the session alone costs little.
        let session = getsid(Some(Pid::from_raw(pid))).map(Pid::as_raw);
        if session == Ok(self.strays.session) && self.on_terminal().is_none() {
            return Some(Child::Helper);
        }
        // One of ours has told of itself before it went into its session.
        let just_made = self.pool.just_made();
        if just_made.iter().any(|(_, made)| *made == pid) {
            return None;
        }
        let Ok(stat) = self.procfs.read_stat(pid) else {
            // One that /proc hides from us, as it may do with other users' processes, is there all the same.
            let session = session.ok()?;
            return Some(Child::Orphan { session, starttime: u64::MAX, told: false, owner: None });
        };
        if stat.ppid != self.strays.pid {
            return None;
        }
        // Where it may not be asked for; or where it may be an orphan of a process of our own job.
        if stat.session == self.strays.session && self.is_helper(&stat) {
            return Some(Child::Helper);
        }
        let owner = self.owner_of(&stat, &just_made);
        let RawStat { session, starttime, .. } = stat;
        Some(Child::Orphan { session, starttime, told: owner.is_some(), owner })
    }

    /// Which process is a part of our own job on the terminal, if one is: with that, its descendants are in our session.
    fn on_terminal(&self) -> Option<(u64, &Process)> {
        let serial = self.shares_terminal?;
        let process = self.processes.get(&serial)?;
        (!matches!(process.state, State::Ended)).then_some((serial, process))
    }

    /// Whether a child in our session that the engine has not made is a part of this program, and no orphan of a process of our job. What
    /// was there before that process was left to us by whoever has executed this program.
    fn is_helper(&self, stat: &RawStat) -> bool {
        let Some((_, process)) = self.on_terminal() else { return true };
        if process.tree.get(&stat.pid) == Some(&stat.starttime) {
            return false;
        }
        let older = process.starttime.is_some_and(|started| stat.starttime < started);
        // A zombie has no executable any more.
        let named = || {
            ["exe", "procstar", "procstar-agent", "procstar-filter"].contains(&stat.comm.as_str())
        };
        older
            || match stat.state {
                'Z' | 'X' => named(),
                _ => sys::is_this_program(stat.pid).unwrap_or_else(named),
            }
    }

    /// Says which orphans have been there for a while and belong to no process.
    fn tell_of_strangers(&mut self) {
        for (pid, child) in &mut self.strays.known {
            if let Child::Orphan { owner: None, told, .. } = child
                && !std::mem::replace(told, true)
                && let Ok(RawStat { comm, state: 'A'..='Y', .. }) = self.procfs.read_stat(*pid)
            {
                tracing::warn!(pid, comm, "an orphan whose origin is not known");
            }
        }
    }

    /// Which process an orphan comes from. Those that were `just_made` may have forked and ended before the engine was told of them.
    fn owner_of(&self, stat: &RawStat, just_made: &[(u64, i32)]) -> Option<(u64, Relation)> {
        let leader = just_made.iter().find(|(_, pid)| *pid == stat.session);
        let leader = leader.map(|(serial, _)| serial).or_else(|| self.pids.get(&stat.session));
        if let Some(serial) = leader {
            let group = stat.pgrp == stat.session;
            return Some((*serial, if group { Relation::Group } else { Relation::Session }));
        }
        if let Some((serial, _)) =
            self.on_terminal().filter(|_| stat.session == self.strays.session)
        {
            let group = stat.pgrp == nix::unistd::getpgrp().as_raw();
            return Some((serial, if group { Relation::Group } else { Relation::Session }));
        }
        let mut orphans = self.strays.known.iter();
        let relative = orphans.find_map(|(pid, child)| match child {
            Child::Orphan { session, owner, .. } => {
                owner.filter(|_| *pid == stat.session || *session == stat.session)
            }
            Child::Helper => None,
        });
        if let Some((serial, _)) = relative {
            return Some((serial, Relation::Session));
        }
        let mut stopped = self.processes.iter().filter(|(_, p)| !p.tree.is_empty());
        let met = stopped.find(|(_, p)| {
            p.tree.get(&stat.pid) == Some(&stat.starttime) || p.gone_leader() == Some(stat.session)
        });
        if let Some((serial, _)) = met {
            return Some((*serial, Relation::Descendant));
        }
        self.only_suspect(stat.starttime, just_made).map(|serial| (serial, Relation::Inferred))
    }

    /// The only process that can have started one at `starttime`: nobody else that was there then has ended since, and nobody
    /// else is there.
    fn only_suspect(&self, starttime: u64, just_made: &[(u64, i32)]) -> Option<u64> {
        if self.strays.last_end >= starttime {
            return None;
        }
        // One that the engine has yet to be told of may have started after the orphan, too.
        let is_younger =
            |pid: i32| self.procfs.read_stat(pid).is_ok_and(|made| made.starttime > starttime);
        let older = just_made.iter().filter(|(_, pid)| !is_younger(*pid));
        let mut suspects: HashSet<u64> = older.map(|(serial, _)| *serial).collect();
        if suspects.len() > 1 {
            return None;
        }
        for serial in self.pids.values() {
            let started = self.processes.get(serial).and_then(|process| process.starttime);
            if started.is_none_or(|started| started <= starttime) {
                suspects.insert(*serial);
            }
            if suspects.len() > 1 {
                return None;
            }
        }
        for child in self.strays.known.values() {
            match child {
                Child::Orphan { starttime: started, owner, .. } if *started <= starttime => {
                    suspects.insert(owner.as_ref()?.0);
                }
                _ => {}
            }
        }
        if suspects.len() == 1 { suspects.into_iter().next() } else { None }
    }

    /// The orphans that come from a process.
    pub(super) fn strays_of(&self, serial: u64) -> Vec<i32> {
        let ours = |child: &Child| matches!(child, Child::Orphan { owner: Some((owner, _)), .. } if *owner == serial);
        self.strays.known.iter().filter(|(_, child)| ours(child)).map(|(pid, _)| *pid).collect()
    }

    /// Who has survived a process that has run: its orphans, and their descendants.
    pub(super) fn survivors_of(&self, serial: u64) -> Survivors {
        let unknown = self.may_have_others(serial);
        let mut survivors = Survivors { unknown, ..Survivors::default() };
        if self.strays.known.is_empty() {
            return survivors;
        }
        let how = |pid: &i32| match self.strays.known.get(pid) {
            Some(Child::Orphan { owner: Some((_, how)), .. }) => *how,
            _ => Relation::Descendant,
        };
        let mut todo: Vec<(i32, Option<i32>)> =
            self.strays_of(serial).into_iter().map(|pid| (pid, None)).collect();
        let mut seen = HashSet::new();
        while let Some((pid, parent)) = todo.pop() {
            let Ok(stat) = self.procfs.read_stat(pid) else {
                survivors.unknown |= is_there(pid);
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
                survivors.listed.push(Survivor { pid, comm, session, how: how(&pid) });
            } else {
                survivors.more += 1;
            }
        }
        survivors.listed.sort_by_key(|survivor| survivor.pid);
        survivors
    }
}

impl Driver {
    /// Whether a process can have survivors that are not known to be its own: nobody saw all orphans, or there is one that it can have
    /// started, and others as well.
    fn may_have_others(&self, serial: u64) -> bool {
        let Some(process) = self.processes.get(&serial) else { return true };
        if self.strays.list.is_none() || self.strays.behind || !sys::takes_orphans() {
            return true;
        }
        let born = process.starttime.unwrap_or(0);
        self.strays.known.iter().any(|(pid, child)| match child {
            Child::Orphan { starttime, owner: None, .. } => *starttime >= born && self.lives(*pid),
            _ => false,
        })
    }

    /// Whether a child of ours has not ended, as far as /proc shows it.
    fn lives(&self, pid: i32) -> bool {
        match self.procfs.read_stat(pid) {
            Ok(stat) => !matches!(stat.state, 'Z' | 'X'),
            Err(_) => is_there(pid),
        }
    }
}

/// Whether there is such a process, whatever /proc shows of it.
fn is_there(pid: i32) -> bool {
    getsid(Some(Pid::from_raw(pid))) != Err(Errno::ESRCH)
}

#[cfg(test)]
impl HandoverOrphans {
    /// One of each kind, for the fixtures of states.
    pub(super) fn sample() -> HandoverOrphans {
        let one =
            |pid, owner| HandoverOrphan { pid, session: 42, starttime: 601, told: true, owner };
        HandoverOrphans {
            known: vec![
                one(48, Some((HandoverOwner::Process("alive".into()), Relation::Session))),
                one(49, Some((HandoverOwner::Past, Relation::Inferred))),
                one(50, None),
            ],
            last_end: Some(602),
        }
    }
}
