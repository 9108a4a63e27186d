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
//! Files have names, in the instance's directory (those of `memory` in a file system that lives in memory) or the user's, so that they need
//! no descriptor while nobody reads them, can be read by another process than the one that made them, and are still there after a
//! crash. Where a file alone does not tell what it holds, [`counters`] beside it do. Readers use `pread` on an open file of their own: no
//! reader moves anything that the process or another reader shares.
//!
//! Once [`Capture::freeze`] has been called, what was captured never changes, whoever still writes.

mod codec;
mod counters;
pub mod filter;
mod limits;
mod pieces;
mod view;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use serde::{Deserialize, Serialize};

use super::sys;
use crate::spec::{CaptureMode, CaptureSpec, Compression, FdName, LimitSpec};
use counters::{Counters, Phase};
use filter::Order;
use limits::{LimitedWriter, Limits};
use pieces::Piece;
pub(super) use pieces::PieceLog;
pub use view::View;

/// Marks a capture that is not frozen, where its length is told.
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
    /// The file that holds the bytes.
    path: PathBuf,
    /// The limit in force, which need not be of the spec.
    limit: Option<LimitSpec>,
    /// The file of its counters; empty where the file alone tells all.
    counters: PathBuf,
    /// The file of its pieces; empty where none are kept.
    pieces: PathBuf,
    end: OnceLock<Extent>,
    /// The files as long as some reader holds them.
    held: Mutex<Weak<Held>>,
}

/// How much a capture holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Bytes that are kept, uncompressed.
    pub length: u64,
    /// Bytes that were dropped to stay within the limit.
    pub dropped: u64,
    /// Bytes that are stored: fewer than kept where they are compressed.
    pub stored: u64,
    /// Whether what is stored is a whole stream of its compression.
    pub whole: bool,
}

/// A capture as it is told to others.
#[derive(Clone, Serialize, Deserialize)]
struct Record {
    spec: CaptureSpec,
    path: PathBuf,
    /// The final length, or [`OPEN`].
    frozen: u64,
    /// What only some captures have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    more: Option<Box<More>>,
}

/// What is told of a capture that is not simply a file.
#[derive(Clone, Serialize, Deserialize)]
struct More {
    limit: Option<LimitSpec>,
    counters: PathBuf,
    end: Option<Extent>,
    #[serde(default)]
    pieces: PathBuf,
}

impl From<Record> for Capture {
    fn from(Record { spec, path, frozen, more }: Record) -> Self {
        let plain = || (frozen != OPEN).then(|| Extent::plain(frozen));
        let More { limit, counters, end, pieces } = more.map_or_else(
            || More { limit: None, counters: PathBuf::new(), end: plain(), pieces: PathBuf::new() },
            |more| *more,
        );
        let end = end.map_or_else(OnceLock::new, OnceLock::from);
        Capture { spec, path, limit, counters, pieces, end, held: Mutex::new(Weak::new()) }
    }
}

impl From<Capture> for Record {
    fn from(capture: Capture) -> Self {
        Record::from(&capture)
    }
}

impl From<&Capture> for Record {
    fn from(capture: &Capture) -> Self {
        let end = capture.frozen();
        let Capture { counters, pieces, .. } = capture;
        let simple = counters.as_os_str().is_empty() && pieces.as_os_str().is_empty();
        let more = (!simple).then(|| {
            Box::new(More {
                limit: capture.limit,
                counters: counters.clone(),
                end,
                pieces: pieces.clone(),
            })
        });
        Record {
            spec: capture.spec.clone(),
            path: capture.path.clone(),
            frozen: end.map_or(OPEN, |end| end.length),
            more,
        }
    }
}

impl Clone for Capture {
    /// The same capture, frozen on its own.
    fn clone(&self) -> Self {
        Record::from(self).into()
    }
}

impl Extent {
    /// That of a file which is the capture.
    fn plain(length: u64) -> Extent {
        Extent { length, stored: length, ..Extent::default() }
    }
}

/// The open files of a capture. While somebody has them, they need not be opened again, and the bytes outlast
/// the process's deletion.
pub struct Held {
    data: File,
    counters: Option<File>,
}

