//! Owned wrappers of system calls that nix lacks, or whose form in nix does not fit.
//!
//! All functions return `io::Result` with the kernel's errno, and own the descriptors that they
//! open, which are close-on-exec.

mod stack;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, SealFlag, fcntl};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};

use crate::engine::failpoints::{self, Call};
use crate::engine::permitted;
pub(super) use stack::Stack;

/// Sets the signal of a broken lease; from the kernel's `fcntl.h`.
const F_SETSIG: libc::c_int = 10;

/// Turns a system call's return value into a result.
pub(super) fn check(ret: libc::c_int) -> io::Result<libc::c_int> {
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

/// A file in memory that can be [sealed](seal).
///
/// # Errors
/// The OS error.
pub(crate) fn sealable_memory_file() -> io::Result<OwnedFd> {
    use nix::sys::memfd::MFdFlags;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    Ok(nix::sys::memfd::memfd_create(c"procstar data", flags)?)
}

/// Makes a file in memory immutable.
///
/// # Errors
/// The OS error.
pub(crate) fn seal(file: &impl AsFd) -> io::Result<()> {
    let seals = [SealFlag::F_SEAL_SHRINK, SealFlag::F_SEAL_GROW, SealFlag::F_SEAL_WRITE];
    let seals = seals.into_iter().fold(SealFlag::F_SEAL_SEAL, SealFlag::union);
    fcntl(file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(())
}

/// Sets the mode of an open file.
///
/// # Errors
/// The OS error.
pub(super) fn set_mode(fd: &OwnedFd, mode: libc::mode_t) -> io::Result<()> {
    Ok(nix::sys::stat::fchmod(fd, Mode::from_bits_truncate(mode))?)
}

/// The umask of this program, once some thread has its own; [`UNKNOWN`] before.
static UMASK: AtomicU32 = AtomicU32::new(UNKNOWN);
const UNKNOWN: u32 = u32::MAX;

/// Gives this thread its own umask, which is empty: its files get exactly the requested modes. The
/// thread then also has its own working directory. Threads that it starts share both, until they
/// [leave](leave_own_umask). Returns whether it succeeded.
pub(super) fn take_own_umask() -> bool {
    let alone = unshare(CloneFlags::CLONE_FS).is_ok();
    if alone {
        UMASK.store(umask(Mode::empty()).bits(), Ordering::Release);
    }
    alone
}

/// Sets the program's umask in this thread, whichever thread started it. Call it before the thread
/// creates any file or process.
///
/// # Errors
/// The OS error; then the thread must create none.
pub(super) fn leave_own_umask() -> io::Result<()> {
    let mask = UMASK.load(Ordering::Acquire);
    if mask != UNKNOWN {
        unshare(CloneFlags::CLONE_FS)?;
        umask(Mode::from_bits_truncate(mask));
    }
    Ok(())
}

/// A pipe, as its reading and its writing end.
///
/// # Errors
/// The OS error.
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    failpoints::check(Call::Pipe)?;
    Ok(nix::unistd::pipe2(OFlag::O_CLOEXEC)?)
}

/// Makes reads of this open file non-blocking.
///
/// # Errors
/// The OS error.
pub(crate) fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    failpoints::check(Call::Nonblocking)?;
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Makes reads and writes of this open file blocking again.
///
/// # Errors
/// The OS error.
pub(super) fn set_blocking(fd: &impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags.difference(OFlag::O_NONBLOCK)))?;
    Ok(())
}

/// Installs `handler`, which must be async-signal-safe, for a signal. It interrupts blocking system
/// calls.
///
/// # Errors
/// The OS error, for a signal that cannot be handled.
pub(super) fn on_signal(
    signum: libc::c_int,
    handler: extern "C" fn(libc::c_int),
) -> io::Result<()> {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    let action = SigAction::new(SigHandler::Handler(handler), SaFlags::empty(), SigSet::empty());
    // SAFETY: the caller guarantees that the handler may run at any time.
    unsafe { sigaction(Signal::try_from(signum)?, &action) }?;
    Ok(())
}

/// Sets whether exec closes an fd.
///
/// # Errors
/// The OS error.
pub(crate) fn set_cloexec(fd: &impl AsFd, close: bool) -> io::Result<()> {
    let flags = if close { FdFlag::FD_CLOEXEC } else { FdFlag::empty() };
    fcntl(fd, FcntlArg::F_SETFD(flags))?;
    Ok(())
}

