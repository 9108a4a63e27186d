//! The engine: makes processes, captures their output, waits for their end. No actor is anywhere in it.
//!
//! One thread, the driver, owns every process: its pidfd, the reading ends of its pipes, its state. It sleeps in epoll until
//! a child ends, a pipe can be read, a command comes or a grace runs out; work per event does not grow with the number
//! of processes. A few threads beside it do nothing but clone children.
//!
//! [`Engine`] is the narrow handle to it: commands go in, [`Event`]s come out, in an order that holds per
//! process: at most one [`Event::Started`], then exactly one [`Event::Ended`]. Captures are shared: whoever holds an `Arc` of
//! [`Captures`] reads them without asking the engine. Dropping the last handle ends the driver; processes are left as they are.

pub(crate) mod below;
mod capture;
mod child;
mod creds;
mod driver;
mod failure;
#[doc(hidden)]
pub mod faults;
mod helpers;
pub(crate) mod inbox;
mod oom;
pub(crate) mod permitted;
mod plan;
pub mod procfs;
mod restriction;
mod rusage;
mod spawn;
mod state;
mod stop;
pub(crate) mod sys;
mod timers;
mod tree;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

pub(crate) use capture::can_restrict_calls;
pub use capture::filter::{self, FILTER};
pub use capture::{
    Capture, Captures, CutShort, Extent, Hash, Held, Loss, Part, Places, Taken, View,
};
pub(crate) use capture::{ask_for_files, held_file};
pub use failure::{Stage, StartFailure, StopFailure};
pub use plan::Heritage;
pub use restriction::{Restriction, Whitelist};
pub use stop::{StopCause, StopOrder, Terms};

use indexmap::IndexMap;

use serde::{Deserialize, Serialize};

use crate::spec::{FdName, LimitSpec, ProcId, Validated};
use driver::handover::Pause;
pub use driver::handover::{Carried, CarriedShared, Handover};
use inbox::{Inbox, Mail};
use procfs::{RawIo, RawStat, RawStatm};

/// How the engine shall work.
pub struct Options {
    /// Where captures are kept.
    pub places: Places,
    /// Tells the files of this engine's captures from those of another one in the same directory.
    pub epoch: u64,
    /// How long after a process's end a survivor may still hold its captures.
    pub drain_grace: Duration,
    /// How long a child's set-up may take before the process is reported as running all the same.
    pub setup_patience: Duration,
    /// What specs are restricted to, where they are.
    pub restriction: Option<Arc<Restriction>>,
    /// What children can inherit.
    pub heritage: Arc<Heritage>,
    /// The program to start as a [`filter`]: this one.
    pub filter: PathBuf,
    /// The limit of captures whose spec sets none.
    pub limit: LimitSpec,
    /// The largest file that a process may make, in bytes; none: as large as this program's own limit allows.
    pub max_file_size: Option<u64>,
    /// Whether processes that get none of this program's capabilities may gain privileges by executing set-user-ID programs and such.
    pub gain_privileges: bool,
    /// Makes the directories of captures again where somebody has removed them.
    pub restore: Option<Restore>,
}

/// What makes directories again.
pub type Restore = Arc<dyn Fn() -> std::io::Result<()> + Send + Sync>;

/// Does something in the directories of captures; once more where they were gone and could be made again.
fn with_dirs<T>(
    restore: Option<&Restore>,
    mut act: impl FnMut() -> std::io::Result<T>,
) -> std::io::Result<T> {
    match (act(), restore) {
        (Err(error), Some(restore)) if error.kind() == std::io::ErrorKind::NotFound => {
            restore().map_err(|_| error)?;
            act()
        }
        (done, _) => done,
    }
}

/// What the engine can be told to do.
pub(crate) enum Command {
    /// Start every process of a request. See [`Engine::launch`].
    Launch(Validated),
    /// Send a signal. See [`Engine::signal`].
    Signal {
        /// The process.
        id: ProcId,
        /// The signal's number.
        signum: i32,
        /// Comes back with the [`Event::Signaled`].
        ticket: u64,
    },
    /// Send a signal to a whole group. See [`Engine::signal_group`].
    SignalGroup {
        /// The process that leads it.
        id: ProcId,
        /// The signal's number.
        signum: i32,
    },
    /// Stop a process. See [`Engine::stop`].
    Halt {
        /// The process.
        id: ProcId,
        /// How.
        order: StopOrder,
        /// Comes back with the [`Event::Signaled`].
        ticket: u64,
    },
    /// Watch a process that an earlier engine has started. See [`Engine::adopt`].
    Adopt(Box<Started>),
    /// Stand still. See [`Engine::pause`].
    Pause(Pause),
    /// Drop all that is held of an ended process. See [`Engine::forget`].
    Forget(ProcId),
    /// End the driver.
    Stop,
}

