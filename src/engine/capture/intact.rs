//! Whether a capture's file still holds what was written to it.
//!
//! A process that writes its file itself can open it again by its path, as `> /dev/stderr` does in a shell, and so truncate it. The
//! kernel records nothing of that. So the file begins with a guard: some bytes that nobody has written, a hole, after which the
//! process's output is appended. Truncation removes the guard, and what is then written takes its place. A guard takes no room on the disk.
//! It does not tell whether anything was there to be truncated: a capture that lost its guard is reported as truncated in any case.
//!
//! Not noticed is truncation followed by zeros, as many as a guard has; and any truncation of a file that the spec has named, which has no
//! guard, for others read it too. A file that was removed, or replaced by another one, is found by its inode.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use serde::{Deserialize, Serialize};

use super::{Capture, CaptureSize, Held, Layout};

/// How many bytes a guard has: a file that begins with so many zeros of its own is rare.
const GUARD: u64 = 16;

/// Why captured bytes are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Loss {
    /// Somebody has truncated or overwritten the file: what was written before may be missing.
    Truncated,
    /// The file was removed or replaced, or cannot be reached.
    Gone,
    /// The file was changed after the end.
    Changed,
}

/// The error of reading a capture whose file is gone.
pub(super) fn gone() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        "the capture's file is gone: somebody has removed or replaced it",
    )
}

/// Remembers which file it is.
pub(super) fn note_file(inode: &AtomicU64, file: &impl AsFd) {
    // Without it, only that the file was removed is noticed.
    if let Ok(stat) = nix::sys::stat::fstat(file) {
        inode.store(stat.st_ino, Ordering::Relaxed);
    }
}

impl Capture {
    /// Gives an empty file a guard, where it may have one: a limit on the size of files would count it.
    pub(super) fn add_guard(&mut self, file: &impl AsFd) {
        let unlimited = getrlimit(Resource::RLIMIT_FSIZE);
        if unlimited.is_ok_and(|(soft, _)| soft == RLIM_INFINITY)
            && nix::unistd::ftruncate(file, GUARD as libc::off_t).is_ok()
        {
            self.guard = GUARD;
        }
    }

    /// Whether a file is still the one that was made.
    ///
    /// # Errors
    /// That it is not.
    pub(super) fn check_inode(&self, meta: &Metadata) -> io::Result<()> {
        if self.named_data().is_some() {
            // It is the same file; but with the last of its names, it is gone for everybody else.
            return if meta.nlink() == 0 { Err(gone()) } else { Ok(()) };
        }
        let known = self.inode.load(Ordering::Relaxed);
        if known != 0 && known != meta.ino() { Err(gone()) } else { Ok(()) }
    }

    fn metadata(&self) -> io::Result<Metadata> {
        match self.named_data() {
            Some(named) => named.reader()?.metadata(),
            None => std::fs::symlink_metadata(&self.path),
        }
    }

    /// Whether there is no file any more, or another one.
    pub fn is_missing(&self) -> bool {
        !self.path.as_os_str().is_empty()
            && self.metadata().and_then(|meta| self.check_inode(&meta)).is_err()
    }

    /// What has become of captured bytes since the capture's end: it may have been removed or truncated even then.
    pub fn loss(&self) -> Option<Loss> {
        let end = self.size();
        // An empty file of ours is removed at the end, and nobody misses it.
        if end.loss.is_some() || self.frozen().is_none() || end.stored == 0 {
            return end.loss;
        }
        match self.metadata().and_then(|meta| {
            self.check_inode(&meta)?;
            Ok(meta)
        }) {
            Err(_) => Some(Loss::Gone),
            Ok(meta)
                if self.layout() == Layout::Plain && meta.len() < self.base(&end) + end.length =>
            {
                Some(Loss::Truncated)
            }
            Ok(meta) => self.differs(&meta).then_some(Loss::Changed),
        }
    }

    /// Where the captured bytes begin in the file.
    pub(super) fn base(&self, size: &CaptureSize) -> u64 {
        if size.loss.is_some() { 0 } else { self.guard }
    }

    /// How much a file that is the capture holds now.
    ///
    /// # Errors
    /// That the file is gone, or cannot be reached.
    pub(super) fn look(&self) -> io::Result<CaptureSize> {
        if self.guard > 0 {
            match self.hold() {
                Ok(held) => return self.look_in(&held),
                // No descriptor is free: that the guard is there must be believed.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                }
                Err(error) => return Err(error),
            }
        }
        let meta = self.metadata()?;
        self.check_inode(&meta)?;
        Ok(self.within(meta.len(), true))
    }

    /// The same, of the open file.
    ///
    /// # Errors
    /// The OS error of looking at it.
    pub(super) fn look_in(&self, held: &Held) -> io::Result<CaptureSize> {
        let length = held.data().metadata()?.len();
        let guarded = self.guard == 0 || (length >= self.guard && is_hole(held.data(), self.guard));
        Ok(self.within(length, guarded))
    }

