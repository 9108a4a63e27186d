//! Results as one JSON object, written as a stream: no result is held as a whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::report::{AsOf, Document, Facts, Format, Sampler};

/// How many bytes have been written to whoever reads our output.
static PASSED_ON: AtomicU64 = AtomicU64::new(0);

/// How many bytes of output and results this program has written: who waits for a reader sees by it whether that takes anything.
pub(super) fn passed_on() -> u64 {
    PASSED_ON.load(Ordering::Relaxed)
}

/// Counts what is written.
pub(super) struct Counted<'a, W>(pub(super) &'a mut W);

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes)?;
        PASSED_ON.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Writes `{ID: result, ...}` to `out`, without a newline at the end.
///
/// # Errors
/// The OS error of reading a capture or of writing.
pub fn write_results(
    results: &[Arc<Facts>],
    sampler: &Sampler,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut out = Counted(out);
    let mut piece = Vec::new();
    for (i, facts) in results.iter().enumerate() {
        piece.push(if i == 0 { b'{' } else { b',' });
        serde_json::to_writer(&mut piece, &facts.id)?;
        piece.push(b':');
        let mut document = Document::new(facts, AsOf::Now, sampler, Format::Json)?;
        while document.fill(&mut piece)? {
            out.write_all(&piece)?;
            piece.clear();
        }
        // Small results gather, up to what a pipe takes at once.
        if piece.len() >= 32 * 1024 {
            out.write_all(&piece)?;
            piece.clear();
        }
    }
    piece.extend_from_slice(if results.is_empty() { b"{}" } else { b"}" });
    out.write_all(&piece)?;
    out.flush()
}

/// Waits where a write would block: a child that shares our standard output may have made it non-blocking.
pub(super) struct Patient(File);

impl Patient {
    /// Writes to what a descriptor is open to.
    ///
    /// # Errors
    /// The OS error of duplicating the descriptor.
    pub(super) fn new(to: &impl AsFd) -> io::Result<Patient> {
        Ok(Patient(File::from(to.as_fd().try_clone_to_owned()?)))
    }
}

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut wanted = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
                    match poll(&mut wanted, PollTimeout::NONE) {
                        Ok(_) | Err(Errno::EINTR) => {}
                        Err(errno) => return Err(errno.into()),
                    }
                }
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Writes the results to standard output, on one line.
///
/// # Errors
/// As [`write_results`].
pub fn print(results: &[Arc<Facts>], sampler: &Sampler) -> io::Result<()> {
    print_to(&io::stdout(), results, sampler)
}

/// Writes the results to standard output or standard error, on one line.
///
/// # Errors
/// As [`write_results`].
pub fn print_to(to: &impl AsFd, results: &[Arc<Facts>], sampler: &Sampler) -> io::Result<()> {
    // Unbuffered: the pieces are large enough, and nothing is left behind by the end of the program.
    let mut to = Patient::new(to)?;
    write_results(results, sampler, &mut to)?;
    to.write_all(b"\n")
}

/// Looks, before anything is started, whether results can be saved at `path`.
///
/// # Errors
/// Why not: it is a directory, or its own directory is not there.
pub fn check(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    if dir.metadata()?.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

/// Writes the results to a file, whole or not at all: into a file beside it first, which then takes its place.
/// What is no regular file (a FIFO, a device) is written directly.
///
/// # Errors
/// As [`write_results`]; then what was at `path` is there still.
pub fn save(results: &[Arc<Facts>], sampler: &Sampler, path: &Path) -> io::Result<()> {
    // The file that a link leads to is replaced, not the link.
    let path = match path.canonicalize() {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_path_buf(),
        Err(error) => return Err(error),
    };
    let existing = path.metadata().ok();
    if existing.as_ref().is_some_and(|meta| !meta.is_file()) {
        return write_results(results, sampler, &mut OpenOptions::new().write(true).open(&path)?);
    }
    let (beside, mut file) = file_beside(&path)?;
    let written = write_results(results, sampler, &mut file)
        .and_then(|()| match &existing {
            Some(meta) => file.set_permissions(meta.permissions()),
            None => Ok(()),
        })
        .and_then(|()| std::fs::rename(&beside, &path));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// A new file in the directory of `path`.
fn file_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    loop {
        // Nothing of the file's own name, which may be as long as a name can be.
        let beside = path.with_file_name(format!(".procstar-{:016x}", fastrand::u64(..)));
        match OpenOptions::new().write(true).create_new(true).open(&beside) {
            Ok(file) => return Ok((beside, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}
