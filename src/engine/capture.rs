//! Captured output: a file that is written once, and read by range while it is written.
//!
//! A `tempfile` capture is written by the process itself, through an open file of its own that only appends; nothing of ours runs
//! while it writes. A `memory` capture comes through a pipe, which the engine reads and appends to a file in a file system
//! that lives in memory. Either file has a name in the instance's directory, so that it needs no descriptor while nobody
//! reads it, can be read by another process than the one that made it, and is still there after a crash. Readers use `pread` on an open
//! file of their own: no reader moves anything that the process or another reader shares.
//!
//! Once [`Capture::freeze`] has been called, what was captured never changes, whoever still writes.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde::{Deserialize, Serialize};

use super::faults::{self, Call};
use super::sys;
use crate::spec::{CaptureMode, CaptureSpec, FdName};

/// Marks a capture that is not frozen.
const OPEN: u64 = u64::MAX;

/// Why a capture does not hold all that was written to it, or may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CutShort {
    /// A descendant still held it when the grace after the process's end had passed.
    Survivor,
    /// It could not be set up.
    Setup,
    /// Its output could not be read or stored.
    Error,
}

/// The directories of captures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Places {
    /// For `tempfile` captures.
    pub files: PathBuf,
    /// For `memory` captures; in a file system that lives in memory, where there is one.
    pub memory: PathBuf,
}

/// The captured output of one fd, to be read by anybody who may open its file.
#[derive(Serialize, Deserialize)]
#[serde(from = "Record", into = "Record")]
pub struct Capture {
    spec: CaptureSpec,
    path: PathBuf,
    /// The final length, or [`OPEN`].
    frozen: AtomicU64,
    /// The file as long as some reader holds it.
    file: Mutex<Weak<File>>,
}

/// A capture as it is told to others.
#[derive(Clone, Serialize, Deserialize)]
struct Record {
    spec: CaptureSpec,
    path: PathBuf,
    frozen: u64,
}

impl From<Record> for Capture {
    fn from(Record { spec, path, frozen }: Record) -> Self {
        Capture { spec, path, frozen: AtomicU64::new(frozen), file: Mutex::new(Weak::new()) }
    }
}

impl From<Capture> for Record {
    fn from(capture: Capture) -> Self {
        Record::from(&capture)
    }
}

impl From<&Capture> for Record {
    fn from(capture: &Capture) -> Self {
        Record {
            spec: capture.spec.clone(),
            path: capture.path.clone(),
            frozen: capture.frozen.load(Ordering::Acquire),
        }
    }
}

impl Clone for Capture {
    /// The same capture, frozen on its own.
    fn clone(&self) -> Self {
        Record::from(self).into()
    }
}

/// What is made along with a capture.
pub(super) enum Writer {
    /// The process writes the file itself.
    Itself,
    /// The engine reads this pipe, and appends to this file.
    Pipe {
        /// The reading end.
        reader: OwnedFd,
        /// The file.
        file: File,
    },
}

impl Capture {
    /// Makes a capture, in a new file called `name`, and the end of it that the process shall have.
    ///
    /// # Errors
    /// The OS error; nothing is left behind.
    pub(super) fn open(
        spec: CaptureSpec,
        places: &Places,
        name: &str,
    ) -> io::Result<(Capture, OwnedFd, Writer)> {
        let dir = match spec.mode {
            CaptureMode::Tempfile => &places.files,
            CaptureMode::Memory => &places.memory,
        };
        let path = dir.join(name);
        faults::pass(Call::CaptureFile)?;
        let file = File::options().append(true).create_new(true).mode(0o600).open(&path)?;
        let made = match spec.mode {
            CaptureMode::Tempfile => Ok((file.into(), Writer::Itself)),
            CaptureMode::Memory => sys::pipe().and_then(|(reader, writer)| {
                sys::set_nonblocking(&reader)?;
                Ok((writer, Writer::Pipe { reader, file }))
            }),
        };
        let (source, writer) = made.inspect_err(|_| discard(&path))?;
        Ok((Record { spec, path, frozen: OPEN }.into(), source, writer))
    }

    /// A capture that could not be set up: empty for ever.
    pub(super) fn empty(spec: CaptureSpec) -> Capture {
        Record { spec, path: PathBuf::new(), frozen: 0 }.into()
    }

    /// What the spec asked for.
    pub fn spec(&self) -> &CaptureSpec {
        &self.spec
    }

    /// How many bytes are captured so far.
    pub fn len(&self) -> u64 {
        match self.frozen.load(Ordering::Acquire) {
            OPEN => std::fs::metadata(&self.path).map_or(0, |meta| meta.len()),
            length => length,
        }
    }

