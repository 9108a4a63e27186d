//! The driver: the thread that owns every process.

mod budget;
mod files;
mod filters;
pub(super) mod handover;
mod launch;
mod pipes;
mod reading;
mod request;
mod sealing;
mod stopping;
mod table;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::clock::TimePoint;
use crate::engine::capture::{Captures, Truncation};
use crate::engine::capture::{PieceLog, Store};
use crate::engine::command::{Command, ProcessCommand};
use crate::engine::containment::{Containment, LastUsage, ProcessTrees};
use crate::engine::event::{Ended, Event, Resolved, Started, Survivors};
use crate::engine::failpoints::{self, Call};
use crate::engine::failure::StartFailure;
use crate::engine::mailbox::{DriverMessage, Mailbox};
use crate::engine::options::EngineOptions;
use crate::engine::plan::{Accounts, ChildStatus, LaunchContext, Privileges};
use crate::engine::spawn::{Child, SpawnPool, Spawned};
use crate::engine::state::{Action, Input, State};
use crate::engine::stop::{StopPolicy, StopState};
use crate::engine::sys;
use crate::engine::timers::{Alarm, Timers};
use crate::mem::shrink::Shrink;
use crate::mem::text_pages::{Floor, UNKNOWN};
use crate::procfs::{ProcFs, RawIo, RawStat};
use crate::spec::{FdName, ProcId};
use budget::Budget;
use filters::Filters;
use handover::{Handover, Quiesce};
use pipes::{PipeBudget, PipeSize};
use reading::Watcher;
use request::{AtomicGroup, PipeGroup};
use sealing::{Sealer, Sealing};
use serde::{Deserialize, Serialize};
use stopping::PendingSignal;
use table::Table;

/// How many jobs may wait for a spawning thread or a clone helper; more would hold descriptors for nothing.
const MAX_QUEUED_JOBS: usize = 8;
/// How long jobs may wait while no thread or clone helper comes free, before more are started.
const POOL_STALL: Duration = Duration::from_millis(20);
/// How often a child is looked at of whose end epoll cannot tell.
const LOOK: Duration = Duration::from_millis(50);

/// The number of no process.
const NO_PROCESS: u64 = u64::MAX;

/// Signals that dump core. A child in its set-up shares our memory, and before Linux 5.16 a dump ends everybody who
/// does: these wait until it has exec'd.
const DUMPING: [i32; 10] = [
    libc::SIGQUIT,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGSYS,
];

/// Where the driver's events go, those of one round at once.
pub(super) type Sink = Box<dyn FnMut(&mut Vec<Event>) + Send>;

/// Starts the driver's thread, which goes on with what was handed over, if anything was.
///
/// # Errors
/// The OS error of making its threads and descriptors.
pub(super) fn start(
    options: EngineOptions,
    inbox: Arc<Mailbox<DriverMessage>>,
    sink: Sink,
    handover: Option<Handover>,
) -> io::Result<()> {
    let mut driver = Driver::new(options, inbox, sink)?;
    std::thread::Builder::new().name("engine".into()).spawn(move || {
        sys::block_all_signals();
        driver.own_umask = sys::take_own_umask();
        if let Some(handover) = handover {
            driver.restore(handover);
        }
        driver.run();
    })?;
    Ok(())
}

/// What an epoll token stands for.
#[derive(Clone, Copy, Debug)]
enum Source {
    Mailbox,
    Watcher,
    /// A process's pidfd.
    Exit(u64),
    /// The pipe of one of its captures, by the fd's index in the spec.
    Pipe(u64, usize),
    /// A child was cloned by a clone helper.
    Cloned,
    /// Some child has ended.
    Children,
    /// A descendant of a process that is being stopped has ended.
    Descendant(u64),
    /// The pidfd of a filter.
    Filter(i32),
}

/// What is known of a reaped child, or of one that could not be made.
#[derive(Clone, Serialize, Deserialize)]
struct ChildExit {
    pid: Option<i32>,
    status: i32,
    #[serde(with = "super::rusage")]
    rusage: libc::rusage,
    stat: Option<RawStat>,
    stop: TimePoint,
    lost: bool,
    #[serde(default)]
    io: Option<RawIo>,
    #[serde(default)]
    out_of_memory: bool,
}

