//! The exit status of a process that is no child of ours, such as one whose keeper has died.
//!
//! Another process reaps it, so `wait` has no answer. Two other sources are exact: the kernel keeps
//! the status for pidfds that were opened before the reaping (Linux 6.15), and a zombie shows it in
//! `/proc/PID/stat`.

use std::os::fd::{AsRawFd, OwnedFd};

use crate::engine::containment::LastUsage;
use crate::engine::sys;
use crate::procfs::ProcFs;

/// The state of a process that is no child of ours.
pub(super) enum ForeignState {
    Running,
    /// It has ended, and its status is not readable before it is reaped.
    Unreaped,
    /// It has ended with this raw wait status; with its last usage, if it was not reaped yet.
    Ended(i32, Box<LastUsage>),
    /// It was reaped, and this kernel does not keep its status.
    Lost,
}

/// Reads the state of a process. `starttime` guards against a reused pid, if it is known.
pub(super) fn state_of(
    procfs: &ProcFs,
    (pid, pidfd): (i32, &OwnedFd),
    starttime: Option<u64>,
) -> ForeignState {
    let stat = procfs.read_stat(pid).ok();
    let stat = stat.filter(|stat| starttime.is_none_or(|then| then == stat.starttime));
    // Readable exactly if we may see the status: otherwise `stat` has 0 in its place.
    let io = procfs.read_io(pid).ok().flatten();
    // While the process is not reaped, nothing else has its pid: the values are its own.
    if sys::pidfd_send_signal(pidfd.as_raw_fd(), 0).is_ok()
        && let Some(stat) = stat
    {
        if !matches!(stat.state, 'Z' | 'X') {
            return ForeignState::Running;
        }
        if let (Some(status), true) = (stat.exit_code, io.is_some()) {
            return ForeignState::Ended(status, Box::new(LastUsage { stat: Some(stat), io }));
        }
        return match sys::exit_status(pidfd) {
            Ok(Some(status)) => ForeignState::Ended(status, Box::default()),
            _ => ForeignState::Unreaped,
        };
    }
    match sys::exit_status(pidfd) {
        Ok(Some(status)) => ForeignState::Ended(status, Box::default()),
        Ok(None) => ForeignState::Unreaped,
        Err(_) => ForeignState::Lost,
    }
}
