//! Owned wrappers of the system calls that nix does not have, or has in a form that does not fit.
//!
//! Everything here gives `io::Result` with the kernel's errno and owns what it opens, always close-on-exec.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Sets the signal of a broken lease; as in the kernel's `fcntl.h`.
const F_SETSIG: libc::c_int = 10;

/// Turns a system call's return value into a result.
fn check(ret: libc::c_int) -> io::Result<libc::c_int> {
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

/// Takes ownership of a descriptor that a system call has just returned.
fn owned(ret: libc::c_int) -> io::Result<OwnedFd> {
    let fd = check(ret)?;
    // SAFETY: the kernel has just given us this descriptor; nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn open(path: &CStr, flags: libc::c_int, mode: libc::c_uint) -> io::Result<OwnedFd> {
    // SAFETY: `path` is a valid C string for the length of the call.
    owned(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, mode) })
}

/// A new file without a name in `dir`, for the user alone: its writing end, which only ever appends, and a
/// reading end with an offset of its own.
///
/// # Errors
/// The OS error of creating or opening.
pub(super) fn nameless_file(dir: &Path) -> io::Result<(OwnedFd, OwnedFd)> {
    const WRITE: libc::c_int = libc::O_WRONLY | libc::O_APPEND;
    let c_dir = CString::new(dir.as_os_str().as_bytes())?;
    match open(&c_dir, libc::O_TMPFILE | WRITE, 0o600) {
        Ok(writer) => {
            let reader = open(&self_fd_path(writer.as_raw_fd())?, libc::O_RDONLY, 0)?;
            Ok((writer, reader))
        }
        // File systems without O_TMPFILE say one of these; a name that is there for a moment serves as well.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
            briefly_named_file(dir, WRITE)
        }
        Err(error) => Err(error),
    }
}

fn briefly_named_file(dir: &Path, flags: libc::c_int) -> io::Result<(OwnedFd, OwnedFd)> {
    loop {
        let name = dir.join(format!(".procstar-{:016x}", fastrand::u64(..)));
        let name = CString::new(name.as_os_str().as_bytes())?;
        match open(&name, flags | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW, 0o600) {
            Ok(writer) => {
                let reader = open(&self_fd_path(writer.as_raw_fd())?, libc::O_RDONLY, 0);
                // SAFETY: `name` is a valid C string for the length of the call.
                check(unsafe { libc::unlink(name.as_ptr()) })?;
                return Ok((writer, reader?));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// The path by which this process can reach what its descriptor `fd` refers to, whether it has a name or not.
pub(super) fn self_fd_path(fd: RawFd) -> io::Result<CString> {
    Ok(CString::new(format!("/proc/self/fd/{fd}"))?)
}

/// A file that lives in memory, for reading and writing.
///
/// # Errors
/// The OS error.
pub(super) fn memory_file() -> io::Result<OwnedFd> {
    // SAFETY: the name is a C string literal.
    owned(unsafe { libc::memfd_create(c"procstar-capture".as_ptr(), libc::MFD_CLOEXEC) })
}

/// A pipe, as its reading and its writing end.
///
/// # Errors
/// The OS error.
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

/// Makes reads of this open file return at once where there is nothing yet.
///
/// # Errors
/// The OS error.
pub(super) fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: plain fcntl on a descriptor that we own.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })?;
    Ok(())
}

/// Asks for a pipe buffer of `bytes`; the system may refuse (its limits are per user), which does no harm.
pub(super) fn grow_pipe(fd: &OwnedFd, bytes: libc::c_int) {
    // SAFETY: plain fcntl on a descriptor that we own.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETPIPE_SZ, bytes) };
}

/// Sends a signal to the process behind a pidfd.
///
/// # Errors
/// `ESRCH` where it has been reaped, or the OS error (`EPERM`, `EINVAL`).
pub(super) fn pidfd_send_signal(pidfd: RawFd, signum: i32) -> io::Result<()> {
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
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reaps child `pid` if it has ended: its raw wait status and its rusage, which includes the children it waited for.
///
/// # Errors
/// The OS error; `ECHILD` where somebody else has reaped it.
pub(super) fn reap(pid: i32) -> io::Result<Option<(i32, libc::rusage)>> {
    let mut status = 0;
    // SAFETY: an all-zero rusage is a valid value of that plain C struct.
    let mut rusage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live variables of the right types.
    let reaped = check(unsafe { libc::wait4(pid, &mut status, libc::WNOHANG, &mut rusage) })?;
    Ok((reaped == pid).then_some((status, rusage)))
}

/// Whether anybody still has the file behind `reader` open for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writers {
    /// Nobody: its length is final.
    None,
    /// Somebody.
    Some,
    /// The file system cannot tell.
    Unknown,
}

/// Asks the kernel whether a file has writers: it grants a read lease only where there are none.
pub(super) fn writers(reader: &impl AsRawFd) -> Writers {
    let fd = reader.as_raw_fd();
    match take_lease(fd) {
        Ok(()) => {
            // SAFETY: plain fcntl on a descriptor that we own.
            unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
            Writers::None
        }
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Writers::Some,
        Err(_) => Writers::Unknown,
    }
}

/// Takes a read lease. Whoever opens the file for writing meanwhile breaks it, and the signal of that would be
/// SIGIO, which ends us: it is made one that does nothing. The kernel forgets the choice with the lease.
fn take_lease(fd: RawFd) -> io::Result<()> {
    // SAFETY: plain fcntl without pointers.
    check(unsafe { libc::fcntl(fd, F_SETSIG, libc::SIGURG) })?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) })?;
    Ok(())
}

