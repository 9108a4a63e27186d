//! Captured output: written once, read by range while it is written.
//!
//! A `tempfile` capture is a file without a name that the process itself writes, through an open file of its own that
//! only appends; nothing of ours runs while it writes. A `memory` capture comes through a pipe, which the engine reads;
//! it stays in the heap while it is small, and goes on in a memory file. Readers use `pread` on our own open file, or copy from
//! the heap: no reader moves anything that the process or another reader shares.
//!
//! Once [`Capture::freeze`] has been called, what was captured never changes, whoever still writes. A small capture
//! then moves to the heap, and its descriptor is given back.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::sys;
use crate::spec::{CaptureMode, CaptureSpec, FdName};

/// Up to this many bytes, a memory capture lives in the heap while it grows.
const HEAP_GROWING: usize = 64 * 1024;
/// Up to this many bytes, an ended capture moves to the heap, to spare a descriptor.
const HEAP_ENDED: u64 = 4 * 1024;
/// Marks a capture that is not frozen.
const OPEN: u64 = u64::MAX;

/// Why a capture does not hold all that was written to it, or may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutShort {
    /// A descendant still held it when the grace after the process's end had passed.
    Survivor,
    /// It could not be set up.
    Setup,
    /// Its output could not be read or stored.
    Error,
}

/// The captured output of one fd.
pub struct Capture {
    spec: CaptureSpec,
    backing: Mutex<Backing>,
    /// Bytes that came through the pipe so far; not used where the process writes the file itself.
    piped: AtomicU64,
    /// The final length, or [`OPEN`].
    frozen: AtomicU64,
}

enum Backing {
    Heap(Vec<u8>),
    /// Its length is `piped`.
    MemoryFile(Arc<std::fs::File>),
    /// Its length is the file's.
    Tempfile(Arc<std::fs::File>),
}

impl Capture {
    /// Makes a capture and the end of it that the process shall have, and, for a memory capture, the end to read.
    ///
    /// # Errors
    /// The OS error; no descriptor is left behind.
    pub(super) fn open(
        spec: CaptureSpec,
        dir: &Path,
    ) -> io::Result<(Capture, OwnedFd, Option<OwnedFd>)> {
        match spec.mode {
            CaptureMode::Tempfile => {
                let (writer, reader) = sys::nameless_file(dir)?;
                let backing = Backing::Tempfile(Arc::new(reader.into()));
                Ok((Capture::new(spec, backing), writer, None))
            }
            CaptureMode::Memory => {
                let (reader, writer) = sys::pipe()?;
                sys::set_nonblocking(&reader)?;
                Ok((Capture::new(spec, Backing::Heap(Vec::new())), writer, Some(reader)))
            }
        }
    }

    /// A capture that could not be set up: empty for ever.
    pub(super) fn empty(spec: CaptureSpec) -> Capture {
        let capture = Capture::new(spec, Backing::Heap(Vec::new()));
        capture.frozen.store(0, Ordering::Release);
        capture
    }

