//! Captured output: a file that is written once, and that readers read by range while it grows.
//!
//! The spec decides on the writer:
//!
//! | written by | when |
//! | --- | --- |
//! | the process itself, through an append-only open file | `tempfile` without further options: nothing of ours runs while it writes |
//! | the engine, from a pipe | `memory`, or `tempfile` with a limit, chunk times or a pipe size |
//! | a [`capture_writer`] process, from a pipe | compressed output, and output that goes through a pipe into a named file |
//!
//! Our own files have names in the instance's directory (`memory` files in a memory file system).
//! So they need no descriptor without a reader, another process can read them, and they outlive a
//! crash. A file that the user has [`named`] lies where others may write: procstar uses it only
//! through the descriptors of its creation. If a file alone does not show its contents,
//! [`counters`] beside it do. Readers use `pread`: no reader moves a file position that the process
//! or another reader shares.
//!
//! After [`Capture::freeze`], the captured output never changes, even if a process still writes.
//! After [sealing](seal), a read returns that output or an error.
//!
//! A process can truncate the file that it writes itself, and any user with the rights can remove a
//! file: [`intact`] detects both, and results report it as a [`Loss`].

pub mod capture_writer;
mod chunk_times;
mod codec;
mod confine;
mod counters;
mod holes;
mod intact;
mod limits;
mod make;
mod named;
mod order;
mod record;
mod seal;
mod set;
mod size;
mod view;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use serde::{Deserialize, Serialize};

use crate::engine::sys;
use crate::spec::{CaptureMode, CaptureSpec, Compression, KeepSpec};
use chunk_times::Chunk;
pub(super) use chunk_times::ChunkLog;
pub(crate) use confine::can_restrict_calls;
use counters::{Counters, Phase};
use limits::Limits;
pub(super) use make::{CaptureInput, Store};
pub(super) use named::HandoverFile;
use named::{Named, Seen};
pub(crate) use named::{held_file, request_files_from};
pub use order::{ChunkCursor, ChunkTime};
use record::Record;
pub use seal::Hash;
pub(super) use seal::SealGate;
use seal::{FileState, Seal};
pub use set::Captures;
pub use size::{CaptureSize, Loss};
pub use view::View;

/// Why a capture may be incomplete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Truncation {
    /// A descendant still held the fd at the end of the drain timeout.
    #[serde(rename = "Survivor")]
    HeldOpen,
    /// The capture could not be set up.
    #[serde(rename = "Setup")]
    NotStarted,
    /// The output could not be read or stored.
    Error,
}

/// The directories of captures.
#[derive(Clone, Debug)]
pub struct CaptureDirs {
    /// The directory of `tempfile` captures.
    pub files: PathBuf,
    /// The directory of `memory` captures: in a memory file system, if the host has one.
    pub memory: PathBuf,
}

/// The captured output of one fd. Any user with access to its file can read it.
#[derive(Serialize, Deserialize)]
#[serde(from = "Record", into = "Record")]
pub struct Capture {
    spec: CaptureSpec,
    /// The data file.
    path: PathBuf,
    /// The limit in force, which may differ from the spec's.
    limit: Option<KeepSpec>,
    /// The counter file; empty if the data file alone suffices.
    counters: PathBuf,
    /// The file of chunk times; empty if the spec asks for none.
    chunk_times: PathBuf,
    /// The length of the file's guard in bytes, 0 without one: see [`intact`].
    guard: u64,
    /// The file's inode; 0 until the creator of the file stores it.
    inode: Arc<AtomicU64>,
    end: OnceLock<CaptureSize>,
    /// The record of the final state.
    seal: OnceLock<Box<Seal>>,
    /// The file that the spec names, if any.
    named: Option<Arc<Named>>,
    /// The open files, as long as some reader holds them.
    held: Mutex<Weak<Held>>,
}

/// The open files of a capture. While a reader holds them, they need not be opened again, and the
/// bytes outlast the process's deletion.
pub struct Held {
    data: Arc<File>,
    counters: Option<File>,
    /// The state that the file must keep while it is read; `None` before the end, and if a process
    /// may still write.
    state: Option<FileState>,
}