impl Held {
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
pub(super) enum Maker {
    /// The process itself.
    Process,
    /// The engine, from a pipe.
    Engine,
    /// A filter, from a pipe.
    Filter,
}

/// What is made along with a capture.
pub(super) enum Writer {
    /// The process writes the file itself.
    Itself(OwnedFd),
    /// The process writes a file that its user has named; whoever makes the process opens it.
    Named(Order),
    /// The engine reads this pipe.
    Pipe {
        /// The process's end.
        source: OwnedFd,
        /// Ours.
        reader: OwnedFd,
        /// Where the output goes.
        store: Store,
        /// Where its pieces are noted, if they are.
        pieces: Option<PieceLog>,
    },
    /// A filter does; whoever makes the process starts it.
    Filter {
        /// The process's end.
        source: OwnedFd,
        /// The other one.
        reader: OwnedFd,
        /// What it shall do.
        order: Order,
    },
}

/// Where the engine puts what it reads of a pipe.
pub(super) enum Store {
    /// At the end of a file.
    File(File),
    /// Within limits.
    Limited(LimitedWriter),
    /// Nowhere.
    Nothing,
}

impl Store {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// The OS error of storing them.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Store::File(file) => io::Write::write_all(file, bytes),
            Store::Limited(writer) => writer.write(bytes),
            Store::Nothing => Ok(()),
        }
    }
}

impl Capture {
    /// Makes a capture, of which files of ours are called `name`, and the end of it that the process shall have. `default` limits one
    /// whose spec sets no limit.
    ///
    /// # Errors
    /// The OS error; nothing is left behind.
    pub(super) fn open(
        spec: CaptureSpec,
        places: &Places,
        name: &str,
        default: LimitSpec,
    ) -> io::Result<(Capture, Writer)> {
        let capture = Capture::plan(spec, places, name, default);
        let made = capture.make().inspect_err(|_| capture.remove_own())?;
        Ok((capture, made))
    }

    fn plan(spec: CaptureSpec, places: &Places, name: &str, default: LimitSpec) -> Capture {
        let dir = match spec.mode {
            CaptureMode::Tempfile => &places.files,
            CaptureMode::Memory => &places.memory,
        };
        let limit = spec.limit.or_else(|| default_limit(default, &spec));
        let tail = limit.is_some_and(|limit| Limits::from(limit).has_tail());
        let path = match &spec.file {
            // Both ends are brought together there once they are known.
            Some(file) if !tail => PathBuf::from(&file.path),
            _ => dir.join(name),
        };
        let held = Mutex::new(Weak::new());
        let counters = PathBuf::new();
        let pieces = match spec.pieces {
            true => dir.join(format!("{name}.p")),
            false => PathBuf::new(),
        };
        let mut capture =
            Capture { spec, path, limit, counters, pieces, end: OnceLock::new(), held };
        if capture.limit.is_some() || capture.maker() == Maker::Filter {
            capture.counters = dir.join(format!("{name}.n"));
        }
        capture
    }

    fn make(&self) -> io::Result<Writer> {
        let create = |path: &Path, append| {
            File::options()
                .write(true)
                .append(append)
                .read(!append)
                .create_new(true)
                .mode(0o600)
                .open(path)
        };
        let counters = match self.counters.as_os_str().is_empty() {
            true => None,
            false => Some(create(&self.counters, false)?),
        };
        let pieces = match self.pieces.as_os_str().is_empty() {
            true => None,
            false => Some(PieceLog::new(create(&self.pieces, false)?)?),
        };
        let pipe = || {
            let (reader, source) = sys::pipe()?;
            if let Some(size) = self.spec.pipe_size {
                sys::grow_pipe(&reader, size as usize);
            }
            Ok::<_, io::Error>((reader, source))
        };
        Ok(match self.maker() {
            Maker::Process if self.spec.file.is_some() => Writer::Named(Order::of(self)),
            Maker::Process => Writer::Itself(create(&self.path, true)?.into()),
            Maker::Engine => {
                let (reader, source) = pipe()?;
                sys::set_nonblocking(&reader)?;
                let store = match (self.layout(), counters) {
                    (Layout::Limited(limits), Some(counters)) => {
                        let file = create(&self.path, false)?;
                        Store::Limited(LimitedWriter::new(limits, file, counters)?)
                    }
                    _ => Store::File(create(&self.path, true)?),
                };
                Writer::Pipe { source, reader, store, pieces }
            }
            Maker::Filter => {
                if Some(self.path.as_path()) != self.named() {
                    create(&self.path, false)?;
                }
                let (reader, source) = pipe()?;
                Writer::Filter { source, reader, order: Order::of(self) }
            }
        })
    }