/// Sets whether exec closes the fd with this number, which may be closed by now. It takes no
/// pointer, and is safe in a child before exec.
///
/// # Errors
/// `EBADF` if no fd has this number.
pub fn set_cloexec_of(number: RawFd, close: bool) -> io::Result<()> {
    let flags = if close { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: F_SETFD takes no pointer, changes only the fd's own flag, and fails for a number that
    // is not open. So no fd has to stay open meanwhile, as a BorrowedFd would require.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, flags) })?;
    Ok(())
}

/// Whether an fd with this number is open now.
pub(crate) fn is_open(number: RawFd) -> bool {
    // SAFETY: F_GETFD takes no pointer, changes nothing, and fails for a number that is not open.
    unsafe { libc::fcntl(number, libc::F_GETFD) != -1 }
}

/// Requests a pipe buffer of `bytes`. Returns its new size, or `None` if the system refuses because
/// of its limits per user, which does no harm.
pub(super) fn grow_pipe(fd: &OwnedFd, bytes: usize) -> Option<usize> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    usize::try_from(fcntl(fd, FcntlArg::F_SETPIPE_SZ(bytes)).ok()?).ok()
}

/// Moves at most `room` bytes from a pipe, whose reads do not block, to the position of an open
/// file. The kernel moves the bytes and the position in one call, so a kill between two calls loses
/// no byte, as it would between a read and a write: what has left the pipe is in the file, and any
/// process with a duplicate of the file's descriptor reads its number from the position. Returns
/// the number of bytes, 0 at the end.
///
/// # Errors
/// `EAGAIN` if the pipe is empty, the OS error of writing, or `EINVAL` if the file system does not
/// support this.
pub(super) fn splice(reader: &OwnedFd, file: &impl AsFd, room: usize) -> io::Result<usize> {
    let (from, to) = (reader.as_raw_fd(), file.as_fd().as_raw_fd());
    let (none, flags) = (std::ptr::null_mut(), libc::SPLICE_F_NONBLOCK);
    // SAFETY: the null pointers stand for the pipe's lack of an offset and for the file's own.
    let moved = unsafe { libc::splice(from, none, to, none, room, flags) };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}

/// The number of bytes in a pipe; 0 if it is empty and no writer is left.
///
/// # Errors
/// `EAGAIN` if the pipe is empty, and has a writer.
pub(super) fn bytes_in_pipe(reader: &OwnedFd) -> io::Result<usize> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    loop {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the pointer is to a live variable of the type that the call writes.
        check(unsafe { libc::ioctl(reader.as_raw_fd(), libc::FIONREAD, &raw mut bytes) })?;
        if bytes > 0 {
            return usize::try_from(bytes).map_err(io::Error::other);
        }
        let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO)?;
        let [polled] = fds;
        let events = polled.revents().unwrap_or(PollFlags::empty());
        // A writer may have written since, and closed its end.
        if events.contains(PollFlags::POLLIN) {
            continue;
        }
        return match events.contains(PollFlags::POLLHUP) {
            true => Ok(0),
            false => Err(io::Error::from_raw_os_error(libc::EAGAIN)),
        };
    }
}

/// The size of a pipe's buffer.
pub(super) fn pipe_size(fd: &OwnedFd) -> Option<usize> {
    usize::try_from(fcntl(fd, FcntlArg::F_GETPIPE_SZ).ok()?).ok()
}

/// Whether a pipe has no writer left; it may still hold data.
pub(super) fn hung_up(reader: &OwnedFd) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok()
        && fds.iter().filter_map(PollFd::revents).any(|got| got.contains(PollFlags::POLLHUP))
}

/// The major and minor version of the kernel.
pub(super) fn kernel_version() -> Option<(u32, u32)> {
    let name = nix::sys::utsname::uname().ok()?;
    let mut numbers = name.release().to_str()?.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whether a descriptor is readable: a pidfd, once its process has ended.
pub(super) fn is_readable(fd: &OwnedFd) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok()
        && fds.iter().filter_map(PollFd::revents).any(|got| got.contains(PollFlags::POLLIN))
}

/// Sends a signal to the process behind a pidfd.
///
/// # Errors
/// `ESRCH` if the process has been reaped, or the OS error (`EPERM`, `EINVAL`).
pub(crate) fn pidfd_send_signal(pidfd: RawFd, signum: i32) -> io::Result<()> {
    // SAFETY: the system call takes no pointer but the null siginfo.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd,
            signum,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if ret >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EPERM | libc::ENOSYS) => {
            permitted::signal_by_number(pidfd, signum).unwrap_or(Err(error))
        }
        _ => Err(error),
    }
}

