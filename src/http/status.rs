//! Who this agent is and how it is: `/agent`, `/healthz`, `/readyz`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use utoipa::ToSchema;

use super::listener_states::{ListenerState, ListenerStates};
use crate::actors::messages::{Cursor, ProcessCounts, ShutdownState};
use crate::actors::status::{LinkInfo, LinkState, LinkStatus};
use crate::clock::TimePoint;
use crate::report::times::Rfc3339;

/// Who the agent is, and where its state can be seen.
#[derive(Debug)]
pub struct AgentStatus {
    /// The pid of the process that the user launched: the keeper.
    pub pid: u32,
    /// When that started.
    pub start: TimePoint,
    /// The machine's name.
    pub hostname: String,
    /// The user's name, and number.
    pub username: String,
    /// The effective user ID.
    pub uid: u32,
    /// Whether the keeper is there.
    pub keeper_up: Arc<AtomicBool>,
    /// The connection to the server; none where there shall be none.
    pub server: Option<ServerLink>,
    /// The path of the Unix socket; none where there is none.
    pub socket: Option<PathBuf>,
    /// What the service listens on.
    pub listeners: Arc<ListenerStates>,
}

/// The connection to the server.
#[derive(Debug)]
pub struct ServerLink {
    /// `HOST:PORT`.
    pub server: String,
    /// The group that the agent joins.
    pub group_id: String,
    /// The connection's ID.
    pub conn_id: String,
    /// How it is.
    pub status: Arc<LinkStatus>,
}

impl Default for AgentStatus {
    /// Somebody whose keeper is there.
    fn default() -> Self {
        AgentStatus {
            pid: std::process::id(),
            start: TimePoint::now(),
            hostname: String::new(),
            username: String::new(),
            uid: nix::unistd::geteuid().as_raw(),
            keeper_up: Arc::new(AtomicBool::new(true)),
            server: None,
            socket: None,
            listeners: Arc::default(),
        }
    }
}

/// The agent and how it is.
#[derive(Serialize, ToSchema)]
pub(super) struct AgentInfo<'a> {
    /// The program's version.
    version: &'static str,
    /// The process that the user launched: the keeper.
    pid: u32,
    /// The process that answers: the keeper's child.
    agent_pid: u32,
    hostname: &'a str,
    username: &'a str,
    uid: u32,
    /// When the launched process started.
    #[schema(value_type = String, format = DateTime)]
    start: Rfc3339,
    /// Seconds since then.
    uptime: f64,
    /// The path of the Unix socket.
    socket: Option<String>,
    /// What the service listens on, or should.
    listeners: Vec<ListenerState>,
    /// The cursor of the last change, to be given to `/events`.
    cursor: String,
    /// `active`, `idling` (nothing new is started) or `done`.
    shutdown_state: &'static str,
    counts: Counts,
    /// The connection to the server; null where there shall be none.
    connection: Option<ConnectionInfo<'a>>,
}

/// How many processes there are.
#[derive(Serialize, ToSchema)]
pub(super) struct Counts {
    running: u64,
    terminated: u64,
    error: u64,
    /// All of these.
    present: u64,
}

/// The connection to the server.
#[derive(Serialize, ToSchema)]
pub(super) struct ConnectionInfo<'a> {
    /// `waiting`, `connecting`, `registering`, `registered` or `closed`.
    #[schema(value_type = String)]
    state: LinkState,
    /// When it came to that.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Rfc3339>,
    /// `HOST:PORT`.
    server: &'a str,
    group_id: &'a str,
    conn_id: &'a str,
    /// How long the last ping took to be answered, in seconds.
    round_trip: Option<f64>,
    /// Failed attempts in a row.
    failures: u64,
    /// How often it was registered.
    registrations: u64,
    /// Why it was lost last, or could not be made.
    last_error: Option<String>,
}

/// What answers `GET /agent`.
#[derive(Serialize, ToSchema)]
pub(super) struct AgentBody<'a> {
    agent: AgentInfo<'a>,
}

impl Counts {
    pub(super) fn of(tally: &ProcessCounts) -> Counts {
        Counts {
            running: tally.running,
            terminated: tally.terminated,
            error: tally.error,
            present: tally.present(),
        }
    }
}

impl AgentStatus {
    /// The agent as it is now.
    pub(super) fn body(&self, tally: &ProcessCounts, cursor: Cursor) -> AgentBody<'_> {
        let shutdown = tally.shutdown.unwrap_or(ShutdownState::Active);
        AgentBody {
            agent: AgentInfo {
                version: env!("CARGO_PKG_VERSION"),
                pid: self.pid,
                agent_pid: std::process::id(),
                hostname: &self.hostname,
                username: &self.username,
                uid: self.uid,
                start: self.start.into(),
                uptime: TimePoint::now().seconds_since(self.start),
                socket: self.socket.as_ref().map(|path| path.to_string_lossy().into_owned()),
                listeners: self.listeners.get(),
                cursor: cursor.to_string(),
                shutdown_state: shutdown.as_str(),
                counts: Counts::of(tally),
                connection: self.connection(),
            },
        }
    }

    /// The connection to the server as it is now; none where there shall be none.
    pub(super) fn connection(&self) -> Option<ConnectionInfo<'_>> {
        self.server.as_ref().map(ServerLink::info)
    }

    /// Why the agent is not ready to start processes for whom it is there; none where it is.
    pub(super) fn not_ready(&self, tally: &ProcessCounts) -> Option<String> {
        let shutdown = tally.shutdown.unwrap_or(ShutdownState::Active);
        if !self.keeper_up.load(Ordering::Relaxed) {
            return Some("the keeper is gone".to_owned());
        }
        if shutdown != ShutdownState::Active {
            return Some(format!("agent shutting down: {}", shutdown.as_str()));
        }
        let server = self.server.as_ref()?;
        let LinkInfo { state, last_error, .. } = server.status.get();
        (state != LinkState::Registered).then(|| {
            let why = last_error.map_or_else(String::new, |error| format!(": {error}"));
            format!("not registered at {}{why}", server.server)
        })
    }
}

impl ServerLink {
    fn info(&self) -> ConnectionInfo<'_> {
        let link = self.status.get();
        ConnectionInfo {
            state: link.state,
            since: link.since.map(Rfc3339::from),
            server: &self.server,
            group_id: &self.group_id,
            conn_id: &self.conn_id,
            round_trip: link.round_trip.map(|time| time.as_secs_f64()),
            failures: link.failures,
            registrations: link.registrations,
            last_error: link.last_error,
        }
    }
}
