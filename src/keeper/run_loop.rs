//! The keeper's own loop: signals, the agent, the engine's events.

mod forgetting;
mod obey;
mod terminal;
mod upgrading;

use std::io;
use std::os::fd::RawFd;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};

use super::activation;
use super::agent_process::{AgentCommand, AgentProcess};
use super::check::NONCE;
use super::files::FILES_FD;
use super::format::{
    Acceptance, AgentState, EventRef, JournalEntry, KeeperSettings, Opening, ProcessEntry,
    ShutdownCommand, ToAgent, ToKeeper, UpgradeState, VERSION, encode, is_understood,
};
use super::instance::Instance;
use super::job::TerminalJob;
use super::journal::{self, Journal};
use super::listeners::{LISTENERS, Listener, Listeners};
use super::meaning::{Meaning, Mode, Terminal, meaning};
use super::process_table::ProcessTable;
use super::readiness::AwaitedUpgrade;
use super::secrets::{self, SECRETS_FD};
use super::signals::{ProgramExit, Received, Signals};
use super::upgrade::{self, Program};
use crate::clock::TimePoint;
use crate::config::NEVER_INHERITED;
use crate::engine::mailbox::Mailbox;
use crate::engine::permitted;
use crate::engine::{
    Captures, Ended, Engine, EngineOptions, Event, FILTER, Handover, Inherited, ProcessCommand,
    StopOrder,
};
use crate::logging;
use crate::mem::trim;
use crate::procfs::ProcFs;
use crate::spec::{Identity, Validated};
use forgetting::Forgetting;

/// The environment variable by which an agent knows that it is one: the number of its socket to the keeper.
pub const KEEPER_FD: &str = "PROCSTAR_KEEPER_FD";

/// The environment variable that tells an agent that it is not the first one.
pub const AGAIN: &str = "PROCSTAR_KEEPER_AGAIN";

/// An agent that has lived this long is started again at once when it dies.
const MIN_UPTIME: Duration = Duration::from_secs(1);
/// The waits before an agent that dies young is started again: this, doubled each time, up to the other.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// How many agents may die young before the keeper gives up one that never said a word, and follows orders by itself.
const MAX_CRASHES: u32 = 5;
/// How long killed processes may take to be gone, where there is no agent.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// While more processes than this wait to be made, which takes longer, what happens is told once in this time: who waits for so
/// many is served by their sum, not by one event at once.
const BATCH_THRESHOLD: usize = 16;
const BATCH_INTERVAL: Duration = Duration::from_millis(4);
/// How often the keeper looks whether its directories are there.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// How often it touches them: cleaners of runtime directories may remove what has not been used for six hours.
const TOUCH_INTERVAL: Duration = Duration::from_secs(3600);
/// How often is looked while nothing can be polled.
const POLL_FALLBACK: Duration = Duration::from_millis(5);

/// How long looking up files that an earlier keeper's specs have named may delay the start.
const FIND_FILES_TIMEOUT: Duration = Duration::from_secs(3);

/// What the launched program was started with.
#[derive(Clone)]
pub struct LaunchEnvironment {
    /// When.
    pub start: TimePoint,
    /// Its fds from 3 up, which are now close-on-exec.
    pub fds: Vec<RawFd>,
    /// Its open-file limit, soft and hard, where the soft one has been raised.
    pub nofile: Option<(u64, u64)>,
}

impl LaunchEnvironment {
    fn inherited(&self) -> Arc<Inherited> {
        let hidden = [
            KEEPER_FD,
            FILES_FD,
            AGAIN,
            upgrade::STATE_FD,
            upgrade::CHECK_FD,
            NONCE,
            FILTER,
            SECRETS_FD,
            LISTENERS,
        ];
        // Those for this process would mislead its children.
        let listen_pid = std::env::var_os("LISTEN_PID");
        let ours = activation::is_for(listen_pid.as_deref(), std::process::id());
        let activation = if ours { &activation::VARIABLES[..] } else { &[] };
        let hidden = [NEVER_INHERITED, &hidden, activation].concat();
        let fds = self.fds.iter().copied();
        let inherited = Inherited::new(std::env::vars_os(), &hidden, fds, self.nofile);
        Arc::new(inherited.ignoring(crate::engine::ignored_signals()))
    }
}