/// Sends a signal to every process of a group.
///
/// # Errors
/// `ESRCH` if there is no such group, `EPERM` if none of its processes may be signaled, or the OS
/// error.
pub(super) fn signal_group(pgid: i32, signum: i32) -> io::Result<()> {
    // 1 is not one of our groups, and -1 would signal every process.
    if pgid <= 1 {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // Not nix's killpg: it does not support real-time signals.
    // SAFETY: kill takes no pointer, and the number is that of a group.
    check(unsafe { libc::kill(-pgid, signum) })?;
    Ok(())
}

/// Makes this process the new parent of orphaned descendants, instead of init.
///
/// # Errors
/// The OS error, which does not occur.
pub(super) fn become_subreaper() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// Whether orphaned descendants become children of this process.
pub(super) fn takes_orphans() -> bool {
    std::process::id() == 1 || nix::sys::prctl::get_child_subreaper().unwrap_or(false)
}

/// Whether process `pid` executes this same program; `None` if we may not inspect it, like our own
/// workers and capture writers. Compares the paths that the kernel knows, without asking the file
/// system.
pub(super) fn is_this_program(pid: i32) -> Option<bool> {
    match (std::fs::read_link(format!("/proc/{pid}/exe")), std::fs::read_link("/proc/self/exe")) {
        (Err(error), _) if error.kind() == io::ErrorKind::PermissionDenied => None,
        (Ok(it), Ok(own)) => Some(it == own),
        _ => Some(false),
    }
}

/// The signal that has stopped child `pid` since the last call, if the child is still stopped.
pub(super) fn new_stop_of(pid: i32) -> Option<i32> {
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
    let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
    match waitid(Id::Pid(nix::unistd::Pid::from_raw(pid)), flags) {
        Ok(WaitStatus::Stopped(_, signal)) => Some(signal as i32),
        _ => None,
    }
}

/// The open-file limit of this process.
pub(super) fn open_file_limit() -> usize {
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    limit.map_or(usize::MAX, |(soft, _)| usize::try_from(soft).unwrap_or(usize::MAX))
}

/// The time since boot in clock ticks, the unit of start times in `/proc`.
pub(super) fn ticks_since_boot() -> u64 {
    let since = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    let ticks = ::procfs::ticks_per_second().max(1);
    since.map_or(0, |t| {
        let (seconds, nanos) = (t.tv_sec().unsigned_abs(), t.tv_nsec().unsigned_abs());
        seconds * ticks + nanos * ticks / 1_000_000_000
    })
}

/// Reaps child `pid` if it has ended: returns its raw wait status and its rusage, which includes
/// the children that it waited for.
///
/// # Errors
/// The OS error; `ECHILD` if another reaper has reaped it.
pub(super) fn reap(pid: i32) -> io::Result<Option<(i32, libc::rusage)>> {
    let mut status = 0;
    // SAFETY: an all-zero rusage is a valid value of that plain C struct.
    let mut rusage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live variables of the right types.
    let reaped = check(unsafe { libc::wait4(pid, &mut status, libc::WNOHANG, &mut rusage) })?;
    Ok((reaped == pid).then_some((status, rusage)))
}

/// Whether any process still has the file of `reader` open for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writers {
    /// No process: the length is final.
    None,
    /// Some process.
    Some,
    /// The file system does not support the query.
    Unknown,
}

/// Queries whether a file has writers: the kernel grants a read lease only without writers.
pub(crate) fn writers(reader: &impl AsRawFd) -> Writers {
    let fd = reader.as_raw_fd();
    match take_lease(fd) {
        Ok(()) => {
            // SAFETY: F_SETLEASE takes no pointer; the caller holds the fd open.
            unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
            Writers::None
        }
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Writers::Some,
        Err(_) => Writers::Unknown,
    }
}

/// Takes a read lease. A process that opens the file for writing meanwhile breaks the lease. The
/// kernel would then send SIGIO, which kills us, so a harmless signal is set instead. The kernel
/// forgets that setting with the lease.
fn take_lease(fd: RawFd) -> io::Result<()> {
    // SAFETY: F_SETSIG takes no pointer; the caller holds the fd open.
    check(unsafe { libc::fcntl(fd, F_SETSIG, libc::SIGURG) })?;
    // SAFETY: the same holds for F_SETLEASE.
    check(unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) })?;
    Ok(())
}

/// Blocks every signal in the calling thread, including 32 and 33, which pthread_sigmask leaves
/// alone; returns the mask before.
///
/// A thread that clones children must never run one of our handlers in a child that shares our
/// memory.
pub(crate) fn block_all_signals() -> u64 {
    set_signal_mask(u64::MAX)
}

/// Sets the calling thread's signal mask, signal N by bit N - 1; returns the one before.
pub(crate) fn set_signal_mask(mask: u64) -> u64 {
    let mut before = 0u64;
    // SAFETY: the kernel reads 8 bytes at `mask`, and writes 8 at `before`.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            &raw mut before,
            8usize,
        );
    }
    before
}

/// Ignores a signal from now on, by a direct system call: libc refuses two signals.
///
/// # Errors
/// The OS error, which does not occur for a signal that can be ignored.
pub(super) fn ignore(signum: i32) -> io::Result<()> {
    set_disposition(signum, libc::SIG_IGN)
}