/// Blocks every signal in the calling thread, 32 and 33 among them, which pthread_sigmask leaves alone.
///
/// A thread that clones children must never run one of our handlers in a child that shares our memory.
pub(super) fn block_all_signals() {
    let all = u64::MAX;
    // SAFETY: the kernel reads 8 bytes at `all`; there is no old mask to write.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const all,
            std::ptr::null_mut::<u64>(),
            8usize,
        );
    }
}

/// Gives SIGCHLD its default disposition. Whoever started us may have ignored it, and then the kernel would reap our
/// children itself, and lose their statuses.
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

/// A stack for a cloned child, with a guard page below it.
pub(super) struct Stack {
    base: *mut libc::c_void,
}

// SAFETY: the mapping belongs to this value alone, and is reachable from any thread.
unsafe impl Send for Stack {}

impl Stack {
    const GUARD: usize = 4096;
    const SIZE: usize = 64 * 1024 + Self::GUARD;

    /// Maps a stack of 64 KiB.
    ///
    /// # Errors
    /// The OS error of mapping.
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing of ours.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                Self::SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Stack { base };
        // SAFETY: the first page of our own mapping.
        check(unsafe { libc::mprotect(base, Self::GUARD, libc::PROT_NONE) })?;
        Ok(stack)
    }

    /// The address that the stack grows down from, 16-byte aligned.
    pub(super) fn top(&self) -> *mut libc::c_void {
        // SAFETY: one past the end of our own mapping.
        unsafe { self.base.byte_add(Self::SIZE) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nothing uses any more.
        unsafe { libc::munmap(self.base, Self::SIZE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn writers_of_a_nameless_file() {
        let (writer, reader) = nameless_file(&std::env::temp_dir()).unwrap();
        assert_eq!(writers(&reader), Writers::Some);
        std::fs::File::from(writer).write_all(b"x").unwrap();
        assert_eq!(writers(&reader), Writers::None);
    }

    #[test]
    fn a_broken_lease_ends_nobody() {
        let (writer, reader) = nameless_file(&std::env::temp_dir()).unwrap();
        drop(writer);
        take_lease(reader.as_raw_fd()).unwrap();
        let path = self_fd_path(reader.as_raw_fd()).unwrap();
        let broken = open(&path, libc::O_WRONLY | libc::O_NONBLOCK, 0).unwrap_err();
        assert_eq!(broken.raw_os_error(), Some(libc::EAGAIN));
        // SAFETY: plain fcntl without pointers.
        assert_eq!(unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) }, 0);
    }

    #[test]
    fn a_file_without_o_tmpfile_leaves_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, reader) =
            briefly_named_file(dir.path(), libc::O_WRONLY | libc::O_APPEND).unwrap();
        std::fs::File::from(writer).write_all(b"x").unwrap();
        assert_eq!(std::io::read_to_string(std::fs::File::from(reader)).unwrap(), "x");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