/// Keeps processes until the agent says that all is done; returns how the program ends.
///
/// # Errors
/// What the keeper itself needs of the system; nothing has been started then.
pub fn keep(environment: LaunchEnvironment, agents: AgentCommand) -> io::Result<ProgramExit> {
    Ok(Keeper::new(environment, agents)?.run_to_the_end())
}

/// Goes on for the program that has left this state in this process.
///
/// # Errors
/// What the keeper itself needs of the system.
pub fn resume(state: UpgradeState, agents: AgentCommand) -> io::Result<ProgramExit> {
    let environment =
        LaunchEnvironment { start: state.start, fds: state.fds.clone(), nofile: state.nofile };
    let mut keeper = Keeper::new(environment, agents)?;
    keeper.restore(state)?;
    Ok(keeper.run_to_the_end())
}

/// Whether a signal that an agent dies of, before it listens to any, is an order.
fn is_order(signum: &i32) -> bool {
    [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM].contains(signum)
}

/// What has woken the loop.
#[derive(Clone, Copy, Default)]
struct Woken {
    events: bool,
    signals: bool,
    /// The agent has ended.
    ended: bool,
    /// The agent has said something, or hung up.
    said: bool,
}

impl Woken {
    /// Whoever may have something is looked at.
    const ALL: Woken = Woken { events: true, signals: true, ended: true, said: true };
}

struct Keeper {
    environment: LaunchEnvironment,
    agents: AgentCommand,
    program: Program,
    /// Events on their way from the engine's thread.
    post: Arc<Mailbox<Event>>,
    signals: Signals,
    /// Signals that have come before the agent had introduced itself.
    early: Vec<Received>,
    /// The signals whose being ignored has been logged; signal N is bit N - 1.
    ignored: u64,
    /// The kind of run, once the agent has reported it.
    mode: Option<Mode>,
    /// Both, and the journal, from the first agent's introduction on.
    engine: Option<Engine>,
    settings: Option<KeeperSettings>,
    instance: Option<Instance>,
    journal: Option<Journal>,
    table: ProcessTable,
    forgetting: Forgetting,
    memory: AgentState,
    agent: Option<AgentProcess>,
    /// When to start the next agent.
    next_agent: Option<Instant>,
    /// How many agents have died young in a row.
    crash_count: u32,
    /// Orders that no agent has told us to remember: each agent hears of them until one does.
    orders: Vec<ShutdownCommand>,
    /// When to end without an agent, though processes still run.
    kill_deadline: Option<Instant>,
    /// How the program ends, once it is over.
    exit: Option<ProgramExit>,
    /// Whether the agent has said goodbye, and how the program is to end.
    bye: Option<ProgramExit>,
    /// Our job on the terminal, where a process is a part of it.
    job: Option<TerminalJob>,
    /// Whether the first agent was refused: it then tells the user, and knows the exit code.
    refused: bool,
    /// When events were last taken.
    last_events: Instant,
    /// An event as it is encoded, for the journal and for the agent.
    frame: Vec<u8>,
    /// When to give memory back, unless something happens before.
    trim_at: Option<Instant>,
    /// The upgrade that has made this program the keeper, until its agent is ready.
    awaited: Option<AwaitedUpgrade>,
    /// When to look whether the directories are there.
    check_at: Instant,
    /// When to touch what is in them.
    touch_at: Instant,
    /// What the agent's services listen on.
    listeners: Listeners,
}

