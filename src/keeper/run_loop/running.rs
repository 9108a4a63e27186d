//! Everything that exists only while processes can run: engine, instance, journal and table.

use std::convert::Infallible;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::commands::Commands;
use super::deletions::Deletions;
use super::last_resort::{LastResort, NextStep};
use super::worker_slot::Workers;
use crate::engine::mailbox::Mailbox;
use crate::engine::{Captures, Engine, Event, ProcessCommand, StopOrder};
use crate::keeper::descriptor_store::DescriptorStore;
use crate::keeper::descriptors;
use crate::keeper::format::{
    Acceptance, EventRef, HoldingFrame, JournalEntry, KeeperSettings, ProcessEntry,
    ShutdownCommand, ToWorker, WorkerRequest, WorkerState, encode,
};
use crate::keeper::groups;
use crate::keeper::instance::Instance;
use crate::keeper::job::TerminalJob;
use crate::keeper::journal::Journal;
use crate::keeper::listeners::{Listener, Listeners};
use crate::keeper::meaning::Mode;
use crate::keeper::process_table::ProcessTable;
use crate::keeper::readiness::AwaitedUpgrade;
use crate::keeper::worker_process::WorkerProcess;
use crate::logging;
use crate::spec::{Identity, Validated};

/// While more processes than this are starting, the keeper takes events once per
/// [`BATCH_INTERVAL`]: throughput matters more than the latency of a single event.
const BATCH_THRESHOLD: usize = 16;
const BATCH_INTERVAL: Duration = Duration::from_millis(4);
/// How often the keeper checks that its directories exist.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// How often the keeper touches its directories: cleaners of runtime directories may remove files
/// that are unused for six hours.
const TOUCH_INTERVAL: Duration = Duration::from_secs(3600);

/// The state of the keeper from the introduction of the first worker on.
pub(super) struct Running {
    pub(super) engine: Engine,
    /// Events on their way from the engine's thread.
    events: Arc<Mailbox<Event>>,
    /// The time of the last [`take_events`](Self::take_events).
    last_events: Instant,
    /// The settings of the first worker.
    pub(super) settings: KeeperSettings,
    pub(super) instance: Instance,
    /// Copies of the locks' descriptors, for workers. They are made before any process is started
    /// and kept: a copy for a moment would take a descriptor from a process that is being started.
    pub(super) locks: io::Result<Vec<Arc<OwnedFd>>>,
    /// `None` while the journal cannot be written.
    pub(super) journal: Option<Journal>,
    pub(super) table: ProcessTable,
    pub(super) deletions: Deletions,
    pub(super) commands: Commands,
    last_resort: LastResort,
    /// The kind of run.
    pub(super) mode: Mode,
    /// The ignored signals that are logged already; signal N is bit N - 1.
    pub(super) ignored: u64,
    /// Our job on the terminal, if a process is a part of it.
    pub(super) job: Option<TerminalJob>,
    /// The listeners of the worker's services.
    pub(super) listeners: Listeners,
    /// The upgrade that started this program, until the worker is ready.
    pub(super) awaited: Option<AwaitedUpgrade>,
    /// The captures of processes whose ends may not be in the journal yet.
    unwritten_ends: Vec<Arc<Captures>>,
    /// The service manager's descriptor store, if it can be of use.
    pub(super) store: Option<DescriptorStore>,
    /// Descriptors of holdings that may not have been sent yet.
    lent: usize,
    /// A buffer for an encoded event, which goes to the journal and to the worker.
    frame: Vec<u8>,
    /// The time of the next check of the directories.
    check_at: Instant,
    /// The time of the next touch of the directories.
    touch_at: Instant,
}

/// The parts that every kind of start provides.
pub(super) struct RunningParts {
    pub(super) engine: Engine,
    pub(super) events: Arc<Mailbox<Event>>,
    pub(super) settings: KeeperSettings,
    pub(super) instance: Instance,
    pub(super) table: ProcessTable,
    pub(super) commands: Commands,
    pub(super) mode: Mode,
    pub(super) listeners: Listeners,
    /// After an upgrade: the program's name and version.
    pub(super) awaited: Option<String>,
    pub(super) store: Option<DescriptorStore>,
}

