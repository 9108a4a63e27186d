//! The record of a capture's final state, which later reads compare with the file.
//!
//! After the end of a process, others can still change the file of its output: a descendant that
//! opens it again, or another job of the same user. So at the end procstar makes its own files
//! read-only, and records the SHA-256, the length and the times of the stored bytes. A reader
//! compares them when it opens the file, and the times again after each read: the kernel sets the
//! time of the last change (ctime), and no user can set it back. A mismatch is an error, not data.
//!
//! | file | compared at each opening |
//! | --- | --- |
//! | our own | length and times; and up to [`QUICK`] bytes, the SHA-256 |
//! | named by the spec | length and times; the SHA-256 of up to [`AGAIN`] bytes if they differ, and of up to [`QUICK`] bytes in any case |
//! | held open at the end by a survivor that may still write | the SHA-256 of up to [`AGAIN`] bytes |
//!
//! More than [`MOST`] bytes are not hashed: a sparse file can have any length.

use std::fs::File;
use std::fs::{Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::{Capture, Held, Layout, Loss, View, WrittenBy};
use crate::engine::sys::{self, Writers};

/// Most bytes that are hashed on the calling thread, and at each opening.
const QUICK: u64 = 64 * 1024;
/// Most bytes that are hashed again if nothing else can show a change.
const AGAIN: u64 = 16 * 1024 * 1024;
/// Most bytes that are hashed at all.
const MOST: u64 = 1 << 30;
/// Bytes per hashing step.
const PIECE: usize = 32 * 1024;

/// A SHA-256; written as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash([u8; 32]);

impl Hash {
    fn of(hasher: Sha256) -> Hash {
        Hash(hasher.finalize().into())
    }

    /// The SHA-256 of no bytes.
    fn of_nothing() -> Hash {
        Hash::of(Sha256::new())
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digit =
            |value: u8| char::from(if value < 10 { b'0' + value } else { b'a' + value - 10 });
        let digits = self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
        f.write_str(&digits.collect::<String>())
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        let mut digits = text.as_bytes().chunks_exact(2);
        for byte in &mut bytes {
            let pair = digits.next().and_then(|pair| std::str::from_utf8(pair).ok());
            let value = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
            *byte = value.ok_or_else(|| serde::de::Error::custom("invalid SHA-256"))?;
        }
        Ok(Hash(bytes))
    }
}

/// The metadata that each write to a file changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileState {
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileState {
    pub(super) fn of(meta: &Metadata) -> FileState {
        FileState {
            length: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// Whether the contents seem equal: a change of mode or names alone does not count.
    fn seems(&self, other: &FileState) -> bool {
        (self.length, self.modified) == (other.length, other.modified)
    }
}

/// The record of a capture's final state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seal {
    /// The SHA-256 of the stored bytes; `None` if there are too many, or they could not be read in
    /// time.
    sha256: Option<Hash>,
    /// `None` if a process held the file open for writing, and if nothing is stored.
    file: Option<FileState>,
}

/// Holds up changes of files while an engine is paused: the next engine records the times of the
/// same files, and a later change by this one would seem to be somebody else's.
#[derive(Default)]
pub(in crate::engine) struct SealGate {
    closed: Mutex<bool>,
    opened: Condvar,
}

impl SealGate {
    /// Waits until nobody changes a file, and lets nobody begin.
    pub(in crate::engine) fn close(&self) {
        *self.lock() = true;
    }

    /// Lets those go on that wait.
    pub(in crate::engine) fn open(&self) {
        *self.lock() = false;
        self.opened.notify_all();
    }

    /// Runs `change` while the gate is open.
    fn pass<T>(&self, change: impl FnOnce() -> T) -> T {
        let closed = self.opened.wait_while(self.lock(), |closed| *closed);
        let _closed = closed.unwrap_or_else(PoisonError::into_inner);
        change()
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error that a capture differs from its final state.
#[derive(Debug, Error)]
#[error("the capture's file was changed after the end of the process")]
struct Changed;

/// The error of reading a changed capture.
pub(super) fn changed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Changed)
}

impl Capture {
    /// Whether a read error means that the capture was changed after its end.
    pub fn is_changed(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Changed>())
    }

    /// Whether the final state is recorded.
    pub(in crate::engine) fn is_sealed(&self) -> bool {
        self.seal.get().is_some()
    }

    /// Whether [sealing](Self::seal) takes no longer than the other work at the end of a process.
    pub(in crate::engine) fn is_sealed_quickly(&self) -> bool {
        let stored = self.size().stored;
        stored == 0 || (stored <= QUICK && self.named_data().is_none())
    }

    /// Frees the space through which dropped bytes have passed, if no tail is kept there.
    pub(super) fn cut_ring(&self) {
        let tail = match self.layout() {
            Layout::Limited(limits) => limits.has_tail(),
            Layout::Plain | Layout::Compressed(_) => true,
        };
        if tail || self.written_by() != WrittenBy::Engine {
            return;
        }
        let mut options = File::options();
        let options = options.write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        if let Ok(file) = options.open(&self.path) {
            // Without this, the file is some kilobytes larger.
            let _ = file.set_len(self.len());
        }
    }

    /// Leaves the capture unsealed for ever, unless it is sealed already.
    pub(in crate::engine) fn leave_unsealed(&self) {
        let _ = self.seal.set(Box::default());
    }

    /// Records the final state, for ever. Changes no file while `gate` is closed.
    pub(in crate::engine) fn seal(&self, gate: &SealGate) {
        if self.is_sealed() {
            return;
        }
        let seal = self.make_seal(gate).unwrap_or_else(|error| {
            tracing::warn!(path = %self.path().display(), %error, "cannot record a capture's SHA-256");
            Seal::default()
        });
        // The engine may have left the capture unsealed because hashing took too long.
        let _ = self.seal.set(Box::new(seal));
    }

    fn make_seal(&self, gate: &SealGate) -> io::Result<Seal> {
        let Some(end) = self.frozen() else { return Ok(Seal::default()) };
        if end.stored == 0 {
            let lost = end.loss == Some(Loss::Gone);
            return Ok(Seal { sha256: (!lost).then(Hash::of_nothing), file: None });
        }
        let held = self.hold()?;
        if self.named_data().is_none() {
            gate.pass(|| held.data().set_permissions(Permissions::from_mode(0o400)))?;
        }
        // Only the engine writes output that comes through a pipe, and it has stopped by now.
        let closed =
            self.written_by() == WrittenBy::Engine || sys::writers(held.data()) != Writers::Some;
        let state = FileState::of(&held.data().metadata()?);
        if end.stored > QUICK {
            let_time_pass(state.changed);
        }
        let sha256 = (end.stored <= MOST).then(|| self.hash(&held)).transpose()?;
        Ok(Seal { sha256, file: closed.then_some(state) })
    }

    /// The SHA-256 of the stored bytes.
    fn hash(&self, held: &Arc<Held>) -> io::Result<Hash> {
        let mut view = View::frozen(self, Arc::clone(held));
        let mut hasher = Sha256::new();
        let mut buf = vec![0; view.len().min(PIECE as u64) as usize];
        let mut at = 0;
        while at < view.len() {
            let read = view.read_at(at, &mut buf)?;
            let Some(bytes) = buf.get(..read).filter(|bytes| !bytes.is_empty()) else {
                return Err(changed());
            };
            hasher.update(bytes);
            at += read as u64;
        }
        Ok(Hash::of(hasher))
    }

    /// Compares the open files with the record; returns the state that the data file must keep
    /// while it is read.
    ///
    /// # Errors
    /// A mismatch, or the OS error of reading.
    pub(super) fn verify(&self, held: &Arc<Held>) -> io::Result<Option<FileState>> {
        let Some((end, seal)) = self.frozen().zip(self.seal.get()) else { return Ok(None) };
        if end.stored == 0 {
            return Ok(None);
        }
        let now = FileState::of(&held.data().metadata()?);
        let same = seal.file == Some(now);
        if !same && seal.file.is_some() && self.named_data().is_none() {
            return Err(changed());
        }
        let hashed = if same { QUICK } else { AGAIN };
        match &seal.sha256 {
            Some(sha256) if end.stored <= hashed => {
                if self.hash(held)? != *sha256 {
                    return Err(changed());
                }
            }
            _ if same || seal.file.is_none() => {}
            _ => return Err(changed()),
        }
        Ok(seal.file.map(|_| now))
    }

    /// Whether the file's metadata differs from the record.
    pub(super) fn differs(&self, meta: &Metadata) -> bool {
        let Some(then) = self.seal.get().and_then(|seal| seal.file) else { return false };
        let now = FileState::of(meta);
        match self.named_data() {
            None => then != now,
            Some(_) if then.seems(&now) => false,
            Some(_) => self.hold().is_err_and(|error| Capture::is_changed(&error)),
        }
    }

    /// The SHA-256 of the stored bytes at the end; `None` if it was not recorded.
    pub fn sha256(&self) -> Option<Hash> {
        self.seal.get().and_then(|seal| seal.sha256)
    }

    /// A tag of the final contents: other contents have another tag. `None` if a change might go
    /// unnoticed.
    pub fn tag(&self) -> Option<String> {
        let (end, seal) = self.frozen().zip(self.seal.get())?;
        let certain = seal.file.is_some() || end.stored <= AGAIN;
        match (seal.sha256, seal.file) {
            (Some(sha256), _) if certain => Some(sha256.to_string()),
            (None, Some(FileState { changed: (seconds, nanos), .. })) => {
                Some(format!("{seconds:x}.{nanos:x}"))
            }
            _ => None,
        }
    }
}

/// Waits until a further change would get a later time: the kernel's clock for file times advances
/// only some hundred times a second.
fn let_time_pass(changed: (i64, i64)) {
    for _ in 0..50 {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_REALTIME_COARSE);
        if now.is_ok_and(|now| (now.tv_sec(), now.tv_nsec()) > changed) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Held {
    /// Checks after a read that the file is still as it was when it was verified.
    ///
    /// # Errors
    /// The file has changed.
    pub(super) fn check_unchanged(&self) -> io::Result<()> {
        match self.state {
            Some(state) if FileState::of(&self.data().metadata()?) != state => Err(changed()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::mpsc::{self, RecvTimeoutError};

    use super::*;
    use crate::engine::capture::{CaptureDirs, CaptureInput};
    use crate::spec::{CaptureSpec, KeepSpec};

    #[test]
    fn no_file_is_changed_while_the_gate_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = CaptureDirs { files: dir.path().into(), memory: dir.path().into() };
        let made =
            Capture::open(CaptureSpec::default(), &dirs, "1", KeepSpec::default(), 0o600, true);
        let (capture, CaptureInput::Itself(writer)) = made.unwrap() else {
            panic!("written by the process")
        };
        std::fs::File::from(writer).write_all(b"abc").unwrap();
        capture.freeze();
        let mode = || std::fs::metadata(capture.path()).unwrap().mode() & 0o777;
        let gate = SealGate::default();
        gate.close();
        std::thread::scope(|scope| {
            let (sealed, is_sealed) = mpsc::channel();
            scope.spawn(|| {
                capture.seal(&gate);
                drop(sealed);
            });
            let early = is_sealed.recv_timeout(Duration::from_millis(50));
            assert_eq!((early, mode()), (Err::<(), _>(RecvTimeoutError::Timeout), 0o600));
            gate.open();
        });
        assert_eq!((capture.is_sealed(), mode()), (true, 0o400));
    }
}
