//! A worker's state, which the keeper passes to the next worker.

use std::time::Duration;

use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::clock::TimePoint;
use crate::config::LogLevel;
use crate::page_key::PageKey;

/// A worker's state, for the next worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct WorkerState {
    /// The connection ID.
    pub conn_id: Option<String>,
    /// The orders of shutdown so far, in their order.
    pub orders: Vec<ShutdownCommand>,
    /// Whether there ever was a process.
    pub any: bool,
    /// The time of each of `orders`, in nanoseconds of the monotonic clock. Shorter if an older
    /// program recorded some of them.
    #[serde(default)]
    pub given: Vec<u64>,
    /// The progress of printing results.
    #[serde(default)]
    pub printing: Printing,
    /// The log level that was set while the program ran; `None` means the configured one.
    #[serde(default)]
    pub log_level: Option<LogLevel>,
    /// The key of the page's sessions. It does not outlive the keeper, because anybody can take the
    /// service's port then.
    #[serde(default)]
    pub page_key: Option<PageKey>,
}

/// The last fields are left out if they are `None`, as in programs that did not have them.
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
    /// Records an order that is given now; a repeated order keeps its first time.
    pub fn note(&mut self, order: ShutdownCommand) {
        if !self.orders.contains(&order) {
            self.orders.push(order);
            // If an older program recorded an order without a time, later orders have none either.
            if self.given.len() + 1 == self.orders.len() {
                self.given.push(TimePoint::now().monotonic_nanos);
            }
        }
    }

    /// The orders, each with its age.
    pub fn orders_by_age(&self) -> impl Iterator<Item = (ShutdownCommand, Duration)> {
        let now = TimePoint::now().monotonic_nanos;
        let times = self.given.iter().copied().chain(std::iter::repeat(now));
        let age = move |given| Duration::from_nanos(now.saturating_sub(given));
        self.orders.iter().copied().zip(times).map(move |(order, given)| (order, age(given)))
    }
}

/// The progress of printing results to standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Printing {
    /// Nothing has been printed.
    #[default]
    NotBegun,
    /// Some of it may have been printed.
    Begun,
    /// Everything has been printed.
    Done,
}

/// An order given by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShutdownCommand {
    /// SIGTERM, and signals with the same meaning; see [`meaning`](crate::keeper::meaning).
    Terminate,
    /// SIGQUIT.
    Kill,
    /// SIGUSR1.
    Idle,
    /// Give up the connection to the scheduler.
    GiveUp,
    /// SIGINT. It means the same as [`ShutdownCommand::Terminate`], and is recorded as that. A run
    /// with one process in the foreground passes the signal itself on.
    Interrupt,
}

impl ShutdownCommand {
    /// The order as it is recorded: older programs know no other.
    pub fn kept(self) -> ShutdownCommand {
        if self == ShutdownCommand::Interrupt { ShutdownCommand::Terminate } else { self }
    }
}