impl ChildExit {
    /// The exit of a process of which there is no child.
    fn without_child() -> ChildExit {
        ChildExit {
            pid: None,
            status: 0,
            rusage: super::no_usage(),
            stat: None,
            stop: TimePoint::now(),
            lost: false,
            io: None,
            out_of_memory: false,
        }
    }
}

/// A child with the epoll token of its pidfd; none where a timer looks at it instead.
struct LiveChild {
    child: Child,
    token: Option<u64>,
    /// Whether an earlier engine has started it.
    adopted: bool,
}

/// A capture that has not reached its end.
enum OpenCapture {
    /// Read by us, under this epoll token.
    Pipe(Pipe),
    /// Written by the process itself, or by a filter of an earlier keeper.
    File { index: usize },
    /// Read by this filter, 0 before it is started. The reading end is ours too, in case that it dies.
    Filter { index: usize, reader: OwnedFd, pid: i32 },
}

/// A pipe that we read.
struct Pipe {
    index: usize,
    reader: OwnedFd,
    token: u64,
    store: Store,
    pieces: Option<PieceLog>,
    size: PipeSize,
}

impl OpenCapture {
    /// How many descriptors it holds.
    fn cost(&self) -> usize {
        match self {
            OpenCapture::Pipe(pipe) => {
                1 + pipe.store.descriptors() + usize::from(pipe.pieces.is_some())
            }
            OpenCapture::File { .. } => 0,
            // The reading end, and the filter's pidfd.
            OpenCapture::Filter { .. } => 2,
        }
    }

    fn index(&self) -> usize {
        match self {
            OpenCapture::Pipe(pipe) => pipe.index,
            OpenCapture::File { index } | OpenCapture::Filter { index, .. } => *index,
        }
    }
}

/// One process, from its launch until it is forgotten.
struct Process {
    id: ProcId,
    /// The exit is boxed: most of its life a process has none.
    state: State<LiveChild, Box<ChildExit>>,
    start: TimePoint,
    captures: Arc<Captures>,
    open: Vec<OpenCapture>,
    cut_short: Vec<(FdName, Truncation)>,
    /// How far recording what they hold has come.
    sealing: Sealing,
    failures: Vec<StartFailure>,
    /// What its spec has come to, once it is made.
    resolved: Resolved,
    /// Whether [`Event::Started`] has been told.
    told: bool,
    /// What the child tells while it is being made; none before it is planned, and after.
    child_status: Option<Arc<ChildStatus>>,
    /// Signals to send as soon as there is a child: number and ticket.
    signals: Vec<(i32, u64)>,
    /// Until when it waits for filters that have yet to store what has come; none before the grace has begun.
    filters_until: Option<Instant>,
    /// The fd that was read last, by its index, where pieces are kept.
    last_piece: Option<usize>,
    /// Whether we have sent it a SIGKILL: then that is what it dies of.
    killed: bool,
    /// How it is stopped, and when its time is over.
    terms: StopPolicy,
    /// How far stopping it has come.
    stop: StopState,
    /// What to ask it as soon as there is a child.
    asks: Vec<PendingSignal>,
    /// The alarms that are set for it.
    timeout_alarm: Option<Instant>,
    stop_alarm: Option<Instant>,
    /// Those of its members that still have to end, by the tokens of their pidfds.
    exiting: HashMap<u64, OwnedFd>,
    /// Until when, by the monotonic clock, its captures may delay its end, once that has begun to count.
    drains: Option<u64>,
    /// With which others it is started or not at all.
    together: Option<u64>,
    /// Where the kernel has begun to count its `maxrss`.
    floor: Floor,
}

impl Process {
    /// A process that is about to be made.
    fn new(id: ProcId) -> Process {
        Process {
            id,
            state: State::Launching,
            start: TimePoint::now(),
            captures: Captures::new(Vec::new()),
            open: Vec::new(),
            cut_short: Vec::new(),
            sealing: Sealing::default(),
            failures: Vec::new(),
            resolved: Resolved::default(),
            told: false,
            child_status: None,
            signals: Vec::new(),
            filters_until: None,
            last_piece: None,
            killed: false,
            terms: StopPolicy::default(),
            stop: StopState::None,
            asks: Vec::new(),
            timeout_alarm: None,
            stop_alarm: None,
            exiting: HashMap::new(),
            drains: None,
            together: None,
            floor: Floor::default(),
        }
    }

