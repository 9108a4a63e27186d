//! Checks features of the kernel by trying each one.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

use super::check::{Check, Level};
use crate::engine::{can_restrict_calls, permitted, sys};

/// The remedy for the required features: the oldest kernel that has all of them.
const NEEDS: &str = "use Linux 5.5 or newer, and permit it in the seccomp profile of the container";

/// All checks of the kernel.
pub(super) fn checks() -> Vec<Check> {
    let tried = |name, found: io::Result<()>, level, remedy: &str| match found {
        Ok(()) => Check::ok(name, "works"),
        Err(error) => Check::with(name, level, error.to_string(), remedy),
    };
    let fail = Level::Fail;
    vec![
        tried("clone with pidfd, wait by it", cloned(), fail, NEEDS),
        tried("signals by pidfd", signaled(), fail, NEEDS),
        tried("threads", threads(), fail, permitted::REMEDY),
        pidfd_open(),
        tried("signalfd, subreaper", keeps(), fail, NEEDS),
        tried(
            "close_range",
            close_range(),
            Level::Warn,
            "use Linux 5.9 or newer; until then, a child that waits during its setup holds its siblings' pipes open",
        ),
        tried(
            "memfd, sealed",
            memfd(),
            fail,
            "use a kernel with memfd_create (CONFIG_MEMFD_CREATE)",
        ),
        tried(
            "seccomp for capture writers",
            can_restrict_calls(),
            Level::Warn,
            "use a kernel with CONFIG_SECCOMP_FILTER, on x86_64 or aarch64; until then, capture writers, which compress the output of \
             processes, are confined only by the permissions of their user",
        ),
        tried(
            "openat2",
            openat2(),
            Level::Warn,
            "use Linux 5.6 or newer, and permit it in the seccomp profile of the container; until then, with run.allowed_executables, specs \
             cannot open files",
        ),
        clock(),
    ]
}

/// Opens a directory with `openat2`, which can confine a path to a directory.
fn openat2() -> io::Result<()> {
    use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag};
    let how = OpenHow::new().flags(OFlag::O_PATH).resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    nix::fcntl::openat2(AT_FDCWD, "/", how).map(drop).map_err(io::Error::from)
}

/// Clones a child as the engine does; it exits at once and is waited for.
fn cloned() -> io::Result<()> {
    let mut pidfd: libc::c_int = -1;
    let flags = libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: without CLONE_VM the child has a copy of all memory, as with fork, and does nothing
    // but exit. The kernel writes the pidfd into our variable, which outlives the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) };
    if pid == 0 {
        // SAFETY: ends this process, without running the exit handlers that the parent has
        // registered.
        unsafe { libc::_exit(0) };
    }
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has created this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    match waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED)? {
        WaitStatus::Exited(_, 0) => Ok(()),
        status => Err(io::Error::other(format!("the status of a child that exited is {status:?}"))),
    }
}

fn signaled() -> io::Result<()> {
    let own = permitted::handle(std::process::id() as i32)?;
    // Signal 0 only checks the permission to send.
    sys::pidfd_send_signal(own.as_raw_fd(), 0).map_err(permitted::explain)
}

/// Creates a thread. glibc uses `clone3`, which older container runtimes reject.
fn threads() -> io::Result<()> {
    let thread = std::thread::Builder::new().spawn(|| ()).map_err(permitted::explain)?;
    thread.join().map_err(|_| io::Error::other("the thread panicked"))
}

/// Tries `pidfd_open`, for which the engine has a slower substitute.
fn pidfd_open() -> Check {
    const NAME: &str = "pidfd_open";
    match permitted::pidfd_open(std::process::id() as i32) {
        Ok(_) => Check::ok(NAME, "works"),
        Err(error) => Check::with(
            NAME,
            Level::Warn,
            format!(
                "{}; the end of a process with pdeath_signal, or of an adopted process, is noticed about 50 ms late",
                permitted::explain(error)
            ),
            permitted::REMEDY,
        ),
    }
}

fn keeps() -> io::Result<()> {
    use nix::sys::signal::SigSet;
    use nix::sys::signalfd::{SfdFlags, SignalFd};
    SignalFd::with_flags(&SigSet::empty(), SfdFlags::SFD_CLOEXEC)?;
    // Without lasting effect: this process has no children whose orphans it could inherit.
    let before = nix::sys::prctl::get_child_subreaper()?;
    nix::sys::prctl::set_child_subreaper(true)?;
    nix::sys::prctl::set_child_subreaper(before)?;
    Ok(())
}

fn close_range() -> io::Result<()> {
    let number = std::fs::File::open("/")?.into_raw_fd();
    // SAFETY: closes a descriptor that belongs to us and has no owner any more.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, number, number, 0) };
    if closed < 0 {
        let error = io::Error::last_os_error();
        // SAFETY: the descriptor belongs to us, has no owner, and is still open.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
        return Err(error);
    }
    Ok(())
}

fn memfd() -> io::Result<()> {
    let file = sys::sealable_memory_file()?;
    sys::seal(&file)
}

/// Checks whether the clock is synchronised, so that times of several hosts can be compared.
fn clock() -> Check {
    const NAME: &str = "clock";
    // SAFETY: zero is a valid value of these numbers; it requests no change.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is ours and outlives the call.
    match unsafe { libc::adjtimex(&raw mut timex) } {
        -1 => Check::note(NAME, format!("cannot read its state: {}", io::Error::last_os_error())),
        libc::TIME_ERROR => Check::with(
            NAME,
            Level::Note,
            "not synchronised",
            "run an NTP client (chrony, systemd-timesyncd) if you compare times of several hosts",
        ),
        _ => Check::ok(NAME, format!("synchronised, within {} ms", timex.maxerror / 1000)),
    }
}
