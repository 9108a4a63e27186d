//! The readers of a process's output, as its actor returns them.

use std::io;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{OutputRange, Watcher};
use crate::engine::Capture;
use crate::report::{ProcessRecord, ResultContext};
use crate::spec::FdName;

/// The end of a process: its last record, or none if the process was deleted before its end was
/// read. An error means that the worker cannot know the end.
pub type ProcessEnd = oneshot::Receiver<Option<Arc<ProcessRecord>>>;

/// A reader of a process's output so far.
#[derive(Clone)]
pub struct OutputReader {
    record: Arc<ProcessRecord>,
}

/// Why there is nothing to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    /// The fd is not captured.
    #[error("not captured")]
    NotCaptured,
    /// The capture's file was removed.
    #[error("the capture's file is gone")]
    Gone,
    /// The capture's file was replaced, or changed after the end.
    #[error("the capture's file has changed")]
    Changed,
}

impl OutputReader {
    /// A reader of the captures in `record`.
    pub fn new(record: Arc<ProcessRecord>) -> OutputReader {
        OutputReader { record }
    }

    /// The record of the process, as of the request for this reader.
    pub fn record(&self) -> &Arc<ProcessRecord> {
        &self.record
    }

    /// What `fd` has captured so far. The file stays open, and verified, as long as the range.
    ///
    /// # Errors
    /// The fd is not captured, or its file is not the process's any more.
    pub fn range(&self, fd: FdName, context: &ResultContext) -> Result<OutputRange, OutputError> {
        let captures = &self.record.captures;
        let capture = captures.get(fd).ok_or(OutputError::NotCaptured)?;
        if self.record.has_lost(capture, context) {
            return Err(OutputError::Gone);
        }
        match capture.view() {
            Err(error) if Capture::is_changed(&error) => Err(OutputError::Changed),
            // A file that cannot be opened is an error only when it is read.
            view => Ok(OutputRange::new(captures, fd, capture, view.ok())),
        }
    }
}

/// A reader of a process's output up to its end.
pub struct OutputFollower {
    pub(super) reader: OutputReader,
    pub(super) end: ProcessEnd,
    pub(super) watcher: Arc<Watcher>,
}

impl OutputFollower {
    /// A follower of a process that ends when `end` resolves. `watcher` reports growing files.
    pub fn new(reader: OutputReader, end: ProcessEnd, watcher: Arc<Watcher>) -> OutputFollower {
        OutputFollower { reader, end, watcher }
    }

    /// The reader of the output so far.
    pub fn reader(&self) -> &OutputReader {
        &self.reader
    }
}

/// The process's actor is gone: the bytes so far must not pass for the whole output.
pub(super) fn end_unknown() -> io::Error {
    io::Error::other("cannot follow the output: the worker does not know the process any more")
}
