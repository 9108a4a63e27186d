//! The driver: the thread that owns every process. It keeps the poller, the tables and the pool of
//! spawning threads; each [process](crate::engine::process) itself decides on its actions.

mod apply;
mod budget;
mod capture_writer_exits;
mod capture_writers;
mod drain;
mod exit_statuses;
mod exits;
mod files;
mod groups;
mod handover;
mod holdings;
mod io;
mod launch;
pub(super) mod message;
mod poller;
mod process_map;
mod request;
mod sealing;
mod stopping;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::epoll::{EpollEvent, EpollTimeout};

use crate::clock::monotonic;
use crate::engine::command::{Command, Quiesce};
use crate::engine::containment::{Containment, ControlGroups};
use crate::engine::event::Event;
use crate::engine::handover::Handover;
use crate::engine::lent::Lent;
use crate::engine::mailbox::Mailbox;
use crate::engine::options::EngineOptions;
use crate::engine::plan::{Accounts, LaunchContext, Privileges};
use crate::engine::process::effect::{Effect, Patience};
use crate::engine::process::{Input, Process};
use crate::engine::spawn::SpawnPool;
use crate::engine::sys;
use crate::engine::timers::Alarm;
use crate::mem::shrink::Shrink;
use crate::procfs::ProcFs;
use crate::spec::ProcId;
use budget::Budget;
use exit_statuses::ExitStatuses;
use io::{Io, Watched};
use message::DriverMessage;
use poller::Source;
use process_map::ProcessMap;
use request::{AtomicGroup, PipeGroup};
use sealing::Sealer;

/// Most jobs that wait for a spawning thread or a clone helper; more would only hold descriptors.
const MAX_QUEUED_JOBS: usize = 8;
/// Time that jobs wait without a free thread or clone helper before more are started.
const POOL_STALL: Duration = Duration::from_millis(20);

/// A number that no process has.
const NO_PROCESS: u64 = u64::MAX;

/// The receiver of the driver's events, in batches of one round.
pub(super) type Sink = Box<dyn FnMut(&mut Vec<Event>) + Send>;

