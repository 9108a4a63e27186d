//! The driver's part in the end of captures: it detects when pipes are read to the end, and when
//! captured files have no writer left.

use super::io::Io;
use crate::engine::capture::{Capture, Truncation};
use crate::engine::process::Process;
use crate::engine::process::output::{DrainCheck, OpenCapture, Output};
use crate::engine::sys::{self, Writers};

impl Io {
    /// After the end of a child: closes every capture that has no writer left, and watches the
    /// others.
    pub(super) fn sweep(&mut self, serial: u64, process: &mut Process) {
        let open = process.output.all_open().iter();
        let open: Vec<(usize, Kind)> = open.map(|open| (open.index(), Kind::of(open))).collect();
        for (index, kind) in open {
            let ended = match kind {
                Kind::Pipe => self.read_pipe(process, index, false),
                Kind::File => self.file_has_ended(serial, &mut process.output, index),
                Kind::CaptureWriter(pid) => {
                    self.capture_writer_has_ended(serial, process, pid)
                        && self.is_examined(serial, &process.output, index)
                }
            };
            if ended {
                self.close_capture(&mut process.output, index);
            }
        }
    }

    /// The state of a process's captures. Starts the missing examinations of named files.
    pub(super) fn check_drain(&self, serial: u64, process: &Process) -> DrainCheck {
        let output = &process.output;
        let storing = output.all_open().iter().filter(|open| is_finishing(open, output));
        DrainCheck {
            storing: storing.map(OpenCapture::index).collect(),
            unseen: self.examine_unseen(serial, output),
        }
    }

    /// Whether a captured file has no writer left; otherwise watches for its closing.
    fn file_has_ended(&mut self, serial: u64, output: &mut Output, index: usize) -> bool {
        if output.at(index).is_some_and(Capture::is_in_named_file) {
            return self.named_file_has_ended(serial, output, index);
        }
        if !is_written(output, index) {
            return true;
        }
        let Some(capture) = output.at(index) else { return true };
        self.watcher.add(capture, serial);
        // The file may have been closed before the watch began.
        !is_written(output, index)
    }
}

/// The kinds of open captures.
enum Kind {
    Pipe,
    File,
    CaptureWriter(i32),
}

impl Kind {
    fn of(open: &OpenCapture) -> Kind {
        match open {
            OpenCapture::Pipe(_) => Kind::Pipe,
            OpenCapture::File { .. } => Kind::File,
            OpenCapture::CaptureWriter { pid, .. } => Kind::CaptureWriter(*pid),
        }
    }
}

/// Whether a process still writes a captured file, or its capture writer has not ended.
fn is_written(output: &mut Output, index: usize) -> bool {
    let Some(capture) = output.at(index) else { return false };
    let written = capture.writers() == Writers::Some;
    if !written && capture.is_orphaned() {
        output.truncate(index, Truncation::Error);
    }
    written
}

/// Whether no process writes a capture any more, and only its capture writer still works.
fn is_finishing(open: &OpenCapture, output: &Output) -> bool {
    let Some(capture) = output.at(open.index()) else { return false };
    match open {
        OpenCapture::CaptureWriter { reader, .. } => capture.is_finishing() || sys::hung_up(reader),
        OpenCapture::File { .. } => capture.is_finishing(),
        OpenCapture::Pipe(_) => false,
    }
}
