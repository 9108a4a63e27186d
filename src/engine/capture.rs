//! Captured output: a file that is written once, and read by range while it is written.
//!
//! Who writes it depends on what is asked for:
//!
//! | written by | when |
//! | --- | --- |
//! | the process itself, through an open file that only appends | `tempfile`, and nothing else is asked: nothing of ours runs while it writes |
//! | the engine, from a pipe | `memory`, or `tempfile` with a limit, pieces or a pipe size |
//! | a [`filter`] process, from a pipe | it is compressed, or comes through a pipe into a file that the user has named |
//!
//! Files of ours have names, in the instance's directory (those of `memory` in a file system that lives in memory), so that they need
//! no descriptor while nobody reads them, can be read by another process than the one that made them, and are still there after a
//! crash. One that the user has [`named`] lies where others may write: it is used only through the descriptors that were made with it.
//! Where a file alone does not tell what it holds, [`counters`] beside it do. Readers use `pread`: no reader moves anything that the process
//! or another reader shares.
//!
//! Once [`Capture::freeze`] has been called, what was captured never changes, whoever still writes; and once it is [sealed](seal), what
//! is read later is that, or an error.
//!
//! A process can truncate the file that it writes itself, and anybody with the rights can remove a file: [`intact`] finds that out, and
//! results report it as a [`Loss`].

mod codec;
mod confine;
mod counters;
pub mod filter;
mod holes;
mod intact;
mod limits;
mod make;
mod named;
mod order;
mod pieces;
mod record;
mod seal;
mod set;
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
pub(crate) use confine::can_restrict_calls;
use counters::{Counters, Phase};
pub use intact::Loss;
use limits::Limits;
pub(super) use make::{Store, Writer};
pub(super) use named::HandoverFile;
use named::{Named, Seen};
pub(crate) use named::{ask_for_files, held_file};
pub use order::{Part, Taken};
use pieces::Piece;
pub(super) use pieces::PieceLog;
use record::Record;
pub use seal::Hash;
use seal::{FileState, Seal};
pub use set::Captures;
pub use view::View;

/// Why a capture does not hold all that was written to it, or may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Truncation {
    /// A descendant still held it when the grace after the process's end had passed.
    #[serde(rename = "Survivor")]
    HeldOpen,
    /// It could not be set up.
    #[serde(rename = "Setup")]
    NotStarted,
    /// Its output could not be read or stored.
    Error,
}

/// The directories of captures.
#[derive(Clone, Debug)]
pub struct CaptureDirs {
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
    /// The file that holds the bytes.
    path: PathBuf,
    /// The limit in force, which need not be of the spec.
    limit: Option<KeepSpec>,
    /// The file of its counters; empty where the file alone tells all.
    counters: PathBuf,
    /// The file of its pieces; empty where none are kept.
    pieces: PathBuf,
    /// How many bytes the file's guard has, 0 without one: see [`intact`].
    guard: u64,
    /// The file's inode; 0 while that is not known. Whoever makes the file stores it.
    inode: Arc<AtomicU64>,
    end: OnceLock<CaptureSize>,
    /// What is recorded of it at the end.
    seal: OnceLock<Box<Seal>>,
    /// The file that the spec has named, if it has.
    named: Option<Arc<Named>>,
    /// The files as long as some reader holds them.
    held: Mutex<Weak<Held>>,
}

/// How much a capture holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureSize {
    /// Bytes that are kept, uncompressed.
    pub length: u64,
    /// Bytes that were dropped to stay within the limit.
    pub dropped: u64,
    /// Bytes that are stored: fewer than kept where they are compressed.
    pub stored: u64,
    /// Whether what is stored is a whole stream of its compression.
    pub whole: bool,
    /// Why captured bytes are missing, as far as the file shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
}

impl CaptureSize {
    /// That of a file which is the capture.
    fn plain(length: u64) -> CaptureSize {
        CaptureSize { length, stored: length, ..CaptureSize::default() }
    }

    /// That of a capture whose file cannot be read any more.
    fn gone() -> CaptureSize {
        CaptureSize { loss: Some(Loss::Gone), ..CaptureSize::default() }
    }
}

/// The open files of a capture. While somebody has them, they need not be opened again, and the bytes outlast
/// the process's deletion.
pub struct Held {
    data: Arc<File>,
    counters: Option<File>,
    /// What the file must look like while it is read; none before the end, and where somebody may go on writing it.
    state: Option<FileState>,
}

impl Held {
    /// A path that leads to the file that is open, wherever that is by now.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.data.as_raw_fd()))
    }

    fn data(&self) -> &File {
        &self.data
    }

    /// What is counted now.
    fn counters(&self) -> io::Result<Counters> {
        self.counters.as_ref().map_or(Ok(Counters::default()), Counters::read)
    }
}

/// What the bytes in a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// The captured ones.
    Plain,
    /// Those of both ends.
    Limited(Limits),
    /// Those that the captured ones were compressed to.
    Compressed(Compression),
}