    /// Goes on where an engine in another program has stopped.
    ///
    /// # Errors
    /// The OS error of opening the files.
    pub(super) fn reopen(&self) -> io::Result<(Store, Option<PieceLog>)> {
        let open = |path| File::options().read(true).write(true).open(path);
        let store = match self.layout() {
            Layout::Limited(limits) => {
                let writer = LimitedWriter::new(limits, open(&self.path)?, open(&self.counters)?)?;
                Store::Limited(writer)
            }
            _ => Store::File(File::options().append(true).open(&self.path)?),
        };
        let pieces = match self.pieces.as_os_str().is_empty() {
            true => None,
            false => Some(PieceLog::new(open(&self.pieces)?)?),
        };
        Ok((store, pieces))
    }

    /// A capture that could not be set up: empty for ever.
    pub(super) fn empty(spec: CaptureSpec) -> Capture {
        Record { spec, path: PathBuf::new(), frozen: 0, more: None }.into()
    }

    /// What the spec asked for.
    pub fn spec(&self) -> &CaptureSpec {
        &self.spec
    }

    /// The file that the spec has named.
    pub fn named(&self) -> Option<&Path> {
        self.spec.file.as_ref().map(|file| Path::new(&file.path))
    }

    /// Who writes its file.
    pub(super) fn maker(&self) -> Maker {
        let spec = &self.spec;
        let piped = spec.mode == CaptureMode::Memory
            || self.limit.is_some()
            || spec.compress.is_some()
            || spec.pipe_size.is_some()
            || spec.pieces;
        match piped {
            false => Maker::Process,
            true if spec.compress.is_some() || spec.file.is_some() => Maker::Filter,
            true => Maker::Engine,
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
    pub fn extent(&self) -> Extent {
        if let Some(end) = self.frozen() {
            return end;
        }
        let counters = match self.layout() {
            Layout::Plain => Counters::default(),
            Layout::Limited(_) | Layout::Compressed(_) => self.read_counters(),
        };
        match self.layout() {
            Layout::Compressed(_) => {
                let head = self.limit.map_or(u64::MAX, |limit| limit.head.unwrap_or(0));
                let length = counters.written.min(head);
                Extent {
                    length,
                    dropped: counters.written - length,
                    stored: counters.stored,
                    whole: counters.phase == Phase::Ended,
                }
            }
            Layout::Limited(limits) => {
                let kept = limits.kept(&counters);
                Extent { dropped: kept.dropped(), ..Extent::plain(kept.length()) }
            }
            Layout::Plain => {
                Extent::plain(std::fs::metadata(&self.path).map_or(0, |meta| meta.len()))
            }
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
        self.maker() == Maker::Filter && self.read_counters().phase == Phase::Finishing
    }

    /// Whether its filter has stored all that came.
    pub(super) fn is_whole(&self) -> bool {
        self.read_counters().phase == Phase::Ended
    }

    /// Whether what has come may not all be there, now that the engine that began it is gone.
    pub(super) fn is_orphaned(&self) -> bool {
        match self.maker() {
            Maker::Process => false,
            // What was in its pipe has gone with whoever read it.
            Maker::Engine => true,
            Maker::Filter => !self.is_whole(),
        }
    }

    fn frozen(&self) -> Option<Extent> {
        self.end.get().copied()
    }

    /// How many bytes are captured so far, uncompressed and without dropped ones.
    pub fn len(&self) -> u64 {
        self.extent().length
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
        if let Some(held) = held.upgrade() {
            return Ok(held);
        }
        let counters = match self.counters.as_os_str().is_empty() {
            true => None,
            false => Some(open_to_read(&self.counters)?),
        };
        let opened = Arc::new(Held { data: open_to_read(&self.path)?, counters });
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

    /// Fixes what is captured, for ever. An empty file of ours is not needed any more.
    pub(super) fn freeze(&self) {
        let extent = self.extent();
        // A second time changes nothing.
        let _ = self.end.set(extent);
        if extent.length == 0 && self.layout() == Layout::Plain && self.named().is_none() {
            remove(&self.path);
        }
    }

    /// Removes the files, but for a named one that is to stay. Whoever holds them reads on.
    fn discard(&self) {
        self.remove_own();
        self.discard_named();
    }

    /// Removes the file that the spec has named, unless it is to stay.
    fn discard_named(&self) {
        if let Some(file) = self.spec.file.as_ref().filter(|file| !file.keep)
            // One that could not be set up has no path: what is there is not of its making.
            && !self.path.as_os_str().is_empty()
        {
            remove(Path::new(&file.path));
        }
    }

    /// Removes the files but for the named one.
    pub(super) fn remove_own(&self) {
        let gone = self.layout() == Layout::Plain && self.frozen() == Some(Extent::default());
        if !gone && self.named() != Some(self.path()) {
            remove(&self.path);
        }
        remove(&self.counters);
        remove(&self.pieces);
    }

    /// The pieces that it came in, where they are kept.
    fn read_pieces(&self) -> Vec<Piece> {
        if self.pieces.as_os_str().is_empty() {
            return Vec::new();
        }
        let Extent { length, dropped, .. } = self.extent();
        pieces::read(&self.pieces, length + dropped).unwrap_or_default()
    }
}

/// The limit of a capture whose spec sets none. Of compressed output no tail can be kept: its head may be as large as both.
fn default_limit(LimitSpec { head, tail }: LimitSpec, spec: &CaptureSpec) -> Option<LimitSpec> {
    if head.is_none() && tail.is_none() {
        return None;
    }
    Some(match spec.compress {
        None => LimitSpec { head, tail },
        Some(_) => {
            let both = head.unwrap_or(0).saturating_add(tail.unwrap_or(0));
            LimitSpec { head: Some(both), tail: None }
        }
    })
}

fn open_to_read(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(path)
}

fn remove(path: &Path) {
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

    /// The pieces that output came in, in the order in which they were read: when, by the monotonic clock in nanoseconds, of which fd, where
    /// they begin in what was written to it, and how long they are. None where no fd's are kept.
    pub fn pieces(&self) -> Option<Vec<(u64, FdName, u64, u64)>> {
        let captures = self.0.iter().filter_map(|(fd, capture)| Some((*fd, capture.as_ref()?)));
        let mut kept = captures.filter(|(_, capture)| capture.spec.pieces).peekable();
        kept.peek()?;
        let mut pieces: Vec<_> = kept
            .flat_map(|(fd, capture)| {
                let pieces = capture.read_pieces().into_iter();
                pieces.map(move |Piece { time, offset, length }| (time, fd, offset, length))
            })
            .collect();
        pieces.sort_by_key(|(time, ..)| *time);
        Some(pieces)
    }

    /// Removes the files that the spec has named and that are not to stay.
    pub(crate) fn discard_named(&self) {
        self.0.iter().filter_map(|(_, capture)| capture.as_ref()).for_each(Capture::discard_named);
    }

    /// Removes the files of all. Whoever holds one reads on.
    pub(crate) fn discard(&self) {
        for capture in self.0.iter().filter_map(|(_, capture)| capture.as_ref()) {
            capture.discard();
        }
    }

    /// The same with another capture at an index.
    pub(super) fn with(&self, index: usize, capture: Capture) -> Captures {
        let mut captures = self.clone();
        if let Some((_, place)) = captures.0.get_mut(index) {
            *place = Some(capture);
        }
        captures
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

    fn opened(dir: &tempfile::TempDir) -> (Capture, OwnedFd) {
        let places = Places { files: dir.path().into(), memory: dir.path().into() };
        let spec = CaptureSpec::default();
        match Capture::open(spec, &places, "1", LimitSpec::default()).unwrap() {
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
        capture.discard();
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
