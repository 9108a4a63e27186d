//! The driver's part in [filters](crate::engine::capture::filter): it watches their ends, and takes their pipes over where they fail.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::reading::note;
use super::table::Table;
use super::{Driver, NO_PROCESS, OpenCapture, Process, Source};
use crate::engine::capture::{Capture, Captures, Store, Truncation};
use crate::engine::spawn::Child;
use crate::engine::state::Input;
use crate::engine::{permitted, sys};

/// How long a filter may take to store what has come, once the last writer is gone and the grace has passed: a file system that
/// hangs delays the end of a process no longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A filter that has not been reaped.
struct Filter {
    serial: u64,
    index: usize,
    pidfd: OwnedFd,
    /// None where it cannot be watched; it is looked at when its process ends.
    token: Option<u64>,
}

/// A filter as it is handed over.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(in crate::engine) struct HandoverFilter {
    pid: i32,
    /// An older program hands over none.
    pidfd: Option<RawFd>,
}

impl HandoverFilter {
    pub(super) fn new(pid: i32, pidfd: Option<RawFd>) -> Self {
        HandoverFilter { pid, pidfd }
    }

    /// The descriptor that must stay open.
    pub(super) fn descriptor(&self) -> Option<RawFd> {
        self.pidfd
    }
}

/// All filters, by pid. They are children of this process, and of no process that is run.
#[derive(Default)]
pub(super) struct Filters(HashMap<i32, Filter>);

impl Filters {
    /// Whether a child is a filter.
    pub(super) fn contains(&self, pid: i32) -> bool {
        self.0.contains_key(&pid)
    }

    /// The number of a filter's pidfd.
    pub(super) fn pidfd(&self, pid: i32) -> Option<RawFd> {
        self.0.get(&pid).map(|filter| filter.pidfd.as_raw_fd())
    }

    /// Those whose process is deleted: they still have to be reaped.
    pub(super) fn of_deleted(&self, processes: &Table) -> Vec<HandoverFilter> {
        let deleted = self.0.iter().filter(|(_, filter)| processes.get(&filter.serial).is_none());
        deleted
            .map(|(pid, filter)| HandoverFilter::new(*pid, Some(filter.pidfd.as_raw_fd())))
            .collect()
    }

    /// Tells a filter that nothing more is to be stored.
    pub(super) fn stop(&self, pid: i32) {
        self.signal(pid, libc::SIGTERM);
    }

    fn signal(&self, pid: i32, signum: i32) {
        if let Some(filter) = self.0.get(&pid) {
            // One that has ended needs no signal.
            let _ = sys::pidfd_send_signal(filter.pidfd.as_raw_fd(), signum);
        }
    }
}

impl Driver {
    /// A filter works for a capture from now on.
    pub(super) fn filter_started(&mut self, serial: u64, index: usize, child: Child) {
        let Child { pid, pidfd } = child;
        let token = self.poller.watch(&pidfd, Source::Filter(pid));
        if let Err(error) = &token {
            tracing::warn!(pid, %error, "cannot watch a filter");
        }
        self.filters.0.insert(pid, Filter { serial, index, pidfd, token: token.ok() });
        let open = self.processes.get_mut(&serial).map(|process| process.open.iter_mut());
        for open in open.into_iter().flatten() {
            if let OpenCapture::Filter { index: at, pid: place, .. } = open
                && *at == index
            {
                *place = pid;
            }
        }
    }

