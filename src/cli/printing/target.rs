//! The destination of results: a descriptor, a device or a file, checked before anything is started
//! and written at the end.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::AtFlags;
use nix::unistd::{AccessFlags, faccessat, geteuid};

use crate::cli::descriptor::{self, Named};
use crate::cli::printing::results::write_results;
use crate::cli::printing::writer::Patient;
use crate::report::{ProcessRecord, ResultContext};
use crate::trust;
use crate::users::user_name;

/// The way to write the results to a destination.
enum Destination {
    /// To an open file, which is not replaced.
    Open(File),
    /// To a FIFO or a device, which is opened for the writing only.
    Special(PathBuf),
    /// To a file beside it, which then takes its place.
    Replace(PathBuf, Option<Metadata>),
    /// Into the existing file: it cannot be replaced.
    Overwrite(PathBuf),
}

impl Destination {
    fn of(path: &Path) -> io::Result<Destination> {
        trust::check_links(path)?;
        let given = path;
        let path = match descriptor::resolve(path)? {
            Named::Own(fd) => return descriptor::writable(fd).map(Destination::Open),
            Named::Foreign(path) if !path.metadata()?.is_file() => {
                return Destination::special(path);
            }
            Named::Foreign(path) => {
                return OpenOptions::new().append(true).open(path).map(Destination::Open);
            }
            Named::File(path) => path,
        };
        let existing = match path.metadata() {
            Ok(existing) => existing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Destination::Replace(link(given)?.unwrap_or(path), None));
            }
            Err(error) => return Err(error),
        };
        if existing.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !existing.is_file() {
            not_planted(&path, &existing)?;
            return Destination::special(path);
        }
        // The link itself, regardless of its target.
        if let Some(link) = link(given)? {
            return Ok(Destination::Replace(link, None));
        }
        if can_be_replaced(&path, &existing) {
            return Ok(Destination::Replace(path, Some(existing)));
        }
        not_planted(&path, &existing)?;
        Ok(Destination::Overwrite(path))
    }

    fn special(path: PathBuf) -> io::Result<Destination> {
        if path.metadata()?.file_type().is_socket() {
            return Err(io::Error::other(
                "is a socket, which cannot be opened; name a file or a FIFO",
            ));
        }
        let at = nix::fcntl::AT_FDCWD;
        faccessat(at, &path, AccessFlags::W_OK, AtFlags::AT_EACCESS)?;
        Ok(Destination::Special(path))
    }
}

/// The path itself, if it is a link, below a directory without links.
fn link(path: &Path) -> io::Result<Option<PathBuf>> {
    let (Some(name), true) = (path.file_name(), path.is_symlink()) else { return Ok(None) };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(Some(dir.canonicalize()?.join(name)))
}

/// Rejects a file that another user has put into a directory in which all users may create files:
/// that user would read or choose the content.
fn not_planted(path: &Path, existing: &Metadata) -> io::Result<()> {
    match trust::planted_by(path, existing) {
        None => Ok(()),
        Some(owner) => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "it belongs to {} in a directory in which every user may make files; name another path",
                user_name(owner)
            ),
        )),
    }
}

/// Checks, before anything is started, whether results can be saved at `path`.
///
/// # Errors
/// The reason: for example it is a directory, or no file can be created in its directory.
pub fn check(path: &Path) -> io::Result<()> {
    match Destination::of(path)? {
        Destination::Open(_) | Destination::Special(_) => Ok(()),
        Destination::Replace(path, existing) => match file_beside(&path, results_mode()) {
            Ok((beside, _)) => std::fs::remove_file(beside),
            Err(error) => {
                if existing.is_none() || open_in_place(&path).is_err() {
                    return Err(error);
                }
                Ok(())
            }
        },
        Destination::Overwrite(path) => open_in_place(&path).map(drop),
    }
}

/// Checks, before anything is started, whether standard output is open for writing.
///
/// # Errors
/// EBADF if it is not.
pub fn check_stdout() -> io::Result<()> {
    descriptor::writable(1).map(drop)
}

/// Writes the results to `path`. A file is written as a whole or not at all: the results go to a
/// file beside it, which then takes its place; only a file that cannot be replaced is overwritten.
/// A descriptor, a FIFO or a device is written to. With `line`, those get a newline at the end.
///
/// # Errors
/// As [`write_results`]; then the earlier content of `path` is unchanged, unless the file could not
/// be replaced.
pub fn save(
    results: &[Arc<ProcessRecord>],
    context: &ResultContext,
    path: &Path,
    line: bool,
) -> io::Result<()> {
    let write = |file: &File| -> io::Result<()> {
        let mut to = Patient::new(file)?;
        write_results(results, context, &mut to)
    };
    let (mut file, line) = match Destination::of(path)? {
        Destination::Open(file) => (file, line),
        Destination::Special(path) => {
            let options = OpenOptions::new().write(true).custom_flags(libc::O_NOCTTY).open(path);
            (options?, line)
        }
        Destination::Overwrite(path) => (emptied(&path)?, false),
        Destination::Replace(path, existing) => match file_beside(&path, results_mode()) {
            Ok((beside, file)) => return replace(&path, existing, &beside, &file, write),
            Err(error) if existing.is_none() => return Err(error),
            Err(error) => (emptied(&path).map_err(|_| error)?, false),
        },
    };
    write(&file)?;
    if line { file.write_all(b"\n") } else { Ok(()) }
}

