//! The instance's identity and state: `/status`, `/healthz`, `/readyz`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::listener_states::ListenerStates;
use crate::actors::messages::{Cursor, ProcessCounts, ShutdownState};
use crate::actors::status::{LinkInfo, LinkState, LinkStatus};
use crate::api::{ConnectionInfo, Counts, ServiceStatus, StatusBody};
use crate::clock::TimePoint;
use crate::report::times::Rfc3339;

/// The instance's identity, and the sources of its state.
#[derive(Debug)]
pub struct AgentStatus {
    /// The pid of the process that the user launched: the keeper.
    pub pid: u32,
    /// The start of that process.
    pub start: TimePoint,
    /// The machine's name.
    pub hostname: String,
    /// The user's name, and number.
    pub username: String,
    /// The effective user ID.
    pub uid: u32,
    /// Whether the keeper is connected.
    pub keeper_up: Arc<AtomicBool>,
    /// The connection to the scheduler; `None` without the agent mode.
    pub server: Option<ServerLink>,
    /// The path of the Unix socket, if any.
    pub socket: Option<PathBuf>,
    /// The listeners of the service.
    pub listeners: Arc<ListenerStates>,
}

/// The connection to the scheduler.
#[derive(Debug)]
pub struct ServerLink {
    /// `HOST:PORT`.
    pub server: String,
    /// The group that the agent joins.
    pub group_id: String,
    /// The connection's ID.
    pub conn_id: String,
    /// Its state.
    pub status: Arc<LinkStatus>,
}

impl Default for AgentStatus {
    /// An instance whose keeper is connected.
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

/// The numbers of processes, as clients see them.
pub(super) fn counts(counts: &ProcessCounts) -> Counts {
    Counts {
        running: counts.running,
        terminated: counts.terminated,
        error: counts.error,
        present: counts.present(),
    }
}

impl AgentStatus {
    /// The present status.
    pub(super) fn body(&self, tally: &ProcessCounts, cursor: Cursor) -> StatusBody<'_> {
        let shutdown = tally.shutdown.unwrap_or(ShutdownState::Active);
        StatusBody {
            status: ServiceStatus {
                version: env!("CARGO_PKG_VERSION").into(),
                pid: self.pid,
                worker_pid: std::process::id(),
                hostname: self.hostname.as_str().into(),
                username: self.username.as_str().into(),
                uid: self.uid,
                start: self.start.into(),
                uptime: TimePoint::now().seconds_since(self.start),
                socket: self.socket.as_ref().map(|path| path.to_string_lossy().into_owned()),
                listeners: self.listeners.get(),
                cursor: cursor.to_string(),
                shutdown_state: shutdown.as_str().into(),
                counts: counts(tally),
                connection: self.connection(),
            },
        }
    }

    /// The present state of the connection to the scheduler; `None` without the agent mode.
    pub(super) fn connection(&self) -> Option<ConnectionInfo<'_>> {
        self.server.as_ref().map(ServerLink::info)
    }

    /// Why new processes cannot be started; `None` if they can.
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
            state: link.state.as_str().into(),
            since: link.since.map(Rfc3339::from),
            server: self.server.as_str().into(),
            group_id: self.group_id.as_str().into(),
            conn_id: self.conn_id.as_str().into(),
            round_trip: link.round_trip.map(|time| time.as_secs_f64()),
            failures: link.failures,
            registrations: link.registrations,
            last_error: link.last_error,
        }
    }
}