impl Keeper {
    fn new(environment: LaunchEnvironment, agents: AgentCommand) -> io::Result<Self> {
        let signals = Signals::new()?;
        // The engine hears of it by a descriptor, and reaps orphans, whose subreaper we are.
        SigSet::from_iter([Signal::SIGCHLD]).thread_block()?;
        crate::engine::become_subreaper()?;
        Ok(Keeper {
            environment,
            agents,
            program: Program::of_this_process()?,
            post: Arc::new(Mailbox::new()?),
            signals,
            early: Vec::new(),
            ignored: 0,
            mode: None,
            engine: None,
            settings: None,
            instance: None,
            journal: None,
            table: ProcessTable::default(),
            forgetting: Forgetting::new()?,
            memory: AgentState::default(),
            agent: None,
            next_agent: Some(Instant::now()),
            crash_count: 0,
            orders: Vec::new(),
            kill_deadline: None,
            exit: None,
            bye: None,
            job: None,
            refused: false,
            last_events: Instant::now(),
            frame: Vec::new(),
            trim_at: None,
            awaited: None,
            check_at: Instant::now() + CHECK_INTERVAL,
            touch_at: Instant::now() + TOUCH_INTERVAL,
            listeners: Listeners::default(),
        })
    }

    fn run_to_the_end(mut self) -> ProgramExit {
        let exit = self.run();
        if let Some(instance) = self.instance.take() {
            if !instance.is_lasting() {
                // With the instance, its processes are as good as deleted.
                self.discard_named_files();
            }
            instance.close();
        }
        exit
    }

    fn run(&mut self) -> ProgramExit {
        loop {
            if let Some(exit) = self.exit {
                return exit;
            }
            if self.next_agent.is_some_and(|at| at <= Instant::now()) {
                self.start_agent();
            }
            let woken = self.wait();
            self.trim_when_idle(woken);
            if woken.events {
                self.take_events();
            }
            if woken.signals {
                self.take_signals();
            }
            self.control_job();
            self.handle_agent(woken);
            self.forget_discarded();
            self.shut_down_without_agent();
            if self.awaited.as_ref().is_some_and(AwaitedUpgrade::is_overdue) {
                self.agent_not_ready(None);
            }
            self.maintain_dirs();
            self.flush();
        }
    }

