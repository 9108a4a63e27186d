//! The driver's part in captures with named files: these may be on a hung file system, so other
//! threads examine them and report the outcome.

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

/// Interval between examinations of a file that a survivor still writes.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

impl Io {
    /// Whether a named file is known to have no writer left; if that is unknown, starts a look.
    pub(super) fn named_file_has_ended(
        &mut self,
        serial: u64,
        output: &mut Output,
        index: usize,
    ) -> bool {
        let Some(capture) = output.at(index) else { return true };
        match capture.seen() {
            None => examine(capture, serial, &self.mailbox),
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

    /// Whether the file of a capture was examined since the end of its capture writer, if this is
    /// necessary; otherwise starts an examination.
    pub(super) fn is_examined(&self, serial: u64, output: &Output, index: usize) -> bool {
        let capture = output.at(index);
        let unseen =
            capture.filter(|capture| capture.needs_examination() && capture.seen().is_none());
        unseen.inspect(|capture| examine(capture, serial, &self.mailbox)).is_none()
    }

    /// Examines the files that still have writers again.
    pub(super) fn examine_files(&self, serial: u64, output: &Output) {
        let open = output.all_open().iter();
        let files = open.filter(|open| matches!(open, OpenCapture::File { .. }));
        let captures = files.filter_map(|open| output.at(open.index()));
        captures
            .filter(|capture| capture.is_in_named_file())
            .for_each(|capture| examine(capture, serial, &self.mailbox));
    }

    /// Starts the missing examinations of the files of open captures; returns whether there are
    /// any.
    pub(super) fn examine_unseen(&self, serial: u64, output: &Output) -> bool {
        let captures = output.all_open().iter().filter_map(|open| output.at(open.index()));
        let unseen =
            captures.filter(|capture| capture.needs_examination() && capture.seen().is_none());
        unseen.inspect(|capture| examine(capture, serial, &self.mailbox)).count() > 0
    }
}

fn examine(capture: &Capture, serial: u64, mailbox: &Arc<Mailbox<DriverMessage>>) {
    let mailbox = Arc::clone(mailbox);
    capture.examine_named_file(move || mailbox.put(DriverMessage::Examined(serial)));
}
