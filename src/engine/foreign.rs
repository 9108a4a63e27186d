//! The exit status of a process that is no child of ours, such as one whose keeper has died.
//!
//! Another process reaps it, so `wait` has no answer. Two other sources are exact: the kernel keeps
//! the status for pidfds that were opened before the reaping (Linux 6.15), and a zombie shows it in
//! `/proc/PID/stat`.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::engine::containment::LastUsage;
use crate::engine::exit_events::ExitEvents;
use crate::engine::permitted::pidfd_open;
use crate::engine::{failpoints, sys};
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
    let io = io.filter(|_| failpoints::check_exit_status().is_ok());
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
        return match exit_status(pidfd) {
            Ok(Some(status)) => ForeignState::Ended(status, Box::default()),
            _ => ForeignState::Unreaped,
        };
    }
    match exit_status(pidfd) {
        Ok(Some(status)) => ForeignState::Ended(status, Box::default()),
        Ok(None) => ForeignState::Unreaped,
        Err(_) => ForeignState::Lost,
    }
}

/// Whether a process is a child of ours that is not reaped.
pub(super) fn is_child(pid: i32, pidfd: &OwnedFd) -> bool {
    // Our handle of a process may be no pidfd; and waitid knows pidfds only since Linux 5.4.
    wait_without_reaping(libc::P_PIDFD, pidfd.as_raw_fd())
        .or_else(|| wait_without_reaping(libc::P_PID, pid))
        .unwrap_or(false)
}

/// Whether waitid has this child; `None` if it does not support the kind of ID.
fn wait_without_reaping(kind: libc::idtype_t, id: i32) -> Option<bool> {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: an all-zero siginfo is a valid value of that plain C struct.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live variable of the right type.
    let ret = unsafe { libc::waitid(kind, id.unsigned_abs(), &raw mut info, flags) };
    match sys::check(ret) {
        Ok(_) => Some(true),
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Some(false),
        Err(_) => None,
    }
}

/// Where the exit status of a process comes from if another process reaps it, and its zombie is gone.
#[derive(Debug)]
pub enum ForeignStatus {
    /// The kernel keeps it for the process's pidfd.
    Pidfd,
    /// The kernel reports all ends on this host.
    Connector,
    /// There is no source: why the kernel reports no ends.
    None(io::Error),
}

/// The source of exit statuses on this host.
///
/// # Errors
/// This process cannot be opened.
pub fn foreign_status_source() -> io::Result<ForeignStatus> {
    let own = pidfd_open(std::process::id().cast_signed())?;
    if keeps_exit_status(&own) {
        return Ok(ForeignStatus::Pidfd);
    }
    Ok(match ExitEvents::open() {
        Ok(_) => ForeignStatus::Connector,
        Err(error) => ForeignStatus::None(error),
    })
}

/// Whether this kernel keeps the exit status for the pidfd of a running process.
pub(super) fn keeps_exit_status(pidfd: &OwnedFd) -> bool {
    // Linux 6.13 has the query without the status, and shows this only after the end.
    exit_status(pidfd).is_ok() && sys::kernel_version().is_some_and(|version| version >= (6, 15))
}

/// The raw wait status that the kernel keeps for a pidfd after another process has reaped its
/// process (Linux 6.15); `None` before.
///
/// # Errors
/// `ENOTTY` or `EINVAL` if this kernel has no such query, `ESRCH` if it kept no status.
fn exit_status(pidfd: &OwnedFd) -> io::Result<Option<i32>> {
    const INFO_EXIT: u64 = 1 << 3;
    /// The first 64 bytes of the kernel's `struct pidfd_info`.
    #[repr(C)]
    struct Info {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    /// Read and write 64 bytes; type 0xFF, number 11.
    const GET_INFO: u32 = 0xC040_FF0B;
    failpoints::check_exit_status()?;
    let mut info = Info { mask: INFO_EXIT, cgroup: 0, ids: [0; 11], exit_code: 0 };
    // SAFETY: the request reads and writes one struct of the size that its number names.
    sys::check(unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO as _, &raw mut info) })?;
    Ok((info.mask & INFO_EXIT != 0).then_some(info.exit_code))
}
