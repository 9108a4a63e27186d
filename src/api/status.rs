//! The state of the service: `/status`, and parts of it in events.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::times::Rfc3339;

/// The answer to `GET /status`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct StatusBody<'a> {
    /// The state of the service.
    pub status: ServiceStatus<'a>,
}

/// The state of the service.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ServiceStatus")]
pub struct ServiceStatus<'a> {
    /// The program's version.
    pub version: Cow<'a, str>,
    /// The process that the user launched: the keeper.
    pub pid: u32,
    /// The process that answers: the keeper's child.
    pub worker_pid: u32,
    /// The machine's name.
    pub hostname: Cow<'a, str>,
    /// The user's name, or number.
    pub username: Cow<'a, str>,
    /// The effective user ID.
    pub uid: u32,
    /// When the launched process started.
    pub start: Rfc3339,
    /// Seconds since then.
    pub uptime: f64,
    /// The path of the Unix socket.
    pub socket: Option<String>,
    /// What the service listens on, or should.
    pub listeners: Vec<ListenerState>,
    /// The cursor of the last change, to be given to `/events`.
    pub cursor: String,
    /// `active`, `idling` (nothing new is started) or `done`.
    pub shutdown_state: Cow<'a, str>,
    /// How many processes there are.
    pub counts: Counts,
    /// The connection to the scheduler; null except in agent mode.
    pub connection: Option<ConnectionInfo<'a>>,
}

/// How many processes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// Those that run.
    pub running: u64,
    /// Those that were started as specified and have ended.
    pub terminated: u64,
    /// Those that were not started as specified.
    pub error: u64,
    /// All of these.
    pub present: u64,
}

/// The connection to the scheduler.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ConnectionInfo")]
pub struct ConnectionInfo<'a> {
    /// `waiting`, `connecting`, `registering`, `registered` or `closed`.
    pub state: Cow<'a, str>,
    /// When it came to that.
    pub since: Option<Rfc3339>,
    /// `HOST:PORT`.
    pub server: Cow<'a, str>,
    /// The group that the agent joins.
    pub group_id: Cow<'a, str>,
    /// The connection's ID.
    pub conn_id: Cow<'a, str>,
    /// How long the last ping took to be answered, in seconds.
    pub round_trip: Option<f64>,
    /// Failed attempts in a row.
    pub failures: u64,
    /// How often it was registered.
    pub registrations: u64,
    /// Why it was lost last, or could not be made.
    pub last_error: Option<String>,
}

/// An address that the service is to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListenerState {
    /// `ADDRESS:PORT`, or the path of a Unix socket.
    pub address: String,
    /// Why nobody can connect there, while it is tried again; null where it listens.
    pub error: Option<String>,
}