/// What the engine tells.
pub enum Event {
    /// The process runs the program of its spec, or is still on its way there after
    /// [`Options::setup_patience`].
    Started(Box<Started>),
    /// The process has ended, or was not started as specified; nothing about it changes any more.
    Ended(Box<Ended>),
    /// A signal has been sent, or could not be.
    Signaled {
        /// The process.
        id: ProcId,
        /// As given to [`Engine::signal`] or [`Engine::stop`].
        ticket: u64,
        /// The OS error; `ESRCH` where the process is gone.
        result: io::Result<()>,
    },
    /// A process is being stopped, and these of its tree could not be signaled.
    StopFailed {
        /// The process.
        id: ProcId,
        /// Those that were not reported before.
        failures: Vec<StopFailure>,
    },
    /// A process of our own job on the terminal has been stopped by a signal, as job control does.
    Suspended {
        /// The process.
        id: ProcId,
        /// Its pid.
        pid: i32,
        /// The signal.
        signum: i32,
    },
}

impl Event {
    /// The process that it is about.
    pub fn id(&self) -> &ProcId {
        match self {
            Event::Started(started) => &started.id,
            Event::Ended(ended) => &ended.id,
            Event::Signaled { id, .. }
            | Event::StopFailed { id, .. }
            | Event::Suspended { id, .. } => id,
        }
    }
}

/// An instant by all clocks that matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Nanoseconds since 1970 by the wall clock.
    pub unix_nanos: i64,
    /// Nanoseconds of the monotonic clock.
    pub monotonic_nanos: u64,
    /// Nanoseconds since the machine has started, which start times in `/proc` are relative to; 0 where that was not noted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub boot_nanos: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Moment {
    /// This instant.
    pub fn now() -> Moment {
        let nanos = |clock| {
            nix::time::clock_gettime(clock).map_or(0, |t| t.tv_sec() * 1_000_000_000 + t.tv_nsec())
        };
        Moment {
            unix_nanos: nanos(nix::time::ClockId::CLOCK_REALTIME),
            monotonic_nanos: nanos(nix::time::ClockId::CLOCK_MONOTONIC).unsigned_abs(),
            boot_nanos: nanos(nix::time::ClockId::CLOCK_BOOTTIME).unsigned_abs(),
        }
    }

    /// When the machine has started, in nanoseconds since 1970 by the wall clock as it was set at this instant.
    pub fn boot(self) -> i64 {
        let since = if self.boot_nanos == 0 { self.monotonic_nanos } else { self.boot_nanos };
        self.unix_nanos.saturating_sub(i64::try_from(since).unwrap_or(i64::MAX))
    }

    /// Seconds from `earlier` to this instant, by the monotonic clock.
    pub fn seconds_since(self, earlier: Moment) -> f64 {
        self.monotonic_nanos.saturating_sub(earlier.monotonic_nanos) as f64 / 1e9
    }
}

/// What a spec has come to on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// The executable's path: as given, or as it was found; below the working directory where it is relative. None where it was not
    /// come to.
    pub exe: Option<String>,
    /// The working directory.
    pub cwd: Option<String>,
    /// The environment that it was started with, where that is asked for: secrets are masked, and what is not UTF-8 is replaced.
    pub env: Option<IndexMap<String, String>>,
    /// The variables that a [`Restriction`] has kept from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<String>,
}

/// The start of a process.
#[derive(Clone, Serialize, Deserialize)]
pub struct Started {
    /// The process.
    pub id: ProcId,
    /// The child's pid.
    pub pid: i32,
    /// When its start was begun.
    pub start: Moment,
    /// Its `/proc/PID/stat` just after the start.
    pub stat: Option<RawStat>,
    /// Its `/proc/PID/statm` just after the start.
    pub statm: Option<RawStatm>,
    /// Its fds.
    pub captures: Arc<Captures>,
    /// How it is stopped, and when its time is over.
    #[serde(default)]
    pub terms: Terms,
    /// What its spec has come to; as asked for, where its set-up still takes its time.
    #[serde(default)]
    pub resolved: Resolved,
}