    /// How much has to end before its end can be told.
    fn open(&self) -> usize {
        self.open.len() + self.exiting.len() + usize::from(self.sealing == Sealing::Running)
    }
}

/// Epoll, with what its tokens stand for.
struct Poller {
    epoll: Epoll,
    sources: HashMap<u64, Source>,
    next_token: u64,
}

impl Poller {
    fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Poller { epoll, sources: HashMap::new(), next_token: 0 })
    }

    /// Has epoll tell when `fd` is readable; gives the token.
    fn watch(&mut self, fd: impl AsFd, source: Source) -> io::Result<u64> {
        if let Source::Pipe(..) = source {
            failpoints::check(Call::Watch)?;
        }
        let token = self.next_token;
        self.next_token += 1;
        self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        self.sources.insert(token, source);
        Ok(token)
    }

    /// As [`watch`](Self::watch), but tells once, and then not before it is [rearmed](Self::rearm).
    fn watch_once(&mut self, fd: impl AsFd, source: Source) -> io::Result<u64> {
        let token = self.next_token;
        self.next_token += 1;
        self.epoll
            .add(fd, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, token))?;
        self.sources.insert(token, source);
        Ok(token)
    }

    fn rearm(&self, fd: impl AsFd, token: u64) {
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, token);
        // It is there, so this cannot fail.
        let _ = self.epoll.modify(fd, &mut event);
    }

    /// Takes `fd` out. Closing it would not be enough: a child that is just being made has a copy.
    fn unwatch(&mut self, fd: impl AsFd, token: u64) {
        self.sources.remove(&token);
        self.sources.shrink_if_sparse();
        // It is there, so this cannot fail.
        let _ = self.epoll.delete(fd);
    }
}

struct Driver {
    options: EngineOptions,
    inbox: Arc<Mailbox<DriverMessage>>,
    sink: Sink,
    /// What is to be told at the end of the round.
    pending_events: Vec<Event>,
    poller: Poller,
    processes: Table,
    serials: HashMap<ProcId, u64>,
    /// Which processes belong to each process.
    containment: Box<dyn Containment>,
    /// The epoll token of what tells that some child has ended.
    children_token: u64,
    next_serial: u64,
    /// Asked for, and not yet planned.
    waiting: VecDeque<PipeGroup>,
    /// Processes that are started all or not at all, while some of them have not been.
    together: HashMap<u64, AtomicGroup>,
    /// The process that is a part of our own job on the terminal.
    shares_terminal: Option<u64>,
    budget: Budget,
    pool: SpawnPool,
    last_spawned: Instant,
    last_cloned: Instant,
    timers: Timers,
    watcher: Watcher,
    procfs: ProcFs,
    filters: Filters,
    sealer: Sealer,
    pipes: PipeBudget,
    /// Pipes are read through this: one hot buffer is faster than fresh ones.
    buffer: Box<[u8]>,
    /// Whether files get the very modes that we make them with.
    own_umask: bool,
    /// Somebody wants us to stand still.
    quiesce: Option<Quiesce>,
    stopped: bool,
}

