//! The events of `/events` and `/events/ws`.

use std::borrow::Cow;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::status::{ConnectionInfo, Counts};
use crate::report::{ResultBody, Stats, Summary};

/// One event. `R` is a result in it, `P` what it has of each process.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "EventBody", description = "One event.")]
pub struct Event<'a, R, P = R> {
    /// `snapshot`, `reset`, `started`, `ended`, `updated`, `deleted`, `shutdown` or `stats`.
    pub event: Cow<'a, str>,
    /// To go on after this event; null within a snapshot, for `reset` and for `stats`.
    pub cursor: Option<String>,
    /// The number of changes before this one that are not sent, if any.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(extend("default" = 0))]
    pub skipped: u64,
    /// Which process: of `started`, `ended`, `updated` and `deleted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Cow<'a, str>>,
    /// `active`, `idling` or `done`: of `snapshot` and `shutdown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shutdown_state: Option<Cow<'a, str>>,
    /// Whether more parts of the snapshot follow: of `snapshot`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub more: Option<bool>,
    /// How many processes there are: of `stats`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    /// The connection to the scheduler, as in `/status`: of `stats`; null except in agent mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<Option<ConnectionInfo<'a>>>,
    /// Its result without output, or its summary: of `started`, `ended` and `updated`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<R>,
    /// By ID, results without output, or summaries: of `snapshot`; what is used: of `stats`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub procs: Option<IndexMap<Cow<'a, str>, P>>,
}

/// A result in an event.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum EventResult<'a> {
    /// Without output.
    Full(#[schemars(with = "super::schema::ResultRef")] Box<ResultBody<'a, String>>),
    /// A summary.
    Summary(#[schemars(with = "super::schema::SummaryRef")] Summary<'a>),
}

/// What an event has of one of several processes.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum EventProc<'a> {
    /// Its result: of `snapshot`.
    Result(EventResult<'a>),
    /// What it uses: of `stats`.
    Stats(#[schemars(with = "super::schema::StatsRef")] Stats),
}

impl<'a, R, P> Event<'a, R, P> {
    /// An event of this kind, without any of what only some have.
    pub fn new(event: &'a str) -> Self {
        Event {
            event: event.into(),
            cursor: None,
            skipped: 0,
            id: None,
            shutdown_state: None,
            more: None,
            counts: None,
            connection: None,
            result: None,
            procs: None,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