    fn within(&self, length: u64, guarded: bool) -> CaptureSize {
        match length.checked_sub(self.guard) {
            Some(length) if guarded => CaptureSize::plain(length),
            _ => CaptureSize { loss: Some(Loss::Truncated), ..CaptureSize::plain(length) },
        }
    }
}

/// Whether a file begins with this many zeros. What cannot be read now is not held against it.
fn is_hole(file: &File, length: u64) -> bool {
    let mut bytes = [0; GUARD as usize];
    let room = bytes.get_mut(..length.min(GUARD) as usize).unwrap_or_default();
    file.read_at(room, 0).is_err() || bytes.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::path::Path;

    use super::*;
    use crate::engine::capture::{CaptureDirs, Writer};
    use crate::spec::{CaptureSpec, KeepSpec};

    fn opened(dir: &Path, guarded: bool) -> (Capture, File) {
        let places = CaptureDirs { files: dir.into(), memory: dir.into() };
        let (spec, none) = (CaptureSpec::default(), KeepSpec::default());
        match Capture::open(spec, &places, "1", none, 0o600, guarded).unwrap() {
            (capture, Writer::Itself(source)) => (capture, source.into()),
            _ => panic!("written by the process"),
        }
    }

    fn content(capture: &Capture) -> Vec<u8> {
        let mut bytes = vec![0; 100];
        let read = capture.read_at(0, &mut bytes).unwrap();
        bytes.truncate(read);
        bytes
    }

    fn state(capture: &Capture) -> (u64, Option<Loss>) {
        let size = capture.size();
        assert_eq!(size.length, capture.view().map_or(0, |view| view.len()));
        (size.length, capture.loss())
    }

    #[test]
    fn truncation_is_noticed_however_much_is_written_after_it() {
        for after in ["", "two", "longer than the guard and than what was there before"] {
            let dir = tempfile::tempdir().unwrap();
            let (capture, mut writer) = opened(dir.path(), true);
            assert_eq!((state(&capture), content(&capture)), ((0, None), vec![]));
            writer.write_all(b"one\n").unwrap();
            assert_eq!((state(&capture), content(&capture)), ((4, None), b"one\n".to_vec()));
            let mut again =
                OpenOptions::new().write(true).truncate(true).open(capture.path()).unwrap();
            again.write_all(after.as_bytes()).unwrap();
            writer.write_all(b"!").unwrap();
            let whole = format!("{after}!").into_bytes();
            let truncated = (whole.len() as u64, Some(Loss::Truncated));
            assert_eq!((state(&capture), content(&capture)), (truncated, whole.clone()));
            capture.freeze();
            assert_eq!((state(&capture), content(&capture)), (truncated, whole.clone()));
            // As another program sees it.
            let other = capture.clone();
            assert_eq!((state(&other), content(&other)), (truncated, whole));
        }
    }

    #[test]
    fn overwriting_the_beginning_is_noticed_and_appending_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (capture, mut writer) = opened(dir.path(), true);
        writer.write_all(b"one").unwrap();
        let mut appending = OpenOptions::new().append(true).open(capture.path()).unwrap();
        appending.write_all(b", two").unwrap();
        assert_eq!((state(&capture), content(&capture)), ((8, None), b"one, two".to_vec()));
        let mut over = OpenOptions::new().write(true).open(capture.path()).unwrap();
        over.write_all(b"!").unwrap();
        assert_eq!(capture.loss(), Some(Loss::Truncated));
    }

    #[test]
    fn a_file_without_a_guard_is_read_from_its_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let (capture, mut writer) = opened(dir.path(), false);
        writer.write_all(b"one").unwrap();
        assert_eq!((state(&capture), content(&capture)), ((3, None), b"one".to_vec()));
        capture.freeze();
        assert_eq!((state(&capture), content(&capture)), ((3, None), b"one".to_vec()));
    }

    #[test]
    fn a_file_that_is_removed_or_replaced_is_gone_before_and_after_the_end() {
        for (replaced, ended) in [(false, false), (true, false), (false, true), (true, true)] {
            let dir = tempfile::tempdir().unwrap();
            let (capture, mut writer) = opened(dir.path(), true);
            writer.write_all(b"one").unwrap();
            if ended {
                capture.freeze();
            }
            std::fs::remove_file(capture.path()).unwrap();
            if replaced {
                std::fs::write(capture.path(), [[0; 16].as_slice(), b"other"].concat()).unwrap();
            }
            assert_eq!(capture.loss(), Some(Loss::Gone), "{replaced} {ended}");
            assert_eq!(capture.len(), if ended { 3 } else { 0 });
            assert!(!ended || capture.view().is_err());
            capture.freeze();
            assert_eq!(capture.loss(), Some(Loss::Gone), "{replaced} {ended}");
            assert!(capture.view().is_err());
        }
    }

    #[test]
    fn a_file_that_is_truncated_after_the_end_is_no_longer_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (capture, mut writer) = opened(dir.path(), true);
        writer.write_all(b"one").unwrap();
        capture.freeze();
        assert_eq!(capture.loss(), None);
        writer.set_len(0).unwrap();
        assert_eq!((capture.len(), capture.loss()), (3, Some(Loss::Truncated)));
    }
}