/// Starts the driver's thread, with the state of an earlier engine, if any.
///
/// # Errors
/// The OS error of making its threads and descriptors.
pub(super) fn start(
    options: EngineOptions,
    (mailbox, lent): (Arc<Mailbox<DriverMessage>>, Arc<Lent>),
    sink: Sink,
    handover: Option<Handover>,
) -> std::io::Result<()> {
    let mut driver = Driver::new(options, mailbox, sink, lent)?;
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

struct Driver {
    options: EngineOptions,
    patience: Patience,
    io: Io,
    sink: Sink,
    /// Events that are reported at the end of the round.
    pending_events: Vec<Event>,
    /// An empty list that collects the effects of a process, to reuse its allocation.
    effects: Vec<Effect>,
    processes: ProcessMap,
    serials: HashMap<ProcId, u64>,
    /// The members of each process.
    containment: Box<dyn Containment>,
    /// The epoll token of the descriptor that reports ends of children.
    children_token: u64,
    next_serial: u64,
    /// Requested processes that are not planned yet.
    waiting: VecDeque<PipeGroup>,
    /// All-or-nothing groups whose start is not resolved.
    atomic_groups: HashMap<u64, AtomicGroup>,
    /// The process that is a part of our own job on the terminal.
    shares_terminal: Option<u64>,
    budget: Budget,
    pool: SpawnPool,
    last_spawned: Instant,
    last_cloned: Instant,
    procfs: ProcFs,
    /// The exit statuses of adopted processes, on kernels that do not keep them.
    exit_events: ExitStatuses,
    sealer: Sealer,
    /// Whether files get exactly the modes that we create them with.
    own_umask: bool,
    /// Whether a missing duplicate for the second holder was logged.
    holding_failed: bool,
    /// Whether a missing control group was logged.
    group_failed: bool,
    /// A request to pause.
    quiesce: Option<Quiesce>,
    stopped: bool,
}

impl Driver {
    fn new(
        options: EngineOptions,
        mailbox: Arc<Mailbox<DriverMessage>>,
        sink: Sink,
        lent: Arc<Lent>,
    ) -> std::io::Result<Self> {
        let to_driver = Arc::clone(&mailbox);
        let context = LaunchContext {
            inherited: Arc::clone(&options.inherited),
            restriction: options.restriction.clone(),
            files: options.capture_dirs.files.clone(),
            restore: options.restore.clone(),
            max_file_size: options.max_file_size,
            accounts: Accounts::new(),
            privileges: Privileges::now(options.gain_privileges),
        };
        let sealer = Sealer::new(Arc::clone(&mailbox));
        let deliver = Arc::new(move |spawned| to_driver.put(DriverMessage::Spawned(spawned)));
        let pool = SpawnPool::new(context, deliver)?;
        let mut io = Io::new(mailbox)?;
        io.poller.watch(pool.cloned(), Source::Cloned)?;
        let groups = options.groups.clone();
        let containment = ControlGroups::new(ProcFs::default(), pool.newborns(), groups);
        let children_token = match containment.child_events() {
            Some(events) => io.poller.watch_once(events, Source::Children)?,
            None => 0,
        };
        Ok(Driver {
            patience: Patience { setup: options.setup_timeout, drain: options.drain_timeout },
            options,
            io,
            sink,
            pending_events: Vec::new(),
            effects: Vec::new(),
            processes: ProcessMap::default(),
            serials: HashMap::new(),
            containment: Box::new(containment),
            children_token,
            next_serial: 0,
            waiting: VecDeque::new(),
            atomic_groups: HashMap::new(),
            shares_terminal: None,
            budget: Budget::of_this_process(lent),
            pool,
            last_spawned: Instant::now(),
            last_cloned: Instant::now(),
            procfs: ProcFs::default(),
            exit_events: ExitStatuses::default(),
            sealer,
            own_umask: false,
            holding_failed: false,
            group_failed: false,
            quiesce: None,
            stopped: false,
        })
    }

    fn run(&mut self) {
        let mut events = [EpollEvent::empty(); 256];
        while !self.stopped {
            self.schedule_scan();
            let ready = self.io.poller.wait(&mut events, self.timeout());
            self.containment.begin_round();
            for event in events.iter().take(ready) {
                self.handle(event.data());
            }
            let now = monotonic();
            while let Some(alarm) = self.io.timers.pop(now) {
                match alarm {
                    Alarm::Process(serial, alarm) => self.process_alarm(serial, alarm),
                    Alarm::OrphanScan => self.scan_members(),
                }
            }
            // Before new processes are planned, which takes time.
            self.flush_events();
            self.dispatch(Instant::now());
            self.flush_events();
            if self.quiesce.is_some() {
                self.quiesce();
            }
        }
    }

    /// Reports the pending events.
    fn flush_events(&mut self) {
        if !self.pending_events.is_empty() {
            (self.sink)(&mut self.pending_events);
            self.pending_events.clear();
            self.pending_events.shrink_if_sparse();
        }
    }

    /// The time to sleep: until the next alarm, or until stalled jobs need another thread.
    fn timeout(&self) -> EpollTimeout {
        let now = Instant::now();
        let alarm = self.io.timers.next_in(monotonic());
        let stall = |waiting, last: Instant| {
            (waiting > 0).then(|| (last + POOL_STALL).saturating_duration_since(now))
        };
        let stalls = [
            stall(self.pool.queued(), self.last_spawned),
            stall(self.pool.pending_clones(), self.last_cloned),
        ];
        match alarm.into_iter().chain(stalls.into_iter().flatten()).min() {
            // One millisecond more, because epoll rounds down and would wake up early again and
            // again. It cannot wait for more than 24 days at once.
            Some(wait) => EpollTimeout::try_from(wait.saturating_add(Duration::from_millis(1)))
                .unwrap_or(EpollTimeout::MAX),
            None => EpollTimeout::NONE,
        }
    }

    fn handle(&mut self, token: u64) {
        match self.io.poller.source(token) {
            Some(Source::Mailbox) => {
                for message in self.io.mailbox.take() {
                    self.message(message);
                }
            }
            Some(Source::Watcher) => {
                for watched in self.io.watcher.changed() {
                    match watched {
                        Watched::Capture(serial) => self.captures_may_have_ended(serial),
                        Watched::Group(serial) => self.group_changed(serial),
                    }
                }
            }
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
            Some(Source::CaptureWriter(pid)) => self.capture_writer_exited(pid),
            Some(Source::ExitEvents) => self.exit_events.read(),
            // Removed by an earlier event of the same round.
            None => {}
        }
    }

    fn message(&mut self, message: DriverMessage) {
        match message {
            DriverMessage::Command(command) => self.command(command),
            DriverMessage::Spawned(spawned) => self.spawned(spawned),
            DriverMessage::Sealed(serial) => self.sealed(serial),
            DriverMessage::Examined(serial) => self.captures_may_have_ended(serial),
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Launch(request) => self.request(request),
            Command::Process { id, command, ticket } => {
                let ticket = Some(ticket);
                self.on_id(id, Input::Command { command, ticket }, ticket);
            }
            Command::SignalGroup { id, signum } => {
                self.on_id(id, Input::SignalGroup { signum }, None);
            }
            Command::Adopt(started, holding) => self.adopt(*started, holding),
            Command::AdoptEnded(captures, holding) => self.adopt_ended(captures, holding),
            Command::ShareHoldings => self.share_holdings(),
            // The starts that wait are tried again in each round.
            Command::LentClosed => {}
            Command::Quiesce(quiesce) => self.quiesce = Some(quiesce),
            Command::Forget(id) => self.forget(&id),
            Command::EndDriver => self.stopped = true,
        }
    }

    /// Adds a new process: from now on it can be signaled, even before its start.
    fn insert_process(&mut self, process: Process) -> u64 {
        let serial = self.next_serial;
        self.next_serial += 1;
        self.serials.insert(process.id.clone(), serial);
        self.processes.insert(serial, process);
        serial
    }

    /// Plans waiting processes, as far as the spawning threads keep up.
    fn dispatch(&mut self, now: Instant) {
        // In batches, so that one wake of a thread serves several.
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
        // Clone helpers can stall while the threads that clone themselves make progress.
        if self.pool.pending_clones() == 0 {
            self.last_cloned = now;
        } else if now.saturating_duration_since(self.last_cloned) >= POOL_STALL {
            self.pool.grow_helpers();
            self.last_cloned = now;
        }
    }
}