/// Who writes a capture's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CaptureWriter {
    /// The process itself.
    Process,
    /// The engine, from a pipe.
    Engine,
    /// A filter, from a pipe.
    Filter,
}

impl Capture {
    /// A capture that could not be set up: empty for ever.
    pub(super) fn empty(spec: CaptureSpec) -> Capture {
        Record::empty(spec).into()
    }

    /// What the spec asked for.
    pub fn spec(&self) -> &CaptureSpec {
        &self.spec
    }

    /// The path of the file that the spec has named.
    pub fn named(&self) -> Option<&Path> {
        self.spec.file.as_ref().map(|file| Path::new(&file.path))
    }

    /// The file that the spec has named, where that is the one which holds the bytes.
    fn named_data(&self) -> Option<&Arc<Named>> {
        self.named.as_ref().filter(|_| self.named() == Some(self.path()))
    }

    /// Who writes its file.
    pub(super) fn writer(&self) -> CaptureWriter {
        let spec = &self.spec;
        let piped = spec.mode == CaptureMode::Memory
            || self.limit.is_some()
            || spec.compress.is_some()
            || spec.pipe_size.is_some()
            || spec.chunk_times;
        match piped {
            false => CaptureWriter::Process,
            true if spec.compress.is_some() || spec.file.is_some() => CaptureWriter::Filter,
            true => CaptureWriter::Engine,
        }
    }

    fn layout(&self) -> Layout {
        match (self.spec.compress, self.limit) {
            (Some(compression), _) => Layout::Compressed(compression),
            (None, Some(limit)) => Layout::Limited(limit.into()),
            (None, None) => Layout::Plain,
        }
    }

    /// How much it holds so far.
    pub fn size(&self) -> CaptureSize {
        if let Some(end) = self.frozen() {
            return end;
        }
        if self.path.as_os_str().is_empty() {
            // It was never set up.
            return CaptureSize::default();
        }
        if self.layout() == Layout::Plain {
            return self.look().unwrap_or_else(|_| CaptureSize::gone());
        }
        let size = self.counted();
        // A named one may be on a file system that does not answer, which is not to hold up the engine.
        if self.named_data().is_none() && self.is_missing() {
            CaptureSize { loss: Some(Loss::Gone), ..size }
        } else {
            size
        }
    }

    /// How much a file that does not tell by itself holds.
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

    /// Whether its filter has read all, and works on it.
    pub(super) fn is_finishing(&self) -> bool {
        self.writer() == CaptureWriter::Filter && self.read_counters().phase == Phase::Finishing
    }

    /// Whether its filter has stored all that came.
    pub(super) fn is_whole(&self) -> bool {
        self.read_counters().phase == Phase::Ended
    }

    /// Whether what has come may not all be there, now that the engine that began it is gone.
    pub(super) fn is_orphaned(&self) -> bool {
        match self.writer() {
            CaptureWriter::Process => false,
            // What was in its pipe has gone with whoever read it.
            CaptureWriter::Engine => true,
            CaptureWriter::Filter => !self.is_whole(),
        }
    }

    /// Whether what is captured is fixed.
    pub(super) fn is_frozen(&self) -> bool {
        self.frozen().is_some()
    }

    fn frozen(&self) -> Option<CaptureSize> {
        self.end.get().copied()
    }

    /// How many bytes it takes of the instance's directories: blocks, so that holes count for nothing. One that is kept in a named file
    /// takes none.
    pub(crate) fn taken(&self) -> u64 {
        if self.spec.file.is_some() || self.path.as_os_str().is_empty() {
            return 0;
        }
        // In blocks of 512 bytes, whatever those of the file system are.
        std::fs::metadata(&self.path).map_or(0, |meta| MetadataExt::blocks(&meta) * 512)
    }

    /// How many bytes are captured so far, uncompressed and without dropped ones.
    pub fn len(&self) -> u64 {
        self.size().length
    }