/// Writes a file beside `path`, which then takes its place.
fn replace(
    path: &Path,
    existing: Option<Metadata>,
    beside: &Path,
    file: &File,
    write: impl Fn(&File) -> io::Result<()>,
) -> io::Result<()> {
    // If another user has put a file there, its mode is that user's choice.
    let ours = [0, geteuid().as_raw()];
    let kept = existing.filter(|meta| ours.contains(&meta.uid()));
    let keep_mode =
        || kept.as_ref().map_or(Ok(()), |meta| file.set_permissions(meta.permissions()));
    let filled = write(file).and_then(|()| keep_mode());
    let replaced = filled.and_then(|()| std::fs::rename(beside, path));
    if replaced.is_err() {
        // The first error is reported.
        let _ = std::fs::remove_file(beside);
    }
    replaced
}

/// Writes the results to a new file in a directory for temporary files, after the writing to their
/// destination has failed.
///
/// # Errors
/// The error of the first directory.
pub fn keep(results: &[Arc<ProcessRecord>], context: &ResultContext) -> io::Result<PathBuf> {
    let mut first = None;
    for dir in [std::env::temp_dir(), "/var/tmp".into(), "/dev/shm".into()] {
        match keep_in(&dir, results, context) {
            Ok(path) => return Ok(path),
            Err(error) => {
                first.get_or_insert(error);
            }
        }
    }
    Err(first.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

fn keep_in(
    dir: &Path,
    results: &[Arc<ProcessRecord>],
    context: &ResultContext,
) -> io::Result<PathBuf> {
    let path = dir.join(format!("procstar-results-{:016x}.json", fastrand::u64(..)));
    // Other users must not read output and arguments.
    let options = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let written = write_results(results, context, &mut options?);
    if written.is_err() {
        let _ = std::fs::remove_file(&path);
    }
    written.map(|()| path)
}

/// Whether a file can be renamed over this one, as far as the file itself decides.
fn can_be_replaced(path: &Path, existing: &Metadata) -> bool {
    let Some(Ok(dir)) = path.parent().map(Path::metadata) else { return true };
    let user = geteuid();
    let sticky = dir.mode() & libc::S_ISVTX != 0;
    let others = ![dir.uid(), existing.uid()].contains(&user.as_raw());
    let belongs_to_others = sticky && others && !user.is_root();
    !(belongs_to_others || is_fixed(path))
}

/// Whether the kernel prevents replacing a file: it is immutable, append-only, or a mount point, as
/// a file in a container can be.
fn is_fixed(path: &Path) -> bool {
    let Ok(name) = std::ffi::CString::new(path.as_os_str().as_bytes()) else { return false };
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the name ends with a zero byte, and the kernel fills the structure, which outlives
    // the call.
    let failed =
        unsafe { libc::statx(libc::AT_FDCWD, name.as_ptr(), 0, 0, found.as_mut_ptr()) } != 0;
    if failed {
        return false;
    }
    // SAFETY: all bytes are zeros or written by the kernel, and any value is valid.
    let found = unsafe { found.assume_init() };
    let fixed = libc::STATX_ATTR_IMMUTABLE | libc::STATX_ATTR_APPEND | libc::STATX_ATTR_MOUNT_ROOT;
    found.stx_attributes & (fixed as u64) != 0
}

fn open_in_place(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW).open(path)
}

fn emptied(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).truncate(true).custom_flags(libc::O_NOFOLLOW).open(path)
}

/// The mode of a new file with results, less the umask. Only root may read root's results, which
/// contain output and arguments of all users.
fn results_mode() -> u32 {
    if geteuid().is_root() { 0o600 } else { 0o666 }
}

/// Writes a file for all users: first beside `path`, then it takes that place. A link at `path` is
/// replaced, not followed.
///
/// # Errors
/// The OS error of writing it; a link on the way that another user has made in a sticky directory.
pub fn write_public(path: &Path, bytes: &[u8]) -> io::Result<()> {
    trust::check_links(path.parent().unwrap_or(Path::new("/")))?;
    let (beside, mut file) = file_beside(path, 0o666)?;
    let written = file.write_all(bytes).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        // The first error is reported.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// A new file in the directory of `path`.
fn file_beside(path: &Path, mode: u32) -> io::Result<(PathBuf, File)> {
    loop {
        // The name is not derived from the file's own, which may have the maximum length.
        let beside = path.with_file_name(format!(".procstar-{:016x}", fastrand::u64(..)));
        match OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside) {
            Ok(file) => return Ok((beside, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}