impl Held {
    /// A path to the open file, even if the file has been moved.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.data.as_raw_fd()))
    }

    fn data(&self) -> &File {
        &self.data
    }

    /// The current counters.
    fn counters(&self) -> io::Result<Counters> {
        self.counters.as_ref().map_or(Ok(Counters::default()), Counters::read)
    }
}

/// The layout of a data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// The captured bytes.
    Plain,
    /// The bytes of both ends.
    Limited(Limits),
    /// The compressed captured bytes.
    Compressed(Compression),
}

/// The writer of a capture's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WrittenBy {
    /// The process itself.
    Process,
    /// The engine, from a pipe.
    Engine,
    /// A capture writer, from a pipe.
    CaptureWriter,
}

impl Capture {
    /// A capture that could not be set up, and stays empty.
    pub(super) fn empty(spec: CaptureSpec) -> Capture {
        Record::empty(spec).into()
    }

    /// The capture's part of the spec.
    pub fn spec(&self) -> &CaptureSpec {
        &self.spec
    }

    /// The path of the file that the spec names.
    pub fn named(&self) -> Option<&Path> {
        self.spec.file.as_ref().map(|file| Path::new(&file.path))
    }

    /// The file that the spec names, if it holds the captured bytes.
    fn named_data(&self) -> Option<&Arc<Named>> {
        self.named.as_ref().filter(|_| self.named() == Some(self.path()))
    }

    /// Who writes the capture's file.
    pub(super) fn written_by(&self) -> WrittenBy {
        let spec = &self.spec;
        let piped = spec.mode == CaptureMode::Memory
            || self.limit.is_some()
            || spec.compress.is_some()
            || spec.pipe_size.is_some()
            || spec.chunk_times;
        match piped {
            false => WrittenBy::Process,
            true if spec.compress.is_some() || spec.file.is_some() => WrittenBy::CaptureWriter,
            true => WrittenBy::Engine,
        }
    }

    fn layout(&self) -> Layout {
        match (self.spec.compress, self.limit) {
            (Some(compression), _) => Layout::Compressed(compression),
            (None, Some(limit)) => Layout::Limited(limit.into()),
            (None, None) => Layout::Plain,
        }
    }

    /// The size so far.
    pub fn size(&self) -> CaptureSize {
        if let Some(end) = self.frozen() {
            return end;
        }
        if self.path.as_os_str().is_empty() {
            // The capture was never set up.
            return CaptureSize::default();
        }
        if self.layout() == Layout::Plain {
            return self.current_size().unwrap_or_else(|_| CaptureSize::gone());
        }
        let size = self.counted();
        // A named file may be on a hung file system, which must not block the engine.
        if self.named_data().is_none() && self.is_missing() {
            CaptureSize { loss: Some(Loss::Gone), ..size }
        } else {
            size
        }
    }

    /// The size of a capture with a counter file.
    fn counted(&self) -> CaptureSize {
        let counters = self.read_counters();
        match self.layout() {
            Layout::Compressed(_) => {
                let head = self.limit.map_or(u64::MAX, |limit| limit.head.unwrap_or(0));
                let length = counters.written.min(head);
                CaptureSize {
                    length,
                    dropped: counters.written - length,
                    stored: counters.stored,
                    whole: counters.phase == Phase::Ended,
                    loss: None,
                }
            }
            Layout::Limited(limits) => {
                let kept = limits.kept(&counters);
                CaptureSize { dropped: kept.dropped(), ..CaptureSize::plain(kept.length()) }
            }
            Layout::Plain => CaptureSize::default(),
        }
    }

    fn read_counters(&self) -> Counters {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        let read = match &held {
            Some(held) => held.counters(),
            None => open_to_read(&self.counters).and_then(|file| Counters::read(&file)),
        };
        read.unwrap_or_default()
    }

    /// Whether the capture writer has read all output and still processes it.
    pub(super) fn is_finishing(&self) -> bool {
        self.written_by() == WrittenBy::CaptureWriter
            && self.read_counters().phase == Phase::Finishing
    }

    /// Whether the capture writer has stored all output.
    pub(super) fn is_whole(&self) -> bool {
        self.read_counters().phase == Phase::Ended
    }

    /// Whether output may be missing because the engine that began the capture is gone.
    pub(super) fn is_orphaned(&self) -> bool {
        match self.written_by() {
            WrittenBy::Process => false,
            // The engine that read the pipe is gone, and the pipe's contents with it.
            WrittenBy::Engine => true,
            WrittenBy::CaptureWriter => !self.is_whole(),
        }
    }