    /// Whether nothing is captured so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Opens the files, for reads to come: while the answer is held they need not open them again, and the bytes outlast the
    /// process's deletion.
    ///
    /// # Errors
    /// The OS error of opening.
    pub fn hold(&self) -> io::Result<Arc<Held>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = held.upgrade()
            // One that was opened before the end is not verified.
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
        // Nobody else has it yet.
        if let Some(opened) = Arc::get_mut(&mut opened) {
            opened.state = state;
        }
        *held = Arc::downgrade(&opened);
        Ok(opened)
    }

    /// The same; none where there is no file, which is an empty one: it was so at its end, of which this share may not know yet.
    fn hold_if_there(&self) -> io::Result<Option<Arc<Held>>> {
        match self.hold() {
            Err(error) if self.frozen().is_none() && error.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            held => held.map(Some),
        }
    }

    /// What it holds now, uncompressed, to be read in pieces.
    ///
    /// # Errors
    /// The OS error of opening a file.
    pub fn view(&self) -> io::Result<View> {
        View::of(self)
    }

    /// The bytes as they are stored: compressed, where that is asked for.
    ///
    /// # Errors
    /// The OS error of opening the file.
    pub fn stored(&self) -> io::Result<View> {
        View::stored(self)
    }

    /// The compression of the stored bytes, where they are a whole stream of it: what may be given to whoever accepts that encoding.
    pub fn whole_compression(&self) -> Option<Compression> {
        self.spec.compress.filter(|_| self.frozen().is_some_and(|end| end.whole))
    }

    /// Reads captured bytes from `offset` on into `buf`; gives how many, 0 at the end of what there is so far.
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
            // An empty one that could not be set up, or one that somebody has taken away.
            Err(_) => sys::Writers::None,
        }
    }

    /// The path of the file that holds the bytes.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its file must be [looked at](Self::look_at_file) before it is frozen: one that the user has named, on whatever file system.
    pub(super) fn must_be_seen(&self) -> bool {
        self.named_data().is_some() && self.layout() == Layout::Plain
    }

    /// Has another thread look at the file that the user has named, and then call `done`.
    pub(super) fn look_at_file(&self, done: impl FnOnce() + Send + 'static) {
        match self.named_data() {
            Some(named) => named.look(done),
            None => done(),
        }
    }

    /// What the last look at that file has shown; none before it.
    pub(super) fn seen(&self) -> Option<Seen> {
        self.named_data().and_then(|named| named.seen())
    }

    /// Whether the user has named the file that holds the bytes.
    pub(super) fn is_in_named_file(&self) -> bool {
        self.named_data().is_some()
    }

    /// Fixes what is captured, for ever: of a file that the user has named, as it was seen last. An empty file of ours is not needed any more.
    pub(super) fn freeze(&self) {
        let size = match self.must_be_seen() {
            true => {
                let length = self.seen().and_then(|seen| seen.length);
                length.map_or_else(CaptureSize::gone, CaptureSize::plain)
            }
            false => self.size(),
        };
        // A second time changes nothing.
        let _ = self.end.set(size);
        let empty = size == CaptureSize::default();
        if empty && self.layout() == Layout::Plain && self.named().is_none() {
            remove(&self.path);
        }
    }

    /// The file that the spec has named, where that goes with its process. One that could not be set up has none: what is there is not of
    /// its making.
    fn named_to_remove(&self) -> Option<(&Arc<Named>, &Path)> {
        let file = self.spec.file.as_ref().filter(|file| !file.keep)?;
        Some((self.named.as_ref()?, Path::new(&file.path)))
    }

    /// Has another thread remove the file that the spec has named, unless it is to stay; that drops `done`.
    fn discard_named<T: Send + 'static>(&self, done: T) {
        if let Some((named, path)) = self.named_to_remove() {
            named.remove(path, done);
        }
    }

    /// Removes the files but for the named one.
    pub(super) fn remove_own(&self) {
        let gone = self.layout() == Layout::Plain && self.frozen() == Some(CaptureSize::default());
        if !gone && self.named() != Some(self.path()) {
            remove(&self.path);
        }
        remove(&self.counters);
        remove(&self.pieces);
    }

    /// How many bytes were written to it so far, those included that were dropped.
    fn written(&self) -> u64 {
        let CaptureSize { length, dropped, .. } = self.size();
        length + dropped
    }

    /// How many pieces it came in so far; 0 where they are not kept.
    fn count_pieces(&self) -> io::Result<u64> {
        self.if_pieces_are_kept(pieces::count).map(Option::unwrap_or_default)
    }

    /// The pieces that it came in, from a record on; none where they are not kept.
    fn read_pieces(&self, from: u64) -> io::Result<Vec<Piece>> {
        self.if_pieces_are_kept(|path| pieces::read(path, from)).map(Option::unwrap_or_default)
    }

    fn if_pieces_are_kept<T>(
        &self,
        look: impl FnOnce(&Path) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        if self.pieces.as_os_str().is_empty() {
            return Ok(None);
        }
        match look(&self.pieces) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            looked => looked.map(Some),
        }
    }
}

/// Opens a file of ours. A process of our own user can have put something else in its place: a FIFO is not waited for.
fn open_to_read(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

fn remove(path: &Path) {
    if !path.as_os_str().is_empty()
        && let Err(error) = std::fs::remove_file(path)
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
        let places = CaptureDirs { files: dir.path().into(), memory: dir.path().into() };
        let spec = CaptureSpec::default();
        match Capture::open(spec, &places, "1", KeepSpec::default(), 0o600, true).unwrap() {
            (capture, Writer::Itself(source)) => (capture, source),
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
    fn an_empty_capture_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let (capture, _) = opened(&dir);
        capture.freeze();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!((capture.len(), capture.read_at(0, &mut [0; 4]).unwrap()), (0, 0));
    }
}
