//! Safe walks of paths that a user has named: they follow no link that another user may have
//! placed.
//!
//! A directory on such a path may belong to the user of a process, who can replace it by another
//! one or by a link at any moment. We must not create, read or remove the target of that link with
//! our rights. So a walk follows a link only in a directory that belongs to root or to us, and in
//! which no other user may write: `/var/run` is such a link. The last part of a path is not
//! followed, unless the caller asks for that.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstat};

use crate::engine::failure::{Stage, StartFailure};

/// Most links that a walk follows, as in the kernel.
const MOST_LINKS: usize = 40;

/// The error of walking a path.
#[derive(Debug)]
pub(crate) struct WalkError {
    error: io::Error,
    /// The link that was not followed.
    link: Option<PathBuf>,
}

impl WalkError {
    /// The OS error number.
    pub(crate) fn errno(&self) -> i32 {
        self.error.raw_os_error().unwrap_or(libc::EIO)
    }

    /// Details that the OS error lacks.
    pub(crate) fn detail(&self) -> Option<String> {
        self.link.as_ref().map(|link| {
            format!(
                "{} is a symbolic link in a directory that others than root and procstar's user may change; \
                 name the path that it leads to",
                link.display()
            )
        })
    }
}

impl WalkError {
    /// The same error as a failure of a start.
    pub(super) fn failure(&self, stage: Stage, path: &str) -> StartFailure {
        let detail = self.detail();
        StartFailure { detail, ..StartFailure::new(stage, self.errno(), Some(path.to_owned())) }
    }
}

impl fmt::Display for WalkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)?;
        self.detail().iter().try_for_each(|detail| write!(f, ": {detail}"))
    }
}

impl From<io::Error> for WalkError {
    fn from(error: io::Error) -> Self {
        WalkError { error, link: None }
    }
}

impl From<Errno> for WalkError {
    fn from(errno: Errno) -> Self {
        io::Error::from(errno).into()
    }
}

/// Opens the directory of a path's last part, only for lookups in it; also returns that part.
///
/// # Errors
/// The OS error; `ELOOP` for a refused link, `EISDIR` for a path without a last name.
pub(crate) fn parent(path: &Path) -> Result<(OwnedFd, OsString), WalkError> {
    let bytes = path.as_os_str().as_bytes();
    let at = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (dir, name) = bytes.split_at_checked(at).unwrap_or((bytes, b""));
    if matches!(name, b"" | b"." | b"..") {
        return Err(Errno::EISDIR.into());
    }
    let dir = if dir.is_empty() { b"." } else { dir };
    let dir = directory(Path::new(OsStr::from_bytes(dir)))?;
    Ok((dir, OsString::from_vec(name.to_vec())))
}

/// Opens a directory, only for lookups in it.
fn directory(path: &Path) -> Result<OwnedFd, WalkError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    match without_links(path, flags) {
        Ok(dir) => Ok(dir),
        // Old kernels and containers' filters lack the call, and the path may contain a permitted
        // link.
        Err(Errno::ELOOP | Errno::ENOSYS | Errno::EPERM) => walk(path, flags),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens a file for reading, also through permitted links. Does not wait for the writer of a FIFO.
///
/// # Errors
/// The OS error; `ELOOP` for a refused link.
pub(crate) fn read(path: &Path) -> Result<OwnedFd, WalkError> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    match without_links(path, flags) {
        Ok(file) => Ok(file),
        Err(Errno::ELOOP | Errno::ENOSYS | Errno::EPERM) => walk(path, flags),
        Err(errno) => Err(errno.into()),
    }
}

fn without_links(path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(nix::fcntl::AT_FDCWD, path, how)
}

/// Walks a path part by part; opens its target with these flags.
fn walk(path: &Path, flags: OFlag) -> Result<OwnedFd, WalkError> {
    let place = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let start = |path: &OsStr| {
        let from: &OsStr = OsStr::new(if path.as_bytes().starts_with(b"/") { "/" } else { "." });
        openat(nix::fcntl::AT_FDCWD, from, place | OFlag::O_DIRECTORY, Mode::empty())
    };
    let mut dir = start(path.as_os_str())?;
    let mut rest = parts(path.as_os_str());
    let mut links = 0;
    while let Some(part) = rest.pop() {
        let found = openat(&dir, part.as_os_str(), place, Mode::empty())?;
        let stat = fstat(&found)?;
        if stat.st_mode & libc::S_IFMT == libc::S_IFLNK {
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::ELOOP.into());
            }
            if !is_ours_alone(&fstat(&dir)?) {
                let link = Some(shown(&dir).join(&part));
                return Err(WalkError { error: Errno::ELOOP.into(), link });
            }
            let target = readlinkat(&found, "")?;
            if target.as_bytes().starts_with(b"/") {
                dir = start(&target)?;
            }
            rest.extend(parts(&target));
        } else if rest.is_empty() && !flags.contains(OFlag::O_DIRECTORY) {
            let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
            return Ok(openat(&dir, part.as_os_str(), flags, Mode::empty())?);
        } else if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
            dir = found;
        } else {
            return Err(Errno::ENOTDIR.into());
        }
    }
    if flags.contains(OFlag::O_DIRECTORY) { Ok(dir) } else { Err(Errno::EISDIR.into()) }
}