/// The end of a process.
#[derive(Clone, Serialize, Deserialize)]
pub struct Ended {
    /// The process.
    pub id: ProcId,
    /// The child's pid; none where there was none.
    pub pid: Option<i32>,
    /// Why it was not started as specified; empty where it was.
    pub failures: Vec<StartFailure>,
    /// The raw wait status; 0 where there was no child.
    pub status: i32,
    /// What it used, the children it waited for included; all zero where there was no child, or it is lost. `ru_maxrss` is negative
    /// where it is not known, for the kernel begins to count with the memory of the process that makes it: see `footprint`.
    #[serde(with = "rusage")]
    pub rusage: libc::rusage,
    /// Its last `/proc/PID/stat`, as a zombie.
    pub stat: Option<RawStat>,
    /// When its start was begun.
    pub start: Moment,
    /// When it ended.
    pub stop: Moment,
    /// Its fds; the captures are frozen.
    pub captures: Arc<Captures>,
    /// The captures that may not hold all that was written, and why.
    pub cut_short: Vec<(FdName, CutShort)>,
    /// Whether how it ended is not known, for whoever waited for it died.
    pub lost: bool,
    /// Its last `/proc/PID/io`, as a zombie; none where there was no child, or the kernel does not tell.
    #[serde(default)]
    pub io: Option<RawIo>,
    /// Whether the kernel has killed it for want of memory.
    #[serde(default)]
    pub out_of_memory: bool,
    /// Why it was stopped, if it was.
    #[serde(default)]
    pub cause: Option<StopCause>,
    /// Who has survived it, as far as that is known.
    #[serde(default)]
    pub survivors: Survivors,
    /// What its spec has come to.
    #[serde(default)]
    pub resolved: Resolved,
}

/// Descendants that outlive their process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survivors {
    /// Some of them, by their pids.
    pub listed: Vec<Survivor>,
    /// How many there are beside those.
    pub more: u32,
    /// Whether there may be others, of which nobody can know whose they are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
}

impl Survivors {
    /// Those of a process of which nothing is known.
    pub fn unknown() -> Survivors {
        Survivors { unknown: true, ..Survivors::default() }
    }
}

/// One that outlives its process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Survivor {
    /// Its pid.
    pub pid: i32,
    /// The name of its executable, at most 15 bytes of it.
    pub comm: String,
    /// Its session, as the pid of whoever began that.
    pub session: i32,
    /// How it is known whose it is.
    pub how: Kinship,
}

/// How a survivor is known to come from a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kinship {
    /// It is in the process's group.
    Group,
    /// It is in the process's session, or in that of another survivor of it.
    Session,
    /// It descends from another survivor, or was met as a descendant when the process was stopped.
    Descendant,
    /// It is in a session of its own, and nobody but this process can have started it.
    Alone,
}

impl Ended {
    /// The end of a process that is gone, and that nobody has waited for.
    pub fn lost(started: Started) -> Ended {
        let mut cut_short = Vec::new();
        for (fd, capture) in started.captures.iter() {
            let Some(capture) = capture else { continue };
            capture.freeze();
            if capture.is_sealed_quickly() {
                capture.seal();
            }
            if capture.is_orphaned() {
                cut_short.push((fd, CutShort::Error));
            }
        }
        Ended {
            id: started.id,
            pid: Some(started.pid),
            failures: Vec::new(),
            status: 0,
            rusage: no_usage(),
            // What it was at the start is nothing of the end.
            stat: None,
            start: started.start,
            stop: Moment::now(),
            captures: started.captures,
            cut_short,
            lost: true,
            io: None,
            out_of_memory: false,
            cause: None,
            survivors: Survivors::unknown(),
            resolved: started.resolved,
        }
    }

    /// The end of a process of which not even the start is known.
    pub fn unknown(id: ProcId) -> Ended {
        let now = Moment::now();
        let captures = Captures::new(Vec::new());
        let terms = Terms::default();
        Ended {
            pid: None,
            ..Ended::lost(Started {
                id,
                pid: 0,
                start: now,
                stat: None,
                statm: None,
                captures,
                terms,
                resolved: Resolved::default(),
            })
        }
    }
}

/// The usage of a process of which nothing is known.
pub(crate) fn no_usage() -> libc::rusage {
    // SAFETY: an all-zero rusage is a valid value of that plain C struct.
    unsafe { std::mem::zeroed() }
}

/// Ignores a signal in this process from now on.
///
/// # Errors
/// The OS error, for a signal that cannot be ignored.
pub fn ignore(signum: i32) -> io::Result<()> {
    sys::ignore(signum)
}

/// Has descendants of this process that lose their parent become its children: an engine in it then reaps them, and tells of those
/// that survive its processes. Their ends are noticed soon where SIGCHLD is blocked in the main thread.
///
/// # Errors
/// The OS error, which does not occur.
pub fn become_subreaper() -> io::Result<()> {
    sys::become_subreaper()
}

/// Whether this process was started with a signal ignored.
pub fn is_ignored(signum: i32) -> bool {
    sys::is_ignored(signum)
}

/// Whether a signal has its default action in this process.
pub fn has_default_action(signum: i32) -> bool {
    sys::is_default(signum)
}