impl Driver {
    fn new(
        options: EngineOptions,
        inbox: Arc<Mailbox<DriverMessage>>,
        sink: Sink,
    ) -> io::Result<Self> {
        let to_inbox = Arc::clone(&inbox);
        let context = LaunchContext {
            inherited: Arc::clone(&options.inherited),
            restriction: options.restriction.clone(),
            files: options.places.files.clone(),
            restore: options.restore.clone(),
            max_file_size: options.max_file_size,
            accounts: Accounts::new(),
            privileges: Privileges::now(options.gain_privileges),
        };
        let sealer = Sealer::new(Arc::clone(&inbox));
        let deliver = Arc::new(move |spawned| to_inbox.put(DriverMessage::Spawned(spawned)));
        let pool = SpawnPool::new(context, deliver)?;
        let watcher = Watcher::new()?;
        let mut poller = Poller::new()?;
        poller.watch(inbox.fd(), Source::Mailbox)?;
        poller.watch(watcher.fd(), Source::Watcher)?;
        poller.watch(pool.cloned(), Source::Cloned)?;
        let containment = ProcessTrees::new(ProcFs::default(), pool.newborns());
        let children_token = match containment.child_events() {
            Some(events) => poller.watch_once(events, Source::Children)?,
            None => 0,
        };
        Ok(Driver {
            options,
            inbox,
            sink,
            pending_events: Vec::new(),
            poller,
            processes: Table::default(),
            serials: HashMap::new(),
            containment: Box::new(containment),
            children_token,
            next_serial: 0,
            waiting: VecDeque::new(),
            together: HashMap::new(),
            shares_terminal: None,
            budget: Budget::of_this_process(),
            pool,
            last_spawned: Instant::now(),
            last_cloned: Instant::now(),
            timers: Timers::default(),
            watcher,
            procfs: ProcFs::default(),
            filters: Filters::default(),
            sealer,
            pipes: PipeBudget::of_system(),
            buffer: vec![0; reading::BUFFER].into_boxed_slice(),
            own_umask: false,
            quiesce: None,
            stopped: false,
        })
    }

    fn run(&mut self) {
        let mut events = [EpollEvent::empty(); 256];
        while !self.stopped {
            self.schedule_scan();
            // EINTR aside, which is nothing to handle, waiting on an epoll of our own cannot fail.
            let ready = self.poller.epoll.wait(&mut events, self.timeout()).unwrap_or_default();
            self.containment.begin_round();
            for event in events.iter().take(ready) {
                self.handle(event.data());
            }
            let now = Instant::now();
            while let Some(alarm) = self.timers.pop(now) {
                self.alarm(alarm);
            }
            // Before new processes are planned, which takes time.
            self.flush_events();
            self.dispatch(now);
            self.flush_events();
            if self.quiesce.is_some() {
                self.quiesce();
            }
        }
    }

    /// Tells what has happened.
    fn flush_events(&mut self) {
        if !self.pending_events.is_empty() {
            (self.sink)(&mut self.pending_events);
            self.pending_events.clear();
            self.pending_events.shrink_if_sparse();
        }
    }

    /// How long to sleep: to the next alarm, or to the moment when held-up jobs need another thread.
    fn timeout(&self) -> EpollTimeout {
        let now = Instant::now();
        let alarm = self.timers.next_in(now);
        let relief = |waiting, last: Instant| {
            (waiting > 0).then(|| (last + POOL_STALL).saturating_duration_since(now))
        };
        let relief = [
            relief(self.pool.queued(), self.last_spawned),
            relief(self.pool.pending_clones(), self.last_cloned),
        ];
        match alarm.into_iter().chain(relief.into_iter().flatten()).min() {
            // One millisecond more, for epoll rounds down, and would wake too early again and again. It cannot wait for
            // more than 24 days at once.
            Some(wait) => EpollTimeout::try_from(wait.saturating_add(Duration::from_millis(1)))
                .unwrap_or(EpollTimeout::MAX),
            None => EpollTimeout::NONE,
        }
    }

    fn handle(&mut self, token: u64) {
        match self.poller.sources.get(&token).copied() {
            Some(Source::Mailbox) => {
                for mail in self.inbox.take() {
                    match mail {
                        DriverMessage::Command(command) => self.command(command),
                        DriverMessage::Spawned(spawned) => self.spawned(spawned),
                        DriverMessage::Sealed(serial) => self.sealed(serial),
                        DriverMessage::Looked(serial) => self.captures_may_have_ended(serial),
                    }
                }
            }
            Some(Source::Watcher) => self.file_closed(),
            Some(Source::Cloned) => {
                self.last_cloned = Instant::now();
                for spawned in self.pool.collect() {
                    self.spawned(spawned);
                }
            }
            Some(Source::Exit(serial)) => {
                self.containment.notice_left();
                self.exited(serial);
            }
            Some(Source::Pipe(serial, index)) => self.pipe_readable(serial, index),
            Some(Source::Children) => self.containment.child_ended(),
            Some(Source::Descendant(serial)) => self.descendant_exited(serial, token),
            Some(Source::Filter(pid)) => self.filter_ended(pid),
            // Taken out by an earlier event of the same round.
            None => {}
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Launch(request) => self.request(request),
            Command::Process { id, command, ticket } => self.process_command(&id, command, ticket),
            Command::SignalGroup { id, signum } => self.signal_whole_group(&id, signum),
            Command::Adopt(started) => self.adopt(*started),
            Command::Quiesce(quiesce) => self.quiesce = Some(quiesce),
            Command::Forget(id) => self.forget(&id),
            Command::EndDriver => self.stopped = true,
        }
    }

