//! The table of all running filters.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::process_map::ProcessMap;
use crate::engine::handover::HandoverFilter;
use crate::engine::sys;

/// A filter that has not been reaped.
pub(super) struct Filter {
    pub(super) serial: u64,
    pub(super) index: usize,
    pub(super) pidfd: OwnedFd,
    /// `None` if epoll cannot watch it: then it is polled when its process ends.
    pub(super) token: Option<u64>,
}

/// All filters, by pid. They are children of this process, but not processes of the engine's owner.
#[derive(Default)]
pub(super) struct Filters(HashMap<i32, Filter>);

impl Filters {
    /// Whether a child is a filter.
    pub(super) fn contains(&self, pid: i32) -> bool {
        self.0.contains_key(&pid)
    }

    /// The number of a filter's pidfd.
    pub(super) fn pidfd(&self, pid: i32) -> Option<RawFd> {
        self.handle(pid).map(AsRawFd::as_raw_fd)
    }

    /// The filters of deleted processes: they still have to be reaped.
    pub(super) fn of_deleted(&self, processes: &ProcessMap) -> Vec<HandoverFilter> {
        let deleted = self.0.iter().filter(|(_, filter)| processes.get(&filter.serial).is_none());
        deleted
            .map(|(pid, filter)| HandoverFilter::new(*pid, Some(filter.pidfd.as_raw_fd())))
            .collect()
    }

    /// The pidfd of a filter.
    pub(super) fn handle(&self, pid: i32) -> Option<&OwnedFd> {
        self.0.get(&pid).map(|filter| &filter.pidfd)
    }

    /// Asks a filter to discard further output.
    pub(super) fn stop(&self, pid: i32) {
        self.signal(pid, libc::SIGTERM);
    }

    /// Kills the filter of a deleted process. It is reaped like any other.
    pub(super) fn kill(&self, pid: i32) {
        self.signal(pid, libc::SIGKILL);
    }

    pub(super) fn insert(&mut self, pid: i32, filter: Filter) {
        self.0.insert(pid, filter);
    }

    pub(super) fn remove(&mut self, pid: i32) -> Option<Filter> {
        self.0.remove(&pid)
    }

    fn signal(&self, pid: i32, signum: i32) {
        if let Some(filter) = self.0.get(&pid) {
            // A filter that has ended needs no signal.
            let _ = sys::pidfd_send_signal(filter.pidfd.as_raw_fd(), signum);
        }
    }
}