    /// Whether the captured output is fixed.
    pub(super) fn is_frozen(&self) -> bool {
        self.frozen().is_some()
    }

    fn frozen(&self) -> Option<CaptureSize> {
        self.end.get().copied()
    }

    /// The disk space that the capture takes in the instance's directories, in bytes. Holes and
    /// named files take none.
    pub(crate) fn taken(&self) -> u64 {
        if self.spec.file.is_some() || self.path.as_os_str().is_empty() {
            return 0;
        }
        // `st_blocks` counts blocks of 512 bytes on every file system.
        std::fs::metadata(&self.path).map_or(0, |meta| MetadataExt::blocks(&meta) * 512)
    }

    /// The captured bytes so far, uncompressed and without dropped ones.
    pub fn len(&self) -> u64 {
        self.size().length
    }

    /// Whether the capture is empty so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Opens the files for later reads: while the caller holds the returned value, reads need not
    /// open them again, and the bytes outlast the process's deletion.
    ///
    /// # Errors
    /// The OS error of opening.
    pub fn hold(&self) -> io::Result<Arc<Held>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = held.upgrade()
            // A file that was opened before the end is not verified.
            && (held.state.is_some() || !self.is_sealed())
        {
            return Ok(held);
        }
        let counters = match self.counters.as_os_str().is_empty() {
            true => None,
            false => Some(open_to_read(&self.counters)?),
        };
        let data = match self.named_data() {
            Some(named) => named.reader()?,
            None => Arc::new(open_to_read(&self.path)?),
        };
        self.check_inode(&data.metadata()?)?;
        let mut opened = Arc::new(Held { data, counters, state: None });
        let state = self.verify(&opened)?;
        // The value is not shared yet.
        if let Some(opened) = Arc::get_mut(&mut opened) {
            opened.state = state;
        }
        *held = Arc::downgrade(&opened);
        Ok(opened)
    }

    /// Like [`hold`](Self::hold); `None` if there is no file. The file was then empty at its end,
    /// which this copy of the capture may not know yet.
    fn hold_existing(&self) -> io::Result<Option<Arc<Held>>> {
        match self.hold() {
            Err(error) if self.frozen().is_none() && error.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            held => held.map(Some),
        }
    }

    /// A view of the current contents, uncompressed.
    ///
    /// # Errors
    /// The OS error of opening a file.
    pub fn view(&self) -> io::Result<View> {
        View::of(self)
    }

    /// A view of the stored bytes, compressed if the spec asks for compression.
    ///
    /// # Errors
    /// The OS error of opening the file.
    pub fn stored(&self) -> io::Result<View> {
        View::stored(self)
    }

    /// The compression of the stored bytes if they are a complete stream, which clients that accept
    /// this encoding can receive as it is.
    pub fn whole_compression(&self) -> Option<Compression> {
        self.spec.compress.filter(|_| self.frozen().is_some_and(|end| end.whole))
    }

    /// Reads captured bytes from `offset` on into `buf`; returns their number, 0 at the current
    /// end.
    ///
    /// # Errors
    /// The OS error of opening or reading the file.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.view()?.read_at(offset, buf)
    }

    /// Whether a process still has the file open for writing.
    pub(super) fn writers(&self) -> sys::Writers {
        match self.hold() {
            Ok(held) => sys::writers(held.data()),
            // An empty capture that could not be set up, or a removed file.
            Err(_) => sys::Writers::None,
        }
    }

    /// The path of the data file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file must be [examined](Self::examine_named_file) before the freeze: a named file,
    /// which may be on any file system.
    pub(super) fn needs_examination(&self) -> bool {
        self.named_data().is_some() && self.layout() == Layout::Plain
    }

    /// Examines the named file on another thread, which then calls `done`.
    pub(super) fn examine_named_file(&self, done: impl FnOnce() + Send + 'static) {
        match self.named_data() {
            Some(named) => named.examine(done),
            None => done(),
        }
    }

    /// The outcome of the last examination of the named file; `None` before the first.
    pub(super) fn seen(&self) -> Option<Seen> {
        self.named_data().and_then(|named| named.seen())
    }

    /// Whether the captured bytes are in the file that the spec names.
    pub(super) fn is_in_named_file(&self) -> bool {
        self.named_data().is_some()
    }

    /// Fixes the captured output for ever: of a named file, in the state of the last examination.
    pub(super) fn freeze(&self) {
        let size = match self.needs_examination() {
            true => {
                let length = self.seen().and_then(|seen| seen.length);
                length.map_or_else(CaptureSize::gone, CaptureSize::plain)
            }
            false => self.size(),
        };
        // A second freeze changes nothing.
        if self.end.set(size).is_ok() && size.dropped > 0 {
            self.cut_ring();
        }
    }

    /// Whether nothing was captured, so that the frozen capture needs no file of ours.
    pub(super) fn is_file_needless(&self) -> bool {
        let empty = self.frozen() == Some(CaptureSize::default());
        empty && self.layout() == Layout::Plain && self.named().is_none()
    }

    /// The names of our files of this capture.
    pub(super) fn own_files(&self) -> impl Iterator<Item = &Path> {
        let data = (self.named() != Some(self.path())).then_some(&self.path);
        let all = data.into_iter().chain([&self.counters, &self.chunk_times]);
        all.map(PathBuf::as_path).filter(|path| !path.as_os_str().is_empty())
    }

    /// The named file, if it is to be deleted with its process. A capture that could not be set up
    /// has none: it did not create the file at that path.
    fn named_to_remove(&self) -> Option<(&Arc<Named>, &Path)> {
        let file = self.spec.file.as_ref().filter(|file| !file.keep)?;
        Some((self.named.as_ref()?, Path::new(&file.path)))
    }

    /// Removes the named file on another thread, unless the spec keeps it; that thread drops
    /// `done`.
    fn discard_named<T: Send + 'static>(&self, done: T) {
        if let Some((named, path)) = self.named_to_remove() {
            named.remove(path, done);
        }
    }

    /// Removes all files except the named one.
    pub(super) fn remove_own(&self) {
        self.own_files().for_each(remove);
    }

    /// The bytes written so far, including dropped ones.
    fn written(&self) -> u64 {
        let CaptureSize { length, dropped, .. } = self.size();
        length + dropped
    }

    /// The number of recorded chunks so far; 0 if the spec asks for none.
    fn count_chunks(&self) -> io::Result<u64> {
        self.if_chunk_times_are_kept(chunk_times::count).map(Option::unwrap_or_default)
    }

    /// The chunks from a record on; empty if the spec asks for none.
    fn read_chunks(&self, from: u64) -> io::Result<Vec<Chunk>> {
        self.if_chunk_times_are_kept(|path| chunk_times::read(path, from))
            .map(Option::unwrap_or_default)
    }

    fn if_chunk_times_are_kept<T>(
        &self,
        look: impl FnOnce(&Path) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        if self.chunk_times.as_os_str().is_empty() {
            return Ok(None);
        }
        match look(&self.chunk_times) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            looked => looked.map(Some),
        }
    }
}

