//! What `/proc` shows of a process.

use std::fmt::Display;

/// Whether a process runs: it exists and is no zombie.
pub fn is_running(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

/// Counts the open descriptors of a process. Only root can list those of a process that is not
/// dumpable; from Linux 6.2 on the size of the directory is their number, too.
pub fn open_fds(pid: impl Display) -> usize {
    let directory = format!("/proc/{pid}/fd");
    match std::fs::read_dir(&directory) {
        Ok(entries) => entries.count(),
        Err(_) => usize::try_from(std::fs::metadata(directory).unwrap().len()).unwrap(),
    }
}