    /// Whether nothing is captured so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Opens the file, for reads to come: while the answer is held they need not open it again, and the bytes outlast the
    /// process's deletion.
    ///
    /// # Errors
    /// The OS error of opening.
    pub fn hold(&self) -> io::Result<Arc<File>> {
        let mut held = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = held.upgrade() {
            return Ok(file);
        }
        let file =
            Arc::new(File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(&self.path)?);
        *held = Arc::downgrade(&file);
        Ok(file)
    }

    /// Reads captured bytes from `offset` on into `buf`; gives how many, 0 at the end of what there is so far.
    ///
    /// # Errors
    /// The OS error of opening or reading the file.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let frozen = self.frozen.load(Ordering::Acquire);
        let room = frozen.saturating_sub(offset).min(buf.len() as u64) as usize;
        let Some(buf) = buf.get_mut(..room).filter(|buf| !buf.is_empty()) else { return Ok(0) };
        let file = match self.hold() {
            // It was empty at its end, which has not come to this share of it yet.
            Err(error) if frozen == OPEN && error.kind() == io::ErrorKind::NotFound => {
                return Ok(0);
            }
            file => file?,
        };
        loop {
            match file.read_at(buf, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Whether a process still has the file open for writing.
    pub(super) fn writers(&self) -> sys::Writers {
        match self.hold() {
            Ok(file) => sys::writers(&*file),
            // An empty one that could not be set up, or one that somebody has taken away.
            Err(_) => sys::Writers::None,
        }
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fixes what is captured, for ever. An empty file is not needed any more.
    pub(super) fn freeze(&self) {
        let length = self.len();
        self.frozen.store(length, Ordering::Release);
        if length == 0 {
            discard(&self.path);
        }
    }

    /// Removes the file. Whoever holds it reads on.
    pub(super) fn discard(&self) {
        if self.frozen.load(Ordering::Acquire) != 0 {
            discard(&self.path);
        }
    }
}

fn discard(path: &Path) {
    if !path.as_os_str().is_empty()
        && let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot remove a capture");
    }
}

/// The fds of a process in the spec's order, with the captures among them.
#[derive(Clone, Serialize, Deserialize)]
pub struct Captures(Vec<(FdName, Option<Capture>)>);

impl Captures {
    pub(super) fn new(fds: Vec<(FdName, Option<Capture>)>) -> Arc<Captures> {
        Arc::new(Captures(fds))
    }

    /// No fds at all, as of a process whose spec names none.
    pub fn none() -> Arc<Captures> {
        Captures::new(Vec::new())
    }

    /// Every fd of the spec, with its capture where it has one.
    pub fn iter(&self) -> impl Iterator<Item = (FdName, Option<&Capture>)> {
        self.0.iter().map(|(fd, capture)| (*fd, capture.as_ref()))
    }

    /// The capture of one fd.
    pub fn get(&self, fd: FdName) -> Option<&Capture> {
        self.iter().find(|(name, _)| *name == fd).and_then(|(_, capture)| capture)
    }

    /// Removes the files of all. Whoever holds one reads on.
    pub(crate) fn discard(&self) {
        for capture in self.0.iter().filter_map(|(_, capture)| capture.as_ref()) {
            capture.discard();
        }
    }

    /// The capture at an index of the spec's `fds`.
    pub(super) fn at(&self, index: usize) -> Option<&Capture> {
        self.0.get(index).and_then(|(_, capture)| capture.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn places(dir: &tempfile::TempDir) -> Places {
        Places { files: dir.path().into(), memory: dir.path().into() }
    }

    #[test]
    fn a_capture_is_read_while_written_and_frozen() {
        let dir = tempfile::tempdir().unwrap();
        let (capture, writer, _) =
            Capture::open(CaptureSpec::default(), &places(&dir), "1").unwrap();
        let mut writer: File = writer.into();
        writer.write_all(b"abc").unwrap();
        let mut buf = [0; 10];
        assert_eq!(capture.read_at(1, &mut buf).unwrap(), 2);
        assert_eq!(capture.read_at(3, &mut buf).unwrap(), 0);
        assert_eq!(capture.writers(), sys::Writers::Some);
        capture.freeze();
        let held = capture.hold().unwrap();
        writer.write_all(b"too late").unwrap();
        assert_eq!((capture.len(), capture.read_at(0, &mut buf).unwrap()), (3, 3));
        let other = capture.clone();
        capture.discard();
        assert_eq!(capture.read_at(0, &mut buf).unwrap(), 3);
        assert!(other.read_at(0, &mut buf).is_err());
        drop((held, writer));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_empty_capture_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let (capture, _, _) = Capture::open(CaptureSpec::default(), &places(&dir), "1").unwrap();
        capture.freeze();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!((capture.len(), capture.read_at(0, &mut [0; 4]).unwrap()), (0, 0));
    }
}
