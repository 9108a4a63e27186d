//! State of a process, from `/proc`.

use std::fmt::Display;

/// Whether a process exists and is not a zombie.
pub fn is_running(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

/// Counts the open descriptors of a process. If the process is not dumpable, only root can list
/// them; since Linux 6.2 the size of the directory is their number.
pub fn open_fds(pid: impl Display) -> usize {
    let directory = format!("/proc/{pid}/fd");
    match std::fs::read_dir(&directory) {
        Ok(entries) => entries.count(),
        Err(_) => usize::try_from(std::fs::metadata(directory).unwrap().len()).unwrap(),
    }
}
