//! The agent's composition root: from options to an exit code.
//!
//! In this order: what can fail without harm (reading INPUT, the certificate, the HTTP port), the introduction to the keeper, which starts
//! INPUT's processes, the actors, signals, the services; then the end, whoever orders it: results written, the server
//! told, HTTP stopped, the keeper told.

mod foreground;
mod http_access;
mod listening;
mod patience;
mod progress;
pub mod rehearse;
mod runtime;
mod service;

use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, StreamHandler};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::actors::EngineLink;
use crate::actors::connection::{self, Connection, Finish, Outcome};
use crate::actors::keeper_link::{
    self, KeeperLink, LinkError, Streams, Welcome, introduce, leave_read, report_mode,
};
use crate::actors::lifecycle::{EndWhen, Graces};
use crate::actors::messages::{GetAll, GetOne, ResumeShutdown};
use crate::actors::results::Results;
use crate::actors::sampler::{SamplerActor, SamplingHandle};
use crate::actors::signals::{self, Signals};
use crate::actors::supervisor::{
    Quota, QuotaExceeded, Ready, Supervisor, SupervisorOutputs, warn_of_systemd,
};
use crate::cli::input::{InputError, name_of, read_text};
use crate::cli::options::{Input, Run};
use crate::cli::run_command::{EXIT_INTERNAL, Foreground, ResultTo};
use crate::cli::{descriptor, printing};
use crate::config::{Env, LogLevel, SamplingSettings, Settings};
use crate::engine::procfs::ProcFs;
use crate::engine::{Event, TimePoint};
use crate::http;
use crate::keeper::format::Printing;
use crate::keeper::meaning::Mode;
use crate::keeper::{AGAIN, ProgramExit, format, registry};
use crate::logging;
use crate::net::dial::WssDialer;
use crate::net::socket::SocketLimits;
use crate::net::tls;
use crate::page_key::PageKey;
use crate::report::{AgentInfo, ProcessRecord, ResultContext};
use crate::rotating::Rotating;
use crate::spec::{self, LimitSpec, ProcId, Validated};
use crate::wire::{ConnInfo, ProcInfo};
use listening::Listening;
pub use listening::{Before, Given};
use patience::{GivenUp, Patience};
use progress::Progress;

/// How long a child's set-up may take before it is reported as running.
const SETUP_PATIENCE: Duration = Duration::from_millis(500);
/// How long the server has, at the end, to take what is still to be told.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// Standard output, in errors.
const STDOUT: &str = "standard output";

