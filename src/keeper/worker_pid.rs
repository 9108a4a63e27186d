//! The worker as a child process: forked or executed, killed, reaped once.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{ForkResult, Pid, fork};

/// A child process that only this value reaps.
pub(super) struct WorkerPid {
    pid: Pid,
    /// Its exit status, once it is reaped: then another process may have its pid.
    status: Option<ExitStatus>,
}

impl WorkerPid {
    /// A child that was just created.
    pub(super) fn of(pid: i32) -> WorkerPid {
        WorkerPid { pid: Pid::from_raw(pid), status: None }
    }

    /// Copies this process, which must have one thread. Returns the child, or `None` in the child.
    ///
    /// # Errors
    /// The OS error.
    pub(super) fn fork() -> io::Result<Option<WorkerPid>> {
        // SAFETY: this process has one thread, so no other thread holds a lock in the copy, which
        // may make any call.
        match unsafe { fork() }? {
            ForkResult::Child => Ok(None),
            ForkResult::Parent { child } => Ok(Some(WorkerPid { pid: child, status: None })),
        }
    }

    /// Its pid.
    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Its exit status, if it has ended.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.reap(libc::WNOHANG)
    }

    /// Kills it, unless it has ended.
    pub(super) fn kill(&mut self) {
        if self.status.is_none() {
            // An error means that it has ended.
            let _ = kill(self.pid, Signal::SIGKILL);
        }
    }

    /// Kills it, and waits for its end.
    pub(super) fn end(&mut self) {
        self.kill();
        self.reap(0);
    }

    /// Ends a child that cannot be used; returns the error `why`.
    pub(super) fn abandon<T>(&self, why: io::Error) -> io::Result<T> {
        WorkerPid { pid: self.pid, status: self.status }.end();
        Err(why)
    }

    fn reap(&mut self, flags: i32) -> Option<ExitStatus> {
        while self.status.is_none() {
            let mut status = 0;
            // SAFETY: the kernel writes the status to the given place.
            match unsafe { libc::waitpid(self.pid.as_raw(), &raw mut status, flags) } {
                0 => break,
                -1 if Errno::last() == Errno::EINTR => {}
                -1 => break,
                _ => self.status = Some(ExitStatus::from_raw(status)),
            }
        }
        self.status
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn spawned(script: &str) -> WorkerPid {
        let child = Command::new("/bin/sh").args(["-c", script]).spawn();
        WorkerPid::of(child.map(|child| child.id()).unwrap().cast_signed())
    }

    #[test]
    fn a_status_stays_once_it_is_known() {
        let mut child = spawned("exit 7");
        let status = loop {
            if let Some(status) = child.ended() {
                break status;
            }
            std::thread::yield_now();
        };
        assert_eq!(status.code(), Some(7));
        child.kill();
        child.end();
        assert_eq!(child.ended(), Some(status));
    }

    #[test]
    fn a_killed_child_is_reaped() {
        let mut child = spawned("exec sleep 1000");
        assert_eq!(child.ended(), None);
        child.end();
        assert_eq!(child.ended().and_then(|status| status.signal()), Some(libc::SIGKILL));
    }
}
