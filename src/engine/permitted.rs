//! System calls that a seccomp filter may refuse, and their replacements.
//!
//! Container runtimes that are older than a system call refuse it, often with an EPERM that hides
//! the cause. Replacements: a process is forked if glibc would use `clone3`, and signaled through
//! its directory in `/proc` without `pidfd_open`. Threads have no replacement: glibc tries `clone`
//! only if `clone3` fails with ENOSYS.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::LazyLock;

use nix::errno::Errno;

/// The remedy, for error messages.
pub(crate) const REMEDY: &str =
    "update the container runtime, or give it a seccomp profile that permits these calls";

/// Whether an error can come from a filter.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS))
}

/// The needed calls that are refused, each with its error.
pub(crate) fn refused() -> Vec<(&'static str, Errno)> {
    let none = std::ptr::null::<libc::c_void>();
    // Each of these calls fails without an effect; if permitted, because of its arguments. SAFETY:
    // the only pointers are null, and no call follows them.
    let calls = unsafe {
        [
            ("clone3", attempt(libc::syscall(libc::SYS_clone3, none, 0_usize))),
            ("pidfd_open", attempt(libc::syscall(libc::SYS_pidfd_open, -1, 0))),
            (
                "pidfd_send_signal",
                attempt(libc::syscall(libc::SYS_pidfd_send_signal, -1, 0, none, 0)),
            ),
        ]
    };
    // If the kernel has no clone3, glibc uses clone.
    let refused = |(call, errno): &(&str, Errno)| match errno {
        Errno::EPERM => true,
        Errno::ENOSYS => *call != "clone3",
        _ => false,
    };
    calls.into_iter().filter(refused).collect()
}

/// The errno of a call that has just returned `ret`.
fn attempt(ret: libc::c_long) -> Errno {
    if ret < 0 { Errno::last() } else { Errno::UnknownErrno }
}

/// The same error; a refusal with the refused call and the likely cause.
pub(crate) fn explain(error: io::Error) -> io::Error {
    let refused = refused();
    if !is_refusal(&error) || refused.is_empty() {
        return error;
    }
    let calls: Vec<String> =
        refused.iter().map(|(call, errno)| format!("{call} ({errno:?})")).collect();
    let message = format!(
        "{error}: refused here: {}, probably by a seccomp filter of a container; {REMEDY}",
        calls.join(", ")
    );
    io::Error::new(error.kind(), message)
}

/// Starts a process; with `fork` if other calls are refused.
///
/// # Errors
/// The OS error.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    match command.spawn() {
        Err(error) if is_refusal(&error) => {
            // SAFETY: the closure does nothing. Its presence makes the library use fork.
            unsafe { command.pre_exec(|| Ok(())) };
            command.spawn().map_err(explain)
        }
        spawned => spawned,
    }
}

/// A descriptor to signal a process and, with a pidfd, to wait for it: its pidfd or, if that is
/// refused, its directory in `/proc`, which cannot be polled.
///
/// # Errors
/// `ESRCH` if there is no such process, or the OS error.
pub(crate) fn handle(pid: i32) -> io::Result<OwnedFd> {
    match pidfd_open(pid) {
        Err(error) if is_refusal(&error) && crate::procfs::is_ours() => {
            let no_process = |_| io::Error::from_raw_os_error(libc::ESRCH);
            File::open(format!("/proc/{pid}")).map(OwnedFd::from).map_err(no_process)
        }
        opened => opened,
    }
}

/// Sends a signal by pid to the process of a descriptor, if signals by descriptor are refused. The
/// process keeps its pid until it is reaped, and only we reap our children.
///
/// # Errors
/// `None` if descriptors work; otherwise the OS error of sending, `ESRCH` if the process is gone.
pub(super) fn signal_by_number(handle: RawFd, signum: i32) -> Option<io::Result<()>> {
    static REFUSED: LazyLock<bool> =
        LazyLock::new(|| refused().iter().any(|(call, _)| *call == "pidfd_send_signal"));
    if !*REFUSED || !crate::procfs::is_ours() {
        return None;
    }
    let no_process = || io::Error::from_raw_os_error(libc::ESRCH);
    let sent = number_of(handle).ok_or_else(no_process).and_then(|pid| {
        // SAFETY: kill takes no pointer; the pid was just read from the process's pidfd.
        if unsafe { libc::kill(pid, signum) } < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    });
    Some(sent)
}

/// The pid of a pidfd, or of a directory in `/proc`; `None` once the process is reaped.
fn number_of(handle: RawFd) -> Option<i32> {
    // On older kernels only root can read the link of a process that is not dumpable.
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{handle}")).unwrap_or_default();
    let number = match info.lines().find_map(|line| line.strip_prefix("Pid:")) {
        Some(number) => number.trim().parse().ok(),
        None => {
            let path = std::fs::read_link(format!("/proc/self/fd/{handle}")).ok()?;
            path.file_name()?.to_str()?.parse().ok()
        }
    };
    number.filter(|pid| *pid > 0)
}

/// A path that executes this same program again, even if another one has replaced it on disk;
/// without `/proc`, the path of its execution.
pub(crate) fn own_program() -> PathBuf {
    let link = Path::new("/proc/self/exe");
    if link.exists() {
        return link.to_path_buf();
    }
    // SAFETY: the kernel has stored a C string there, which lives as long as the program, or null.
    let name = unsafe {
        let name = libc::getauxval(libc::AT_EXECFN) as *const libc::c_char;
        if name.is_null() { c"procstar" } else { CStr::from_ptr(name) }
    };
    let path = Path::new(OsStr::from_bytes(name.to_bytes()));
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// A pidfd of a process that is not reaped.
///
/// # Errors
/// `ESRCH` if there is no such process, or the OS error.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the system call takes no pointer.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor. It is close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn nothing_is_refused_here_and_an_error_stays_as_it_is() {
        assert_eq!(refused(), []);
        let error = explain(io::Error::from_raw_os_error(libc::EPERM));
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn a_directory_of_proc_is_as_good_as_a_pidfd_to_signal_by() {
        let mut child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let directory = File::open(format!("/proc/{}", child.id())).unwrap();
        let pidfd = pidfd_open(child.id() as i32).unwrap();
        let numbers = [directory.as_raw_fd(), pidfd.as_raw_fd()].map(number_of);
        assert_eq!(numbers, [Some(child.id() as i32); 2]);
        crate::engine::sys::pidfd_send_signal(directory.as_raw_fd(), libc::SIGKILL).unwrap();
        assert!(!child.wait().unwrap().success());
        assert_eq!(number_of(pidfd.as_raw_fd()), None);
    }
}