    /// Takes in a new process: from now on it can be signaled, whenever its turn to be made comes.
    fn insert_process(&mut self, process: Process) -> u64 {
        let serial = self.next_serial;
        self.next_serial += 1;
        self.serials.insert(process.id.clone(), serial);
        self.processes.insert(serial, process);
        serial
    }

    /// Plans what waits, as far as the spawning threads keep up.
    fn dispatch(&mut self, now: Instant) {
        // Several at once: then a thread that plans them is woken once for all.
        let waiting = self.pool.queued() + self.pool.pending_clones();
        let room = if waiting <= MAX_QUEUED_JOBS / 2 { MAX_QUEUED_JOBS - waiting } else { 0 };
        for _ in 0..room {
            let Some(launch) = self.next_launch() else { break };
            self.launch(launch);
        }
        self.pool.begin();
        if self.pool.queued() == 0 {
            self.last_spawned = now;
        } else if now.saturating_duration_since(self.last_spawned) >= POOL_STALL {
            self.pool.grow();
            self.last_spawned = now;
        }
        // However well those come on that threads clone.
        if self.pool.pending_clones() == 0 {
            self.last_cloned = now;
        } else if now.saturating_duration_since(self.last_cloned) >= POOL_STALL {
            self.pool.grow_helpers();
            self.last_cloned = now;
        }
    }

    fn alarm(&mut self, alarm: Alarm) {
        match alarm {
            Alarm::SetupTimeout(serial) => self.patience_over(serial),
            Alarm::DrainTimeout(serial) => self.grace_over(serial),
            Alarm::Files(serial) => self.look_at_files(serial),
            Alarm::Exit(serial) => {
                self.containment.notice_left_now();
                self.exited(serial);
            }
            Alarm::Timeout(serial) => self.timed_out(serial),
            Alarm::Kill(serial) => self.stop_grace_over(serial),
            Alarm::Sealing(serial) => self.sealed(serial),
            Alarm::OrphanScan => self.scan_members(),
        }
    }

    /// A child's set-up takes long: it is reported as running, so that nobody waits for it.
    fn patience_over(&mut self, serial: u64) {
        let pid = self
            .processes
            .get(&serial)
            .and_then(|process| process.child_status.as_ref())
            .map(|child_status| child_status.pid().load(Ordering::Acquire));
        match pid {
            // No thread has come to it yet: ask again later.
            Some(0) => {
                self.timers
                    .set(Instant::now() + self.options.setup_patience, Alarm::SetupTimeout(serial));
            }
            Some(pid) => {
                self.tell_started(serial, pid);
                // What came before there was a child would else wait for the end of its set-up, which may never be.
                self.send_held_signals(serial);
                self.flush_pending(serial);
            }
            None => {}
        }
    }

    fn spawned(&mut self, spawned: Spawned) {
        self.last_spawned = Instant::now();
        let Spawned { serial, child, failures, filters, not_made, resolved, floor } = spawned;
        self.pool.taken(serial);
        for (index, filter) in filters {
            self.filter_started(serial, index, filter);
        }
        for index in not_made {
            self.capture_not_made(serial, index);
        }
        let Some(process) = self.processes.get_mut(&serial) else { return };
        process.child_status = None;
        process.resolved = resolved;
        process.floor = floor;
        let failed = !failures.is_empty();
        process.failures.extend(failures);
        match child {
            Some(child) => {
                let pid = child.pid;
                self.containment.child_made(serial, pid);
                if !failed {
                    self.tell_started(serial, pid);
                }
                let token = self.poller.watch(&child.pidfd, Source::Exit(serial));
                if let Err(error) = &token {
                    tracing::warn!(pid, %error, "cannot watch a process, looking at it by a timer");
                    self.look_later(serial);
                }
                let live = LiveChild { child, token: token.ok(), adopted: false };
                self.apply(serial, Input::Spawned(live));
            }
            None => {
                // Nothing will ever be written: there is no grace to wait for.
                self.close_what_has_ended(serial);
                self.apply(serial, Input::NotSpawned(Box::new(ChildExit::without_child())));
            }
        }
        self.send_held_signals(serial);
        self.flush_pending(serial);
        self.recount(serial);
        self.start_resolved(serial, failed);
    }

