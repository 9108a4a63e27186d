//! The kernel's data on a process: `/proc/PID/stat`, `statm` and `io`.
//!
//! Parsers are pure and take bytes; [`ProcFs`] reads the files below a root path, with one read
//! call each, into a buffer on the stack. Nothing here scans all of `/proc`: the work for one
//! process does not grow with the number of processes.
//!
//! The caller must hold the process unreaped (running, or a zombie that only the caller can reap)
//! during the read: otherwise the pid may have been reused.

mod children;
mod memory;
mod stat;
#[cfg(test)]
mod tests;

pub use children::parse_children;
pub use memory::{RawIo, RawPeaks, RawStatm, parse_io, parse_peaks, parse_statm};
pub use stat::{RawStat, parse_stat};

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use jiff::Timestamp;

use crate::clock::TimePoint;

/// Size for the longest `stat` line: 51 numbers of at most 20 digits, and a name of at most 64
/// bytes, which the kernel may escape.
const READ_BUFFER: usize = 2048;

/// Size for the path of a process's file below any usual root; longer paths are allocated.
const PATH_BUFFER: usize = 256;

/// An error of parsing a file below `/proc`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A `stat` line without `PID (NAME) `.
    #[error("stat has no name in parentheses")]
    NoName,
    /// The text does not end with a newline, so that its last field may have lost digits.
    #[error("{file} is cut off")]
    CutOff {
        /// Name of the file, without its directory.
        file: &'static str,
    },
    /// The text ended before this field.
    #[error("{file} has no field {field}")]
    Missing {
        /// Name of the file, without its directory.
        file: &'static str,
        /// The field's name in proc(5).
        field: &'static str,
    },
    /// The field is not a number of its type.
    #[error("{file} has a bad field {field}: {text:?}")]
    Invalid {
        /// Name of the file, without its directory.
        file: &'static str,
        /// The field's name in proc(5).
        field: &'static str,
        /// The field's text, cut to 32 bytes.
        text: String,
    },
}

impl ParseError {
    fn invalid(file: &'static str, field: &'static str, text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text.get(..32).unwrap_or(text)).into_owned();
        Self::Invalid { file, field, text }
    }
}

/// An error of reading a file below `/proc`.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such process.
    #[error("process {pid} is gone")]
    Gone {
        /// The requested pid.
        pid: i32,
    },
    /// The kernel refused, or the file is longer than any that the kernel writes (`FileTooLarge`).
    #[error("failed to read {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// The file was read, but is invalid.
    #[error("failed to parse {path}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The problem with its text.
        #[source]
        source: ParseError,
    },
}

/// A mounted proc file system.
#[derive(Debug, Clone)]
pub struct ProcFs {
    root: PathBuf,
}

impl Default for ProcFs {
    /// The file system at `/proc` if it is [ours](is_ours); otherwise one without processes.
    fn default() -> Self {
        let root = if is_ours() { "/proc" } else { NOWHERE };
        Self::new(root)
    }
}

/// A root without any file.
const NOWHERE: &str = "/dev/null";

/// Whether the proc file system at `/proc` belongs to our pid namespace. If a new namespace has no
/// mount of its own, the pids there refer to other processes.
pub fn is_ours() -> bool {
    static OURS: LazyLock<bool> = LazyLock::new(|| is_ours_at(Path::new("/proc")));
    *OURS
}

/// The same for a proc file system that is mounted elsewhere.
pub fn is_ours_at(root: &Path) -> bool {
    // `self` shows this process's pid in the namespace of the mount.
    std::fs::read_link(root.join("self"))
        .is_ok_and(|own| own.as_os_str().as_bytes() == std::process::id().to_string().as_bytes())
}

impl ProcFs {
    /// The proc file system mounted at `root`; no file is accessed before the first read.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Reads `PID/stat`; also of a zombie, until it is reaped.
    ///
    /// # Errors
    /// [`ReadError::Gone`] if there is no such process.
    pub fn read_stat(&self, pid: i32) -> Result<RawStat, ReadError> {
        self.read(pid, "stat", parse_stat)
    }

    /// Reads `PID/statm`; a zombie has all sizes 0.
    ///
    /// # Errors
    /// [`ReadError::Gone`] if there is no such process.
    pub fn read_statm(&self, pid: i32) -> Result<RawStatm, ReadError> {
        self.read(pid, "statm", parse_statm)
    }

