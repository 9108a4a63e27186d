//! The driver's part in [filters](crate::engine::capture::filter): it watches for their ends, and
//! takes over the pipes of filters that fail.

use std::io;
use std::os::fd::OwnedFd;

use super::filters::Filter;
use super::io::Io;
use super::poller::Source;
use super::{Driver, NO_PROCESS};
use crate::engine::capture::{Capture, Store, Truncation};
use crate::engine::foreign::{self, ForeignState};
use crate::engine::handover::HandoverFilter;
use crate::engine::owned_child::OwnedChild;
use crate::engine::process::output::OpenCapture;
use crate::engine::process::{Input, Process};
use crate::engine::{permitted, sys};
use crate::procfs::ProcFs;

/// A filter that was reaped.
struct ReapedFilter {
    serial: u64,
    index: usize,
    /// `None` if another process has reaped it, and this kernel does not keep its status.
    status: Option<i32>,
}

impl Io {
    /// Watches a filter of the process with this number.
    fn watch_filter(&mut self, serial: u64, index: usize, child: OwnedChild) {
        let OwnedChild { pid, pidfd } = child;
        let token = self.poller.watch(&pidfd, Source::Filter(pid));
        if let Err(error) = &token {
            tracing::warn!(pid, %error, "cannot watch a filter");
        }
        self.filters.insert(pid, Filter { serial, index, pidfd, token: token.ok() });
    }

    /// Records the filter of a capture.
    pub(super) fn filter_started(
        &mut self,
        (serial, index): (u64, usize),
        process: Option<&mut Process>,
        child: OwnedChild,
    ) {
        let pid = child.pid;
        self.watch_filter(serial, index, child);
        if let Some(process) = process {
            process.output.filter_started(index, pid);
        }
    }

    /// Reaps a filter if it has ended.
    fn reap_filter(&mut self, pid: i32) -> Option<ReapedFilter> {
        let pidfd = self.filters.handle(pid)?;
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
        let Filter { serial, index, pidfd, token } = self.filters.remove(pid)?;
        if let Some(token) = token {
            self.poller.unwatch(&pidfd, token);
        }
        Some(ReapedFilter { serial, index, status })
    }

    /// Whether the capture of a reaped filter ended with the filter. If the filter was killed, it
    /// did not: the engine reads on, and discards.
    fn has_ended_with(&mut self, process: &mut Process, filter: &ReapedFilter) -> bool {
        let ReapedFilter { serial, index, status } = *filter;
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
        // The filter was killed, and may have left unread output.
        let Some(OpenCapture::Filter { reader, .. }) = output.close(index) else { return false };
        let watched = sys::set_nonblocking(&reader)
            .and_then(|()| self.open_pipe(serial, index, reader, (Store::Nothing, None)));
        match watched {
            Ok(pipe) => {
                output.open(pipe);
                false
            }
            // The pipe cannot be read: its writers get SIGPIPE.
            Err(_) => true,
        }
    }

    /// Whether a capture and its filter have ended.
    pub(super) fn filter_has_ended(
        &mut self,
        serial: u64,
        process: &mut Process,
        pid: i32,
    ) -> bool {
        // The filter is not started yet.
        if pid == 0 {
            return false;
        }
        if !self.filters.contains(pid) {
            return true;
        }
        match self.reap_filter(pid) {
            Some(filter) if filter.serial == serial => self.has_ended_with(process, &filter),
            _ => false,
        }
    }
}

impl Driver {
    /// Handles a possible end of a filter.
    pub(super) fn filter_exited(&mut self, pid: i32) {
        let Some(filter) = self.io.reap_filter(pid) else { return };
        let Some(process) = self.processes.get_mut(&filter.serial) else { return };
        let ended = self.io.has_ended_with(process, &filter);
        if ended && self.io.is_seen(filter.serial, &process.output, filter.index) {
            self.io.close_capture(&mut process.output, filter.index);
            self.on(filter.serial, Input::Progress);
        }
    }

    /// Restores a filter of an engine in another program.
    ///
    /// # Errors
    /// The OS error of watching the pipe.
    pub(super) fn restore_filter(
        &mut self,
        (serial, index): (u64, usize),
        process: &mut Process,
        filter: HandoverFilter,
        reader: OwnedFd,
    ) -> io::Result<()> {
        let HandoverFilter { pid, pidfd } = filter;
        let pidfd = pidfd.map_or_else(|| permitted::handle(pid), |fd| self.inherit(fd));
        self.resume_filter((serial, index), process, (pid, pidfd), reader)
    }

    /// Watches a filter of another engine. If the filter is gone, the engine reads its pipe and
    /// discards.
    ///
    /// # Errors
    /// The OS error of watching the pipe.
    pub(super) fn resume_filter(
        &mut self,
        (serial, index): (u64, usize),
        process: &mut Process,
        (pid, pidfd): (i32, io::Result<OwnedFd>),
        reader: OwnedFd,
    ) -> io::Result<()> {
        match pidfd {
            Ok(pidfd) => {
                process.output.open(OpenCapture::Filter { index, reader, pid });
                self.io.filter_started((serial, index), Some(process), OwnedChild { pid, pidfd });
            }
            Err(error) => {
                tracing::error!(pid, %error, "cannot watch a filter any more");
                sys::set_nonblocking(&reader)?;
                let open = self.io.open_pipe(serial, index, reader, (Store::Nothing, None))?;
                process.output.truncate(index, Truncation::Error);
                process.output.open(open);
            }
        }
        Ok(())
    }

    /// Restores filters of deleted processes: they are only to be reaped.
    pub(super) fn restore_filters_of_deleted(&mut self, filters: Vec<HandoverFilter>) {
        for HandoverFilter { pid, pidfd } in filters {
            let Some(fd) = pidfd else { continue };
            match self.inherit(fd) {
                Ok(pidfd) => self.io.watch_filter(NO_PROCESS, 0, OwnedChild { pid, pidfd }),
                Err(error) => tracing::error!(pid, %error, "cannot watch a filter any more"),
            }
        }
    }
}