    /// Counts anew how many descriptors a process costs that has been made, or could not be.
    fn recount(&mut self, serial: u64) {
        let Some(process) = self.processes.get(&serial) else {
            return self.budget.set(serial, 0, false);
        };
        if matches!(process.state, State::Launching) {
            // What it was let in with, until it is made.
            return;
        }
        let captures: usize = process.open.iter().map(OpenCapture::cost).sum();
        let alive = matches!(process.state, State::Alive(_));
        let named = process.captures.named_descriptors();
        let cost = captures + named + usize::from(alive) + process.exiting.len();
        self.budget.set(serial, cost, alive);
    }

    /// Has a child looked at by a timer, where epoll cannot tell of its end.
    fn look_later(&mut self, serial: u64) {
        self.timers.set(Instant::now() + LOOK, Alarm::Exit(serial));
    }

    fn tell_started(&mut self, serial: u64, pid: i32) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        if std::mem::replace(&mut process.told, true) {
            return;
        }
        let stat = self.procfs.read_stat(pid).ok();
        self.containment.child_seen(serial, stat.as_ref().map(|stat| stat.starttime));
        let early =
            process.child_status.as_ref().and_then(|child_status| child_status.early().get());
        let resolved = early.unwrap_or(&process.resolved).clone();
        self.pending_events.push(Event::Started(Box::new(Started {
            id: process.id.clone(),
            pid,
            start: process.start,
            stat,
            statm: self.procfs.read_statm(pid).ok(),
            captures: Arc::clone(&process.captures),
            terms: process.terms,
            resolved,
        })));
    }

    /// A pidfd is readable: its child is a zombie, whose last facts are still there until it is reaped. Its orphans are with us, and were looked
    /// for: as long as it is not reaped, nobody else has its numbers.
    fn exited(&mut self, serial: u64) {
        let Some(Process { state: State::Alive(live), stop, .. }) = self.processes.get(&serial)
        else {
            return;
        };
        let (pid, adopted, takes_all) = (live.child.pid, live.adopted, stop.takes_all());
        if takes_all {
            // Orphans of its own may have ended since this round began.
            self.containment.notice_left_now();
            self.await_tree(serial);
        }
        let Some(Process { state: State::Alive(live), killed, floor, .. }) =
            self.processes.get_mut(&serial)
        else {
            return;
        };
        let LastUsage { stat, io } = self.containment.last_usage(serial);
        let exit = match sys::reap(pid) {
            // It is somebody else's to reap.
            Err(_) if adopted => {
                ChildExit { pid: Some(pid), stat, io, lost: true, ..ChildExit::without_child() }
            }
            Ok(Some((status, mut rusage))) => {
                if floor.covers(rusage.ru_maxrss) {
                    rusage.ru_maxrss = UNKNOWN;
                }
                let struck = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL;
                let out_of_memory =
                    struck && !*killed && self.containment.ran_out_of_memory(serial);
                ChildExit {
                    pid: Some(pid),
                    status,
                    rusage,
                    stat,
                    stop: TimePoint::now(),
                    lost: false,
                    io,
                    out_of_memory,
                }
            }
            // A debugger that traces it comes first, and epoll would tell of it without a pause until then.
            Ok(None) => {
                if let Some(token) = live.token.take() {
                    self.poller.unwatch(&live.child.pidfd, token);
                }
                self.look_later(serial);
                return;
            }
            // Somebody else has reaped it; nobody does, but the process must not hang for it.
            Err(error) => {
                tracing::error!(pid, %error, "cannot reap a process");
                ChildExit { pid: Some(pid), stat, io, lost: true, ..ChildExit::without_child() }
            }
        };
        if let Some(token) = live.token.take() {
            self.poller.unwatch(&live.child.pidfd, token);
        }
        self.containment.child_reaped(serial);
        self.cancel_alarms(serial);
        self.close_what_has_ended(serial);
        self.apply(serial, Input::Exited(Box::new(exit)));
    }

    /// Moves a process on, and does what follows.
    fn apply(&mut self, serial: u64, input: Input<LiveChild, Box<ChildExit>>) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        let open = process.open();
        let before = std::mem::replace(&mut process.state, State::Ended);
        let (after, action) = before.apply(input, open);
        process.state = after;
        match action {
            Action::None | Action::Watch => {}
            Action::AwaitCaptures => self.drain(serial),
            Action::Finish(exit) => self.finish(serial, exit),
        }
        self.recount(serial);
    }

    /// Seals a process's captures, and tells its end.
    fn finish(&mut self, serial: u64, exit: Box<ChildExit>) {
        self.forget_exiting(serial);
        self.cancel_alarms(serial);
        if !self.seal(serial) {
            if let Some(process) = self.processes.get_mut(&serial) {
                process.state = State::Draining(exit);
            }
            return;
        }
        let exit = *exit;
        let survivors = match self.processes.get(&serial) {
            // The program was never executed.
            Some(process) if !process.failures.is_empty() => Survivors::default(),
            // Its orphans went to another keeper, or to init.
            _ if exit.lost => Survivors::unknown(),
            _ => self.containment.survivors(serial),
        };
        self.containment.ended(serial);
        let Some(process) = self.processes.get_mut(&serial) else { return };
        self.pending_events.push(Event::Ended(Box::new(Ended {
            cause: process.cause(),
            survivors,
            id: process.id.clone(),
            pid: exit.pid,
            failures: std::mem::take(&mut process.failures),
            status: exit.status,
            rusage: exit.rusage,
            stat: exit.stat,
            start: process.start,
            stop: exit.stop,
            captures: Arc::clone(&process.captures),
            cut_short: std::mem::take(&mut process.cut_short),
            lost: exit.lost,
            io: exit.io,
            out_of_memory: exit.out_of_memory,
            resolved: process.resolved.clone(),
        })));
    }

    fn process_command(&mut self, id: &ProcId, command: ProcessCommand, ticket: u64) {
        match command {
            ProcessCommand::Signal(signum) => self.signal(id, signum, ticket),
            ProcessCommand::Stop(order) => self.stop(id, order, ticket),
        }
    }

    fn signal(&mut self, id: &ProcId, signum: i32, ticket: u64) {
        let mut process = self.serials.get(id).and_then(|serial| self.processes.get_mut(serial));
        if let Some(process) = &mut process {
            process.killed |= signum == libc::SIGKILL;
        }
        let result = match process {
            Some(Process { state: State::Alive(live), .. }) => {
                sys::pidfd_send_signal(live.child.pidfd.as_raw_fd(), signum)
            }
            Some(process @ Process { state: State::Launching, .. }) => {
                match process
                    .child_status
                    .as_ref()
                    .and_then(|child_status| child_status.running_pidfd())
                {
                    Some(pidfd) if !DUMPING.contains(&signum) => {
                        sys::pidfd_send_signal(pidfd, signum)
                    }
                    // There is no child yet, or none that may have this signal.
                    _ => {
                        process.signals.push((signum, ticket));
                        return;
                    }
                }
            }
            _ => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        };
        self.pending_events.push(Event::Signaled { id: id.clone(), ticket, result });
    }

    fn send_held_signals(&mut self, serial: u64) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        let id = process.id.clone();
        for (signum, ticket) in std::mem::take(&mut process.signals) {
            self.signal(&id, signum, ticket);
        }
    }

    fn forget(&mut self, id: &ProcId) {
        let Some(serial) = self.serials.get(id).copied() else { return };
        let ended =
            matches!(self.processes.get(&serial), Some(Process { state: State::Ended, .. }));
        if !ended {
            return;
        }
        self.serials.remove(id);
        self.containment.forget(serial);
        self.serials.shrink_if_sparse();
        if let Some(process) = self.processes.remove(&serial) {
            process.captures.discard(());
            for open in process.open {
                match open {
                    OpenCapture::Pipe(pipe) => self.drop_pipe(pipe),
                    OpenCapture::Filter { pid, .. } => self.end_filter(pid),
                    OpenCapture::File { .. } => {}
                }
            }
        }
        self.recount(serial);
    }
}