/// Why a run did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The place of `--output` is none for a file; nothing was started.
    #[error("cannot write results to {to}: {source}")]
    Output {
        /// Where to.
        to: String,
        /// Why not.
        source: io::Error,
    },
    /// INPUT cannot be read.
    #[error(transparent)]
    Read(#[from] InputError),
    /// INPUT is no valid spec; nothing was started.
    #[error("{}", spec_errors(input, errors))]
    Spec {
        /// What was read.
        input: String,
        /// All that is wrong with it.
        errors: spec::SpecErrors,
    },
    /// INPUT asks for more than may be; nothing was started.
    #[error("{input}: {error}")]
    Quota {
        /// What was read.
        input: String,
        /// What it goes beyond.
        error: QuotaExceeded,
    },
    /// A file of certificates is of no use.
    #[error("{setting}: {source}")]
    Cert {
        /// The setting that names it.
        setting: &'static str,
        /// What is wrong with it.
        source: tls::TlsError,
    },
    /// The HTTP port cannot be had.
    #[error("cannot listen on {} port {}: {source}", address.ip(), address.port())]
    Listen {
        /// The address and port.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The HTTP socket that is asked for cannot be had.
    #[error("{0}")]
    Socket(#[source] io::Error),
    /// The HTTP service would be open to whom it must not be.
    #[error("{0}")]
    ExposedAddress(#[from] http::ExposedAddress),
    /// The token is required, and there is none.
    #[error("http.require_token is set, but no token: set http.token, or PROCSTAR_HTTP_TOKEN_FILE")]
    NoToken,
    /// Half of the TLS settings.
    #[error("http.{given} is of no use without http.{missing}")]
    HalfTls {
        /// What is configured.
        given: &'static str,
        /// What is not.
        missing: &'static str,
    },
    /// A file of the HTTP service's TLS is of no use.
    #[error("http.tls_cert, http.tls_key or http.client_ca: {0}")]
    HttpTls(#[source] tls::TlsError),
    /// Something that every run needs of the system.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The keeper has refused this agent, or is gone.
    #[error("{0}")]
    Keeper(#[from] LinkError),
    /// The results could not be written.
    #[error("cannot write results to {to}: {source}{instead}")]
    Write {
        /// Where to.
        to: String,
        /// Why not.
        source: io::Error,
        /// Where they are instead, as the end of the sentence.
        instead: String,
    },
    /// Captured output could not be passed on.
    #[error("cannot write to {to}: {source}")]
    Copy {
        /// Where to.
        to: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The server could not be reached in as many attempts as are allowed.
    #[error("gave up connecting to the server")]
    GaveUp,
}

fn spec_errors(input: &str, errors: &spec::SpecErrors) -> String {
    let lines: Vec<String> = errors.0.iter().map(|error| format!("{input}: {error}")).collect();
    lines.join("\n")
}

impl RunError {
    /// The program's exit code, of this run.
    pub fn exit_code_of(&self, run: &Run) -> u8 {
        if run.foreground.is_some() { EXIT_INTERNAL } else { self.exit_code() }
    }

    /// The program's exit code: 2 for what the user has to mend before anything starts, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Output { .. }
            | RunError::Read(_)
            | RunError::Spec { .. }
            | RunError::Quota { .. }
            | RunError::Cert { .. }
            | RunError::ExposedAddress(_)
            | RunError::NoToken
            | RunError::HalfTls { .. }
            | RunError::HttpTls(_)
            | RunError::Keeper(LinkError::Refused(_)) => 2,
            _ => 1,
        }
    }
}

/// Runs the agent until the end, over the keeper behind `socket`; gives the program's exit code.
///
/// # Errors
/// What the user has to know; everything that ran has ended by then, unless nothing had been started.
pub fn run(run: &Run, env: &Env, socket: UnixStream, given: Given) -> Result<u8, RunError> {
    report_mode(&socket, mode(run)).map_err(LinkError::Io)?;
    if run.foreground.as_ref().is_some_and(|one| one.shares_terminal) {
        signals::leave_job_control().map_err(system("handle signals"))?;
    }
    for (fd, bytes) in descriptor::take_read_up() {
        leave_read(&socket, fd, bytes).map_err(LinkError::Io)?;
    }
    let prepared = prepare(run, env, given).inspect_err(|error| {
        keeper_link::report_failure(&socket, &error.to_string());
    })?;
    let Prepared { dialer, context, listening, input } = prepared;
    let welcome = introduce(socket, keeper_settings(run, env), opening(run, env), input)?;
    let context = context.with_agent(agent_info(welcome.pid), run.settings.agent.group_id.clone());
    let system = actix::System::new();
    let ended = system.block_on(async move {
        let agent = Agent::start(run, welcome, Arc::new(context))?;
        agent.run(run, listening, dialer).await
    });
    runtime::leave(system);
    ended
}

/// What an agent needs before it introduces itself.
struct Prepared {
    dialer: Option<Dialer>,
    context: ResultContext,
    listening: Listening,
    input: Option<Validated>,
}

/// All that can fail without harm.
fn prepare(run: &Run, env: &Env, given: Given) -> Result<Prepared, RunError> {
    // A later agent has processes already.
    let first = std::env::var_os(AGAIN).is_none();
    if first {
        check_destinations(run)?;
    }
    let dialer = dialer(&run.settings)?;
    let context =
        ResultContext::new(ProcFs::default()).with_max_inline(run.settings.capture.max_inline);
    let listening = listening::on_network(&run.settings, env, given, first)?;
    // A later agent is not asked for INPUT's processes again, and a standard input is read up by then.
    let input = match (&run.input, &run.foreground) {
        _ if !first => None,
        (_, Some(foreground)) => Some(foreground.with_fds(descriptor::inherited())),
        (Some(input), None) => {
            let request = read_input(input)?;
            let exceeded = |error| RunError::Quota { input: name_of(input), error };
            quota(&run.settings).check_first(&request).map_err(exceeded)?;
            Some(request)
        }
        (None, None) => None,
    };
    input.iter().for_each(warn_of_systemd);
    Ok(Prepared { dialer, context, listening, input })
}

/// Whether an agent would start with these options in the place of that of the keeper `before`; `fds` are the descriptors that this process
/// was started with. Nothing is changed by it.
///
/// # Errors
/// Why it would not.
pub(crate) fn rehearse_start(
    run: &Run,
    env: &Env,
    fds: &[RawFd],
    before: &Before<'_>,
) -> Result<(), RunError> {
    dialer(&run.settings)?;
    listening::rehearse(&run.settings.http, env, fds, before)
}

/// Tries whether the results can be written where they shall go.
fn check_destinations(run: &Run) -> Result<(), RunError> {
    let refused = |to: String| move |source| RunError::Output { to, source };
    for path in run.output.iter().chain(run.foreground.as_ref().and_then(Foreground::file)) {
        printing::check(path).map_err(refused(path.display().to_string()))?;
    }
    let prints = run.foreground.as_ref().is_some_and(|one| one.result == Some(ResultTo::Stdout));
    if run.print || prints {
        printing::check_stdout().map_err(refused(STDOUT.to_owned()))?;
    }
    Ok(())
}

/// What it takes to connect to the server, where there shall be one.
fn dialer(settings: &Settings) -> Result<Option<Dialer>, RunError> {
    match (settings.agent.enabled, &settings.agent.host) {
        (true, Some(host)) => {
            let trust =
                tls::Trust { cert: settings.agent.cert.clone(), ca: settings.agent.ca.clone() };
            let tls = tls::rotating_client_config(&trust).map_err(|source| {
                let setting = trust.setting_of(&source);
                RunError::Cert { setting, source }
            })?;
            Ok(Some((host.clone(), tls)))
        }
        _ => Ok(None),
    }
}

/// What results tell of this program, launched as process `pid`.
fn agent_info(pid: u32) -> AgentInfo {
    let ProcInfo { hostname: host, username: user, .. } = ProcInfo::current();
    AgentInfo { pid, host, user, version: env!("CARGO_PKG_VERSION").to_owned() }
}

/// The kind of run, by which signals have their meaning.
fn mode(run: &Run) -> Mode {
    let serves = run.settings.agent.enabled || run.settings.http.serve;
    match &run.foreground {
        Some(_) => Mode::Foreground,
        None if serves && !run.exit => Mode::Service,
        None => Mode::OneShot,
    }
}

/// Where the keeper shall open the instance's directories.
fn opening(run: &Run, env: &Env) -> format::Opening {
    let settings = &run.settings;
    format::Opening {
        places: registry::places_of(settings, env),
        captures_chosen: settings.capture.dir.is_some(),
        serves: settings.http.serve || settings.agent.enabled,
    }
}

/// What the keeper has to know.
fn keeper_settings(run: &Run, env: &Env) -> format::KeeperSettings {
    let settings = &run.settings;
    // A one-shot is often a job of a service, and inherits the variable from it.
    let lasts = mode(run) == Mode::Service;
    let given = env.get(OsStr::new("STATE_DIRECTORY")).filter(|value| lasts && !value.is_empty());
    let from_service_manager = given.map(|value| {
        // Several are joined by colons; the first one is for us, below a name of our own, for only we may read it.
        let first = value.as_bytes().split(|b| *b == b':').next().unwrap_or_default();
        Path::new(OsStr::from_bytes(first)).join("procstar")
    });
    format::KeeperSettings {
        state_dir: settings.run.state_dir.clone().or(from_service_manager),
        base_dir: settings.capture.directory(env),
        conn_id: settings.agent.conn_id.clone(),
        drain_grace: settings.capture.drain_grace,
        setup_patience: SETUP_PATIENCE,
        restrict_exe: format::Allowed {
            executables: settings.run.restrict_exe.iter().map(|path| path_text(path)).collect(),
            variables: settings.run.allowed_variables.clone(),
            directories: settings.run.allowed_directories.clone(),
        },
        log: settings.log.clone(),
        limits: format::ProcessLimits {
            head: settings.capture.limit_head,
            tail: settings.capture.limit_tail,
            max_file_size: settings.run.max_file_size,
            gain_privileges: settings.run.gain_privileges,
        },
    }
}

fn system(what: &'static str) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::System { what, source }
}

fn read_input(input: &Input) -> Result<Validated, RunError> {
    let text = read_text(input)?;
    spec::diagnose(&text).map_err(|errors| RunError::Spec { input: name_of(input), errors })
}

/// Sets the level of the log, here and in the keeper, which has it for later agents as well.
struct LogSwitch(Arc<KeeperLink>);

impl http::LogControl for LogSwitch {
    fn levels(&self) -> (LogLevel, LogLevel) {
        logging::levels()
    }

    fn set(&self, level: Option<LogLevel>) {
        logging::set_level(level);
        self.0.remember(|memory| memory.log_level = level);
    }
}

/// The actors of a run.
struct Agent {
    supervisor: Addr<Supervisor>,
    results: Addr<Results>,
    link: Arc<KeeperLink>,
    /// The process that the user launched, and its parent.
    launched: (u32, u32),
    /// When that started.
    start: TimePoint,
    /// Whether this is the first agent.
    first: bool,
    /// The instance's directory.
    dir: Option<PathBuf>,
    /// INPUT's processes, of the first agent.
    input: Vec<ProcId>,
    /// How many processes there are at the beginning.
    count: usize,
    conn_id: String,
    /// The key of the page's sessions.
    page_key: PageKey,
    /// How far an earlier agent has come with printing.
    printing: Printing,
    context: Arc<ResultContext>,
    patience: Patience,
    done: oneshot::Receiver<()>,
    gone: oneshot::Receiver<()>,
}

type Dialer = (String, Rotating<rustls::ClientConfig>);

impl Agent {
    /// Starts the actors, and handles signals from now on.
    fn start(run: &Run, welcome: Welcome, context: Arc<ResultContext>) -> Result<Agent, RunError> {
        let settings = &run.settings;
        let launched = (welcome.pid, welcome.ppid);
        let (start, first) = (welcome.start, welcome.first);
        let dir = welcome.dir.clone();
        let (socket, decoder, memory, records) = welcome.into_parts();
        let (link, streams) = KeeperLink::start(socket, decoder, memory.clone())
            .map_err(system("talk to the keeper"))?;
        let link = Arc::new(link);
        let Streams { events, orders, gone } = streams;
        let results = Results::default().start();
        let outputs = SupervisorOutputs {
            announce: results.clone().recipient(),
            changed: results.clone().recipient(),
            removed: results.clone().recipient(),
            shutdown: results.clone().recipient(),
        };
        let graces =
            Graces { term: settings.shutdown.term_grace, kill: settings.shutdown.kill_grace };
        let (tell_done, done) = oneshot::channel();
        let end_when = end_when(run, start);
        let count = records.len();
        let input = if first {
            records.iter().map(|record| record.id.clone()).collect()
        } else {
            Vec::new()
        };
        let engine = Arc::clone(&link);
        let supervisor = Supervisor::create(|ctx| {
            let events = futures_util::stream::unfold(
                events,
                |mut events: mpsc::UnboundedReceiver<Event>| async {
                    events.recv().await.map(|event| (event, events))
                },
            );
            <Supervisor as StreamHandler<Event>>::add_stream(events, ctx);
            let mut supervisor = Supervisor::new(engine, outputs, end_when, graces, tell_done)
                .sampled(sampling(&settings.sampling))
                .bounded(quota(settings));
            supervisor.adopt(records, memory.any, ctx);
            supervisor
        });
        for (order, age) in memory.orders_by_age() {
            supervisor.do_send(ResumeShutdown { order: order.into(), age });
        }
        let signals = Signals::new(supervisor.clone().recipient(), orders)
            .map_err(system("handle signals"))?;
        let grace = run.foreground.as_ref().map(|one| one.grace);
        let patience = Patience::new(signals.orders(), patience::recent(grace));
        match &run.foreground {
            Some(one) => {
                let stop = supervisor.clone().recipient();
                signals.in_foreground(one.id.clone(), stop, one.shares_terminal)
            }
            None => signals,
        }
        .start();
        // A level that was set holds until the program ends, whoever is the agent.
        logging::set_level(memory.log_level);
        let printing = memory.printing;
        let conn_id = settings
            .agent
            .conn_id
            .clone()
            .or(memory.conn_id)
            .unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let page_key = memory.page_key.unwrap_or_else(PageKey::random);
        link.remember(|memory| {
            memory.conn_id = Some(conn_id.clone());
            memory.page_key = settings.http.serve.then(|| page_key.clone());
        });
        Ok(Agent {
            supervisor,
            results,
            link,
            launched,
            start,
            first,
            dir,
            input,
            count,
            conn_id,
            page_key,
            printing,
            context,
            patience,
            done,
            gone,
        })
    }

    async fn run(
        mut self,
        run: &Run,
        listening: Listening,
        dialer: Option<Dialer>,
    ) -> Result<u8, RunError> {
        // INPUT's processes may take long to start.
        listening.hold_network(&self.link);
        let progress = Progress::of(run, self.count, self.start, self.results.clone().recipient());
        let lost = || Err(LinkError::Io(io::ErrorKind::UnexpectedEof.into()).into());
        let mut gone = std::mem::replace(&mut self.gone, oneshot::channel().1);
        let begun = async {
            self.await_input(run).await;
            self.copy_output(run).await
        };
        let copies = tokio::select! {
            copies = begun => copies,
            // Nobody tells any more whether INPUT's processes have started.
            _ = &mut gone => return lost(),
        };
        let connection = dialer.map(|dialer| self.connection(dialer, run));
        let status = connection.as_ref().map(|(connection, _)| connection.status());
        // The service listens before the server can know of this agent.
        let serving = match self.serve(listening, run, status) {
            Ok(serving) => serving,
            Err(error) => {
                self.link.failed(error.to_string()).await;
                return Err(error);
            }
        };
        self.link.ready();
        let connection = connection.map(|(connection, ended)| (connection.start(), ended));
        self.supervisor.do_send(Ready);
        let done = tokio::select! {
            done = &mut self.done => done.is_ok(),
            _ = &mut gone => false,
        };
        if !done {
            // The supervisor ends with the keeper's events: what is known by now must not pass for results.
            return lost();
        }
        drop(progress);
        let copied = self.patience.wait(copies.finish()).await.unwrap_or_else(|GivenUp| {
            tracing::warn!("nobody reads our output, and the rest of it is not passed on");
            Ok(0)
        });
        let (exit, told) = self.tell_foreground(run).await;
        let written = self.write_results(run).await.and(told);
        let mut outcome = Outcome::Finished;
        if let Some((connection, ended)) = connection {
            connection.do_send(Finish);
            match timeout(FLUSH_TIMEOUT, ended).await {
                Ok(ended) => outcome = ended.unwrap_or(Outcome::Finished),
                Err(_) => tracing::warn!("the server did not take the last messages"),
            }
        }
        if let Some(serving) = serving {
            serving.stop().await;
        }
        if run.exit && written.is_ok() {
            // Nobody asks for them any more; a later run on a lasting directory must not take them for its own.
            for record in self.results.send(GetAll).await.unwrap_or_default() {
                // In order before the goodbye.
                drop(self.link.forget(record.id.clone()));
            }
        }
        let ended = written.and(copied).and_then(|copied| match outcome {
            Outcome::Finished => {
                Ok(if exit == ProgramExit::Code(0) { ProgramExit::Code(copied) } else { exit })
            }
            Outcome::GaveUp => Err(RunError::GaveUp),
        });
        // The keeper ends with our code, once we have ended.
        let exit = match &ended {
            Ok(exit) => *exit,
            Err(error) => ProgramExit::Code(error.exit_code_of(run)),
        };
        self.link.bye(exit).await;
        // The keeper alone is to end by a signal.
        ended.map(|exit| if let ProgramExit::Code(code) = exit { code } else { 0 })
    }

    /// Waits until each of INPUT's processes runs or could not be started.
    async fn await_input(&self, run: &Run) {
        for id in &self.input {
            // It waits for the start; what came of it is in the results.
            let _ = self.results.send(GetOne(id.clone())).await;
        }
        if run.input.is_some() {
            tracing::info!("started processes from specs");
        }
    }

    fn connection(
        &self,
        (host, tls): Dialer,
        run: &Run,
    ) -> (Connection, oneshot::Receiver<Outcome>) {
        let settings = &run.settings;
        let agent = &settings.agent;
        let (pid, ppid) = self.launched;
        let options = connection::ConnectionOptions {
            conn: ConnInfo {
                conn_id: self.conn_id.clone(),
                group_id: agent.group_id.clone(),
                restricted_exe: restricted_exe(settings),
            },
            proc: ProcInfo { pid, ppid, ..ProcInfo::current() },
            token: http_access::rotating_token(
                "agent.token",
                agent.token.clone(),
                run.token_files.agent.as_deref(),
            ),
            connect: agent.connect.clone(),
            register_timeout: agent.register_timeout,
            ping_interval: agent.ping_interval,
            read_timeout: agent.read_timeout,
            push_interval: agent.push_interval,
        };
        let peers = connection::Peers {
            start: self.supervisor.clone().recipient(),
            signal: self.supervisor.clone().recipient(),
            delete: self.supervisor.clone().recipient(),
            shutdown: self.supervisor.clone().recipient(),
            subscribe: self.results.clone().recipient(),
            unsubscribe: self.results.clone().recipient(),
            ask: self.results.clone().recipient(),
        };
        let limits = SocketLimits { max_message: agent.max_message, ..SocketLimits::default() };
        let dialer = Rc::new(WssDialer::new(&host, agent.port, tls).limits(limits));
        let (tell, ended) = oneshot::channel();
        (Connection::new(options, peers, Arc::clone(&self.context), dialer, tell), ended)
    }

    async fn write_results(&self, run: &Run) -> Result<(), RunError> {
        if !run.print && run.output.is_none() {
            return Ok(());
        }
        let results = self.results.send(GetAll).await.unwrap_or_default();
        let printed = if run.print { self.print(&results).await } else { Ok(()) };
        // A closed standard output must not cost the file.
        let saved = match &run.output {
            Some(path) => self.save(&results, path, false).await,
            None => Ok(()),
        };
        printed.and(saved)
    }

    /// Writes the results to a path.
    async fn save(
        &self,
        results: &[Arc<ProcessRecord>],
        path: &Path,
        line: bool,
    ) -> Result<(), RunError> {
        let (to, path) = (path.display().to_string(), path.to_owned());
        self.write(to, results, move |results, context| {
            printing::save(results, context, &path, line)
        })
        .await
    }

    /// Prints the results, unless an earlier agent has. Of one that died over it, nobody knows how much it had printed: then the whole
    /// is printed again.
    async fn print(&self, results: &[Arc<ProcessRecord>]) -> Result<(), RunError> {
        match self.printing {
            Printing::NotBegun => {}
            Printing::Begun => tracing::warn!("printing results again: an agent died over it"),
            Printing::Done => return Ok(()),
        }
        self.note_printing(Printing::Begun).await;
        self.write(STDOUT.to_owned(), results, printing::print).await?;
        self.note_printing(Printing::Done).await;
        Ok(())
    }

    async fn note_printing(&self, printing: Printing) {
        self.link.remember(|memory| memory.printing = printing);
        self.link.flush().await;
    }

    /// Writes something on a thread of its own.
    async fn write_patiently(
        &self,
        write: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        match self.patience.wait(actix_rt::task::spawn_blocking(write)).await {
            Ok(written) => written.unwrap_or_else(|error| Err(io::Error::other(error))),
            Err(GivenUp) => Err(io::Error::new(io::ErrorKind::TimedOut, "nobody reads it")),
        }
    }

    /// Writes results. Where that fails, they go to a file for temporary ones, or to standard error.
    async fn write(
        &self,
        to: String,
        results: &[Arc<ProcessRecord>],
        write: impl FnOnce(&[Arc<ProcessRecord>], &ResultContext) -> io::Result<()> + Send + 'static,
    ) -> Result<(), RunError> {
        let (context, all) = (Arc::clone(&self.context), results.to_vec());
        let Err(source) = self.write_patiently(move || write(&all, &context)).await else {
            return Ok(());
        };
        let (context, all) = (Arc::clone(&self.context), results.to_vec());
        let kept = actix_rt::task::spawn_blocking(move || {
            let instead = write_elsewhere(&source, &all, &context);
            RunError::Write { to, source, instead }
        });
        Err(kept.await.unwrap_or_else(|error| system("write results")(io::Error::other(error))))
    }
}

/// Writes results that could not be written where they should be; gives the end of a sentence that says where they are.
fn write_elsewhere(
    why: &io::Error,
    results: &[Arc<ProcessRecord>],
    context: &ResultContext,
) -> String {
    if why.kind() == io::ErrorKind::BrokenPipe {
        // Its reader has closed it, and does not want them.
        return String::new();
    }
    match printing::keep(results, context) {
        Ok(path) => format!("; wrote them to {} instead", path.display()),
        Err(_) => match printing::print_to(&io::stderr(), results, context) {
            Ok(()) => "; wrote them to standard error instead".to_owned(),
            Err(_) => "; the results are lost: they cannot be written anywhere else".to_owned(),
        },
    }
}

/// What the agent is restricted to, as the server is told: joined by colons.
fn restricted_exe(settings: &Settings) -> Option<String> {
    let paths: Vec<String> = settings.run.restrict_exe.iter().map(|path| path_text(path)).collect();
    (!paths.is_empty()).then(|| paths.join(":"))
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// How much is started and kept.
fn quota(settings: &Settings) -> Quota {
    let capture =
        LimitSpec { head: settings.capture.limit_head, tail: settings.capture.limit_tail };
    Quota {
        running: Some(settings.run.max_running),
        kept: Some(settings.run.max_processes),
        captures: Some(settings.capture.max_total),
        capture,
    }
}

/// How processes are sampled; none where they are not, and then there is no thread and no timer for it.
fn sampling(settings: &SamplingSettings) -> Option<SamplingHandle> {
    let interval = settings.interval?;
    let thread = actix::Arbiter::new();
    let sampler = SamplerActor::start_in_arbiter(&thread.handle(), move |_| {
        SamplerActor::new(ProcFs::default(), interval)
    });
    let count = usize::try_from(settings.count).unwrap_or(usize::MAX);
    Some(SamplingHandle { sampler: sampler.recipient(), count })
}

fn end_when(run: &Run, start: TimePoint) -> EndWhen {
    if run.exit {
        EndWhen::NoneRuns
    } else if run.wait {
        let waited = Duration::from_secs_f64(TimePoint::now().seconds_since(start));
        let left = run.settings.run.wait_timeout.saturating_sub(waited);
        let unassigned_until = run.settings.agent.enabled.then(|| Instant::now() + left);
        EndWhen::Idle { unassigned_until }
    } else {
        EndWhen::Never
    }
}
