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

/// Kills an instance, the keeper `pid` with its workers: a killed keeper alone has a successor.
pub fn kill_instance(pid: i32) {
    let signal = |pid: i32, signal| {
        // It may have ended.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
    };
    // A stopped keeper starts no other worker.
    signal(pid, nix::sys::signal::SIGSTOP);
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = threads.flat_map(|thread| {
        let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()
    });
    for child in children.collect::<Vec<_>>() {
        let name = std::fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
        if name.trim_end() == "procstar-worker" {
            signal(child, nix::sys::signal::SIGKILL);
        }
    }
    signal(pid, nix::sys::signal::SIGKILL);
}