/// Sets the default disposition of SIGCHLD. Our parent may have ignored the signal, and then the
/// kernel would reap our children itself and lose their statuses.
///
/// # Errors
/// The OS error, which does not occur.
pub(super) fn default_sigchld() -> io::Result<()> {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler is installed.
    unsafe { sigaction(Signal::SIGCHLD, &default) }?;
    Ok(())
}

/// Sets the default disposition of a signal, by a direct system call: libc refuses two signals.
pub(super) fn make_default(signum: i32) {
    // It fails only for the two signals whose disposition is always the default.
    let _ = set_disposition(signum, libc::SIG_DFL);
}

/// Sets the disposition of a signal by a direct system call: libc refuses signals 32 and 33.
/// `handler` is SIG_IGN or SIG_DFL.
fn set_disposition(signum: i32, handler: libc::sighandler_t) -> io::Result<()> {
    // The kernel's struct: the handler, no flags, no restorer, empty mask.
    let action = [handler as u64, 0, 0, 0];
    // SAFETY: no handler is installed; the kernel reads one struct at `action`.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signum,
            action.as_ptr(),
            std::ptr::null_mut::<u64>(),
            8usize,
        )
    };
    if ret == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Ends this process by a signal, without a core dump, because the signal is no fault of this
/// program; returns if the signal does not end it.
pub(super) fn die_of(signum: i32) {
    // A core limit of 0 does not prevent a dump to the program of core_pattern.
    let _ = nix::sys::prctl::set_dumpable(false);
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
    make_default(signum);
    let bit = u32::try_from(signum - 1).unwrap_or(63).min(63);
    set_signal_mask(!(1 << bit));
    // SAFETY: tgkill takes no pointer, and names this very thread.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), signum) };
}

/// Whether this process was started with a signal ignored.
pub(super) fn is_ignored(signum: libc::c_int) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: it only queries; the kernel fills the struct, of which all zero is a valid value.
    let action = unsafe {
        libc::sigaction(signum, std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}

/// Whether a signal has its default disposition, by a direct system call: libc hides two signals.
pub(super) fn is_default(signum: libc::c_int) -> bool {
    // The kernel's struct; the first word is the handler.
    let mut action = [0u64; 4];
    // SAFETY: it only queries; the kernel writes one struct at `action`.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signum,
            std::ptr::null::<u64>(),
            action.as_mut_ptr(),
            8usize,
        )
    };
    ret == 0 && action.first().is_some_and(|handler| *handler == libc::SIG_DFL as u64)
}

/// Makes a file system such as ext4 place each new directory in this one, with its files, into its
/// own region, as it does for home directories. Otherwise the files of one directory follow
/// another's, and ext4 searches for each new file behind all that were removed in the last minutes:
/// after a thousand removals, 0.1 ms per file. Failure has no other effect.
pub(crate) fn spread_below(dir: &std::path::Path) {
    const TOPDIR: libc::c_int = 0x0002_0000;
    let Ok(dir) = std::fs::File::open(dir) else { return };
    let mut flags: libc::c_int = 0;
    // SAFETY: the descriptor is open, and both requests read or write one int.
    unsafe {
        if libc::ioctl(dir.as_raw_fd(), libc::FS_IOC_GETFLAGS, &raw mut flags) == 0
            && flags & TOPDIR == 0
        {
            flags |= TOPDIR;
            libc::ioctl(dir.as_raw_fd(), libc::FS_IOC_SETFLAGS, &raw const flags);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;

    #[test]
    fn writers_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut writer = std::fs::File::create(&path).unwrap();
        let reader = std::fs::File::open(&path).unwrap();
        assert_eq!(writers(&reader), Writers::Some);
        writer.write_all(b"x").unwrap();
        drop(writer);
        assert_eq!(writers(&reader), Writers::None);
    }

    #[test]
    fn a_number_that_is_not_open_is_no_descriptor() {
        let file = tempfile::tempfile().unwrap();
        let number = file.as_raw_fd();
        assert!(is_open(number) && set_cloexec_of(number, false).is_ok());
        assert!(!is_open(-1) && !is_open(i32::MAX));
        assert_eq!(set_cloexec_of(i32::MAX, true).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn a_broken_lease_ends_nobody() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let reader = std::fs::File::open(file.path()).unwrap();
        let path = file.into_temp_path();
        take_lease(reader.as_raw_fd()).unwrap();
        let broken = std::fs::File::options()
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
            .unwrap_err();
        assert_eq!(broken.raw_os_error(), Some(libc::EAGAIN));
        // SAFETY: F_SETLEASE takes no pointer; the reader is open.
        assert_eq!(unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) }, 0);
    }
}