    /// Sleeps until something happens.
    fn wait(&self) -> Woken {
        let now = Instant::now();
        let agent = self.agent.as_ref();
        let socket = agent.and_then(AgentProcess::socket);
        let paced = Some(self.last_events + BATCH_INTERVAL)
            .filter(|at| self.table.starting() > BATCH_THRESHOLD && *at > now);
        let wanted = |when: bool, what: PollFlags| if when { what } else { PollFlags::empty() };
        let sends = agent.is_some_and(AgentProcess::wants_to_send);
        // Of what is not there, our own signals stand in the place, and are not asked for.
        let none = self.signals.fd();
        let mut fds = [
            PollFd::new(self.post.fd(), wanted(paced.is_none(), PollFlags::POLLIN)),
            PollFd::new(self.signals.fd(), PollFlags::POLLIN),
            PollFd::new(
                agent.map_or(none, AgentProcess::pidfd),
                wanted(agent.is_some(), PollFlags::POLLIN),
            ),
            PollFd::new(
                socket.unwrap_or(none),
                wanted(socket.is_some(), PollFlags::POLLIN) | wanted(sends, PollFlags::POLLOUT),
            ),
            PollFd::new(
                self.job.as_ref().map_or(none, TerminalJob::fd),
                wanted(self.job.is_some(), PollFlags::POLLIN),
            ),
            PollFd::new(self.forgetting.fd(), PollFlags::POLLIN),
        ];
        let overdue = agent.and_then(AgentProcess::deadline);
        let ready = self.awaited.as_ref().map(AwaitedUpgrade::deadline);
        let look = self.instance.is_some().then_some(self.check_at);
        let forget = self.forgetting.deadline();
        let next = [
            self.next_agent,
            self.kill_deadline,
            overdue,
            paced,
            self.trim_at,
            ready,
            look,
            forget,
        ];
        let next = next.into_iter().flatten().min();
        let timeout = next.map_or(PollTimeout::NONE, |at| {
            let wait = at.saturating_duration_since(now) + Duration::from_millis(1);
            PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            // EINTR is as good as an event.
            Ok(_) | Err(Errno::EINTR) => {}
            // The kernel polls no more descriptors than the limit allows, and that may have been set below these since. None of them
            // blocks, so all are looked at, now and then.
            Err(_) => {
                std::thread::sleep(POLL_FALLBACK);
                return Woken::ALL;
            }
        }
        // An error is noticed by whoever reads.
        let [events, signals, ended, said, ..] = fds
            .map(|fd| fd.revents().is_some_and(|found| !(found - PollFlags::POLLOUT).is_empty()));
        Woken { events, signals, ended, said }
    }

    /// Gives memory back once nothing has happened for a while.
    fn trim_when_idle(&mut self, woken: Woken) {
        let now = Instant::now();
        if woken.events || woken.signals || woken.ended || woken.said {
            self.trim_at = Some(now + trim::IDLE);
        } else if self.trim_at.is_some_and(|at| at <= now) {
            self.trim_at = None;
            trim::trim_memory();
        }
    }

    /// Takes what the engine has told.
    fn take_events(&mut self) {
        self.last_events = Instant::now();
        for event in self.post.take() {
            self.event(event);
        }
    }

    /// Writes into the journal what has happened, and then tells the agent: it hears of nothing that is not written.
    fn flush(&mut self) {
        self.write_journal();
        if let Some(agent) = &mut self.agent {
            agent.send();
        }
    }

    fn write_journal(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        if journal.is_gone() {
            if let Some(restore) = self.instance.as_ref().map(Instance::restorer) {
                // Where it cannot, the journal says so.
                let _ = restore();
            }
            journal.renew(&self.table, &self.memory);
        }
        journal.flush(&self.table, &self.memory);
    }

    /// Looks after the directories now and then: what somebody has removed is made again, and nothing in them looks old.
    fn maintain_dirs(&mut self) {
        let now = Instant::now();
        let Some(instance) = self.instance.as_mut().filter(|_| self.check_at <= now) else {
            return;
        };
        self.check_at = now + CHECK_INTERVAL;
        if self.touch_at <= now {
            self.touch_at = now + TOUCH_INTERVAL;
            instance.touch();
        }
        let lost_socket = instance.restore();
        if self.journal.is_none() {
            self.journal = Journal::begin(&instance.journal(), &self.table, &self.memory).ok();
        }
        self.write_journal();
        if let Some(agent) = self.agent.as_mut().filter(|agent| lost_socket && agent.welcomed) {
            // The next one listens where commands look for it.
            tracing::warn!("starting the agent again, for its socket was removed");
            agent.kill();
        }
    }

    fn start_agent(&mut self) {
        match AgentProcess::start(
            &self.agents,
            self.engine.is_some(),
            &self.environment.fds,
            &self.listeners,
        ) {
            Ok(agent) => {
                self.agent = Some(agent);
                self.next_agent = None;
            }
            Err(error) => {
                tracing::error!(%error, "cannot start the agent");
                self.agent_died(false);
                if self.engine.is_none() && self.exit.is_some() {
                    // Nobody else can: no agent has ever run, and no log is set up.
                    let text =
                        format!("procstar: cannot start a process of this program: {error}\n");
                    let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
                }
            }
        }
    }

    /// Takes what the agent says; notices its end.
    fn handle_agent(&mut self, woken: Woken) {
        let Some(agent) = &mut self.agent else { return };
        // In this order: what it said last, its goodbye too, is there once it has ended.
        let ended = if woken.ended { agent.ended() } else { None };
        let messages = if woken.said || ended.is_some() { agent.receive() } else { Vec::new() };
        agent.kill_if_overdue(self.bye.is_some());
        let old = agent.born.elapsed() >= MIN_UPTIME;
        for message in messages {
            self.message(message);
        }
        let Some(status) = ended else { return };
        let said_hello = self.agent.take().is_some_and(|agent| agent.welcomed);
        if let Some(exit) = self.bye {
            let own = status.code().and_then(|own| u8::try_from(own).ok()).map(ProgramExit::Code);
            self.exit = own.filter(|_| self.refused).or(Some(exit));
        } else if let (None, Some(signum)) = (&self.engine, status.signal().filter(is_order)) {
            // It was still reading what to start.
            self.exit = Some(ProgramExit::Signal(signum));
        } else if let (None, Some(code)) = (&self.engine, status.code()) {
            // It has told the user what is wrong, or what was asked for; nothing was started.
            self.exit = Some(ProgramExit::Code(u8::try_from(code).unwrap_or(1)));
        } else {
            tracing::warn!(%status, "the agent has died, starting it again; no process is lost");
            // It died of an order that came before it listened to any.
            if let Some(signum) = status.signal().filter(is_order)
                && let Meaning::ShutDown(order) =
                    meaning(signum, self.mode.unwrap_or_default(), Terminal::None)
            {
                self.order(order);
            }
            self.agent_died(old && said_hello);
        }
    }

    /// Plans the next agent.
    fn agent_died(&mut self, old: bool) {
        self.crash_count = if old { 0 } else { self.crash_count + 1 };
        if self.engine.is_none() && self.crash_count >= MAX_CRASHES {
            self.exit = Some(ProgramExit::Code(1));
            return;
        }
        let wait = match self.crash_count {
            0 => Duration::ZERO,
            n => (FIRST_BACKOFF * 2u32.saturating_pow(n.min(20) - 1)).min(MAX_BACKOFF),
        };
        self.next_agent = Some(Instant::now() + wait);
    }

    fn start_engine(
        &self,
        instance: &Instance,
        settings: &KeeperSettings,
        handover: Option<Handover>,
    ) -> io::Result<Engine> {
        let restriction =
            settings.restrict_exe.restriction().map_err(io::Error::other)?.map(Arc::new);
        let options = EngineOptions {
            places: instance.places(),
            epoch: TimePoint::now().unix_nanos.unsigned_abs(),
            drain_grace: settings.drain_grace,
            setup_patience: settings.setup_patience,
            restriction,
            inherited: self.environment.inherited(),
            filter: permitted::own_program(),
            limit: settings.limits.of_captures(),
            max_file_size: settings.limits.max_file_size,
            gain_privileges: settings.limits.gain_privileges,
            restore: Some(Arc::new(instance.restorer())),
        };
        let post = Arc::clone(&self.post);
        let sink = move |events: &mut Vec<Event>| post.put_all(events);
        match handover {
            Some(handover) => Engine::resume(options, handover, sink),
            None => Engine::start_batched(options, sink),
        }
    }

    /// Passes an order on, and keeps it until an agent has told us to remember it.
    fn order(&mut self, order: ShutdownCommand) {
        if let (Some(_), Some(agent)) = (self.bye, &mut self.agent)
            && order != ShutdownCommand::Idle
        {
            // All is done but its own end, which something holds up.
            agent.kill();
        }
        if let Some(agent) = &mut self.agent
            && agent.welcomed
        {
            agent.tell(&ToAgent::Order(order));
        }
        let known = |known: &ShutdownCommand| known.kept() == order.kept();
        if !self.orders.iter().any(known) && !self.memory.orders.iter().any(known) {
            self.orders.push(order);
        }
    }

    /// Where no agent can be started, and we are to end: kills what runs, and ends once it is gone.
    fn shut_down_without_agent(&mut self) {
        let ordered =
            self.orders.iter().chain(&self.memory.orders).any(|o| *o != ShutdownCommand::Idle);
        // One that is there may still introduce itself; but whoever orders to kill has waited long enough.
        let kill = self.orders.contains(&ShutdownCommand::Kill);
        let hope = self.agent.as_ref().is_some_and(|agent| agent.welcomed || !kill);
        if !ordered || hope || self.crash_count < MAX_CRASHES || self.exit.is_some() {
            self.kill_deadline = None;
            return;
        }
        let running = || self.table.iter().filter(|record| record.ended.is_none());
        if self.kill_deadline.is_none() {
            let Some(engine) = &self.engine else { return };
            let order = StopOrder { signum: Some(libc::SIGKILL), ..StopOrder::default() };
            for record in running() {
                engine.command(record.id.clone(), ProcessCommand::Stop(order), 0);
            }
        }
        let until = *self.kill_deadline.get_or_insert_with(|| Instant::now() + KILL_TIMEOUT);
        if running().next().is_none() || until <= Instant::now() {
            self.exit = Some(ProgramExit::Code(1));
        }
    }

    /// Notes an event, and queues it for the journal and for the agent.
    fn event(&mut self, event: Event) {
        self.frame.clear();
        // Starts and ends have the same form in the journal and for the agent.
        let (told, enter) = match &event {
            Event::Started(started) => (EventRef::Started(started), true),
            Event::Ended(ended) => (EventRef::Ended(ended), true),
            Event::Signaled { id, ticket, result } => {
                let errno = result.as_ref().err().map(|e| e.raw_os_error().unwrap_or(libc::EIO));
                (EventRef::Signaled { id, ticket: *ticket, errno }, false)
            }
            Event::StopFailed { id, failures } => (EventRef::StopFailed { id, failures }, false),
            Event::Suspended { pid, signum, .. } => return self.suspended(*pid, *signum),
        };
        if let Err(error) = encode(&told, &mut self.frame) {
            tracing::error!(%error, "cannot tell of an event");
        }
        if let (true, Some(journal)) = (enter, &mut self.journal) {
            journal.add_encoded(&self.frame);
        }
        if let Some(agent) = &mut self.agent
            && agent.welcomed
        {
            agent.tell_encoded(&self.frame);
        }
        match event {
            Event::Started(started) => self.table.started(*started),
            Event::Ended(ended) => self.table.ended(ended),
            Event::StopFailed { id, failures } => self.table.stop_failed(&id, failures),
            Event::Signaled { .. } | Event::Suspended { .. } => {}
        }
    }

    fn message(&mut self, message: ToKeeper) {
        if self.engine.is_none() && !message.may_come_first() {
            return tracing::error!("the agent has not introduced itself");
        }
        match message {
            ToKeeper::Mode(mode) => self.mode = Some(mode),
            ToKeeper::ReadUp { fd, bytes } => self.environment.put_back(fd, &bytes),
            ToKeeper::Hello { version, settings, opening, input } => {
                self.hello(version, &settings, &opening, input);
            }
            ToKeeper::Launch(request) => {
                self.launch(request);
            }
            ToKeeper::LaunchAcknowledged { request, ticket } => {
                let acceptance = self.launch(request);
                if let Some(agent) = &mut self.agent {
                    agent.tell(&ToAgent::Accepted { ticket, acceptance });
                }
            }
            ToKeeper::Forget(id) => self.forget(id),
            ToKeeper::Remember(memory) => {
                self.orders.retain(|order| !memory.orders.contains(&order.kept()));
                self.memory = memory;
                logging::set_level(self.memory.log_level);
                if let Some(journal) = &mut self.journal {
                    journal.add(&JournalEntry::Memory(self.memory.clone()));
                }
            }
            ToKeeper::Ready => self.agent_ready(),
            ToKeeper::Hold { address, file, descriptor } => {
                if let Some(fd) = descriptor {
                    self.listeners.hold(Listener { address, file, fd });
                }
            }
            ToKeeper::Listening { on, missing } => {
                self.listeners.agree(&on, missing);
                if let Some(instance) = &self.instance {
                    instance.note_missing(self.listeners.missing());
                }
            }
            ToKeeper::Failed { message } => self.agent_not_ready(Some(&message)),
            ToKeeper::Bye { code, signal } => {
                self.goodbye(signal.map_or(ProgramExit::Code(code), ProgramExit::Signal));
            }
            verb => {
                if let (Some(engine), Some((id, command, ticket))) =
                    (&self.engine, verb.into_process_command())
                {
                    engine.command(id, command, ticket);
                }
            }
        }
    }

    /// The agent has said goodbye. After an order to end, whatever it still writes for the user is not waited for long.
    fn goodbye(&mut self, exit: ProgramExit) {
        self.bye = Some(exit);
        let ordered =
            self.orders.iter().chain(&self.memory.orders).any(|o| *o != ShutdownCommand::Idle);
        if let (true, Some(agent)) = (ordered, &mut self.agent) {
            agent.end_soon();
        }
    }

    /// Starts processes, once the journal holds them.
    fn launch(&mut self, request: Validated) -> Acceptance {
        if let Some(id) = request.procs.keys().find(|id| self.table.get(id).is_some()) {
            tracing::error!(proc_id = %id, "asked to start a process that is there");
            return Acceptance::InUse;
        }
        for (id, proc) in &request.procs {
            let identity = Arc::new(Identity::from(proc));
            self.table.insert(id);
            self.table.set_identity(id, Arc::clone(&identity));
            if let Some(journal) = &mut self.journal {
                journal.add(&JournalEntry::Launched(id.clone()));
                journal.add(&JournalEntry::Asked(id.clone(), identity));
            }
        }
        if request.procs.values().any(|proc| proc.shares_terminal) {
            self.share_terminal();
        }
        // Before anything runs.
        self.write_journal();
        if let Some(engine) = &self.engine {
            engine.launch(request);
        }
        match &self.journal {
            Some(journal) if journal.is_complete() => Acceptance::Journaled,
            _ => Acceptance::NotJournaled,
        }
    }

    /// An agent introduces itself. The first one brings the settings.
    fn hello(
        &mut self,
        version: u32,
        settings: &KeeperSettings,
        opening: &Opening,
        input: Option<Validated>,
    ) {
        let first = self.engine.is_none();
        let begun = match version {
            understood if first && is_understood(understood) => {
                self.begin(settings, opening).and_then(|()| self.start_input(input))
            }
            understood if is_understood(understood) => Ok(()),
            other => Err(format!("the keeper speaks version {VERSION}, the agent {other}")),
        };
        if let Err(message) = begun {
            if let Some(agent) = &mut self.agent {
                agent.tell(&ToAgent::Refused { message });
            }
            if first {
                // What lies in the directory is as it was, and stays.
                self.instance = None;
                self.bye = Some(ProgramExit::Code(2));
                self.refused = true;
            }
            return;
        }
        self.forget_all();
        let welcome = ToAgent::Welcome {
            pid: std::process::id(),
            ppid: std::os::unix::process::parent_id(),
            start: self.environment.start,
            first,
            memory: self.memory.clone(),
            records: self.table.iter().cloned().collect(),
            dir: self.instance.as_ref().map(Instance::dir),
        };
        if let Some(agent) = &mut self.agent {
            agent.tell(&welcome);
            agent.welcomed = true;
            for order in &self.orders {
                agent.tell(&ToAgent::Order(*order));
            }
        }
        self.obey_early();
    }

    /// Starts INPUT's processes, unless the keeper that died had started them: then they are taken up, as all it had.
    fn start_input(&mut self, input: Option<Validated>) -> Result<(), String> {
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
            return Err(format!("proc ID already in use: {}", known.join(", ")));
        }
        Ok(())
    }

