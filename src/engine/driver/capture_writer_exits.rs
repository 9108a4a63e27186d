//! The driver's part in [capture writers](crate::engine::capture::capture_writer): it watches for
//! their ends, and takes over the pipes of those that were killed.

use std::io;
use std::os::fd::OwnedFd;

use super::capture_writers::RunningWriter;
use super::io::Io;
use super::poller::Source;
use super::{Driver, NO_PROCESS};
use crate::engine::capture::{Capture, Store, Truncation};
use crate::engine::foreign::{self, ForeignState};
use crate::engine::handover::HandoverCaptureWriter;
use crate::engine::owned_child::OwnedChild;
use crate::engine::process::output::OpenCapture;
use crate::engine::process::{Input, Process};
use crate::engine::{permitted, sys};
use crate::procfs::ProcFs;

/// A capture writer that was reaped.
struct ReapedWriter {
    serial: u64,
    index: usize,
    /// `None` if another process has reaped it, and this kernel does not keep its status.
    status: Option<i32>,
}

impl Io {
    /// Watches a capture writer of the process with this number.
    fn watch_capture_writer(&mut self, serial: u64, index: usize, child: OwnedChild) {
        let OwnedChild { pid, pidfd } = child;
        let token = self.poller.watch(&pidfd, Source::CaptureWriter(pid));
        if let Err(error) = &token {
            tracing::warn!(pid, %error, "cannot watch a capture writer");
        }
        self.capture_writers.insert(pid, RunningWriter { serial, index, pidfd, token: token.ok() });
    }

    /// Records the capture writer of a capture.
    pub(super) fn capture_writer_started(
        &mut self,
        (serial, index): (u64, usize),
        process: Option<&mut Process>,
        child: OwnedChild,
    ) {
        let pid = child.pid;
        self.watch_capture_writer(serial, index, child);
        if let Some(process) = process {
            process.output.capture_writer_started(index, pid);
        }
    }

    /// Reaps a capture writer if it has ended.
    fn reap_capture_writer(&mut self, pid: i32) -> Option<ReapedWriter> {
        let pidfd = self.capture_writers.handle(pid)?;
        let status = if foreign::is_child(pid, pidfd) {
            match sys::reap(pid) {
                Ok(None) => return None,
                Ok(Some((status, _))) => Some(status),
                Err(_) => None,
            }
        } else {
            match foreign::state_of(&ProcFs::default(), (pid, pidfd), None) {
                ForeignState::Running => return None,
                ForeignState::Ended(status, _) => Some(status),
                ForeignState::Unreaped | ForeignState::Lost => None,
            }
        };
        let RunningWriter { serial, index, pidfd, token } = self.capture_writers.remove(pid)?;
        if let Some(token) = token {
            self.poller.unwatch(&pidfd, token);
        }
        Some(ReapedWriter { serial, index, status })
    }

    /// Whether the capture of a reaped capture writer has ended. If the capture writer was killed,
    /// the capture has not: the engine reads the rest of the pipe, and discards it.
    fn has_ended_with(&mut self, process: &mut Process, writer: &ReapedWriter) -> bool {
        let ReapedWriter { serial, index, status } = *writer;
        let Process { id, output, .. } = process;
        let whole = output.at(index).is_some_and(Capture::is_whole);
        // Its counters show the outcome too; but if it was killed, its pipe is still to be read.
        let status = status.unwrap_or(if whole { 0 } else { libc::SIGKILL });
        if status != 0 || !whole {
            tracing::error!(proc_id = %id, status, "output could not be stored");
            output.truncate(index, Truncation::Error);
        }
        if libc::WIFEXITED(status) {
            return output.is_open(index);
        }
        // The capture writer was killed, and may have left unread output.
        let Some(OpenCapture::CaptureWriter { reader, .. }) = output.close(index) else {
            return false;
        };
        let watched = sys::set_nonblocking(&reader)
            .and_then(|()| self.open_pipe(serial, index, reader, (Store::nothing(), None)));
        match watched {
            Ok(pipe) => {
                output.open(pipe);
                false
            }
            // The pipe cannot be read: its writers get SIGPIPE.
            Err(_) => true,
        }
    }

    /// Whether a capture and its capture writer have ended.
    pub(super) fn capture_writer_has_ended(
        &mut self,
        serial: u64,
        process: &mut Process,
        pid: i32,
    ) -> bool {
        // The capture writer is not started yet.
        if pid == 0 {
            return false;
        }
        if !self.capture_writers.contains(pid) {
            return true;
        }
        match self.reap_capture_writer(pid) {
            Some(writer) if writer.serial == serial => self.has_ended_with(process, &writer),
            _ => false,
        }
    }
}

impl Driver {
    /// Handles a possible end of a capture writer.
    pub(super) fn capture_writer_exited(&mut self, pid: i32) {
        let Some(writer) = self.io.reap_capture_writer(pid) else { return };
        let Some(process) = self.processes.get_mut(&writer.serial) else { return };
        let ended = self.io.has_ended_with(process, &writer);
        if ended && self.io.is_examined(writer.serial, &process.output, writer.index) {
            self.io.close_capture(&mut process.output, writer.index);
            self.on(writer.serial, Input::Progress);
        }
    }

    /// Restores a capture writer of an engine in another program.
    ///
    /// # Errors
    /// The OS error of watching the pipe.
    pub(super) fn restore_capture_writer(
        &mut self,
        (serial, index): (u64, usize),
        process: &mut Process,
        writer: HandoverCaptureWriter,
        reader: OwnedFd,
    ) -> io::Result<()> {
        let HandoverCaptureWriter { pid, pidfd } = writer;
        let pidfd = pidfd.map_or_else(|| permitted::handle(pid), |fd| self.inherit(fd));
        self.resume_capture_writer((serial, index), process, (pid, pidfd), reader)
    }

    /// Watches a capture writer of another engine. If it is gone, the engine reads its pipe and
    /// discards the bytes.
    ///
    /// # Errors
    /// The OS error of watching the pipe.
    pub(super) fn resume_capture_writer(
        &mut self,
        (serial, index): (u64, usize),
        process: &mut Process,
        (pid, pidfd): (i32, io::Result<OwnedFd>),
        reader: OwnedFd,
    ) -> io::Result<()> {
        match pidfd {
            Ok(pidfd) => {
                process.output.open(OpenCapture::CaptureWriter { index, reader, pid });
                self.io.capture_writer_started(
                    (serial, index),
                    Some(process),
                    OwnedChild { pid, pidfd },
                );
            }
            Err(error) => {
                tracing::error!(pid, %error, "cannot watch a capture writer any more");
                sys::set_nonblocking(&reader)?;
                let open = self.io.open_pipe(serial, index, reader, (Store::nothing(), None))?;
                process.output.truncate(index, Truncation::Error);
                process.output.open(open);
            }
        }
        Ok(())
    }

    /// Restores capture writers of deleted processes: they are only to be reaped.
    pub(super) fn restore_capture_writers_of_deleted(
        &mut self,
        capture_writers: Vec<HandoverCaptureWriter>,
    ) {
        for HandoverCaptureWriter { pid, pidfd } in capture_writers {
            let Some(fd) = pidfd else { continue };
            match self.inherit(fd) {
                Ok(pidfd) => self.io.watch_capture_writer(NO_PROCESS, 0, OwnedChild { pid, pidfd }),
                Err(error) => {
                    tracing::error!(pid, %error, "cannot watch a capture writer any more")
                }
            }
        }
    }
}
