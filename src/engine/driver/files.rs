//! The driver's part in captures whose files the user has named: they may be on a file system that
//! does not answer, so other threads look at them, and report what they have seen.

use std::sync::Arc;
use std::time::Duration;

use super::io::Io;
use super::message::DriverMessage;
use crate::clock::{after, monotonic};
use crate::engine::capture::{Capture, Truncation};
use crate::engine::mailbox::Mailbox;
use crate::engine::process::effect::ProcessAlarm;
use crate::engine::process::output::{OpenCapture, Output};
use crate::engine::sys::Writers;
use crate::engine::timers::Alarm;

/// How often a file is looked at that a survivor still writes.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

impl Io {
    /// Whether nobody writes a file any more that the user has named, as far as is known; if it is
    /// not known, the file is looked at.
    pub(super) fn named_file_has_ended(
        &mut self,
        serial: u64,
        output: &mut Output,
        index: usize,
    ) -> bool {
        let Some(capture) = output.at(index) else { return true };
        match capture.seen() {
            None => look_at(capture, serial, &self.mailbox),
            Some(seen) if seen.writers == Writers::Some => {
                let at = after(monotonic(), POLL_INTERVAL);
                self.timers.set(at, Alarm::Process(serial, ProcessAlarm::FilePoll));
            }
            Some(_) => {
                if capture.is_orphaned() {
                    output.truncate(index, Truncation::Error);
                }
                return true;
            }
        }
        false
    }

    /// Whether the file of a capture that a filter has ended was seen since, if it must be; if it
    /// was not, it is looked at.
    pub(super) fn is_seen(&self, serial: u64, output: &Output, index: usize) -> bool {
        let capture = output.at(index);
        let unseen = capture.filter(|capture| capture.must_be_seen() && capture.seen().is_none());
        unseen.inspect(|capture| look_at(capture, serial, &self.mailbox)).is_none()
    }

    /// Looks once more at the files that somebody still writes.
    pub(super) fn look_at_files(&self, serial: u64, output: &Output) {
        let open = output.all_open().iter();
        let files = open.filter(|open| matches!(open, OpenCapture::File { .. }));
        let captures = files.filter_map(|open| output.at(open.index()));
        captures
            .filter(|capture| capture.is_in_named_file())
            .for_each(|capture| look_at(capture, serial, &self.mailbox));
    }

    /// Looks at those files of open captures that must be seen, and were not; returns whether there
    /// are any.
    pub(super) fn look_at_unseen(&self, serial: u64, output: &Output) -> bool {
        let captures = output.all_open().iter().filter_map(|open| output.at(open.index()));
        let unseen = captures.filter(|capture| capture.must_be_seen() && capture.seen().is_none());
        unseen.inspect(|capture| look_at(capture, serial, &self.mailbox)).count() > 0
    }
}

fn look_at(capture: &Capture, serial: u64, mailbox: &Arc<Mailbox<DriverMessage>>) {
    let mailbox = Arc::clone(mailbox);
    capture.look_at_file(move || mailbox.put(DriverMessage::Looked(serial)));
}
