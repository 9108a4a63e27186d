//! The descriptors that the program was started with, and the paths that name them.
//!
//! A shell writes `/dev/stdout`, `/dev/fd/63` or `/proc/self/fd/63` for a descriptor that it has
//! opened. Such a path means the open file, with its offset and its append mode. To open the path
//! again would lose both, and to rename a file over it would replace what the shell has opened. So
//! results go to a duplicate of the descriptor.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::config::read_file;

/// The descriptors from 3 up that belong to the user.
static INHERITED: OnceLock<Vec<RawFd>> = OnceLock::new();

/// Content that was read from descriptors that can be read only once.
static READ_UP: Mutex<Vec<(RawFd, Vec<u8>)>> = Mutex::new(Vec::new());

/// Maximum number of links that a path may lead through, as in the kernel.
const MOST_LINKS: usize = 40;

/// Records the descriptors from 3 up that this process was started with and that are the user's.
/// All others are internal ones: a path cannot name them.
pub fn claim(fds: Vec<RawFd>) {
    // A second call has no effect.
    let _ = INHERITED.set(fds);
}

/// The descriptors from 3 up that are the user's.
pub fn inherited() -> &'static [RawFd] {
    INHERITED.get().map(Vec::as_slice).unwrap_or_default()
}

/// The target of a path after following its links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A descriptor of this program, by its number.
    Own(RawFd),
    /// A descriptor of another process, by its path in `/proc`.
    Foreign(PathBuf),
    /// A file, which need not exist. It is no link.
    File(PathBuf),
}

