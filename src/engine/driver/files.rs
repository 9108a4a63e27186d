//! The driver's part in captures whose files the user has named: they may be on a file system that does not answer, so other threads look at
//! them, and tell what they have seen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::reading::note;
use super::{Driver, OpenCapture, Process, filters};
use crate::engine::capture::{Capture, Captures, Truncation};
use crate::engine::mailbox::{DriverMessage, Mailbox};
use crate::engine::sys::Writers;
use crate::engine::timers::Alarm;

/// How often a file is looked at that a survivor still writes.
const LOOK: Duration = Duration::from_millis(50);
/// How long a look may delay the end of a process, once the grace has passed.
const PATIENCE: Duration = Duration::from_secs(5);

impl Driver {
    /// Whether nobody writes a file any more that the user has named, as far as is known; if it is not, the file is looked at.
    pub(super) fn named_file_has_ended(&mut self, serial: u64, index: usize) -> bool {
        let Some(Process { captures, cut_short, .. }) = self.processes.get_mut(&serial) else {
            return true;
        };
        let Some(capture) = captures.at(index) else { return true };
        match capture.seen() {
            None => look_at(capture, serial, &self.inbox),
            Some(seen) if seen.writers == Writers::Some => {
                self.timers.set(Instant::now() + LOOK, Alarm::Files(serial));
            }
            Some(_) => {
                if capture.is_orphaned() {
                    note(captures, cut_short, index, Truncation::Error);
                }
                return true;
            }
        }
        false
    }

    /// Whether the file of a capture that a filter has ended was seen since, where it must be; if it was not, it is looked at.
    pub(super) fn is_seen(&self, serial: u64, index: usize) -> bool {
        let capture = self.processes.get(&serial).and_then(|process| process.captures.at(index));
        let unseen = capture.filter(|capture| capture.must_be_seen() && capture.seen().is_none());
        unseen.inspect(|capture| look_at(capture, serial, &self.inbox)).is_none()
    }

    /// Looks once more at the files that somebody still writes.
    pub(super) fn look_at_files(&mut self, serial: u64) {
        let Some(process) = self.processes.get(&serial) else { return };
        let files = process.open.iter().filter(|open| matches!(open, OpenCapture::File { .. }));
        let captures = files.filter_map(|open| process.captures.at(open.index()));
        captures
            .filter(|capture| capture.is_in_named_file())
            .for_each(|capture| look_at(capture, serial, &self.inbox));
    }
}

fn look_at(capture: &Capture, serial: u64, inbox: &Arc<Mailbox<DriverMessage>>) {
    let inbox = Arc::clone(inbox);
    capture.look_at_file(move || inbox.put(DriverMessage::Looked(serial)));
}

/// Looks at those files of open captures that must be seen, and were not; tells whether there are any.
pub(super) fn look(
    open: &[OpenCapture],
    captures: &Captures,
    serial: u64,
    inbox: &Arc<Mailbox<DriverMessage>>,
) -> bool {
    let captures = open.iter().filter_map(|open| captures.at(open.index()));
    let unseen = captures.filter(|capture| capture.must_be_seen() && capture.seen().is_none());
    unseen.inspect(|capture| look_at(capture, serial, inbox)).count() > 0
}

/// Until when looks may delay the end of a process whose filters may do so until `filters`.
pub(super) fn patience(filters: Instant) -> Instant {
    filters.checked_sub(filters::PATIENCE - PATIENCE).unwrap_or(filters)
}
