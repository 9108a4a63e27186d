//! The messages about all processes: lists by pages, a snapshot, and what each change after it is.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use actix::Message;

use super::ShutdownState;
use crate::report::ProcessRecord;
use crate::spec::ProcId;

/// A place in an order of one run of the worker: that of changes, or that of accepted processes.
///
/// The text form is opaque for clients: both numbers in hexadecimal, joined by `-`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The worker's run, a random number. Other runs reject the cursor.
    pub run: u64,
    /// The place; 0 is before the first.
    pub at: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:x}", self.run, self.at)
    }
}

/// The text is not a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor as the worker has given it")]
pub struct InvalidCursor;

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let (run, at) = text.split_once('-').ok_or(InvalidCursor)?;
        let number = |digits: &str| {
            // The standard parser accepts a sign too.
            let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten().ok_or(InvalidCursor)
        };
        Ok(Cursor { run: number(run)?, at: number(at)? })
    }
}

/// One change, and its place among all.
#[derive(Clone)]
pub struct Change {
    /// Counts from 1, without gaps; a reader that sees a gap has missed the changes in it.
    pub seq: u64,
    /// The kind.
    pub what: ChangeKind,
}

/// The kinds of changes.
#[derive(Clone)]
pub enum ChangeKind {
    /// A process has started.
    Started(Arc<ProcessRecord>),
    /// A process failed to start: this is its start and its end.
    Failed(Arc<ProcessRecord>),
    /// A process has ended.
    Ended(Arc<ProcessRecord>),
    /// Something else in the process's result has changed.
    Updated(Arc<ProcessRecord>),
    /// A process was deleted.
    Deleted(ProcId),
    /// The state of shutdown has changed.
    Shutdown(ShutdownState),
}

impl ChangeKind {
    /// The process; none if the change is about the shutdown.
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

/// All processes at one moment.
#[derive(Clone)]
pub struct Snapshot {
    /// The last change that the snapshot contains.
    pub cursor: Cursor,
    /// Every accepted process that is not deleted, in the order of acceptance.
    pub ids: Vec<ProcId>,
    /// The records of those that have started.
    pub procs: Vec<Arc<ProcessRecord>>,
    /// The state of shutdown.
    pub shutdown: ShutdownState,
}

/// A question whose answer must keep its order with the changes of a subscription. Handled by
/// [`Results`](crate::actors::results::Results).
#[derive(Message)]
#[rtype(result = "Dated<Reply>")]
pub struct Query(pub Question);

/// The questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// The IDs of all processes.
    Ids,
    /// The record of one process; none if it has not started.
    Record(ProcId),
    /// The records of all running processes.
    Running,
    /// Only the number of the last change.
    Now,
}

/// A value with its place among the changes.
#[derive(Clone, Debug)]
pub struct Dated<T> {
    /// The number of the last change that the value contains.
    pub seq: u64,
    /// The value.
    pub value: T,
}

/// The reply to a [`Question`].
#[derive(Clone)]
pub enum Reply {
    /// In the order of acceptance.
    Ids(Vec<ProcId>),
    /// None if the process has not started or is unknown.
    Record(Option<Arc<ProcessRecord>>),
    /// In the order of acceptance.
    Running(Vec<Arc<ProcessRecord>>),
    /// The reply to [`Question::Now`].
    Now,
}

/// A page of the processes that have started, in the order of acceptance. Handled by
/// [`Results`](crate::actors::results::Results). The answer is `None` if the cursor is of another
/// run.
#[derive(Message)]
#[rtype(result = "Option<Page>")]
pub struct GetPage {
    /// The last process of the page before; none: begin with the first.
    pub after: Option<Cursor>,
    /// The maximum number of accepted processes to examine.
    pub max: usize,
}

/// The answer to [`GetPage`].
#[derive(Clone)]
pub struct Page {
    /// The processes, each with its place in the order of acceptance.
    pub procs: Vec<(Cursor, Arc<ProcessRecord>)>,
    /// The place after which the next page begins; none on the last page.
    pub next: Option<Cursor>,
}

/// The numbers of processes. Handled by [`Results`](crate::actors::results::Results).
#[derive(Message)]
#[rtype(result = "ProcessCounts")]
pub struct GetProcessCounts;

/// The cursor of the last change. Handled by [`Results`](crate::actors::results::Results), which
/// keep changes from the first such message on.
#[derive(Message)]
#[rtype(result = "Cursor")]
pub struct GetCursor;

/// Numbers of processes. Totals count from the start of the worker, with the processes that it
/// adopted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessCounts {
    /// Running processes.
    pub running: u64,
    /// Ended processes that are not deleted.
    pub terminated: u64,
    /// Processes that failed to start as specified and are not deleted.
    pub error: u64,
    /// Total of started processes.
    pub started: u64,
    /// Totals of ended processes by [outcome](crate::report::ProcessRecord::outcome).
    pub ended: BTreeMap<&'static str, u64>,
    /// Total of processes that ended otherwise than with exit code 0.
    pub failed: u64,
    /// Total of captured bytes of ended processes.
    pub captured_bytes: u64,
    /// The state of shutdown; set in answers only.
    pub shutdown: Option<ShutdownState>,
}

impl ProcessCounts {
    /// The number of processes that are not deleted.
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
