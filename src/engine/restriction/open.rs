//! Opening files under a restriction: through no magic link of `/proc`, and below a directory.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};

use super::Below;

/// Attempts to look a path up while its directories are moved.
const TRIES: usize = 32;

/// Opens an executable only to identify and execute it.
///
/// A magic link of `/proc`, such as `/proc/PID/root`, leads into another mount namespace, where any
/// file can have any path. Kernels before 5.6 cannot refuse it: there, [`is_at`] must detect it.
///
/// # Errors
/// The OS error; `ELOOP` for a magic link.
pub(in crate::engine) fn executable(path: &str) -> io::Result<File> {
    match resolve(AT_FDCWD, Path::new(path), OFlag::O_PATH, ResolveFlag::RESOLVE_NO_MAGICLINKS) {
        // The access mode has no effect.
        Err(error) if is_unknown(&error) => {
            File::options().read(true).custom_flags(libc::O_PATH).open(path)
        }
        opened => opened.map(File::from),
    }
}

/// Opens a file for reading; no link may lead out of its allowed directory.
///
/// # Errors
/// The OS error; `EXDEV` for a file outside.
pub(in crate::engine) fn below(below: &Below) -> io::Result<File> {
    // Without waiting for the writer of a FIFO.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    resolve(directory(&below.directory)?, &below.rest, flags, inside()).map(File::from)
}

fn directory(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(path)
}

fn inside() -> ResolveFlag {
    ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS
}

/// Checks that a file's directory is the expected one, below its allowed directory.
///
/// # Errors
/// The OS error; `EXDEV` for a directory outside.
pub(in crate::engine) fn check_parent(dir: &OwnedFd, below: &Below) -> io::Result<()> {
    let parent = below.rest.parent().filter(|parent| !parent.as_os_str().is_empty());
    let within = directory(&below.directory)?;
    let wanted = match parent {
        None => within,
        Some(parent) => {
            resolve(within, parent, OFlag::O_PATH | OFlag::O_DIRECTORY, inside())?.into()
        }
    };
    let outside = || io::Error::from_raw_os_error(libc::EXDEV);
    are_same(&wanted, &dir.try_clone()?.into()).then_some(()).ok_or_else(outside)
}

/// Whether a path leads to this same file in our own mount namespace, without a link.
pub(in crate::engine) fn is_at(file: &File, real: &Path) -> bool {
    let strict = ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let there = match resolve(AT_FDCWD, real, OFlag::O_PATH, strict) {
        Err(error) if is_unknown(&error) => {
            File::options().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(real)
        }
        opened => opened.map(File::from),
    };
    there.is_ok_and(|there| are_same(&there, file))
}

/// Whether two descriptors refer to the same file.
pub(in crate::engine) fn are_same(one: &File, other: &File) -> bool {
    let identity = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino()));
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}

/// Whether the kernel or an older seccomp filter lacks the call. With `O_PATH`, no other failure
/// has these errors.
fn is_unknown(error: &io::Error) -> bool {
    error.kind() == ErrorKind::Unsupported || error.raw_os_error() == Some(libc::EPERM)
}

fn resolve(
    directory: impl AsFd,
    path: &Path,
    flags: OFlag,
    how: ResolveFlag,
) -> io::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(how);
    let mut tries = TRIES;
    loop {
        tries -= 1;
        match openat2(&directory, path, how) {
            Err(Errno::EAGAIN | Errno::EINTR) if tries > 0 => {}
            opened => return opened.map_err(io::Error::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_magic_link_is_refused_and_another_link_followed() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/bin/true", dir.path().join("link")).unwrap();
        let link = dir.path().join("link");
        let opened = executable(link.to_str().unwrap()).unwrap();
        let real = std::fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd())).unwrap();
        assert!(
            is_at(&opened, &real)
                && !is_at(&opened, &link)
                && !is_at(&opened, Path::new("/bin/cat"))
        );
        for magic in ["/proc/self/root/bin/true", "/proc/self/exe", "/dev/fd/0"] {
            let error = executable(magic).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{magic}");
        }
    }

    #[test]
    fn nothing_leads_out_of_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("inside");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        std::fs::write(inside.join("file"), "x").unwrap();
        symlink("../secret", inside.join("out")).unwrap();
        symlink("/etc/passwd", inside.join("far")).unwrap();
        symlink("file", inside.join("near")).unwrap();
        for (rest, wanted) in [
            ("file", None),
            ("near", None),
            ("out", Some(libc::EXDEV)),
            ("far", Some(libc::EXDEV)),
            ("../secret", Some(libc::EXDEV)),
            ("none", Some(libc::ENOENT)),
        ] {
            let opened = below(&Below { directory: inside.clone(), rest: rest.into() });
            assert_eq!(opened.err().and_then(|error| error.raw_os_error()), wanted, "{rest}");
        }
    }
}