    /// Takes the instance's directory, takes up what its journal tells, and starts the engine.
    fn begin(&mut self, settings: &KeeperSettings, opening: &Opening) -> Result<(), String> {
        // The agent tells the user where the log cannot be had.
        let _ = logging::init(&settings.log);
        let instance = Instance::open(settings, opening).map_err(|error| error.to_string())?;
        // Not before: commands see by our program that an instance is about to enter itself. No process is started yet.
        secrets::protect();
        let engine = self
            .start_engine(&instance, settings, None)
            .map_err(|error| format!("cannot start the engine: {error}"))?;
        match journal::read_all(&instance.journal()) {
            Ok((records, memory)) => {
                // Orders were given to the one that has ended.
                self.memory = AgentState { conn_id: memory.conn_id, ..AgentState::default() };
                let deadline = Instant::now() + FIND_FILES_TIMEOUT;
                let captures = records.iter().flat_map(ProcessEntry::captures);
                Captures::find_named(captures, deadline);
                for record in records {
                    self.adopt(&engine, record, deadline);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(format!("cannot read {}: {error}", instance.journal().display()));
            }
        }
        let journal = self.begin_journal(&instance);
        self.engine = Some(engine);
        self.settings = Some(settings.clone());
        self.journal = journal;
        self.instance = Some(instance);
        Ok(())
    }

    /// Begins a journal. Without one all goes on; only the successor of a keeper that dies would miss it.
    fn begin_journal(&self, instance: &Instance) -> Option<Journal> {
        Journal::begin(&instance.journal(), &self.table, &self.memory)
            .inspect_err(|error| tracing::error!(%error, "cannot write the journal"))
            .ok()
    }

    /// Takes up a process of a keeper that died.
    fn adopt(&mut self, engine: &Engine, record: ProcessEntry, deadline: Instant) {
        let ProcessEntry { id, started, ended, identity, .. } = record;
        self.table.insert(&id);
        if let Some(identity) = identity {
            self.table.set_identity(&id, identity);
        }
        match (started, ended) {
            (Some(started), None) => {
                let record =
                    ProcessEntry { started: Some(started.clone()), ..ProcessEntry::new(id) };
                self.table.started(started.clone());
                if journal::is_alive(&record, &ProcFs::default()) {
                    tracing::warn!(proc_id = %record.id, pid = started.pid, "adopting a process that has outlived its keeper");
                    engine.adopt(started);
                } else {
                    started.captures.see_named(deadline);
                    self.table.ended(Box::new(Ended::lost(started)));
                }
            }
            (started, Some(ended)) => {
                if let Some(started) = started {
                    self.table.started(started);
                }
                self.table.ended(ended);
            }
            (None, None) => self.table.ended(Box::new(Ended::unknown(id))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::upgrading::DONE;
    use super::*;
    use crate::keeper::agent_process::tests::agent;
    use std::io::Write;

    /// Of the orders that mean the same, an agent that comes later hears of the first, and that one is enough for all.
    #[test]
    fn an_interrupt_is_kept_as_what_it_orders() {
        let environment =
            LaunchEnvironment { start: TimePoint::now(), fds: Vec::new(), nofile: None };
        let mut keeper = Keeper::new(environment, AgentCommand::this_program()).unwrap();
        for order in [
            ShutdownCommand::Interrupt,
            ShutdownCommand::Terminate,
            ShutdownCommand::Interrupt,
            ShutdownCommand::Kill,
        ] {
            keeper.order(order);
        }
        assert_eq!(keeper.orders, [ShutdownCommand::Interrupt, ShutdownCommand::Kill]);
        assert_eq!(ShutdownCommand::Interrupt.kept(), ShutdownCommand::Terminate);
        keeper.memory.orders = vec![ShutdownCommand::Terminate];
        keeper.orders.clear();
        keeper.order(ShutdownCommand::Interrupt);
        assert!(keeper.orders.is_empty());
    }

    /// What an agent has said before it is ended for an upgrade counts: after its goodbye there is none.
    #[test]
    fn a_goodbye_that_an_upgrade_comes_upon_ends_the_program() {
        let environment =
            LaunchEnvironment { start: TimePoint::now(), fds: Vec::new(), nofile: None };
        let mut keeper = Keeper::new(environment, AgentCommand::this_program()).unwrap();
        let (agent, mut theirs) = agent();
        keeper.agent = Some(agent);
        let mut bye = Vec::new();
        encode(&ToKeeper::Bye { code: 5, signal: None }, &mut bye).unwrap();
        theirs.write_all(&bye).unwrap();
        assert_eq!(keeper.end_agent_for_upgrade(), Err(DONE.to_owned()));
        assert!(keeper.agent.is_none());
        assert_eq!(keeper.run(), ProgramExit::Code(5));
        // Another one had nothing to say.
        let (agent, _theirs) = self::agent();
        (keeper.agent, keeper.bye, keeper.exit) = (Some(agent), None, None);
        assert_eq!(keeper.end_agent_for_upgrade(), Ok(()));
        assert!(keeper.agent.is_none() && keeper.exit.is_none());
    }
}
