//! The table of all running capture writers.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::process_map::ProcessMap;
use crate::engine::handover::HandoverCaptureWriter;
use crate::engine::sys;

/// A capture writer that has not been reaped.
pub(super) struct RunningWriter {
    pub(super) serial: u64,
    pub(super) index: usize,
    pub(super) pidfd: OwnedFd,
    /// `None` if epoll cannot watch it: then it is polled when its process ends.
    pub(super) token: Option<u64>,
}

/// All capture writers, by pid. They are children of this process, but not processes of the
/// engine's owner.
#[derive(Default)]
pub(super) struct CaptureWriters(HashMap<i32, RunningWriter>);

impl CaptureWriters {
    /// Whether a child is a capture writer.
    pub(super) fn contains(&self, pid: i32) -> bool {
        self.0.contains_key(&pid)
    }

    /// The number of a capture writer's pidfd.
    pub(super) fn pidfd(&self, pid: i32) -> Option<RawFd> {
        self.handle(pid).map(AsRawFd::as_raw_fd)
    }

    /// The capture writers of deleted processes: they still have to be reaped.
    pub(super) fn of_deleted(&self, processes: &ProcessMap) -> Vec<HandoverCaptureWriter> {
        let deleted = self.0.iter().filter(|(_, writer)| processes.get(&writer.serial).is_none());
        deleted
            .map(|(pid, writer)| HandoverCaptureWriter::new(*pid, Some(writer.pidfd.as_raw_fd())))
            .collect()
    }

    /// The pidfd of a capture writer.
    pub(super) fn handle(&self, pid: i32) -> Option<&OwnedFd> {
        self.0.get(&pid).map(|writer| &writer.pidfd)
    }

    /// Asks a capture writer to discard further output.
    pub(super) fn stop(&self, pid: i32) {
        self.signal(pid, libc::SIGTERM);
    }

    /// Kills the capture writer of a deleted process. It is reaped like any other.
    pub(super) fn kill(&self, pid: i32) {
        self.signal(pid, libc::SIGKILL);
    }

    pub(super) fn insert(&mut self, pid: i32, writer: RunningWriter) {
        self.0.insert(pid, writer);
    }

    pub(super) fn remove(&mut self, pid: i32) -> Option<RunningWriter> {
        self.0.remove(&pid)
    }

    fn signal(&self, pid: i32, signum: i32) {
        if let Some(writer) = self.0.get(&pid) {
            // A capture writer that has ended needs no signal.
            let _ = sys::pidfd_send_signal(writer.pidfd.as_raw_fd(), signum);
        }
    }
}