    /// What a capture needs could not be made along with its process.
    pub(super) fn capture_not_made(&mut self, serial: u64, index: usize) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        process.open.retain(|open| open.index() != index);
        note(&process.captures, &mut process.cut_short, index, Truncation::Setup);
        if let Some(capture) = process.captures.at(index) {
            capture.remove_own();
            let empty = Capture::empty(capture.spec().clone());
            process.captures = Arc::new(process.captures.with(index, empty));
        }
    }

    /// A filter has ended, or may have.
    pub(super) fn filter_ended(&mut self, pid: i32) {
        if let Some((serial, index)) = self.reap_filter(pid)
            && self.is_seen(serial, index)
        {
            self.close_capture(serial, index);
            self.apply(serial, Input::CapturesClosed);
        }
    }

    /// Reaps a filter if it has ended; gives the capture that has come to its end with it. That of one that failed has not: it is read
    /// on, into nothing.
    fn reap_filter(&mut self, pid: i32) -> Option<(u64, usize)> {
        let status = match sys::reap(pid) {
            Ok(None) => return None,
            Ok(Some((status, _))) => status,
            // Somebody else has, and what it counted tells all the same.
            Err(_) => 0,
        };
        let Filter { serial, index, pidfd, token } = self.filters.0.remove(&pid)?;
        if let Some(token) = token {
            self.poller.unwatch(&pidfd, token);
        }
        let process = self.processes.get_mut(&serial)?;
        let Process { captures, cut_short, open, id, .. } = process;
        if status != 0 || !captures.at(index).is_some_and(Capture::is_whole) {
            tracing::error!(proc_id = %id, status, "output could not be stored");
            note(captures, cut_short, index, Truncation::Error);
        }
        let at = open.iter().position(|open| open.index() == index)?;
        if libc::WIFEXITED(status) {
            return Some((serial, index));
        }
        // It was killed, and may have left something unread behind.
        let OpenCapture::Filter { reader, .. } = open.swap_remove(at) else { return None };
        let watched = sys::set_nonblocking(&reader)
            .and_then(|()| self.open_pipe(serial, index, reader, (Store::Nothing, None)));
        // Where it cannot be read, its writers get SIGPIPE.
        let Ok(pipe) = watched else { return Some((serial, index)) };
        self.processes.get_mut(&serial)?.open.push(pipe);
        None
    }

    /// Whether the filter of a capture has ended, and the capture with it.
    pub(super) fn filter_has_ended(&mut self, pid: i32) -> bool {
        // Before it is started, no.
        pid != 0 && (!self.filters.contains(pid) || self.reap_filter(pid).is_some())
    }

    /// Goes on with a filter that an engine in another program has started. Without it, its pipe is read into nothing.
    pub(super) fn restore_filter(
        &mut self,
        serial: u64,
        index: usize,
        filter: HandoverFilter,
        reader: OwnedFd,
    ) -> io::Result<()> {
        let HandoverFilter { pid, pidfd } = filter;
        let pidfd = pidfd.map_or_else(|| permitted::handle(pid), |fd| self.inherit(fd));
        let (open, started) = match pidfd {
            Ok(pidfd) => (OpenCapture::Filter { index, reader, pid }, Some(Child { pid, pidfd })),
            Err(error) => {
                tracing::error!(pid, %error, "cannot watch a filter any more");
                sys::set_nonblocking(&reader)?;
                let open = self.open_pipe(serial, index, reader, (Store::Nothing, None))?;
                if let Some(process) = self.processes.get_mut(&serial) {
                    note(&process.captures, &mut process.cut_short, index, Truncation::Error);
                }
                (open, None)
            }
        };
        if let Some(process) = self.processes.get_mut(&serial) {
            process.open.push(open);
        }
        if let Some(child) = started {
            self.filter_started(serial, index, child);
        }
        Ok(())
    }

    /// Goes on with filters whose process is deleted: they are only to be reaped.
    pub(super) fn restore_filters_of_deleted(&mut self, filters: Vec<HandoverFilter>) {
        for HandoverFilter { pid, pidfd } in filters {
            let Some(fd) = pidfd else { continue };
            match self.inherit(fd) {
                Ok(pidfd) => self.filter_started(NO_PROCESS, 0, Child { pid, pidfd }),
                Err(error) => tracing::error!(pid, %error, "cannot watch a filter any more"),
            }
        }
    }

    /// Ends a filter whose process is forgotten. It is reaped like any other.
    pub(super) fn end_filter(&mut self, pid: i32) {
        self.filters.signal(pid, libc::SIGKILL);
    }
}

/// Whether a capture's last writer is gone, and only its filter still works on it.
pub(super) fn is_finishing(open: &OpenCapture, captures: &Captures) -> bool {
    let Some(capture) = captures.at(open.index()) else { return false };
    match open {
        OpenCapture::Filter { reader, .. } => capture.is_finishing() || sys::hung_up(reader),
        OpenCapture::File { .. } => capture.is_finishing(),
        OpenCapture::Pipe(_) => false,
    }
}