/// Opens a file of ours. A process of our own user may have replaced it by a FIFO: opening does not
/// wait for a writer.
fn open_to_read(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot remove a capture");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::OwnedFd;

    fn opened(dir: &tempfile::TempDir) -> (Capture, OwnedFd) {
        let dirs = CaptureDirs { files: dir.path().into(), memory: dir.path().into() };
        let spec = CaptureSpec::default();
        match Capture::open(spec, &dirs, "1", KeepSpec::default(), 0o600, true).unwrap() {
            (capture, CaptureInput::Itself(source)) => (capture, source),
            _ => panic!("written by the process"),
        }
    }

    #[test]
    fn a_capture_is_read_while_written_and_frozen() {
        let dir = tempfile::tempdir().unwrap();
        let (capture, writer) = opened(&dir);
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
        capture.remove_own();
        assert_eq!(capture.read_at(0, &mut buf).unwrap(), 3);
        assert!(other.read_at(0, &mut buf).is_err());
        drop((held, writer));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_empty_capture_needs_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let (capture, _) = opened(&dir);
        assert!(!capture.is_file_needless());
        capture.freeze();
        assert!(capture.is_file_needless());
        capture.remove_own();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!((capture.len(), capture.read_at(0, &mut [0; 4]).unwrap()), (0, 0));
    }
}
