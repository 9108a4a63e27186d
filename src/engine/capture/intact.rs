//! Detection of lost bytes in a capture's file.
//!
//! A process that writes its file itself can open it again by its path, as `> /dev/stderr` does in
//! a shell, and so truncate it. The kernel keeps no record of that. So the file begins with a
//! guard: a hole of some bytes, after which the output is appended. Truncation removes the guard,
//! and later output takes its place. A guard takes no disk space. It does not show whether the file
//! held output before: a capture that lost its guard is always reported as truncated.
//!
//! Two truncations go unnoticed: one followed by as many zeros as the guard has, and one of a named
//! file, which has no guard because others read that file too. The inode shows whether a file was
//! removed or replaced.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use super::{Capture, CaptureSize, Held, Layout, Loss};

/// Length of a guard in bytes: a file rarely begins with so many zeros of its own.
const GUARD: u64 = 16;

/// The error of reading a capture whose file is gone.
pub(super) fn gone() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        "the capture's file is gone: somebody has removed or replaced it",
    )
}

/// Records the inode of the file.
pub(super) fn note_file(inode: &AtomicU64, file: &impl AsFd) {
    // Without the inode, only the removal of the file is noticed.
    if let Ok(stat) = nix::sys::stat::fstat(file) {
        inode.store(stat.st_ino, Ordering::Relaxed);
    }
}

impl Capture {
    /// Adds a guard to an empty file, unless there is a limit on file sizes: that limit would count
    /// the guard.
    pub(super) fn add_guard(&mut self, file: &impl AsFd) {
        let unlimited = getrlimit(Resource::RLIMIT_FSIZE);
        if unlimited.is_ok_and(|(soft, _)| soft == RLIM_INFINITY)
            && nix::unistd::ftruncate(file, GUARD as libc::off_t).is_ok()
        {
            self.guard = GUARD;
        }
    }

    /// Checks that a file is the one that was created.
    ///
    /// # Errors
    /// The file is another one.
    pub(super) fn check_inode(&self, meta: &Metadata) -> io::Result<()> {
        if self.named_data().is_some() {
            // It is the same file, but without a name it is gone for every other program.
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

    /// Whether the file was removed or replaced.
    pub fn is_missing(&self) -> bool {
        !self.path.as_os_str().is_empty()
            && self.metadata().and_then(|meta| self.check_inode(&meta)).is_err()
    }

    /// The loss of captured bytes, at the end or since then.
    pub fn loss(&self) -> Option<Loss> {
        let end = self.size();
        // An empty file of ours is removed at the end, which is no loss.
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

    /// The offset of the captured bytes in the file.
    pub(super) fn base(&self, size: &CaptureSize) -> u64 {
        if size.loss.is_some() { 0 } else { self.guard }
    }

    /// The current size of a capture whose file holds the plain bytes.
    ///
    /// # Errors
    /// The file is gone, or cannot be reached.
    pub(super) fn current_size(&self) -> io::Result<CaptureSize> {
        if self.guard > 0 {
            match self.hold() {
                Ok(held) => return self.size_of_held(&held),
                // No descriptor is free: assume that the guard is in place.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                }
                Err(error) => return Err(error),
            }
        }
        let meta = self.metadata()?;
        self.check_inode(&meta)?;
        Ok(self.within(meta.len(), true))
    }

    /// The same for the open file.
    ///
    /// # Errors
    /// The OS error of reading its metadata.
    pub(super) fn size_of_held(&self, held: &Held) -> io::Result<CaptureSize> {
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

/// Whether a file begins with this many zeros. A read error counts as a yes.
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
    use crate::engine::capture::{CaptureDirs, CaptureInput};
    use crate::spec::{CaptureSpec, KeepSpec};

    fn opened(dir: &Path, guarded: bool) -> (Capture, File) {
        let dirs = CaptureDirs { files: dir.into(), memory: dir.into() };
        let (spec, none) = (CaptureSpec::default(), KeepSpec::default());
        match Capture::open(spec, &dirs, "1", none, 0o600, guarded).unwrap() {
            (capture, CaptureInput::Itself(source)) => (capture, source.into()),
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
            // A clone is the view of another program.
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
    fn a_removed_or_replaced_file_is_reported_before_and_after_the_end() {
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