    /// Reads `PID/io`; `None` if we may not (the process has changed its user, or is not dumpable),
    /// or if the kernel keeps no such counters.
    ///
    /// # Errors
    /// [`ReadError::Gone`] if there is no such process.
    pub fn read_io(&self, pid: i32) -> Result<Option<RawIo>, ReadError> {
        match self.read(pid, "io", parse_io) {
            Ok(io) => Ok(Some(io)),
            Err(ReadError::Io { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Ok(None)
            }
            // The process or only this file may be missing: `stat` shows which.
            Err(ReadError::Gone { .. }) => self.read_stat(pid).map(|_| None),
            Err(error) => Err(error),
        }
    }

    /// Reads `PID/cgroup`, also of a zombie.
    ///
    /// # Errors
    /// The OS error of reading it.
    pub fn read_cgroup(&self, pid: i32) -> io::Result<String> {
        std::fs::read_to_string(self.path(pid, "cgroup"))
    }

    /// Reads the peaks of memory since exec from `PID/status`; `None` for a zombie.
    ///
    /// # Errors
    /// [`ReadError::Gone`] if there is no such process.
    pub fn read_peaks(&self, pid: i32) -> Result<Option<RawPeaks>, ReadError> {
        let path = self.path(pid, "status");
        // The length grows with the process's groups, so the text is allocated.
        match std::fs::read(&path) {
            Ok(text) => Ok(parse_peaks(&text)),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {
                Err(ReadError::Gone { pid })
            }
            Err(source) => Err(ReadError::Io { path, source }),
        }
    }

    /// Opens `PID/stat` for repeated reads by [`read_stat_of`](Self::read_stat_of). The file always
    /// refers to this process.
    ///
    /// # Errors
    /// The OS error.
    pub fn open_stat(&self, pid: i32) -> io::Result<File> {
        self.with_path(pid, "stat", |path| File::open(path))
    }

    /// Reads an open `PID/stat` from its beginning.
    ///
    /// # Errors
    /// [`ReadError::Gone`] once the process is reaped.
    pub fn read_stat_of(&self, file: &File, pid: i32) -> Result<RawStat, ReadError> {
        let mut buffer = [0; READ_BUFFER];
        let length = match file.read_at(&mut buffer, 0) {
            Ok(length) => length,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
                return Err(ReadError::Gone { pid });
            }
            Err(source) => return Err(ReadError::Io { path: self.path(pid, "stat"), source }),
        };
        parse_stat(buffer.get(..length).unwrap_or_default())
            .map_err(|source| ReadError::Parse { path: self.path(pid, "stat"), source })
    }

    fn read<T>(
        &self,
        pid: i32,
        name: &'static str,
        parse: fn(&[u8]) -> Result<T, ParseError>,
    ) -> Result<T, ReadError> {
        let mut buffer = [0; READ_BUFFER];
        let text = self.with_path(pid, name, |path| read_line(path, &mut buffer));
        let text = match text {
            Ok(length) => buffer.get(..length).unwrap_or_default(),
            // ESRCH if the process is reaped between open and read.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {
                return Err(ReadError::Gone { pid });
            }
            Err(source) => return Err(ReadError::Io { path: self.path(pid, name), source }),
        };
        parse(text).map_err(|source| ReadError::Parse { path: self.path(pid, name), source })
    }

    fn path(&self, pid: i32, name: &str) -> PathBuf {
        self.root.join(format!("{pid}/{name}"))
    }

    /// Calls `f` with the file's path, which is allocated only if it is long.
    fn with_path<T>(&self, pid: i32, name: &str, f: impl FnOnce(&Path) -> T) -> T {
        let mut buffer = [0_u8; PATH_BUFFER];
        let mut rest = buffer.as_mut_slice();
        let fits = rest
            .write_all(self.root.as_os_str().as_bytes())
            .and_then(|()| write!(rest, "/{pid}/{name}"))
            .is_ok();
        let unused = rest.len();
        match buffer.get(..PATH_BUFFER - unused) {
            Some(path) if fits => f(Path::new(OsStr::from_bytes(path))),
            _ => f(&self.path(pid, name)),
        }
    }
}

/// Reads a file that ends with a newline into `buffer`; returns its length.
fn read_line(path: &Path, buffer: &mut [u8]) -> io::Result<usize> {
    let mut file = File::open(path)?;
    let mut length = 0;
    loop {
        let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) else {
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        match file.read(rest) {
            Ok(0) => return Ok(length),
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        // One read returns the whole file: skip the read that would return EOF.
        if buffer.get(..length).is_some_and(|text| text.ends_with(b"\n")) {
            return Ok(length);
        }
    }
}

/// Parses the decimal number that `text` must be, wholly.
fn number<T: std::str::FromStr>(
    file: &'static str,
    field: &'static str,
    text: &[u8],
) -> Result<T, ParseError> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| ParseError::invalid(file, field, text))
}

/// Converts the kernel's ticks and pages to times and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// The time of boot in nanoseconds since 1970 by the wall clock. `/proc/stat` has only whole
    /// seconds, so a process's start could be up to a second before the request.
    pub boot_nanos: i64,
    /// Clock ticks in a second (`sysconf(_SC_CLK_TCK)`), 1 or more.
    pub ticks_per_second: u64,
    /// Bytes in a page.
    pub page_size: u64,
}

impl Clock {
    /// The clock of this machine, with the wall clock of this moment.
    pub fn of(moment: TimePoint) -> Clock {
        Clock {
            boot_nanos: moment.boot(),
            ticks_per_second: ::procfs::ticks_per_second().max(1),
            page_size: ::procfs::page_size(),
        }
    }

    /// The same with the wall clock of another moment.
    pub fn at(self, moment: TimePoint) -> Clock {
        match moment.boot_nanos {
            0 => self,
            _ => Clock { boot_nanos: moment.boot(), ..self },
        }
    }

    /// Ticks as seconds.
    pub fn seconds(&self, ticks: u64) -> f64 {
        ticks as f64 / self.ticks_per_second as f64
    }

    /// Ticks of the fields that the kernel prints with a sign, as seconds.
    pub fn signed_seconds(&self, ticks: i64) -> f64 {
        ticks as f64 / self.ticks_per_second as f64
    }

    /// Pages as bytes; saturates.
    pub fn bytes(&self, pages: u64) -> u64 {
        pages.saturating_mul(self.page_size)
    }

    /// The time `ticks` after boot, the unit of `starttime`, with a precision of one tick.
    /// Saturates at the end of the year 9999.
    pub fn after_boot(&self, ticks: u64) -> Timestamp {
        let since = u128::from(ticks) * 1_000_000_000 / u128::from(self.ticks_per_second.max(1));
        let nanos =
            i128::try_from(since).unwrap_or(i128::MAX).saturating_add(self.boot_nanos.into());
        Timestamp::from_nanosecond(nanos).unwrap_or(Timestamp::MAX)
    }
}