/// Follows a path up to the descriptor or the file that it names.
///
/// # Errors
/// The OS error of a directory on the way, or of a link.
pub fn resolve(path: &Path) -> io::Result<Named> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        if let Some(fd) = by_text(&path) {
            return Ok(Named::Own(fd));
        }
        let Some(name) = path.file_name() else { return Ok(Named::File(path)) };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let dir = parent.unwrap_or(Path::new(".")).canonicalize()?;
        if let Some((pid, fd)) = in_proc(&dir, name) {
            // The process that the user launched has the same descriptors: it is our parent, or
            // this one.
            let own = [nix::unistd::getpid().as_raw(), nix::unistd::getppid().as_raw()];
            return Ok(if own.contains(&pid) {
                Named::Own(fd)
            } else {
                Named::Foreign(dir.join(name))
            });
        }
        let here = dir.join(name);
        match std::fs::read_link(&here) {
            Ok(target) => path = dir.join(target),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => {
                return Ok(Named::File(here));
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

/// The descriptor that a path names by its text, also where `/proc` is not mounted.
fn by_text(path: &Path) -> Option<RawFd> {
    match path.to_str()? {
        "/dev/stdin" => Some(0),
        "/dev/stdout" => Some(1),
        "/dev/stderr" => Some(2),
        text => ["/dev/fd/", "/proc/self/fd/", "/proc/thread-self/fd/"]
            .iter()
            .find_map(|dir| number(text.strip_prefix(dir)?)),
    }
}

/// The process and the descriptor of a name in `/proc/PID/fd` or `/proc/PID/task/TID/fd`.
fn in_proc(dir: &Path, name: &OsStr) -> Option<(i32, RawFd)> {
    let parts: Vec<&str> = dir
        .components()
        .filter_map(|part| match part {
            Component::Normal(part) => Some(part.to_str().unwrap_or_default()),
            _ => None,
        })
        .collect();
    let pid = match parts.as_slice() {
        ["proc", pid, "fd"] | ["proc", pid, "task", _, "fd"] => number(pid)?,
        _ => return None,
    };
    Some((pid, number(name.to_str()?)?))
}

fn number(text: &str) -> Option<i32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A duplicate of one of the user's descriptors, to write to.
///
/// # Errors
/// EBADF if the program was not started with it, or if it is open for reading only.
pub fn writable(fd: RawFd) -> io::Result<File> {
    let bad = || io::Error::from_raw_os_error(libc::EBADF);
    let file = duplicate(fd)?;
    let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
    let reads_only = flags & OFlag::O_ACCMODE == OFlag::O_RDONLY;
    if reads_only || flags.contains(OFlag::O_PATH) { Err(bad()) } else { Ok(file) }
}

fn duplicate(fd: RawFd) -> io::Result<File> {
    if !(0..=2).contains(&fd) && !inherited().contains(&fd) {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: fcntl reports a closed number as an error; our descriptors stay open as long as the
    // program runs.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(3))?;
    // SAFETY: the call has just created it, so it has no other owner.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(copy) }))
}

/// Opens a file of the command line to read. A descriptor of a pipe or a socket is duplicated: a
/// socket cannot be opened by a path, and a named pipe would wait for another writer.
///
/// # Errors
/// The OS error of opening it.
pub fn open(path: &Path) -> io::Result<File> {
    if let Ok(Named::Own(fd)) = resolve(path) {
        let file = duplicate(fd)?;
        if !file.metadata()?.is_file() {
            return Ok(file);
        }
    }
    File::open(path)
}

/// Reads a file of the command line.
///
/// # Errors
/// The OS error of opening or reading it.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a file of the configuration. Content of a pipe is recorded, because a later worker of the
/// same keeper cannot read it again.
///
/// # Errors
/// As [`read_file`].
pub fn read_config(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = read_file(path)?;
    if let Ok(Named::Own(fd)) = resolve(path)
        && fd > 2
        && duplicate(fd).and_then(|file| file.metadata()).is_ok_and(|meta| !meta.is_file())
    {
        READ_UP.lock().unwrap_or_else(PoisonError::into_inner).push((fd, bytes.clone()));
    }
    Ok(bytes)
}

/// The recorded content of descriptors that can be read only once, with their numbers.
pub fn take_read_up() -> Vec<(RawFd, Vec<u8>)> {
    std::mem::take(&mut READ_UP.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_name_descriptors() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/dev/stdout", &link).unwrap();
        let again = dir.path().join("again");
        std::os::unix::fs::symlink("link", &again).unwrap();
        let pid = std::process::id();
        for (path, fd) in [
            ("/dev/stdin".to_owned(), 0),
            ("/dev/stdout".to_owned(), 1),
            ("/dev/stderr".to_owned(), 2),
            ("/dev/fd/63".to_owned(), 63),
            ("/proc/self/fd/7".to_owned(), 7),
            ("/proc/thread-self/fd/7".to_owned(), 7),
            (format!("/proc/{pid}/fd/2"), 2),
            (format!("/proc/{pid}/task/{pid}/fd/2"), 2),
            ("/dev/../dev/./fd/1".to_owned(), 1),
            (link.to_str().unwrap().to_owned(), 1),
            (again.to_str().unwrap().to_owned(), 1),
        ] {
            assert_eq!(resolve(Path::new(&path)).unwrap(), Named::Own(fd), "{path}");
        }
    }

    #[test]
    fn other_paths_name_files() {
        let dir = tempfile::tempdir().unwrap().keep().canonicalize().unwrap();
        let link = dir.join("link");
        std::os::unix::fs::symlink("missing", &link).unwrap();
        assert_eq!(resolve(&link).unwrap(), Named::File(dir.join("missing")));
        assert_eq!(resolve(&dir.join("1")).unwrap(), Named::File(dir.join("1")));
        let mut other = std::process::Command::new("/bin/sleep").arg("1000").spawn().unwrap();
        let foreign = PathBuf::from(format!("/proc/{}/fd/1", other.id()));
        assert_eq!(resolve(&foreign).unwrap(), Named::Foreign(foreign));
        other.kill().unwrap();
        other.wait().unwrap();
        let round = dir.join("round");
        std::os::unix::fs::symlink("round", &round).unwrap();
        assert_eq!(resolve(&round).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        std::fs::remove_dir_all(dir).unwrap();
        assert!(resolve(Path::new("/no/such/file")).is_err());
    }

    #[test]
    fn only_the_users_descriptors_can_be_named() {
        let file = tempfile::tempfile().unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        assert_eq!(writable(fd).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}