/// The parts of a path in reverse order.
fn parts(path: &OsStr) -> Vec<OsString> {
    let parts = path.as_bytes().split(|byte| *byte == b'/');
    let mut parts: Vec<OsString> = parts
        .filter(|part| !matches!(*part, b"" | b"."))
        .map(|part| OsString::from_vec(part.to_vec()))
        .collect();
    parts.reverse();
    parts
}

/// Whether only root and our own user can change the entries of a directory.
fn is_ours_alone(dir: &FileStat) -> bool {
    let ours = dir.st_uid == 0 || dir.st_uid == nix::unistd::geteuid().as_raw();
    // The group bits include an access list that lets others write.
    ours && dir.st_mode & 0o022 == 0
}

/// The path of an open directory, for messages.
fn shown(dir: &impl AsFd) -> PathBuf {
    use std::os::fd::AsRawFd;
    let number = dir.as_fd().as_raw_fd();
    std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A directory with `real/file`, and links to both.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        std::fs::create_dir(path.join("real")).unwrap();
        std::fs::write(path.join("real/file"), "text").unwrap();
        symlink("real", path.join("link")).unwrap();
        symlink(path.join("real"), path.join("absolute")).unwrap();
        symlink("real/../link/file", path.join("far")).unwrap();
        (dir, path)
    }

    fn content(path: &Path) -> Result<String, i32> {
        let mut text = String::new();
        let mut file = std::fs::File::from(read(path).map_err(|error| error.errno())?);
        file.read_to_string(&mut text).unwrap();
        Ok(text)
    }

    #[test]
    fn links_of_ours_are_followed() {
        let (_dir, path) = place();
        for to in ["real/file", "link/file", "absolute/file", "far", "link/../real/./file"] {
            assert_eq!(content(&path.join(to)), Ok("text".into()), "{to}");
        }
        for (to, name) in [("real/new", "new"), ("link/new", "new"), ("absolute/x", "x")] {
            let (dir, last) = parent(&path.join(to)).unwrap();
            assert_eq!((shown(&dir), last), (path.join("real"), name.into()), "{to}");
        }

        assert_eq!(parent(&path.join("real/file/x")).unwrap_err().errno(), libc::ENOTDIR);
        assert_eq!(parent(&path.join("nothing/x")).unwrap_err().errno(), libc::ENOENT);
        assert_eq!(parent(Path::new("/")).unwrap_err().errno(), libc::EISDIR);
    }

    /// Neither within a path nor at its end, and whatever the link's target.
    #[test]
    fn a_link_where_others_may_write_is_not_followed() {
        let (_dir, path) = place();
        for mode in [0o777, 0o1777, 0o770] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            for link in ["link/file", "absolute/file", "far"] {
                let error = read(&path.join(link)).unwrap_err();
                assert_eq!(error.errno(), libc::ELOOP, "{link}");
                let name = link.split('/').next().unwrap();
                let named = format!("{} is a symbolic link in a", path.join(name).display());
                assert!(error.to_string().contains(&named), "{error}");
            }
            assert_eq!(parent(&path.join("link/new")).unwrap_err().errno(), libc::ELOOP);
            assert_eq!(content(&path.join("real/file")), Ok("text".into()));
        }
    }

    #[test]
    fn a_ring_of_links_is_an_error() {
        let (_dir, path) = place();
        symlink("ring", path.join("ring")).unwrap();
        assert_eq!(read(&path.join("ring/x")).unwrap_err().errno(), libc::ELOOP);
    }

    /// The FIFO has no writer.
    #[test]
    fn a_fifo_is_not_waited_for() {
        let (_dir, path) = place();
        nix::unistd::mkfifo(&path.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(content(&path.join("fifo")), Ok(String::new()));
        symlink("fifo", path.join("to-fifo")).unwrap();
        assert_eq!(content(&path.join("to-fifo")), Ok(String::new()));
    }
}