impl Running {
    /// Begins a journal. Without a journal the keeper works, but a crash of it loses the processes.
    ///
    /// # Errors
    /// The OS error of creating a descriptor.
    pub(super) fn new(parts: RunningParts) -> io::Result<Running> {
        let RunningParts { engine, events, settings, instance, table, commands, .. } = parts;
        let deletions = Deletions::new()?;
        let journal = Journal::begin(&instance.journal(), &table, commands.state())
            .inspect_err(|error| tracing::error!(%error, "cannot write the journal"))
            .ok();
        let now = Instant::now();
        let locks = copies_of_locks(&instance);
        Ok(Running {
            locks,
            engine,
            events,
            last_events: now,
            settings,
            instance,
            journal,
            table,
            deletions,
            commands,
            last_resort: LastResort::default(),
            mode: parts.mode,
            ignored: 0,
            job: None,
            listeners: parts.listeners,
            awaited: parts.awaited.map(AwaitedUpgrade::new),
            unwritten_ends: Vec::new(),
            store: parts.store,
            lent: 0,
            frame: Vec::new(),
            check_at: now + CHECK_INTERVAL,
            touch_at: now + TOUCH_INTERVAL,
        })
    }

    /// Cleans up at the end of the program.
    pub(super) fn close(self: Box<Self>) {
        if !self.instance.is_lasting() {
            // With the instance, its processes are as good as deleted.
            self.discard_named_files();
        }
        let Running { instance, settings, .. } = *self;
        if let Some(parent) = &settings.limits.cgroup_parent {
            groups::remove(parent, &instance.capture_dirs().files);
        }
        instance.close();
    }