    fn new(spec: CaptureSpec, backing: Backing) -> Capture {
        Capture {
            spec,
            backing: Mutex::new(backing),
            piped: AtomicU64::new(0),
            frozen: AtomicU64::new(OPEN),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Backing> {
        // Nothing that holds the lock can leave the backing half changed.
        self.backing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the spec asked for.
    pub fn spec(&self) -> CaptureSpec {
        self.spec
    }

    /// How many bytes are captured so far.
    pub fn len(&self) -> u64 {
        match self.frozen.load(Ordering::Acquire) {
            OPEN => match &*self.lock() {
                Backing::Tempfile(file) => file.metadata().map_or(0, |m| m.len()),
                _ => self.piped.load(Ordering::Acquire),
            },
            length => length,
        }
    }

    /// Whether nothing is captured so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads captured bytes from `offset` on into `buf`; gives how many, 0 at the end of what there is so far.
    ///
    /// # Errors
    /// The OS error of reading the file.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let room = self.len().saturating_sub(offset).min(buf.len() as u64) as usize;
        let buf = buf.get_mut(..room).unwrap_or_default();
        let file = match &*self.lock() {
            Backing::Heap(bytes) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let there = bytes.get(from..).unwrap_or_default();
                let n = there.len().min(buf.len());
                if let (Some(to), Some(from)) = (buf.get_mut(..n), there.get(..n)) {
                    to.copy_from_slice(from);
                }
                return Ok(n);
            }
            Backing::MemoryFile(file) | Backing::Tempfile(file) => Arc::clone(file),
        };
        loop {
            match file.read_at(buf, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Adds what came through the pipe. After [`freeze`](Self::freeze) it is dropped.
    ///
    /// # Errors
    /// The OS error of making or writing the memory file; what had been captured stays.
    pub(super) fn append(&self, bytes: &[u8]) -> io::Result<()> {
        if self.frozen.load(Ordering::Acquire) != OPEN {
            return Ok(());
        }
        let mut backing = self.lock();
        let at = self.piped.load(Ordering::Acquire);
        if let Backing::Heap(heap) = &mut *backing {
            if heap.len() + bytes.len() <= HEAP_GROWING {
                heap.extend_from_slice(bytes);
                self.piped.store(at + bytes.len() as u64, Ordering::Release);
                return Ok(());
            }
            let file: std::fs::File = sys::memory_file()?.into();
            file.write_all_at(heap, 0)?;
            *backing = Backing::MemoryFile(Arc::new(file));
        }
        if let Backing::MemoryFile(file) = &*backing {
            let file = Arc::clone(file);
            drop(backing);
            file.write_all_at(bytes, at)?;
            self.piped.store(at + bytes.len() as u64, Ordering::Release);
        }
        Ok(())
    }

    /// Whether a process still writes the file; always [`Writers::None`](sys::Writers) for a memory capture.
    pub(super) fn writers(&self) -> sys::Writers {
        match &*self.lock() {
            Backing::Tempfile(file) => sys::writers(file),
            _ => sys::Writers::None,
        }
    }

    /// The path by which the file can be watched, where the process writes one itself.
    pub(super) fn watch_path(&self) -> Option<std::ffi::CString> {
        use std::os::fd::AsRawFd;
        match &*self.lock() {
            Backing::Tempfile(file) => sys::self_fd_path(file.as_raw_fd()).ok(),
            _ => None,
        }
    }

    /// Fixes what is captured, for ever.
    pub(super) fn freeze(&self) {
        let length = self.len();
        self.frozen.store(length, Ordering::Release);
        let mut backing = self.lock();
        if let Backing::MemoryFile(file) | Backing::Tempfile(file) = &*backing
            && length <= HEAP_ENDED
        {
            let mut bytes = vec![0; length as usize];
            // Where it cannot be read now, the file stays, and a reader sees the error.
            if file.read_exact_at(&mut bytes, 0).is_ok() {
                *backing = Backing::Heap(bytes);
            }
        }
        if let Backing::Heap(bytes) = &mut *backing {
            bytes.shrink_to_fit();
        }
    }
}

/// The fds of a process in the spec's order, with the captures among them. Cheap to share, kept until the
/// process is deleted.
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

    /// The capture at an index of the spec's `fds`.
    pub(super) fn at(&self, index: usize) -> Option<&Capture> {
        self.0.get(index).and_then(|(_, capture)| capture.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn spec(mode: CaptureMode) -> CaptureSpec {
        CaptureSpec { mode, ..CaptureSpec::default() }
    }

    fn all(capture: &Capture) -> Vec<u8> {
        let mut bytes = vec![0; capture.len() as usize + 10];
        let mut at = 0;
        loop {
            let n = capture.read_at(at as u64, &mut bytes[at..]).unwrap();
            if n == 0 {
                break;
            }
            at += n;
        }
        bytes.truncate(at);
        bytes
    }

    #[test]
    fn a_tempfile_is_read_while_written_and_frozen() {
        let (capture, writer, pipe) =
            Capture::open(spec(CaptureMode::Tempfile), &std::env::temp_dir()).unwrap();
        assert!(pipe.is_none());
        let mut writer: std::fs::File = writer.into();
        writer.write_all(b"abc").unwrap();
        assert_eq!(all(&capture), b"abc");
        assert_eq!(capture.writers(), sys::Writers::Some);
        writer.write_all(&[7; 5000]).unwrap();
        capture.freeze();
        writer.write_all(b"too late").unwrap();
        assert_eq!(capture.len(), 5003);
        assert_eq!(all(&capture).len(), 5003);
    }

    proptest::proptest! {
        /// Whatever pieces come, every range reads as in one plain vector, before and after the end.
        #[test]
        fn memory_is_a_vector(
            pieces in proptest::collection::vec((proptest::num::u8::ANY, 0usize..50_000), 0..6),
            offset in 0u64..120_000, length in 0usize..120_000,
        ) {
            let (capture, _writer, _reader) =
                Capture::open(spec(CaptureMode::Memory), &std::env::temp_dir()).unwrap();
            let mut model = Vec::new();
            for (byte, n) in pieces {
                let piece = vec![byte; n];
                capture.append(&piece).unwrap();
                model.extend_from_slice(&piece);
                proptest::prop_assert_eq!(capture.len(), model.len() as u64);
            }
            for _ in 0..2 {
                let mut buf = vec![0; length];
                let n = capture.read_at(offset, &mut buf).unwrap();
                let from = model.len().min(offset as usize);
                let to = model.len().min(offset as usize + length);
                proptest::prop_assert_eq!(&buf[..n], &model[from..to]);
                proptest::prop_assert_eq!(&all(&capture), &model);
                capture.freeze();
                capture.append(b"dropped").unwrap();
            }
        }
    }
}
