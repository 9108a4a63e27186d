//! What a worker leaves to the next one.

use std::time::Duration;

use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::clock::TimePoint;
use crate::config::LogLevel;
use crate::page_key::PageKey;

/// What a worker leaves to the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct WorkerState {
    /// The connection ID.
    pub conn_id: Option<String>,
    /// The orders of shutdown given so far, in their order.
    pub orders: Vec<ShutdownCommand>,
    /// Whether there ever was a process.
    pub any: bool,
    /// When each of `orders` was given: nanoseconds of the monotonic clock. Shorter where an older program noted some.
    #[serde(default)]
    pub given: Vec<u64>,
    /// How far the printing of results has come.
    #[serde(default)]
    pub printing: Printing,
    /// The level of the log that was set while the program ran; none: as configured.
    #[serde(default)]
    pub log_level: Option<LogLevel>,
    /// The key of the page's sessions. It is not kept over a keeper's end: meanwhile anybody can have the service's port.
    #[serde(default)]
    pub page_key: Option<PageKey>,
}

/// Its last values are left out where there are none, as programs wrote it that knew fewer.
impl Serialize for WorkerState {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let WorkerState { conn_id, orders, any, given, printing, log_level, page_key } = self;
        let more = match (log_level, page_key) {
            (_, Some(_)) => 2,
            (Some(_), None) => 1,
            (None, None) => 0,
        };
        let mut written = to.serialize_struct("Memory", 5 + more)?;
        written.serialize_field("conn_id", conn_id)?;
        written.serialize_field("orders", orders)?;
        written.serialize_field("any", any)?;
        written.serialize_field("given", given)?;
        written.serialize_field("printing", printing)?;
        if more > 0 {
            written.serialize_field("log_level", log_level)?;
        }
        if more > 1 {
            written.serialize_field("page_key", page_key)?;
        }
        written.end()
    }
}

impl WorkerState {
    /// Notes an order that is given now; one that was given before stays as it is.
    pub fn note(&mut self, order: ShutdownCommand) {
        if !self.orders.contains(&order) {
            self.orders.push(order);
            // An order without a time, of an older program, has none after it either.
            if self.given.len() + 1 == self.orders.len() {
                self.given.push(TimePoint::now().monotonic_nanos);
            }
        }
    }

    /// The orders, each with how long ago it was given.
    pub fn orders_by_age(&self) -> impl Iterator<Item = (ShutdownCommand, Duration)> {
        let now = TimePoint::now().monotonic_nanos;
        let times = self.given.iter().copied().chain(std::iter::repeat(now));
        let age = move |given| Duration::from_nanos(now.saturating_sub(given));
        self.orders.iter().copied().zip(times).map(move |(order, given)| (order, age(given)))
    }
}

/// How far the printing of results to standard output has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Printing {
    /// Nothing has been printed.
    #[default]
    NotBegun,
    /// Some of it may have been.
    Begun,
    /// All of it has been.
    Done,
}

/// An order that a signal gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShutdownCommand {
    /// SIGTERM, and what means the same; see [`meaning`](crate::keeper::meaning).
    Terminate,
    /// SIGQUIT.
    Kill,
    /// SIGUSR1.
    Idle,
    /// The server is given up.
    GiveUp,
    /// SIGINT. It orders what [`ShutdownCommand::Terminate`] does, and is kept as that; whoever runs one process in the foreground passes the signal
    /// itself on.
    Interrupt,
}

impl ShutdownCommand {
    /// The order as it is kept: older programs know no other.
    pub fn kept(self) -> ShutdownCommand {
        if self == ShutdownCommand::Interrupt { ShutdownCommand::Terminate } else { self }
    }
}
