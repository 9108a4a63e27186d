//! The bodies of the HTTP API: what a client sends and what it is answered.
//!
//! Each is one type. The service writes or reads it, the command line's client is the other side,
//! and the API's description and the page's types are made of it ([`definitions`]). Uses [`report`]
//! for results, and nothing that moves.
//!
//! [`report`]: crate::report

mod event;
mod log_level;
mod problem;
mod schema;
mod session;
mod status;
mod stop;

pub use event::{Event, EventProc, EventResult};
pub use log_level::{Levels, LogLevelBody, SetLevel};
pub use problem::{ErrorEntry, Errors, Problem};
pub use schema::definitions;
pub use session::{CodeBody, SessionBody, Trade};
pub use status::{ConnectionInfo, Counts, ListenerState, ServiceStatus, StatusBody};
pub use stop::{SignalName, StopBody};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A good answer.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Data<T> {
    /// What is answered.
    pub data: T,
}

/// The data of an answer that has nothing to report.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Nothing {}

/// The data of an answer that names processes.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Named<I> {
    /// Their IDs.
    pub proc_ids: I,
}

/// The data of an answer with results.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Procs<R> {
    /// By process ID.
    pub procs: IndexMap<String, R>,
    /// Only with `limit`: what to give as `cursor` for the next page; null where this is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