    /// Readable if events are queued.
    pub(super) fn events_fd(&self) -> BorrowedFd<'_> {
        self.events.fd()
    }

    /// The end of the current batch of events, if events are batched.
    pub(super) fn events_deferred_until(&self, now: Instant) -> Option<Instant> {
        let until = self.last_events + BATCH_INTERVAL;
        (self.table.starting() > BATCH_THRESHOLD && until > now).then_some(until)
    }

    /// Readable if the files of deleted processes are removed.
    pub(super) fn deletions_fd(&self) -> BorrowedFd<'_> {
        self.deletions.fd()
    }

    /// The times at which the loop has to wake.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Instant> {
        let ready = self.awaited.as_ref().map(AwaitedUpgrade::deadline);
        let store = self.store.as_ref().and_then(DescriptorStore::deadline);
        let others = [ready, store, self.deletions.deadline(), self.last_resort.deadline()];
        others.into_iter().flatten().chain([self.check_at])
    }

    /// The state that workers leave to their successors.
    pub(super) fn worker_state(&self) -> &WorkerState {
        self.commands.state()
    }

    /// The commands that a new worker receives.
    pub(super) fn pending_commands(&self) -> &[ShutdownCommand] {
        self.commands.pending()
    }

    /// Whether a command requires the program to end.
    pub(super) fn is_shutting_down(&self) -> bool {
        self.commands.is_shutting_down()
    }

    /// The entries of all processes, in the order of launch.
    pub(super) fn entries(&self) -> Vec<ProcessEntry> {
        self.table.iter().cloned().collect()
    }

    /// The instance's directory.
    pub(super) fn dir(&self) -> PathBuf {
        self.instance.dir()
    }

    /// Finishes a turn of the loop, and writes the journal.
    pub(super) fn finish_turn(&mut self, workers: &mut Workers) {
        self.forget_discarded(workers);
        if self.awaited.as_ref().is_some_and(AwaitedUpgrade::is_overdue) {
            self.worker_not_ready(None);
        }
        self.maintain_dirs(workers);
        self.write_journal();
        self.unwritten_ends.drain(..).for_each(|captures| captures.remove_needless());
        // Only now, so that the store keeps each process until the journal has its end.
        if let Some(store) = &mut self.store {
            store.progress();
        }
    }

    /// Reports to the engine that the descriptors of holdings are closed, once all have been sent.
    pub(super) fn settle_lent(&mut self, worker: Option<&WorkerProcess>) {
        let is_unsent = worker.is_some_and(WorkerProcess::has_unsent_descriptors)
            || self.store.as_ref().is_some_and(DescriptorStore::is_waiting);
        if self.lent > 0 && !is_unsent {
            self.engine.lent_closed(std::mem::take(&mut self.lent));
        }
    }

    /// Handles the queued events of the engine.
    pub(super) fn take_events(&mut self, workers: &mut Workers) {
        self.last_events = Instant::now();
        for event in self.events.take() {
            self.event(event, workers);
        }
    }

    /// Records an event, and queues it for the journal and the worker.
    fn event(&mut self, event: Event, workers: &mut Workers) {
        self.frame.clear();
        // Starts and ends have the same form in the journal and for the worker.
        let (message, enter) = match &event {
            Event::Started(started) => (EventRef::Started(started), true),
            Event::Ended(ended) => (EventRef::Ended(ended), true),
            Event::Signaled { id, ticket, result } => {
                let errno = result.as_ref().err().map(|e| e.raw_os_error().unwrap_or(libc::EIO));
                (EventRef::Signaled { id, ticket: *ticket, errno }, false)
            }
            Event::StopFailed { id, failures } => (EventRef::StopFailed { id, failures }, false),
            Event::Suspended { pid, signum, .. } => return self.suspended(*pid, *signum),
            Event::Held(_) | Event::Released(_) => return self.share(event, workers),
        };
        if let Err(error) = encode(&message, &mut self.frame) {
            tracing::error!(%error, "cannot encode an event for the journal and the worker");
        }
        if let (true, Some(journal)) = (enter, &mut self.journal) {
            journal.add_encoded(&self.frame);
        }
        workers.queue_encoded(&self.frame);
        match event {
            Event::Started(started) => self.table.started(*started),
            Event::Ended(ended) => {
                self.unwritten_ends.push(Arc::clone(&ended.captures));
                self.table.ended(ended);
            }
            Event::StopFailed { id, failures } => self.table.stop_failed(&id, failures),
            Event::Signaled { .. }
            | Event::Suspended { .. }
            | Event::Held(_)
            | Event::Released(_) => {}
        }
    }

    /// Passes the descriptors of a process on to those who hold them for the keeper's death: the
    /// worker and the service manager.
    fn share(&mut self, event: Event, workers: &mut Workers) {
        let worker = workers.up();
        match event {
            Event::Held(holding) => {
                self.lent += holding.descriptors();
                let Ok(frame) =
                    HoldingFrame::new(*holding).map(|fd| Ok::<_, Infallible>(Arc::new(fd)));
                if let Some(store) = &mut self.store {
                    store.hold(&frame);
                }
                let Some(worker) = worker else { return };
                let mut fds = Vec::new();
                let Ok(frame) = frame.map(|fd| {
                    fds.push(fd);
                    Ok::<_, Infallible>(true)
                });
                worker.queue_for_holder(&ToWorker::Held(frame), fds);
            }
            Event::Released(id) => {
                if let Some(store) = &mut self.store {
                    store.release(&id);
                }
                if let Some(worker) = worker {
                    worker.queue_for_holder(&ToWorker::Released(id), Vec::new());
                }
            }
            _ => {}
        }
    }

    /// Writes the queued entries to the journal. A removed journal is created again.
    pub(super) fn write_journal(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        if journal.is_gone() {
            // The journal reports a failure.
            let _ = self.instance.restorer()();
            journal.renew(&self.table, self.commands.state());
        }
        journal.flush(&self.table, self.commands.state());
    }

    /// Restores removed directories, and touches them, at intervals.
    fn maintain_dirs(&mut self, workers: &mut Workers) {
        let now = Instant::now();
        if self.check_at > now {
            return;
        }
        self.check_at = now + CHECK_INTERVAL;
        if self.touch_at <= now {
            self.touch_at = now + TOUCH_INTERVAL;
            self.instance.touch();
        }
        let lost_socket = self.instance.restore();
        if self.journal.is_none() {
            let (path, state) = (self.instance.journal(), self.commands.state());
            self.journal = Journal::begin(&path, &self.table, state).ok();
        }
        self.write_journal();
        if let Some(worker) = workers.up().filter(|_| lost_socket) {
            // The next worker creates the socket again.
            tracing::warn!("restarting the worker: its socket was removed");
            worker.kill();
        }
    }

    /// Does what the worker requests.
    pub(super) fn request(&mut self, request: WorkerRequest, workers: &mut Workers) {
        match request {
            WorkerRequest::Launch { request, ticket } => {
                let acceptance = self.launch(request);
                if let Some(ticket) = ticket {
                    workers.queue(&ToWorker::Accepted { ticket, acceptance });
                }
            }
            WorkerRequest::Forget(id) => self.forget(id, workers),
            WorkerRequest::Remember(state) => self.remember(state),
            WorkerRequest::Ready => self.worker_ready(),
            WorkerRequest::Hold { address, file, descriptor } => {
                if let Some(fd) = descriptor {
                    self.listeners.hold(Listener { address, file, fd });
                }
            }
            WorkerRequest::Listening { on, missing } => {
                self.listeners.agree(&on, missing);
                self.instance.note_missing(self.listeners.missing());
            }
        }
    }

    /// Keeps the state that a worker leaves to its successor.
    fn remember(&mut self, state: WorkerState) {
        logging::set_level(state.log_level);
        if let Some(journal) = &mut self.journal {
            journal.add(&JournalEntry::Memory(state.clone()));
        }
        self.commands.remember(state);
    }

    /// Starts processes, once the journal holds them.
    fn launch(&mut self, request: Validated) -> Acceptance {
        if let Some(id) = request.procs.keys().find(|id| self.table.get(id).is_some()) {
            tracing::error!(proc_id = %id, "refusing to start process: ID in use");
            return Acceptance::InUse;
        }
        for (id, proc) in &request.procs {
            let identity = Arc::new(Identity::from(proc));
            self.table.insert(id);
            self.table.set_identity(id, Arc::clone(&identity));
            if let Some(journal) = &mut self.journal {
                journal.add(&JournalEntry::Launched(id.clone()));
                journal.add(&JournalEntry::Identity(id.clone(), identity));
            }
        }
        if request.procs.values().any(|proc| proc.shares_terminal) {
            self.share_terminal();
        }
        // The journal has to hold a process before the process runs.
        self.write_journal();
        self.engine.launch(request);
        match &self.journal {
            Some(journal) if journal.is_complete() => Acceptance::Journaled,
            _ => Acceptance::NotJournaled,
        }
    }

    /// Starts INPUT's processes, unless a crashed keeper started them: then this keeper has adopted
    /// them.
    pub(super) fn start_input(&mut self, input: Option<Validated>) -> Result<(), String> {
        let Some(input) = input else { return Ok(()) };
        let known: Vec<&str> = input
            .procs
            .keys()
            .filter(|id| self.table.get(id).is_some())
            .map(AsRef::as_ref)
            .collect();
        if known.is_empty() {
            self.launch(input);
        } else if known.len() == input.procs.len() {
            tracing::warn!(
                "an earlier run has started the processes of these specs, taking them up"
            );
        } else {
            let known = known.join(", ");
            return Err(format!(
                "process ID already in use: {known}; delete the process first, or choose another ID"
            ));
        }
        Ok(())
    }

    /// Sends a shutdown command to the worker, and keeps it until a worker remembers it.
    pub(super) fn shut_down(&mut self, command: ShutdownCommand, workers: &mut Workers) {
        if workers.is_leaving() && command != ShutdownCommand::Idle {
            // Only the exit of the worker is outstanding, and something blocks it.
            workers.worker_mut().into_iter().for_each(|worker| worker.kill());
        }
        workers.queue(&ToWorker::Order(command));
        self.commands.add(command);
    }

    /// The next step of a shutdown if no worker stays alive.
    pub(super) fn next_step_without_worker(&mut self, workers: &Workers) -> NextStep {
        let kill = self.commands.is_kill_pending();
        let wanted = self.commands.is_shutting_down() && workers.crashed_too_often(kill);
        let running = self.table.iter().any(|entry| entry.ended.is_none());
        self.last_resort.step(wanted, running, Instant::now())
    }

    /// Kills all running processes.
    pub(super) fn kill_all(&self) {
        let order = StopOrder { signum: Some(libc::SIGKILL), ..StopOrder::default() };
        for entry in self.table.iter().filter(|entry| entry.ended.is_none()) {
            self.engine.command(entry.id.clone(), ProcessCommand::Stop(order), 0);
        }
    }
}

/// Copies of the descriptors of an instance's locks.
///
/// # Errors
/// The OS error of duplicating one.
pub(super) fn copies_of_locks(instance: &Instance) -> io::Result<Vec<Arc<OwnedFd>>> {
    let numbers = instance.handover().descriptors();
    numbers.into_iter().map(|fd| descriptors::duplicate(fd).map(Arc::new)).collect()
}