/// The signals that this process ignores, signal N by bit N - 1, but for those that every program of this kind ignores.
pub fn ignored_signals() -> u64 {
    const OURS: [i32; 4] = [libc::SIGPIPE, libc::SIGXFSZ, 32, 33];
    let ignored = (1..=64).filter(|signum| !OURS.contains(signum) && sys::is_ignored(*signum));
    ignored.fold(0, |mask, signum| mask | 1 << (signum - 1))
}

/// Ends this process by a signal, and without a core; returns where the signal does not end it.
pub fn die_of(signum: i32) {
    sys::die_of(signum);
}

/// The handle of a running engine.
pub struct Engine {
    inbox: Arc<Inbox<Mail>>,
}

impl Engine {
    /// Starts an engine, which tells its events to `sink`, on a thread of its own. Its children are children of this
    /// process, whose SIGCHLD gets its default disposition.
    ///
    /// # Errors
    /// The OS error of making its threads and descriptors; where a seccomp filter refuses them, that.
    pub fn start(
        options: Options,
        mut sink: impl FnMut(Event) + Send + 'static,
    ) -> io::Result<Engine> {
        Engine::start_batched(options, move |events| events.drain(..).for_each(&mut sink))
    }

    /// The same, with the events that come at one moment told at once; `sink` takes them out.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_batched(
        options: Options,
        sink: impl FnMut(&mut Vec<Event>) + Send + 'static,
    ) -> io::Result<Engine> {
        Engine::begin(options, None, sink)
    }

    /// The same, of an engine that goes on from what another program in this same process has handed over.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn resume(
        options: Options,
        handover: Handover,
        sink: impl FnMut(&mut Vec<Event>) + Send + 'static,
    ) -> io::Result<Engine> {
        Engine::begin(options, Some(handover), sink)
    }

    fn begin(
        options: Options,
        handover: Option<Handover>,
        sink: impl FnMut(&mut Vec<Event>) + Send + 'static,
    ) -> io::Result<Engine> {
        sys::default_sigchld()?;
        child::note_dispositions();
        let inbox = Arc::new(Inbox::new()?);
        driver::start(options, Arc::clone(&inbox), Box::new(sink), handover)
            .map_err(permitted::explain)?;
        Ok(Engine { inbox })
    }

    /// Starts every process of a request; their IDs must be new. Each has its own events.
    pub fn launch(&self, request: Validated) {
        self.tell(Command::Launch(request));
    }

    /// Sends a signal to a process; [`Event::Signaled`] with the same ticket tells the outcome.
    pub fn signal(&self, id: ProcId, signum: i32, ticket: u64) {
        self.tell(Command::Signal { id, signum, ticket });
    }

    /// Sends a signal to a process and its whole group. No event reports the outcome.
    pub fn signal_group(&self, id: ProcId, signum: i32) {
        self.tell(Command::SignalGroup { id, signum });
    }

    /// Stops a process: asks it, waits, kills it with all its descendants. [`Event::Signaled`] with the same ticket tells when it
    /// has been asked; its [`Event::Ended`] tells the cause.
    pub fn stop(&self, id: ProcId, order: StopOrder, ticket: u64) {
        self.tell(Command::Halt { id, order, ticket });
    }

    /// Watches a process that an earlier engine, in a program that is gone, has started. What the kernel still tells of it is told at its
    /// end; its exit status is not among that.
    pub fn adopt(&self, started: Started) {
        self.tell(Command::Adopt(Box::new(started)));
    }

    /// Waits until no process is being made, and then has the engine stand still, until what is given back is dropped. What it holds
    /// can then be handed over to another program. All that happened before has been told.
    ///
    /// # Errors
    /// Where some process was still being made after `patience`; the engine goes on.
    pub fn pause(&self, patience: Duration) -> Result<(Handover, Standstill), StillStarting> {
        let (tell, told) = mpsc::channel();
        let (release, resume) = mpsc::channel();
        self.tell(Command::Pause(Pause { tell, resume }));
        let handover = told.recv_timeout(patience).map_err(|_| StillStarting)?;
        Ok((handover, Standstill(release)))
    }

    /// Drops all that is held of a process that has ended, and its captures' files; who holds one reads on.
    pub fn forget(&self, id: ProcId) {
        self.tell(Command::Forget(id));
    }

    fn tell(&self, command: Command) {
        self.inbox.put(Mail::Command(command));
    }
}

/// An engine that stands still; dropping this lets it go on.
pub struct Standstill(#[expect(dead_code, reason = "dropping it is its use")] mpsc::Sender<()>);

/// Some process was still being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a process is still being set up")]
pub struct StillStarting;

impl Drop for Engine {
    fn drop(&mut self) {
        self.tell(Command::Stop);
    }
}
