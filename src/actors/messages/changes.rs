//! The messages of those who follow the results: lists by page, one snapshot, and each change after it.
//!
//! The results actor pushes changes into bounded [`Subscription`]s, so a slow reader costs a bounded
//! amount and delays nobody; what does not fit in singly, the reader gets coalesced by process.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use actix::Message;

use super::ShutdownState;
use crate::actors::subscription::{Delivery, Subscription};
use crate::report::ProcessRecord;
use crate::spec::ProcId;

/// A place in an order that one run of the worker makes: that of changes, or that of the acceptance of processes.
///
/// As text, for clients that shall not look into it: both numbers in hexadecimal, joined by `-`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The worker's run, a random number. Cursors of another run mean nothing.
    pub run: u64,
    /// The place; 0 is before the first.
    pub at: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:x}", self.run, self.at)
    }
}

/// A text that is no cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor as the worker has given it")]
pub struct InvalidCursor;

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let (run, at) = text.split_once('-').ok_or(InvalidCursor)?;
        let number = |digits: &str| {
            // The standard parser would take a sign too.
            let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten().ok_or(InvalidCursor)
        };
        Ok(Cursor { run: number(run)?, at: number(at)? })
    }
}

/// One change, and its place among all.
#[derive(Clone)]
pub struct Change {
    /// Counts from 1, without gaps; a gap between two that somebody gets is what that one has missed.
    pub seq: u64,
    /// What has happened.
    pub what: ChangeKind,
}

/// What can happen.
#[derive(Clone)]
pub enum ChangeKind {
    /// A process has started.
    Started(Arc<ProcessRecord>),
    /// A process could not be started: this is its start and its end.
    Failed(Arc<ProcessRecord>),
    /// A process has ended.
    Ended(Arc<ProcessRecord>),
    /// Something else of a process's result has changed.
    Updated(Arc<ProcessRecord>),
    /// A process is deleted.
    Deleted(ProcId),
    /// The shutdown has come into this state.
    Shutdown(ShutdownState),
}

impl ChangeKind {
    /// The process that has changed; none if it is the shutdown.
    #[must_use]
    pub fn id(&self) -> Option<&ProcId> {
        match self {
            ChangeKind::Started(record)
            | ChangeKind::Failed(record)
            | ChangeKind::Ended(record)
            | ChangeKind::Updated(record) => Some(&record.id),
            ChangeKind::Deleted(id) => Some(id),
            ChangeKind::Shutdown(_) => None,
        }
    }
}

/// Follow the changes. Handled by [`Results`](crate::actors::results::Results). Dropping the
/// [`Subscription`] ends it.
#[derive(Message)]
#[rtype(result = "Subscribed")]
pub struct Subscribe {
    /// The last change that the reader knows; none: begin with a snapshot.
    pub after: Option<Cursor>,
    /// Which changes the subscription may coalesce.
    pub delivery: Delivery,
}

/// The answer to [`Subscribe`].
pub enum Subscribed {
    /// All that there is, and each change after it.
    From(Snapshot, Subscription),
    /// Each change after the cursor. Where [`seq`](Change::seq) has a gap, the changes between are
    /// coalesced into those that come.
    After(Subscription),
    /// The cursor is of another run, or so old that the deletions since are no longer known: begin
    /// with a snapshot.
    Reset,
}

/// All that there is.
#[derive(Clone)]
pub struct Snapshot {
    /// The last change that is in here.
    pub cursor: Cursor,
    /// Every process that has been accepted and not deleted, in the order of acceptance.
    pub ids: Vec<ProcId>,
    /// Every one of these that has started.
    pub procs: Vec<Arc<ProcessRecord>>,
    /// The state of shutdown.
    pub shutdown: ShutdownState,
}

/// A question of a reader who must keep its answer in order with the changes of a subscription.
/// Handled by [`Results`](crate::actors::results::Results).
#[derive(Message)]
#[rtype(result = "Dated<Reply>")]
pub struct Query(pub Question);

/// What such a reader can ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// The IDs of all processes.
    Ids,
    /// The record of one; none if it has not started.
    Record(ProcId),
    /// The records of all that run.
    Running,
    /// Nothing but the number of the last change.
    Now,
}

/// Something, and the change as of which it is true.
#[derive(Clone, Debug)]
pub struct Dated<T> {
    /// The number of the last change that is in it.
    pub seq: u64,
    /// The thing.
    pub value: T,
}

/// The reply to a [`Question`].
#[derive(Clone)]
pub enum Reply {
    /// In the order of acceptance.
    Ids(Vec<ProcId>),
    /// None if no such process has started.
    Record(Option<Arc<ProcessRecord>>),
    /// In the order of acceptance.
    Running(Vec<Arc<ProcessRecord>>),
    /// To [`Question::Now`].
    Now,
}

/// Some processes that have started, in the order of acceptance. Handled by [`Results`](crate::actors::results::Results).
/// The answer is none where the cursor is of another run.
#[derive(Message)]
#[rtype(result = "Option<Page>")]
pub struct GetPage {
    /// Those that were accepted after this; none: from the first on.
    pub after: Option<Cursor>,
    /// At most so many are looked at.
    pub max: usize,
}

/// The answer to [`GetPage`].
#[derive(Clone)]
pub struct Page {
    /// Each with its place in the order of acceptance.
    pub procs: Vec<(Cursor, Arc<ProcessRecord>)>,
    /// Where the next page begins; none where this is the last.
    pub next: Option<Cursor>,
}

/// How many there are, and have been. Handled by [`Results`](crate::actors::results::Results).
#[derive(Message)]
#[rtype(result = "ProcessCounts")]
pub struct GetProcessCounts;

/// The cursor of the last change. From then on changes are kept. Handled by [`Results`](crate::actors::results::Results).
#[derive(Message)]
#[rtype(result = "Cursor")]
pub struct GetCursor;

/// Numbers of processes. Those of the past count from the start of the worker, also what it has taken over from an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessCounts {
    /// That run.
    pub running: u64,
    /// That have ended, and are not deleted.
    pub terminated: u64,
    /// That were not started as specified, and are not deleted.
    pub error: u64,
    /// That have ever started.
    pub started: u64,
    /// That have ever ended, by the reason in their result.
    pub ended: BTreeMap<String, u64>,
    /// That have ever ended, and not with exit code 0.
    pub failed: u64,
    /// Bytes in the captures of processes when these ended.
    pub captured_bytes: u64,
    /// The state of shutdown; none but in answers.
    pub shutdown: Option<ShutdownState>,
}

impl ProcessCounts {
    /// How many are not deleted.
    pub fn present(&self) -> u64 {
        self.running + self.terminated + self.error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_as_text() {
        let cursor = Cursor { run: 0xab, at: 17 };
        assert_eq!(cursor.to_string(), "00000000000000ab-11");
        assert_eq!("00000000000000ab-11".parse(), Ok(cursor));
        for bad in ["", "-", "1", "1-", "-1", "1-+1", "1-g", "1-1-1", "11111111111111111-1"] {
            assert_eq!(bad.parse::<Cursor>(), Err(InvalidCursor), "{bad}");
        }
    }
}
